//! The topics that a stack needs, made where missing.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, bail};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use stillwell_source::settings::KafkaSettings;
use tracing::info;

use crate::config::Config;

const WITHIN: Duration = Duration::from_secs(30);
/// Dead letters and alerts are few.
const SIDE_PARTITIONS: i32 = 1;

/// Makes the configured topics, their dead letter topics and the alerts topic where they are missing.
///
/// # Errors
/// If Kafka does not answer or refuses.
pub async fn ensure(config: &Config, kafka: &KafkaSettings) -> anyhow::Result<()> {
    let client = client_config(kafka);
    let existing = tokio::task::spawn_blocking({
        let client = client.clone();
        move || existing(&client)
    })
    .await?
    .with_context(|| format!("kafka at {} does not answer", kafka.brokers))?;
    let mut wanted: Vec<(String, i32)> = Vec::new();
    for topic in &config.topic {
        wanted.push((topic.name.clone(), topic.partitions));
        wanted.push((topic.dead_letters(), SIDE_PARTITIONS));
    }
    wanted.push((config.aggregate.alerts_topic.clone(), SIDE_PARTITIONS));
    wanted.retain(|(name, _)| !existing.contains(name));
    let new: Vec<NewTopic<'_>> = wanted
        .iter()
        .map(|(name, partitions)| NewTopic::new(name, *partitions, TopicReplication::Fixed(-1)))
        .collect();
    if new.is_empty() {
        return Ok(());
    }
    let admin: AdminClient<_> = client.create().context("kafka settings are refused")?;
    let options = AdminOptions::new().operation_timeout(Some(WITHIN)).request_timeout(Some(WITHIN));
    for made in admin.create_topics(&new, &options).await.context("cannot create topics")? {
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

fn client_config(kafka: &KafkaSettings) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &kafka.brokers);
    // Nobody joins a group here.
    for (key, value) in kafka.properties.iter().filter(|(key, _)| !key.starts_with("group.")) {
        client.set(key, value);
    }
    client
}

fn existing(client: &ClientConfig) -> anyhow::Result<BTreeSet<String>> {
    let consumer: BaseConsumer = client.create()?;
    let metadata = consumer.fetch_metadata(None, WITHIN)?;
    Ok(metadata.topics().iter().map(|topic| topic.name().to_owned()).collect())
}
