//! Ties an engine's life to ours.
//!
//! An engine is the child of a guard, a small process of our own binary whose standard input is a pipe that
//! we hold. When the pipe ends, because we closed it or died of whatever cause, the guard asks the engine to
//! stop and, after a bound, kills it. So `kill -9` of `up` leaves no engine behind. The engine runs in a
//! process group of its own, so the terminal's Ctrl-C reaches it only through us, in order.

use std::fs;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// How long an engine may take to stop by itself.
pub const STOP_WITHIN: Duration = Duration::from_secs(20);

/// How often a process is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// The guard's own main: runs `program args…`, writes its pid to `pid_file`, and ends it when standard
/// input ends. Exits as the engine did.
///
/// # Errors
/// If the program cannot be started.
pub fn main(pid_file: &Path, program: &str, args: &[String]) -> anyhow::Result<u8> {
    let child = Command::new(program).args(args).stdin(Stdio::null()).process_group(0).spawn();
    let mut child = child.with_context(|| format!("cannot run {program}"))?;
    crate::files::write_atomically(pid_file, child.id().to_string().as_bytes())?;
    let (ended, owner_gone) = mpsc::channel();
    std::thread::spawn(move || {
        let mut byte = [0];
        while std::io::stdin().read(&mut byte).is_ok_and(|n| n > 0) {}
        let _ = ended.send(());
    });
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if owner_gone.recv_timeout(LOOK).is_ok() {
            break stop(&mut child)?;
        }
    };
    // The next run's guard may have written its own by now.
    if recorded(pid_file) == Some(child.id()) {
        let _ = fs::remove_file(pid_file);
    }
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(u8::try_from(code).unwrap_or(1))
}

fn stop(child: &mut Child) -> anyhow::Result<ExitStatus> {
    signal(child.id(), libc::SIGTERM);
    match wait(child, STOP_WITHIN)? {
        Some(status) => Ok(status),
        None => {
            child.kill()?;
            Ok(child.wait()?)
        }
    }
}

/// Waits for a child's end, at most so long.
///
/// # Errors
/// If it is no child of ours.
pub fn wait(child: &mut Child, at_most: Duration) -> anyhow::Result<Option<ExitStatus>> {
    let until = Instant::now() + at_most;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= until {
            return Ok(None);
        }
        std::thread::sleep(LOOK);
    }
}

/// Waits until what an earlier run left behind has ended, and kills it where it does not. The process is
/// known by its recorded pid and by `mark`, the data folder, in its command line: a pid that was given to
/// another program is let alone.
///
/// # Errors
/// If it neither ends nor can be killed.
pub fn outlive(pid_file: &Path, mark: &str) -> anyhow::Result<()> {
    let Some(pid) = recorded(pid_file) else { return Ok(()) };
    let ours = || fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| contains(&line, mark.as_bytes()));
    // Its guard is stopping it already.
    for kill in [None, Some(libc::SIGTERM), Some(libc::SIGKILL)] {
        if let (true, Some(number)) = (ours(), kill) {
            signal(pid, number);
        }
        let until = Instant::now() + STOP_WITHIN / 2;
        while ours() && Instant::now() < until {
            std::thread::sleep(LOOK);
        }
        if !ours() {
            let _ = fs::remove_file(pid_file);
            return Ok(());
        }
    }
    bail!("process {pid} of an earlier run does not end; end it and start again")
}

fn recorded(pid_file: &Path) -> Option<u32> {
    fs::read_to_string(pid_file).ok()?.trim().parse().ok()
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

fn signal(pid: u32, number: i32) {
    kill(i64::from(pid), number);
}

/// Sends a signal to a process group that a child of ours leads.
pub fn signal_group(pid: u32, number: i32) {
    kill(-i64::from(pid), number);
}

/// Whether there is a process of this pid.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    kill(i64::from(pid), 0) || std::io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

/// Whether the signal was sent; a group is named by its negative number.
fn kill(target: i64, number: i32) -> bool {
    let Ok(target) = i32::try_from(target) else { return false };
    // 0 and -1 stand for processes that are not ours.
    if (-1..=0).contains(&target) {
        return false;
    }
    // SAFETY: kill has no memory effects; the target is a process or a group of our own, or none is sent.
    #[allow(unsafe_code, reason = "std offers no signal but SIGKILL")]
    unsafe {
        libc::kill(target, number) == 0
    }
}
