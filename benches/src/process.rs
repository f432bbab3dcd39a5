//! What processes cost, from `/proc`: CPU time, peak memory, children.

use std::fs;

use anyhow::Context;
use serde::Serialize;

/// The cost of one process so far.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Cost {
    /// User and system time, seconds.
    pub(crate) cpu_s: f64,
    /// Peak resident set, MiB.
    pub(crate) peak_rss_mib: f64,
}

impl Cost {
    /// The cost since `before`; the peak stays what it is.
    pub(crate) fn since(self, before: Self) -> Self {
        Self { cpu_s: self.cpu_s - before.cpu_s, ..self }
    }
}

/// Reads the cost of process `pid`.
pub(crate) fn cost(pid: u32) -> anyhow::Result<Cost> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process has ended")?;
    // The name in brackets may hold spaces; the fields after it count from the state, field 3.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3).and_then(|t| t.parse::<f64>().ok()).unwrap_or(0.0);
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let peak_kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<f64>().ok());
    Ok(Cost {
        cpu_s: (ticks(14) + ticks(15)) / ticks_per_second(),
        peak_rss_mib: peak_kib.unwrap_or(0.0) / 1024.0,
    })
}

/// User and system time of this process so far, of all its threads, seconds.
pub(crate) fn own_cpu_s() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    #[allow(unsafe_code, reason = "the standard library does not tell CPU time")]
    // SAFETY: clock_gettime writes into the one timespec that it is given.
    unsafe {
        libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time);
    }
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Starts the peak resident set of process `pid` anew (proc(5), `clear_refs`).
pub(crate) fn reset_peak(pid: u32) -> anyhow::Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").context("cannot reset the peak memory")
}

/// All descendants of `pid` with their command lines.
pub(crate) fn descendants(pid: u32) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    let mut open = vec![pid];
    let parents = parents();
    while let Some(parent) = open.pop() {
        for &(child, _) in parents.iter().filter(|(_, p)| *p == parent) {
            let line = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
            found.push((child, String::from_utf8_lossy(&line).replace('\0', " ")));
            open.push(child);
        }
    }
    found
}

fn parents() -> Vec<(u32, u32)> {
    let Ok(folder) = fs::read_dir("/proc") else { return Vec::new() };
    folder
        .filter_map(|entry| {
            let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
            Some((pid, parent))
        })
        .collect()
}

/// Asks process `pid`, a child of this one, to stop in order.
pub(crate) fn terminate(pid: u32) {
    let Ok(pid) = i32::try_from(pid) else { return };
    #[allow(unsafe_code, reason = "the standard library sends no SIGTERM")]
    // SAFETY: kill takes two integers and touches no memory of ours.
    unsafe {
        libc::kill(pid, libc::SIGTERM);
    }
}

fn ticks_per_second() -> f64 {
    #[allow(unsafe_code, reason = "the standard library does not tell the clock's ticks")]
    // SAFETY: sysconf takes an integer and touches no memory of ours.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    if ticks > 0 { ticks as f64 } else { 100.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_a_cost_and_a_parent() {
        let own = cost(std::process::id()).unwrap();
        assert!(own.peak_rss_mib > 1.0 && own.cpu_s >= 0.0);
        assert!(own_cpu_s() > 0.0);
        assert!(parents().iter().any(|(pid, _)| *pid == std::process::id()));
    }
}
