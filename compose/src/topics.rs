//! The topics that a stack needs, made where missing; one that is there and must be compacted, and is not, is refused.

use std::collections::BTreeSet;
use std::slice;
use std::time::Duration;

use anyhow::{Context, bail};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use stillwell_source::settings::{KafkaSettings, is_consumers};
use tracing::{info, warn};

use crate::config::Config;

const WITHIN: Duration = Duration::from_secs(30);
/// What says how a topic forgets, and that it keeps the last record of each key.
const POLICY: &str = "cleanup.policy";
const COMPACT: &str = "compact";
/// Dead letters, alerts and versions of machines are few.
const SIDE_PARTITIONS: i32 = 1;

/// A topic that is made where it is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    name: String,
    partitions: i32,
    kept: Kept,
}

/// For how long its records are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// As the broker is set.
    ByDefault,
    /// None expires.
    ForEver,
    /// The last of each key does not expire.
    Compacted,
}

impl Kept {
    /// As a topic's settings.
    fn settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::ByDefault => &[],
            Self::ForEver => &[("retention.ms", "-1"), ("retention.bytes", "-1")],
            Self::Compacted => &[(POLICY, COMPACT)],
        }
    }
}

impl Wanted {
    /// The topic in which redrives of the dead letter topic `dead_letters` are noted. What it forgot would be sent
    /// a second time, so nothing of it expires.
    #[must_use]
    pub fn audit(dead_letters: &str) -> Self {
        Self { name: audit(dead_letters), partitions: SIDE_PARTITIONS, kept: Kept::ForEver }
    }

    /// The topic of the machine registry, of which every version is kept.
    #[must_use]
    pub fn machines(topic: &str) -> Self {
        Self { name: topic.to_owned(), partitions: SIDE_PARTITIONS, kept: Kept::Compacted }
    }

    fn new(name: &str, partitions: i32) -> Self {
        Self { name: name.to_owned(), partitions, kept: Kept::ByDefault }
    }
}

/// The name of the audit topic beside a dead letter topic.
#[must_use]
pub fn audit(dead_letters: &str) -> String {
    format!("{dead_letters}.audit")
}

/// Makes the configured topics, their dead letter and audit topics, the alerts topic and the machine registry's where
/// they are missing.
///
/// # Errors
/// If Kafka does not answer or refuses.
pub async fn ensure(config: &Config, kafka: &KafkaSettings) -> anyhow::Result<()> {
    let mut wanted = Vec::new();
    for topic in &config.topic {
        wanted.push(Wanted::new(&topic.name, topic.partitions));
        wanted.push(Wanted::new(&topic.dead_letters(), SIDE_PARTITIONS));
        wanted.push(Wanted::audit(&topic.dead_letters()));
    }
    wanted.push(Wanted::new(&config.aggregate.alerts_topic, SIDE_PARTITIONS));
    if !config.machines.topic.is_empty() {
        wanted.push(Wanted::machines(&config.machines.topic));
    }
    make(kafka, wanted).await
}

/// Makes those of the topics that are missing.
///
/// # Errors
/// If Kafka does not answer or refuses, or if a topic is there that must be compacted and is not.
pub async fn make(kafka: &KafkaSettings, wanted: Vec<Wanted>) -> anyhow::Result<()> {
    let client = client_config(kafka);
    let mut names = tokio::task::spawn_blocking({
        let client = client.clone();
        move || existing(&client)
    })
    .await?
    .with_context(|| format!("kafka at {} does not answer", kafka.brokers))?;
    let admin: AdminClient<_> = client.create().context("kafka settings are refused")?;
    let (there, mut wanted): (Vec<_>, Vec<_>) =
        wanted.into_iter().partition(|topic| names.contains(&topic.name));
    for topic in there.iter().filter(|topic| topic.kept == Kept::Compacted) {
        check_policy(&admin, &topic.name).await?;
    }
    // Several topics may share a dead letter topic.
    wanted.retain(|topic| names.insert(topic.name.clone()));
    create(&admin, &wanted).await
}

async fn create(admin: &AdminClient<DefaultClientContext>, wanted: &[Wanted]) -> anyhow::Result<()> {
    let new: Vec<NewTopic<'_>> = wanted
        .iter()
        .map(|topic| {
            let new = NewTopic::new(&topic.name, topic.partitions, TopicReplication::Fixed(-1));
            topic.kept.settings().iter().fold(new, |new, (key, value)| new.set(key, value))
        })
        .collect();
    if new.is_empty() {
        return Ok(());
    }
    for made in admin.create_topics(&new, &options()).await.context("cannot create topics")? {
        match made {
            Ok(topic) => info!(topic, "created topic"),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, error)) => {
                bail!("cannot create topic {topic}: {error}; create it, or grant the right to")
            }
        }
    }
    Ok(())
}

/// Refuses a topic that forgets by age what must be kept. It is not set right from here: this protocol would set all
/// other settings of the topic back to their defaults.
async fn check_policy(admin: &AdminClient<DefaultClientContext>, topic: &str) -> anyhow::Result<()> {
    let asked = ResourceSpecifier::Topic(topic);
    let answer = admin.describe_configs(slice::from_ref(&asked), &options()).await;
    let policy = match answer.map(|mut all| all.pop()) {
        Ok(Some(Ok(config))) => config.get(POLICY).and_then(|entry| entry.value.clone()),
        Ok(Some(Err(error))) => {
            warn_unknown(topic, &error);
            None
        }
        Ok(None) => None,
        Err(error) => {
            warn_unknown(topic, &error);
            None
        }
    };
    refuse_policy(topic, policy.as_deref())
}

fn warn_unknown(topic: &str, error: &dyn std::error::Error) {
    warn!(
        topic,
        error = error.to_string(),
        "whether the topic is compacted is not known; grant the right to describe it"
    );
}

fn refuse_policy(topic: &str, policy: Option<&str>) -> anyhow::Result<()> {
    match policy {
        None | Some(COMPACT) => Ok(()),
        Some(policy) => bail!(
            "topic {topic} has {POLICY}={policy}, and would forget what the registry says; keep the last record of each \
             key: kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config {POLICY}={COMPACT}"
        ),
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(WITHIN)).request_timeout(Some(WITHIN))
}

pub(crate) fn client_config(kafka: &KafkaSettings) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &kafka.brokers);
    for (key, value) in kafka.properties.iter().filter(|(key, _)| !is_consumers(key)) {
        client.set(key, value);
    }
    client
}

fn existing(client: &ClientConfig) -> anyhow::Result<BTreeSet<String>> {
    let consumer: BaseConsumer = client.create()?;
    let metadata = consumer.fetch_metadata(None, WITHIN)?;
    Ok(metadata.topics().iter().map(|topic| topic.name().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_that_expires_is_refused_with_the_remedy() {
        assert!(refuse_policy("m", Some("compact")).is_ok() && refuse_policy("m", None).is_ok());
        for policy in ["delete", "compact,delete", ""] {
            let said = refuse_policy("m", Some(policy)).unwrap_err().to_string();
            assert!(said.contains("--entity-name m --add-config cleanup.policy=compact"), "{said}");
        }
    }
}
