//! Keeps an engine running: starts it, waits until it is ready, starts it again when it dies, and stops it in
//! order.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, bail};
use stillwell_schema::health::{Board, State};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::clickhouse::ClickHouse;
use super::guard;
use super::kafka::Kafka;

/// How long an engine may take to answer; a start after `kill -9` recovers its log first.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// How often a starting engine is asked, and a running one looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Between two starts of an engine that dies.
const RESTART: Duration = Duration::from_secs(1);

/// An engine that can be run.
pub trait Engine: Clone + Send + Sync + 'static {
    /// Its name, for people and for the board.
    const NAME: &'static str;
    /// Writes its settings; waits for an earlier run's process to end.
    ///
    /// # Errors
    /// What keeps it from starting.
    fn prepare(&self) -> anyhow::Result<()>;
    /// Starts its process, whose standard input is its life line.
    ///
    /// # Errors
    /// What keeps it from starting.
    fn spawn(&self) -> anyhow::Result<Child>;
    /// The ports that it listens on.
    fn ports(&self) -> Vec<u16>;
    /// The file that takes what it prints.
    fn log(&self) -> PathBuf;
    /// Whether it answers. Blocks for a second or two at most.
    fn is_ready(&self) -> bool;
}

impl Engine for Kafka {
    const NAME: &'static str = "kafka";
    fn ports(&self) -> Vec<u16> {
        vec![self.ports.kafka, self.ports.controller]
    }
    fn log(&self) -> PathBuf {
        self.data.join("logs/kafka.out")
    }
    fn prepare(&self) -> anyhow::Result<()> {
        Self::prepare(self)
    }
    fn spawn(&self) -> anyhow::Result<Child> {
        Self::spawn(self)
    }
    fn is_ready(&self) -> bool {
        Self::is_ready(self)
    }
}

impl Engine for ClickHouse {
    const NAME: &'static str = "clickhouse";
    fn ports(&self) -> Vec<u16> {
        vec![self.ports.clickhouse_http, self.ports.clickhouse_tcp]
    }
    fn log(&self) -> PathBuf {
        self.data.join("logs/clickhouse.out")
    }
    fn prepare(&self) -> anyhow::Result<()> {
        Self::prepare(self)
    }
    fn spawn(&self) -> anyhow::Result<Child> {
        Self::spawn(self)
    }
    fn is_ready(&self) -> bool {
        Self::is_ready(self)
    }
}

/// A running engine.
#[derive(Debug)]
pub struct Supervised {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Supervised {
    /// Starts `engine` and waits until it is ready; from then on it is kept running.
    ///
    /// # Errors
    /// If it does not become ready, or `stopping` comes first.
    pub async fn start<E: Engine>(
        engine: E,
        board: Board,
        stopping: &CancellationToken,
    ) -> anyhow::Result<Self> {
        board.set(E::NAME, State::Starting, "");
        let engine = Arc::new(engine);
        let child = launch(Arc::clone(&engine), stopping.clone()).await?;
        board.set(E::NAME, State::Ok, "");
        // Engines outlive the stages, so they are stopped by a token of their own.
        let stop = CancellationToken::new();
        let task = tokio::spawn(keep(engine, child, board, stop.clone()));
        Ok(Self { stop, task })
    }

    /// Stops it and waits for its end.
    pub async fn stop(self) {
        self.stop.cancel();
        // The task ends by itself within the guard's bound.
        let _ = self.task.await;
    }
}

async fn keep<E: Engine>(engine: Arc<E>, mut child: Child, board: Board, stop: CancellationToken) {
    loop {
        let status = tokio::select! {
            status = ended(&mut child) => status,
            () = stop.cancelled() => return end(child).await,
        };
        error!(engine = E::NAME, status, "engine died; starting it again, see its log in the data folder");
        board.set(E::NAME, State::Waiting, format!("died with {status}; starting it again"));
        child = loop {
            tokio::select! {
                () = tokio::time::sleep(RESTART) => {}
                () = stop.cancelled() => return,
            }
            match launch(Arc::clone(&engine), stop.clone()).await {
                Ok(child) => break child,
                Err(_) if stop.is_cancelled() => return,
                Err(error) => warn!(engine = E::NAME, error = format!("{error:#}"), "engine does not start"),
            }
        };
        info!(engine = E::NAME, "engine runs again");
        board.set(E::NAME, State::Ok, "");
    }
}

async fn ended(child: &mut Child) -> String {
    loop {
        match child.try_wait() {
            Ok(None) => tokio::time::sleep(LOOK).await,
            Ok(Some(status)) => return status.to_string(),
            Err(error) => return error.to_string(),
        }
    }
}

/// Starts the process and waits until it answers.
async fn launch<E: Engine>(engine: Arc<E>, stop: CancellationToken) -> anyhow::Result<Child> {
    let launched = tokio::task::spawn_blocking(move || {
        engine.prepare()?;
        if let Some(port) = engine.ports().into_iter().find(|&port| is_taken(port)) {
            bail!(
                "port {port} of {} is taken by another program; end it, or remove ports.toml in the data folder and ports are chosen anew",
                E::NAME
            );
        }
        let mut child = engine.spawn()?;
        let ready = wait_ready(&*engine, &mut child, &stop);
        if ready.is_err() {
            drop(child.stdin.take());
            guard::wait(&mut child, guard::STOP_WITHIN)?;
        }
        ready.map(|()| child)
    });
    launched.await?
}

fn wait_ready<E: Engine>(engine: &E, child: &mut Child, stop: &CancellationToken) -> anyhow::Result<()> {
    let until = std::time::Instant::now() + READY_WITHIN;
    let why = |what: String| {
        let log = engine.log();
        anyhow!("{} {what}; the end of {}: {}", E::NAME, log.display(), last_line(&log))
    };
    loop {
        let is_ready = engine.is_ready();
        // What answers is our own child only while that lives.
        if let Some(status) = child.try_wait()? {
            return Err(why(format!("ended with {status} before it was ready")));
        }
        if is_ready {
            return Ok(());
        }
        if stop.is_cancelled() {
            bail!("stopped while {} was starting", E::NAME);
        }
        if std::time::Instant::now() >= until {
            return Err(why(format!("is not ready after {} s", READY_WITHIN.as_secs())));
        }
        std::thread::sleep(LOOK);
    }
}

fn is_taken(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_err()
}

/// The last line of a log that says something.
fn last_line(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(4096)..]).into_owned();
    let line = text.lines().rev().find(|line| !line.trim().is_empty());
    line.unwrap_or("nothing").trim().to_owned()
}

async fn end(mut child: Child) {
    drop(child.stdin.take());
    let ended = tokio::task::spawn_blocking(move || {
        if guard::wait(&mut child, guard::STOP_WITHIN + Duration::from_secs(5))
            .is_ok_and(|status| status.is_none())
        {
            let _ = child.kill();
            let _ = child.wait();
        }
    });
    let _ = ended.await;
}
