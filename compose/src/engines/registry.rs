//! Runs a registry's ordinary client, as the machine has it set up, and fills folders of the cache whole or
//! not at all.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio_util::sync::CancellationToken;

use super::guard;

/// How often a running fetch says that it is still running.
const STILL: Duration = Duration::from_secs(5);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Runs `command` to its end, saying that it still runs. `hint` names how to install its program, and the way
/// round it.
///
/// # Errors
/// If it cannot be started, fails, or is stopped.
pub(super) fn client(
    what: &str,
    mut command: Command,
    hint: &str,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    say(&format!("fetching {what}"));
    let program = command.get_program().to_string_lossy().into_owned();
    // A group of its own: clients start children, and a stop must end all of them.
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
    let mut child = command.spawn().with_context(|| format!("cannot run {program}: {hint}"))?;
    let (began, mut said) = (Instant::now(), Instant::now());
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if stop.is_cancelled() {
            guard::signal_group(child.id(), libc::SIGKILL);
            child.wait()?;
            bail!("stopped while fetching {what}");
        }
        if said.elapsed() >= STILL {
            said = Instant::now();
            say(&format!("fetching {what}: {} s", began.elapsed().as_secs()));
        }
        std::thread::sleep(LOOK);
    };
    if !status.success() {
        bail!(
            "{program} could not fetch {what} ({status}); its message is above. Check its registry settings, or: {hint}"
        );
    }
    Ok(())
}

/// Fills a folder beside `home` and moves it into place whole. Two processes may do so at once: the first
/// to finish wins.
///
/// # Errors
/// What `fill` says, or that the cache cannot be written.
pub(super) fn install(home: &Path, fill: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let name = home.file_name().unwrap_or_default().to_string_lossy();
    let prefix = format!(".{name}.");
    sweep(home, &prefix);
    let beside = home.with_file_name(format!("{prefix}{}", std::process::id()));
    if beside.exists() {
        fs::remove_dir_all(&beside)?;
    }
    fs::create_dir_all(&beside).with_context(|| format!("cannot create {}", beside.display()))?;
    let filled =
        fill(&beside).and_then(|()| sync_all(&beside)).and_then(|()| match fs::rename(&beside, home) {
            Err(error) if !home.exists() => {
                Err(error).with_context(|| format!("cannot create {}", home.display()))
            }
            _ => Ok(()),
        });
    if beside.exists() {
        fs::remove_dir_all(&beside)?;
    }
    filled
}

/// Removes what fetches that were killed left beside `home`.
fn sweep(home: &Path, prefix: &str) {
    let folder = home.parent().into_iter().flat_map(fs::read_dir).flatten().flatten();
    for entry in folder {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(prefix).and_then(|pid| pid.parse().ok());
        if pid.is_some_and(|pid| !guard::is_alive(pid)) {
            // Only disk space is lost where it stays.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// What stands in the cache stands there for good.
fn sync_all(folder: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::File::open(entry.path())?.sync_all()?;
        }
    }
    Ok(fs::File::open(folder)?.sync_all()?)
}

#[allow(clippy::print_stderr)]
pub(super) fn say(line: &str) {
    eprintln!("stillwell: {line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_missing_client_is_named_with_the_way_round() {
        let stop = CancellationToken::new();
        let error = client("x", Command::new("no-such-client"), "install it, or use --kafka", &stop);
        let error = format!("{:#}", error.unwrap_err());
        assert!(error.contains("no-such-client") && error.contains("--kafka"), "{error}");
        let error = client("x", command("exit 3"), "the hint", &stop).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("the hint"), "{error}");
        client("x", command("exit 0"), "", &stop).unwrap();
    }

    #[test]
    fn a_stop_ends_the_client_and_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let stop = CancellationToken::new();
        let script = format!("sleep 600 & echo $! > {0}.new; mv {0}.new {0}; wait", pid.display());
        std::thread::scope(|scope| {
            let running = scope.spawn(|| client("x", command(&script), "", &stop));
            while !pid.exists() {
                std::thread::yield_now();
            }
            stop.cancel();
            assert!(running.join().unwrap().is_err());
        });
        let child: u32 = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
        let state = || fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        // It is gone, or a zombie until the machine's init collects it.
        while !(state().is_empty() || state().contains(") Z ")) {
            std::thread::yield_now();
        }
    }

    #[test]
    fn an_install_is_whole_or_not_at_all_and_leaves_nothing_beside() {
        let cache = tempfile::tempdir().unwrap();
        let home = cache.path().join("engine");
        fs::create_dir(cache.path().join(".engine.999999999")).unwrap();
        assert!(
            install(&home, |folder| {
                fs::write(folder.join("a"), "1")?;
                bail!("no")
            })
            .is_err()
        );
        assert!(!home.exists());
        install(&home, |folder| Ok(fs::write(folder.join("a"), "1")?)).unwrap();
        let names: Vec<_> = fs::read_dir(cache.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["engine"]);
        assert_eq!(fs::read_to_string(home.join("a")).unwrap(), "1");
    }
}
