//! The engines under test: those of a running stack, or a `stillwell up` of our own.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use serde::Deserialize;

use crate::process::{self, Cost};

const UP_TIMEOUT: Duration = Duration::from_secs(300);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Which stack.
#[derive(Args, Clone, Debug)]
pub(crate) struct StackArgs {
    /// Measure the stack that runs on this data folder, with its own stages; without it, a fresh one is
    /// started, and removed after
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The stillwell binary; the one beside this one by default
    #[arg(long, value_name = "FILE")]
    stillwell: Option<PathBuf>,
    /// Where a fresh stack keeps its data; it must not exist
    #[arg(long, default_value = "target/stillwell-bench", value_name = "DIR")]
    work: PathBuf,
    /// Keep the fresh stack's data
    #[arg(long)]
    keep: bool,
    /// Topic of the load
    #[arg(long, default_value = "readings")]
    pub(crate) topic: String,
}

/// What a running stack says of itself in `endpoints.json`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Endpoints {
    /// Query side; none where it does not run.
    #[serde(default)]
    pub(crate) http: Option<String>,
    pub(crate) kafka: String,
    pub(crate) clickhouse: String,
    pub(crate) archive: String,
    pub(crate) pid: u32,
}

/// A stack to measure.
pub(crate) struct Stack {
    pub(crate) at: Endpoints,
    data: PathBuf,
    binary: PathBuf,
    /// Ours to stop, if we started it.
    up: Option<Running>,
    remove: Option<PathBuf>,
}

/// A child process that is stopped, in order, at the latest when dropped.
pub(crate) struct Running {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Stack {
    /// Finds or starts the stack. `stages` are those that a fresh one runs.
    pub(crate) fn open(args: &StackArgs, stages: &str) -> anyhow::Result<Self> {
        let binary = match &args.stillwell {
            Some(binary) => binary.clone(),
            None => std::env::current_exe()?.with_file_name("stillwell"),
        };
        if let Some(data) = &args.data {
            let at = endpoints(data).context("no stack runs there; start `stillwell up --data DIR`")?;
            return Ok(Self { at, data: data.clone(), binary, up: None, remove: None });
        }
        if args.work.exists() {
            bail!("{} exists; remove it, or name another folder with --work", args.work.display());
        }
        fs::create_dir_all(&args.work)?;
        let data = args.work.join("data");
        let up = Running::up(&binary, &data, &args.work.join("up.log"), stages, &[])?;
        let mut stack = Self {
            at: Endpoints {
                http: None,
                kafka: String::new(),
                clickhouse: String::new(),
                archive: String::new(),
                pid: 0,
            },
            data,
            binary,
            up: Some(up),
            remove: (!args.keep).then(|| args.work.clone()),
        };
        stack.at = stack.wait_for_endpoints()?;
        Ok(stack)
    }

    /// Whether its stages are those of a stack that ran before.
    pub(crate) fn is_running_before(&self) -> bool {
        self.up.is_none()
    }

    /// The archive's folder.
    pub(crate) fn archive(&self) -> PathBuf {
        PathBuf::from(self.at.archive.strip_prefix("file://").unwrap_or(&self.at.archive))
    }

    /// Starts one stage as a process of its own.
    pub(crate) fn stage(&self, name: &str) -> anyhow::Result<Running> {
        self.start_stage(name, &[])
    }

    /// Starts one stage as a process of its own, set up by the text of a config.
    pub(crate) fn stage_by(&self, name: &str, config: &str) -> anyhow::Result<Running> {
        let file = self.data.join(format!("../{name}.toml"));
        fs::write(&file, config).with_context(|| format!("cannot write {}", file.display()))?;
        self.start_stage(name, &[OsStr::new("--config"), file.as_os_str()])
    }

    fn start_stage(&self, name: &str, more: &[&OsStr]) -> anyhow::Result<Running> {
        let mut command = Command::new(&self.binary);
        command.arg(name).arg("--data").arg(&self.data).args(more);
        Running::start(command, name, &self.data.join(format!("../{name}.log")))
    }

    /// Starts several stages as one process with a data folder of its own.
    pub(crate) fn one_process(&self, stages: &str) -> anyhow::Result<Running> {
        let data = self.data.join("../one-process");
        let engines = ["--kafka", &self.at.kafka, "--clickhouse", &self.at.clickhouse];
        let log = self.data.join("../one-process.log");
        Running::up(&self.binary, &data, &log, stages, &engines)
    }

    /// Where that process keeps its archive.
    pub(crate) fn one_process_archive(&self) -> PathBuf {
        self.data.join("../one-process/archive")
    }

    /// The engines' process ids, by name, as far as they are children of this stack.
    pub(crate) fn engines(&self) -> Vec<(&'static str, u32)> {
        let mut children = process::descendants(self.at.pid);
        // A guard's command line holds its engine's.
        children.retain(|(_, line)| !line.contains(" guard --pid-file "));
        let mut take = |name: &'static str, mark: &str| {
            let at = children.iter().position(|(_, line)| line.contains(mark))?;
            Some((name, children.swap_remove(at).0))
        };
        [take("kafka", " kafka.Kafka "), take("clickhouse", " clickhouse-server ")]
            .into_iter()
            .flatten()
            .collect()
    }

    fn wait_for_endpoints(&mut self) -> anyhow::Result<Endpoints> {
        let started = Instant::now();
        let Some(up) = &mut self.up else { return endpoints(&self.data) };
        loop {
            if let Ok(at) = endpoints(&self.data) {
                return Ok(at);
            }
            up.check()?;
            if started.elapsed() > UP_TIMEOUT {
                bail!("`stillwell up` was not ready within {} s: {}", UP_TIMEOUT.as_secs(), up.last_words());
            }
            thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        drop(self.up.take());
        let removed = self.remove.as_ref().map_or(Ok(()), fs::remove_dir_all);
        if let Err(error) = removed {
            eprintln!("cannot remove {:?}: {error}", self.remove);
        }
    }
}

impl Running {
    fn up(binary: &Path, data: &Path, log: &Path, stages: &str, more: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(binary);
        command.arg("up").arg("--data").arg(data).args(["--stages", stages]);
        command.args(["--http", &free_address()?, "--pg", &free_address()?]).args(more);
        Self::start(command, "up", log)
    }

    fn start(mut command: Command, name: &str, log: &Path) -> anyhow::Result<Self> {
        let out = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let child = command.spawn().with_context(|| {
            format!("cannot start {:?}; build it with `cargo build --release`", command.get_program())
        })?;
        Ok(Self { child, name: name.to_owned(), log: log.to_owned() })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn cost(&self) -> anyhow::Result<Cost> {
        process::cost(self.child.id())
    }

    /// An error with its last words if it has ended.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("`stillwell {}` ended with {status}: {}", self.name, self.last_words());
        }
        Ok(())
    }

    /// The end of its log.
    pub(crate) fn last_words(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(2000)..]).into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let started = Instant::now();
        process::terminate(self.child.id());
        while started.elapsed() < STOP_TIMEOUT {
            match self.child.try_wait() {
                Ok(None) => thread::sleep(LOOK_EVERY),
                _ => return,
            }
        }
        eprintln!("`stillwell {}` did not stop in {} s and is killed", self.name, STOP_TIMEOUT.as_secs());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn endpoints(data: &Path) -> anyhow::Result<Endpoints> {
    let path = data.join("endpoints.json");
    let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not what `up` writes", path.display()))
}

/// An address on loopback that nobody listens on.
pub(crate) fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}
