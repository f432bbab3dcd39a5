//! A local Apache Kafka: one KRaft node.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use uuid::Uuid;

use super::ports::Ports;
use super::{fetch, guard};

const LOG4J: &str = include_str!("../../engines/log4j2.xml");
const HEAP: &str = "-Xmx512m";

/// A Kafka that belongs to a data folder.
#[derive(Clone, Debug)]
pub struct Kafka {
    /// Kafka's jars.
    pub jars: PathBuf,
    /// The Java that runs them.
    pub java: PathBuf,
    /// The data folder of the whole stack.
    pub data: PathBuf,
    /// Its ports.
    pub ports: Ports,
}

impl Kafka {
    /// `host:port` for clients.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports.kafka)
    }

    /// Writes its settings and formats its folder once.
    ///
    /// # Errors
    /// If the folder cannot be written, or Kafka's tool refuses.
    pub fn prepare(&self) -> anyhow::Result<()> {
        guard::outlive(&self.pid_file(), &self.mark())?;
        let home = self.home();
        if home.display().to_string().contains(',') {
            bail!("kafka takes no comma in a folder's name: {}; choose another with --data", home.display());
        }
        fs::create_dir_all(&home).with_context(|| format!("cannot create {}", home.display()))?;
        fs::write(home.join("log4j2.xml"), LOG4J)?;
        fs::write(self.properties_file(), self.properties())?;
        if self.meta_file().exists() {
            return Ok(());
        }
        let id = cluster_id();
        let output = Command::new(&self.java)
            .args(["-cp", &self.class_path(), "kafka.tools.StorageTool", "format", "-t", &id, "-c"])
            .arg(self.properties_file())
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot run {}", self.java.display()))?;
        if !output.status.success() {
            bail!("kafka could not format {}: {}", home.display(), String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// Starts it under a guard.
    ///
    /// # Errors
    /// If the process cannot be started.
    pub fn spawn(&self) -> anyhow::Result<Child> {
        let log = super::log_file(&self.data, "kafka.out")?;
        Command::new(std::env::current_exe()?)
            .arg("guard")
            .arg("--pid-file")
            .arg(self.pid_file())
            .arg("--")
            .arg(&self.java)
            .args([HEAP, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=4", "-cp", &self.class_path()])
            .arg(format!("-Dlog4j2.configurationFile={}", self.home().join("log4j2.xml").display()))
            .arg(format!("-Dstillwell.logs={}", self.data.join("logs").display()))
            .arg("kafka.Kafka")
            .arg(self.properties_file())
            // The terminal's Ctrl-C is ours to pass on, in order.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start kafka's guard")
    }

    /// Whether it answers as the broker of this folder: another's cluster has another id.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let client: Result<BaseConsumer, _> =
            ClientConfig::new().set("bootstrap.servers", self.address()).set("log_level", "0").create();
        let Ok(client) = client else { return false };
        let own = self.cluster_id();
        own.is_some() && client.client().fetch_cluster_id(Duration::from_secs(1)) == own
    }

    /// The id that the folder was formatted with.
    fn cluster_id(&self) -> Option<String> {
        let meta = fs::read_to_string(self.meta_file()).ok()?;
        meta.lines().find_map(|line| line.strip_prefix("cluster.id=")).map(|id| id.trim().to_owned())
    }

    fn meta_file(&self) -> PathBuf {
        self.home().join("log/meta.properties")
    }

    fn home(&self) -> PathBuf {
        self.data.join("kafka")
    }

    fn properties_file(&self) -> PathBuf {
        self.home().join("server.properties")
    }

    fn pid_file(&self) -> PathBuf {
        self.home().join("pid")
    }

    fn mark(&self) -> String {
        self.properties_file().display().to_string()
    }

    fn class_path(&self) -> String {
        let jars: Vec<String> = fetch::jars(&self.jars).map(|jar| jar.display().to_string()).collect();
        jars.join(":")
    }

    fn properties(&self) -> String {
        let Ports { kafka, controller, .. } = self.ports;
        let logs = log_dirs(&self.home());
        format!(
            "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{kafka},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{kafka}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={logs}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=8
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
message.max.bytes=8388608
log.retention.hours=168
log.segment.bytes=268435456
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
"
        )
    }
}

/// A new cluster's id. None begins with a dash, which Kafka's tool would take for an option.
fn cluster_id() -> String {
    let mut ids = std::iter::repeat_with(|| URL_SAFE_NO_PAD.encode(Uuid::new_v4().as_bytes()));
    ids.find(|id| !id.starts_with('-')).unwrap_or_default()
}

fn log_dirs(home: &Path) -> String {
    home.join("log").display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cluster_id_looks_like_an_option() {
        for _ in 0..1000 {
            let id = cluster_id();
            assert!(id.len() == 22 && !id.starts_with('-'), "{id}");
        }
    }
}
