//! Publishes alerts, each once: a transaction of the alerts and of the lane's alert position.
//!
//! The position is the committed offset of the group `<group>-alerts` of the lane's partition: alerts of
//! records below it are in the topic already. A lane's producer has a transactional id of its own, so its new
//! owner fences the old one. Readers use `isolation.level=read_committed`.

use std::collections::HashMap;
use std::time::Duration;

use metrics::counter;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};
use serde::Serialize;
use stillwell_schema::TopicPartition;
use stillwell_source::settings::KafkaSettings;

use crate::error::AggregateError;

const WITHIN: Duration = Duration::from_secs(20);

/// An alert as it is published, JSON.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alert {
    /// The anomaly's id.
    pub id: String,
    /// Machine.
    pub machine: String,
    /// Time of the row that crossed the threshold, RFC 3339.
    pub time: String,
    /// Sensors that contributed most, the largest first.
    pub sensors: Vec<String>,
    /// Its score.
    pub score: f32,
    /// The threshold.
    pub threshold: f32,
    /// Hash of the model.
    pub model: String,
    /// Topic of the record that completed the row.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
}

/// The alerts' side of the flusher.
pub(crate) struct Alerts {
    kafka: KafkaSettings,
    topic: String,
    group: String,
    lanes: HashMap<TopicPartition, Publisher>,
}

struct Publisher {
    producer: ThreadedProducer<rdkafka::producer::DefaultProducerContext>,
    consumer: BaseConsumer,
    /// Alerts of records below this are published.
    position: i64,
}

impl Alerts {
    pub(crate) fn new(kafka: KafkaSettings, topic: String, group: &str) -> Self {
        Self { kafka, topic, group: format!("{group}-alerts"), lanes: HashMap::new() }
    }

    /// Publishes a lane's alerts of records below `position`, and drops those that are published already.
    pub(crate) async fn publish(
        &mut self,
        lane: &TopicPartition,
        position: i64,
        alerts: &mut Vec<Alert>,
    ) -> Result<(), AggregateError> {
        if alerts.is_empty() {
            return Ok(());
        }
        let publisher = match self.lanes.remove(lane) {
            Some(publisher) => publisher,
            None => self.connect(lane).await?,
        };
        alerts.retain(|alert| alert.offset >= publisher.position);
        let (topic, lane_id, some) = (self.topic.clone(), lane.clone(), alerts.clone());
        let published = tokio::task::spawn_blocking(move || {
            let done = publisher.transaction(&topic, &lane_id, position, &some);
            (publisher, done)
        });
        let (mut publisher, done) = match published.await {
            Ok(done) => done,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        // After an error the producer's state is not known: the next try connects anew, which settles it.
        done?;
        publisher.position = position;
        self.lanes.insert(lane.clone(), publisher);
        counter!("stillwell_alerts_total").increment(alerts.len() as u64);
        alerts.clear();
        Ok(())
    }

    async fn connect(&self, lane: &TopicPartition) -> Result<Publisher, AggregateError> {
        let mut config = ClientConfig::new();
        for (key, value) in &self.kafka.properties {
            if !["group.", "session.", "heartbeat."].iter().any(|prefix| key.starts_with(prefix)) {
                config.set(key, value);
            }
        }
        config.set("bootstrap.servers", &self.kafka.brokers);
        let mut consumer = config.clone();
        consumer.set("group.id", &self.group);
        config.set("transactional.id", format!("{}-{}-{}", self.group, lane.topic, lane.partition));
        config.set("transaction.timeout.ms", "30000");
        let lane = lane.clone();
        let connected = tokio::task::spawn_blocking(move || -> Result<Publisher, KafkaError> {
            let producer: ThreadedProducer<_> = config.create()?;
            // Ends what a former owner left open before its position is read.
            producer.init_transactions(WITHIN)?;
            let consumer: BaseConsumer = consumer.create()?;
            let mut list = TopicPartitionList::new();
            list.add_partition(&lane.topic, lane.partition);
            let committed = consumer.committed_offsets(list, WITHIN)?;
            let position = match committed
                .elements()
                .first()
                .map(rdkafka::topic_partition_list::TopicPartitionListElem::offset)
            {
                Some(Offset::Offset(offset)) => offset,
                _ => 0,
            };
            Ok(Publisher { producer, consumer, position })
        });
        match connected.await {
            Ok(publisher) => Ok(publisher?),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

impl Publisher {
    fn transaction(
        &self,
        topic: &str,
        lane: &TopicPartition,
        position: i64,
        alerts: &[Alert],
    ) -> Result<(), KafkaError> {
        if alerts.is_empty() {
            return Ok(());
        }
        self.producer.begin_transaction()?;
        for alert in alerts {
            // An alert of plain fields always serialises.
            let payload = serde_json::to_vec(alert).unwrap_or_default();
            let record = BaseRecord::to(topic).key(&alert.machine).payload(&payload);
            self.producer.send(record).map_err(|(error, _)| error)?;
        }
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&lane.topic, lane.partition, Offset::Offset(position))?;
        if let Some(group) = self.consumer.group_metadata() {
            self.producer.send_offsets_to_transaction(&list, &group, WITHIN)?;
        }
        self.producer.commit_transaction(WITHIN)
    }
}
