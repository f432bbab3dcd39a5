use std::sync::atomic::{AtomicUsize, Ordering};

use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Headers;
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use tokio::sync::Notify;

use super::*;
use crate::chunk::RecordChunk;

fn lane() -> TopicPartition {
    TopicPartition::new("readings", 3)
}

/// Records at 0, 1, 2; the second has `bytes` bytes.
fn chunk(bytes: usize) -> RecordChunk {
    let mut chunk = RecordChunk::new(lane(), Offset(0));
    for (offset, value) in (0..).zip([&b"first"[..], &vec![b'x'; bytes], b"third"]) {
        chunk.push(Offset(offset), 1_795_000_000_000, None, Some(value), [("%bytes:%FF", Some(&b"h"[..]))]);
    }
    chunk
}

fn error() -> DecodeError {
    DecodeError { class: "syntax", message: "ü".repeat(4000), at: 0 }
}

fn letters(brokers: String, properties: &[(&str, &str)]) -> DeadLetters {
    let properties = properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    DeadLetters::new(&KafkaSettings { brokers, properties }).unwrap()
}

/// The offset that each letter in the topic names, and the bytes of its message.
fn received(brokers: &str, expected: usize) -> Vec<(String, usize)> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", "test").set("auto.offset.reset", "earliest");
    let consumer: BaseConsumer = config.create().unwrap();
    consumer.subscribe(&["dead"]).unwrap();
    let mut letters = Vec::new();
    while letters.len() < expected {
        let Some(Ok(message)) = consumer.poll(Duration::from_secs(1)) else { continue };
        let headers = message.headers().unwrap();
        let value = |name| headers.iter().find(|header| header.key == name).unwrap().value.unwrap();
        let message = value("__connect.errors.exception.message");
        assert!(std::str::from_utf8(message).is_ok());
        assert_eq!(value("%bytes:%FF"), b"h");
        letters.push((String::from_utf8_lossy(value("__connect.errors.offset")).into_owned(), message.len()));
    }
    letters.sort();
    letters
}

#[tokio::test]
async fn one_letter_that_is_refused_takes_no_other_with_it() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("dead", 1, 1).unwrap();
    let letters = letters(cluster.bootstrap_servers(), &[("message.max.bytes", "20000")]);
    let (chunk, error) = (chunk(50_000), error());
    let failed: Vec<_> = chunk.records().map(|record| (record, &error)).collect();
    let refused = letters.send("dead", &lane(), &failed, &|_| ()).await.unwrap_err();
    assert_eq!((refused.refused, refused.letters, refused.offset), (1, 3, Offset(1)));
    let sent = received(&cluster.bootstrap_servers(), 2);
    assert_eq!(sent.iter().map(|letter| &*letter.0).collect::<Vec<_>>(), ["0", "2"]);
    assert!(sent.iter().all(|letter| (MESSAGE_BYTES_MAX - 1..=MESSAGE_BYTES_MAX).contains(&letter.1)));
}

#[tokio::test]
async fn a_broker_that_is_away_is_waited_for_and_told_of_once() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("dead", 1, 1).unwrap();
    cluster.broker_down(1).unwrap();
    let letters = letters(cluster.bootstrap_servers(), &[("message.timeout.ms", "500")]);
    let (chunk, error) = (chunk(10), error());
    let failed: Vec<_> = chunk.records().map(|record| (record, &error)).collect();
    let (told, heard) = (AtomicUsize::new(0), Notify::new());
    let waiting = |_: &KafkaError| {
        told.fetch_add(1, Ordering::Relaxed);
        heard.notify_one();
    };
    let (lane, back) = (lane(), async {
        heard.notified().await;
        cluster.broker_up(1).unwrap();
    });
    let (sent, ()) = tokio::join!(letters.send("dead", &lane, &failed, &waiting), back);
    sent.unwrap();
    assert_eq!(told.load(Ordering::Relaxed), 1);
    assert_eq!(received(&cluster.bootstrap_servers(), 3).len(), 3);
}

#[tokio::test]
async fn a_refusal_of_the_broker_ends_the_letter() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("dead", 1, 1).unwrap();
    cluster
        .request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP; 20]);
    let letters = letters(cluster.bootstrap_servers(), &[]);
    let (chunk, error) = (chunk(10), error());
    let failed: Vec<_> = chunk.records().map(|record| (record, &error)).collect();
    let refused = letters.send("dead", &lane(), &failed, &|_| ()).await.unwrap_err();
    assert_eq!((refused.refused, refused.letters), (3, 3), "{refused}");
}
