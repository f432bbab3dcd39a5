//! Reads the topic of the machine registry, from its beginning and then on.
//!
//! It joins no group and commits nothing ([`crate::scan`]): whoever keeps a copy of the registry reads all of it at
//! its start, and from then on what is new. Its calls block: give it a thread of its own.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use stillwell_schema::machines::{Change, MachineError};
use stillwell_schema::{Offset, TopicPartition};
use tokio_util::sync::CancellationToken;

use crate::chunk::RecordChunk;
use crate::scan::{End, Ends, Patience, Scan, ScanError, Stretch};
use crate::settings::KafkaSettings;

/// A record of the topic.
#[derive(Clone, Debug, PartialEq)]
pub struct MachineRecord {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// What it does, or why it does nothing.
    pub change: Result<Change, MachineError>,
}

/// A reader of the topic that remembers how far it is.
pub struct MachineLog {
    scan: Scan,
    topic: String,
    /// The next offset of each partition.
    next: BTreeMap<i32, Offset>,
    /// The first offset that each partition had when it was last looked at.
    low: BTreeMap<i32, Offset>,
}

impl MachineLog {
    /// A reader at the topic's beginning, which connects when it reads.
    ///
    /// # Errors
    /// [`ScanError::Settings`] where the properties are not right.
    pub fn new(kafka: &KafkaSettings, topic: &str) -> Result<Self, ScanError> {
        let scan = Scan::new(kafka, topic)?;
        Ok(Self { scan, topic: topic.to_owned(), next: BTreeMap::new(), low: BTreeMap::new() })
    }

    /// Hands every record to `take` that it has not had, up to where the topic ends now. Each comes once, also where
    /// this fails in between and is called again.
    ///
    /// # Errors
    /// As [`Scan::whole`] and [`Scan::read`]; [`ScanError::BeyondEnd`] where the topic was made anew.
    pub fn read(
        &mut self,
        stop: &CancellationToken,
        mut take: impl FnMut(MachineRecord),
    ) -> Result<End, ScanError> {
        let stretches = self.stretches()?;
        let is_new = stretches.iter().any(|stretch| stretch.from < stretch.to);
        let next = &mut self.next;
        let take = |chunk: RecordChunk| {
            next.insert(chunk.lane().partition, chunk.range().next);
            records(&chunk).for_each(&mut take);
            ControlFlow::Continue(())
        };
        let end = match is_new {
            true => self.scan.read(&stretches, Patience::default(), stop, take, |_| {})?,
            false => End::Whole,
        };
        if end == End::Whole {
            self.next.extend(stretches.into_iter().map(|stretch| (stretch.partition, stretch.to)));
        }
        Ok(end)
    }

    /// How far it is: the next offset of each partition.
    #[must_use]
    pub fn next(&self) -> &BTreeMap<i32, Offset> {
        &self.next
    }

    /// Where the topic begins: the first offset of each partition. Above 0 records have expired, which compaction alone
    /// does not bring about.
    #[must_use]
    pub fn low(&self) -> &BTreeMap<i32, Offset> {
        &self.low
    }

    fn stretches(&mut self) -> Result<Vec<Stretch>, ScanError> {
        let low_of = &mut self.low;
        let mut stretch = |partition| {
            let Ends { low, high } = self.scan.ends(partition)?;
            low_of.insert(partition, low);
            let from = self.next.get(&partition).copied().unwrap_or(low);
            if from > high {
                let lane = TopicPartition::new(self.topic.as_str(), partition);
                return Err(ScanError::BeyondEnd { lane, to: from, high });
            }
            Ok(Stretch { partition, from, to: high })
        };
        self.scan.partitions()?.into_iter().map(&mut stretch).collect()
    }
}

fn records(chunk: &RecordChunk) -> impl Iterator<Item = MachineRecord> {
    let partition = chunk.lane().partition;
    chunk.records().map(move |record| MachineRecord {
        partition,
        offset: record.offset.0,
        change: Change::parse(record.key, record.value),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rdkafka::ClientConfig;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    use stillwell_schema::machines::MachineRegistry;

    use super::*;

    fn send(producer: &BaseProducer, key: &str, value: Option<&str>) {
        let mut record = BaseRecord::<str, str>::to("machines").partition(0).key(key);
        record.payload = value;
        producer.send(record).unwrap();
        producer.flush(Duration::from_secs(30)).unwrap();
    }

    fn value(site: &str, from: &str) -> String {
        format!(
            r#"{{"machine":"press","site":"{site}","line":"","model":"","valid_from":"{from}","sensors":{{}}}}"#
        )
    }

    #[test]
    fn a_topic_is_read_whole_and_then_what_is_new() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("machines", 1, 1).unwrap();
        let brokers = cluster.bootstrap_servers();
        let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
        let kafka = KafkaSettings { brokers, properties: BTreeMap::new() };
        let mut log = MachineLog::new(&kafka, "machines").unwrap();
        let (mut registry, mut refused) = (MachineRegistry::default(), Vec::new());
        let mut read = |log: &mut MachineLog| {
            let end = log.read(&CancellationToken::new(), |record| match record.change {
                Ok(change) => {
                    registry.apply(change);
                }
                Err(_) => refused.push(record.offset),
            });
            assert_eq!(end.unwrap(), End::Whole);
            let sites: Vec<String> = registry.versions().map(|version| version.site.clone()).collect();
            (sites, refused.clone())
        };
        let sites = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(read(&mut log), (sites(&[]), vec![]));
        let keys = ["press@2026-01-05T06:00:00.000000Z", "press@2026-02-05T06:00:00.000000Z"];
        send(&producer, keys[0], Some(&value("Linz", "2026-01-05T06:00:00Z")));
        send(&producer, "press", Some("{}"));
        assert_eq!(read(&mut log), (sites(&["Linz"]), vec![1]));
        send(&producer, keys[1], Some(&value("Graz", "2026-02-05T06:00:00Z")));
        assert_eq!(read(&mut log), (sites(&["Linz", "Graz"]), vec![1]));
        send(&producer, keys[0], None);
        assert_eq!(read(&mut log), (sites(&["Graz"]), vec![1]));
        assert_eq!(log.next(), &BTreeMap::from([(0, Offset(4))]));
        assert_eq!(log.low(), &BTreeMap::from([(0, Offset(0))]));
    }
}
