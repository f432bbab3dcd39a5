//! Publishes alerts, each once: a transaction of the alerts and of the lane's alert position.
//!
//! The position is the committed offset of the group `<group>-alerts` of the lane's partition: alerts of
//! records below it are in the topic already. It never falls: records that are folded again raise their
//! alerts again. A lane's producer has a transactional id of its own, so its new owner fences the old one.
//! Readers use `isolation.level=read_committed`.

use std::time::{Duration, Instant};

use metrics::counter;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};
use serde::Serialize;
use stillwell_schema::TopicPartition;
use stillwell_source::settings::{KafkaSettings, is_consumers};

use crate::error::AggregateError;

const WITHIN: Duration = Duration::from_secs(20);
/// Between two looks whether what was sent has arrived.
const ARRIVAL_LOOK: Duration = Duration::from_millis(1);

/// An alert as it is published, JSON.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Alert {
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

/// The alerts of one lane, on their way out.
pub(crate) struct Alerts {
    kafka: KafkaSettings,
    topic: String,
    group: String,
    publisher: Option<Publisher>,
}

struct Publisher {
    producer: ThreadedProducer<rdkafka::producer::DefaultProducerContext>,
    group: ConsumerGroupMetadata,
    published: Published,
}

/// How far a lane's alerts are published: those of records below this are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Published(i64);

impl Published {
    /// Drops the alerts that are published already.
    fn keep_new(self, alerts: &mut Vec<Alert>) {
        alerts.retain(|alert| alert.offset >= self.0);
    }

    /// With the alerts of records below `position` published, too. A lane that folds records again is behind
    /// what was published before: that stays published.
    fn and(self, position: i64) -> Self {
        Self(self.0.max(position))
    }
}

impl Alerts {
    pub(crate) fn new(kafka: KafkaSettings, topic: String, group: &str) -> Self {
        Self { kafka, topic, group: format!("{group}-alerts"), publisher: None }
    }

    /// Publishes the lane's alerts of records below `position`, and drops those that are published already.
    pub(crate) async fn publish(
        &mut self,
        lane: &TopicPartition,
        position: i64,
        alerts: &mut Vec<Alert>,
    ) -> Result<(), AggregateError> {
        if alerts.is_empty() {
            return Ok(());
        }
        self.prepare(lane).await?;
        let Some(mut publisher) = self.publisher.take() else { return Err(AggregateError::Stopped) };
        publisher.published.keep_new(alerts);
        let (topic, lane_id, some) = (self.topic.clone(), lane.clone(), alerts.clone());
        let publisher = blocking(move || -> Result<Publisher, KafkaError> {
            let published = publisher.published.and(position);
            publisher.transaction(&topic, &lane_id, published, &some)?;
            publisher.published = published;
            Ok(publisher)
        });
        // After an error the producer's state is not known: the next try connects anew, which settles it.
        self.publisher = Some(publisher.await?);
        counter!("stillwell_alerts_total").increment(alerts.len() as u64);
        alerts.clear();
        Ok(())
    }

    /// Connects, where it is not.
    pub(crate) async fn prepare(&mut self, lane: &TopicPartition) -> Result<(), AggregateError> {
        if self.publisher.is_none() {
            self.publisher = Some(self.connect(lane).await?);
        }
        Ok(())
    }

    async fn connect(&self, lane: &TopicPartition) -> Result<Publisher, AggregateError> {
        let mut config = ClientConfig::new();
        for (key, value) in &self.kafka.properties {
            if !is_consumers(key) {
                config.set(key, value);
            }
        }
        config.set("bootstrap.servers", &self.kafka.brokers);
        let mut consumer = config.clone();
        consumer.set("group.id", &self.group);
        config.set("transactional.id", format!("{}-{}-{}", self.group, lane.topic, lane.partition));
        config.set("transaction.timeout.ms", "30000").set("linger.ms", "0");
        let lane = lane.clone();
        let connected = blocking(move || -> Result<Publisher, KafkaError> {
            let producer: ThreadedProducer<_> = config.create()?;
            // Ends what a former owner left open before its position is read.
            producer.init_transactions(WITHIN)?;
            let consumer: BaseConsumer = consumer.create()?;
            let published = committed(&consumer, &lane)?;
            let no_group = KafkaError::ConsumerCommit(RDKafkaErrorCode::UnknownGroup);
            let group = consumer.group_metadata().ok_or(no_group)?;
            Ok(Publisher { producer, group, published })
        });
        Ok(connected.await?)
    }
}

/// Where the group's alert position of a lane stands; 0 where there is none.
fn committed(consumer: &BaseConsumer, lane: &TopicPartition) -> Result<Published, KafkaError> {
    let mut list = TopicPartitionList::new();
    list.add_partition(&lane.topic, lane.partition);
    let committed = consumer.committed_offsets(list, WITHIN)?;
    let nothing = KafkaError::OffsetFetch(RDKafkaErrorCode::NoOffset);
    let one = committed.find_partition(&lane.topic, lane.partition).ok_or(nothing)?;
    one.error()?;
    match one.offset() {
        Offset::Offset(offset) => Ok(Published(offset)),
        _ => Ok(Published(0)),
    }
}

/// Does what waits for brokers where waiting is allowed.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

impl Publisher {
    fn transaction(
        &self,
        topic: &str,
        lane: &TopicPartition,
        published: Published,
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
        list.add_partition_offset(&lane.topic, lane.partition, Offset::Offset(published.0))?;
        self.producer.send_offsets_to_transaction(&list, &self.group, WITHIN)?;
        self.arrive();
        self.producer.commit_transaction(WITHIN)
    }

    /// Waits until the brokers have what was sent. The commit would do so too, but looks a tenth of a second later.
    fn arrive(&self) {
        let until = Instant::now() + WITHIN;
        while self.producer.in_flight_count() > 0 && Instant::now() < until {
            std::thread::sleep(ARRIVAL_LOOK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(offset: i64) -> Alert {
        Alert {
            id: offset.to_string(),
            machine: "press".into(),
            time: String::new(),
            sensors: Vec::new(),
            score: 2.0,
            threshold: 1.0,
            model: String::new(),
            topic: "t".into(),
            partition: 0,
            offset,
        }
    }

    #[test]
    fn alerts_that_are_raised_again_are_not_published_again_however_snapshots_cut_them() {
        let mut published = Published(100);
        let snapshots = [(50, vec![alert(40)]), (95, vec![alert(90)]), (130, vec![alert(99), alert(120)])];
        let mut sent = Vec::new();
        for (position, mut alerts) in snapshots {
            published.keep_new(&mut alerts);
            published = published.and(position);
            sent.extend(alerts.iter().map(|alert| alert.offset));
        }
        assert_eq!((sent, published), (vec![120], Published(130)));
    }
}
