use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use stillwell_schema::{Gap, GapReason};

use super::*;

const PATIENCE: Patience = Patience { silence: Duration::from_secs(30), whole: None };

/// A topic `t` of two partitions with `records` records each, one value a record.
fn topic(records: usize) -> (MockCluster<'static, rdkafka::producer::DefaultProducerContext>, KafkaSettings) {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 2, 1).unwrap();
    let brokers = cluster.bootstrap_servers();
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
    for partition in 0..2 {
        for n in 0..records {
            let value = format!("{partition}-{n}");
            let headers = OwnedHeaders::new().insert(Header { key: "n", value: Some(&value) });
            let record = BaseRecord::<str, str>::to("t").partition(partition).key("k").payload(&value);
            producer.send(record.headers(headers)).unwrap();
        }
    }
    producer.flush(Duration::from_secs(30)).unwrap();
    (cluster, KafkaSettings { brokers, properties: std::collections::BTreeMap::new() })
}

fn stretch(partition: i32, from: i64, to: i64) -> Stretch {
    Stretch { partition, from: Offset(from), to: Offset(to) }
}

/// Each record's partition, offset and value, sorted, and the gaps.
fn read(scan: &Scan, stretches: &[Stretch]) -> (Vec<(i32, i64, String)>, Vec<Gap>) {
    let (mut records, mut gaps) = (Vec::new(), Vec::new());
    let take = |chunk: RecordChunk| {
        let partition = chunk.lane().partition;
        for record in chunk.records() {
            let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            assert_eq!(record.key, Some(&b"k"[..]));
            assert_eq!(record.headers().collect::<Vec<_>>(), [("n", Some(value.as_bytes()))]);
            records.push((partition, record.offset.0, value));
        }
        gaps.extend(chunk.gaps());
        ControlFlow::Continue(())
    };
    let mut last = Progress::default();
    let end = scan.read(stretches, PATIENCE, &CancellationToken::new(), take, |progress| last = *progress);
    assert_eq!(end.unwrap(), End::Whole);
    assert_eq!((last.offsets, last.records as usize), (last.offsets_total, records.len()));
    records.sort();
    (records, gaps)
}

fn expected(stretches: &[Stretch]) -> Vec<(i32, i64, String)> {
    let of = |s: &Stretch| {
        let partition = s.partition;
        (s.from.0..s.to.0).map(move |n| (partition, n, format!("{partition}-{n}"))).collect::<Vec<_>>()
    };
    stretches.iter().flat_map(of).collect()
}

#[test]
fn stretches_are_read_whole_and_again_by_the_same_reader() {
    let (_cluster, kafka) = topic(100);
    let scan = Scan::new(&kafka, "t").unwrap();
    assert_eq!(scan.partitions().unwrap(), [0, 1]);
    assert_eq!(scan.ends(1).unwrap(), Ends { low: Offset(0), high: Offset(100) });
    for stretches in [
        scan.whole().unwrap(),
        vec![stretch(1, 17, 60)],
        vec![stretch(0, 99, 100), stretch(1, 5, 5)],
        vec![stretch(0, 0, 1), stretch(1, 98, 100)],
    ] {
        assert_eq!(read(&scan, &stretches), (expected(&stretches), Vec::new()));
    }
}

#[test]
fn a_reader_that_had_enough_and_a_stop_end_it() {
    let (_cluster, kafka) = topic(10);
    let scan = Scan::new(&kafka, "t").unwrap();
    let (all, stop) = (scan.whole().unwrap(), CancellationToken::new());
    let enough = scan.read(&all, PATIENCE, &stop, |_| ControlFlow::Break(()), |_| ());
    assert_eq!(enough.unwrap(), End::Stopped);
    stop.cancel();
    let stopped = scan.read(&all, PATIENCE, &stop, |_| ControlFlow::Continue(()), |_| ());
    assert_eq!(stopped.unwrap(), End::Stopped);
}

#[test]
fn what_cannot_be_read_is_named() {
    let (cluster, kafka) = topic(10);
    let (stop, go_on) = (CancellationToken::new(), |_: RecordChunk| ControlFlow::Continue(()));
    let scan = Scan::new(&kafka, "t").unwrap();
    let beyond = scan.read(&[stretch(0, 3, 11)], PATIENCE, &stop, go_on, |_| ()).unwrap_err();
    assert!(matches!(&beyond, ScanError::BeyondEnd { high: Offset(10), .. }), "{beyond}");
    let missing = Scan::new(&kafka, "other").unwrap().partitions().unwrap_err();
    assert!(matches!(&missing, ScanError::NoTopic(name) if name == "other"), "{missing}");
    let away = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE; 1000];
    cluster.request_errors(RDKafkaApiKey::Fetch, &away);
    let (all, short) = (scan.whole().unwrap(), Duration::from_millis(300));
    let patience = Patience { silence: short, whole: None };
    let silent = scan.read(&all, patience, &stop, go_on, |_| ()).unwrap_err();
    assert!(matches!(&silent, ScanError::Silence { at: Offset(0), .. }), "{silent}");
    let patience = Patience { whole: Some(short), ..PATIENCE };
    let late = scan.read(&all, patience, &stop, go_on, |_| ()).unwrap_err();
    assert!(matches!(&late, ScanError::Deadline { .. }), "{late}");
}

#[test]
fn what_kafka_does_not_deliver_at_the_end_is_a_gap() {
    let mut feed = Feed::new(TopicPartition::new("t", 0), Offset(3), Offset(5));
    feed.lost_below(Offset(4));
    feed.take(Offset(6), 0, None, None, [], Instant::now());
    let part = Part { lane: TopicPartition::new("t", 0), from: Offset(3), to: Offset(9), feed };
    let chunk = part.finish().unwrap();
    let gaps: Vec<_> = chunk.gaps().iter().map(|gap| (gap.first.0, gap.next.0, gap.reason)).collect();
    let undelivered = GapReason::NotDelivered;
    assert_eq!(gaps, [(3, 5, GapReason::RetentionLoss), (5, 6, undelivered), (7, 9, undelivered)]);
    assert_eq!(chunk.range().next, Offset(9));
}
