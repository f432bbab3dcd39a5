//! The Kafka client and its rebalances.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, TopicPartitionList};
use stillwell_schema::{Offset, TopicPartition};

use super::properties::config_within;
use super::{ConsumerError, ConsumerSettings};

pub(super) type Client = BaseConsumer<Context>;

/// The group's consumer for as long as it polls. Closing it polls on until its partitions are given up, so
/// whichever way the polling ends, a panic included, rebalances must be answered on the spot by then.
pub(super) struct Member(pub(super) Client);

impl Deref for Member {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.0
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.0.context().closing.store(true, Ordering::Release);
    }
}

/// A rebalance that waits for the polling thread.
#[derive(Debug)]
pub(super) enum Rebalance {
    Assign(Vec<(String, i32)>),
    Revoke(Vec<(String, i32)>),
}

/// Takes note of rebalances; the polling thread answers them after the poll that brought them. librdkafka
/// waits for the answer as long as `max.poll.interval.ms` allows, heartbeats go on, and no other rebalance
/// comes before it.
#[derive(Default)]
pub(super) struct Context {
    pending: Mutex<VecDeque<Rebalance>>,
    /// Set when the lanes are gone: revocations are then answered on the spot.
    closing: AtomicBool,
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        // Errors of a connection are shown by the loop, once a change; librdkafka repeats each.
        tracing::debug!(%error, reason, "kafka client");
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, message, "librdkafka");
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        code: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        if self.closing.load(Ordering::Acquire) {
            // Nothing runs any more; what librdkafka wants is only the acknowledgement.
            let _ = consumer.unassign();
            return;
        }
        let named = partitions.elements().iter().map(|e| (e.topic().to_owned(), e.partition())).collect();
        let rebalance = match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Rebalance::Assign(named),
            _ => Rebalance::Revoke(named),
        };
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).push_back(rebalance);
    }
}

impl Context {
    pub(super) fn next_rebalance(&self) -> Option<Rebalance> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// Makes the group's consumer, which reads ahead what a budget of `bytes_max` bytes allows.
pub(super) fn connect(settings: &ConsumerSettings, bytes_max: usize) -> Result<Client, ConsumerError> {
    let config = config_within(&settings.kafka, &settings.group, bytes_max)?;
    Ok(config.create_with_context(Context::default())?)
}

/// Assigns a partition to the client from offset `at` on.
pub(super) fn enter(client: &Client, id: &TopicPartition, at: Offset) -> KafkaResult<()> {
    // librdkafka keeps a pause beyond the assignment in which it was made.
    client.resume(&list_of(id))?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&id.topic, id.partition, rdkafka::Offset::Offset(at.0))?;
    client.incremental_assign(&list)
}

/// Takes partitions from the client. One that it does not have (its lane is closed) would make it refuse all
/// and leave the group waiting for an answer, so only those are named that it has.
pub(super) fn give_up(client: &Client, partitions: &[(String, i32)]) -> KafkaResult<()> {
    let assigned = client.assignment()?;
    let mut list = TopicPartitionList::new();
    for (topic, partition) in partitions {
        if assigned.find_partition(topic, *partition).is_some() {
            list.add_partition(topic, *partition);
        }
    }
    client.incremental_unassign(&list)
}

pub(super) fn list_of(id: &TopicPartition) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    list.add_partition(&id.topic, id.partition);
    list
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    use rdkafka::{ClientConfig, Message};
    use stillwell_schema::health::Board;

    use super::*;
    use crate::settings::KafkaSettings;

    const BYTES_MAX: usize = 64 << 20;

    fn settings(key: &str, value: &str) -> ConsumerSettings {
        ConsumerSettings {
            kafka: KafkaSettings {
                brokers: "localhost:1".to_owned(),
                properties: [(key.to_owned(), value.to_owned())].into(),
            },
            topics: Vec::new(),
            group: "group".to_owned(),
            stage: "ingest",
            chunk_bytes: 1,
            chunk_age: Duration::ZERO,
            board: Board::default(),
        }
    }

    #[test]
    fn librdkafka_takes_the_properties_and_a_static_member() {
        let client = connect(&settings("group.instance.id", "hall-3"), BYTES_MAX).unwrap();
        drop(Member(client));
    }

    /// Polls until the group has given the partitions out.
    fn join(member: &Client) {
        for _ in 0..300 {
            let _ = member.poll(Duration::from_millis(100));
            if let Some(Rebalance::Assign(partitions)) = member.context().next_rebalance() {
                assert_eq!(partitions.len(), 2);
                return member.incremental_assign(&TopicPartitionList::new()).unwrap();
            }
        }
        panic!("no assignment");
    }

    /// librdkafka keeps a pause when a partition is taken away, and refuses to take away any of several
    /// partitions where one was not assigned.
    #[test]
    fn a_partition_paused_and_given_up_flows_when_it_comes_back() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("t", 2, 1).unwrap();
        let mut settings = settings("client.id", "test");
        settings.kafka.brokers = cluster.bootstrap_servers();
        let producer: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", cluster.bootstrap_servers()).create().unwrap();
        for value in ["first", "second"] {
            producer.send(BaseRecord::<(), str>::to("t").partition(0).payload(value)).unwrap();
        }
        producer.flush(Duration::from_secs(30)).unwrap();
        let member = Member(connect(&settings, BYTES_MAX).unwrap());
        member.subscribe(&["t"]).unwrap();
        join(&member);
        let id = TopicPartition::new("t", 0);
        enter(&member, &id, Offset(0)).unwrap();
        member.pause(&list_of(&id)).unwrap();
        give_up(&member, &[("t".to_owned(), 0), ("t".to_owned(), 1)]).unwrap();
        assert_eq!(member.assignment().unwrap().count(), 0);
        enter(&member, &id, Offset(1)).unwrap();
        let record = (0..300).find_map(|_| member.poll(Duration::from_millis(100)));
        let record = record.expect("the partition flows").unwrap();
        assert_eq!((record.offset(), record.payload()), (1, Some(&b"second"[..])));
    }
}
