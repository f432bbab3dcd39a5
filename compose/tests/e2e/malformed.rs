//! What cannot be read: kept with its error, sent to the dead letters whole, and in nobody's way.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};

use crate::producer::{Producer, reading};
use crate::stack::{SOON, Stack};

const BROKEN: &[&[u8]] = &[
    b"",
    b"not json",
    b"{\"machine\":\"m\"}",
    b"{\"machine\":\"m\",\"sensor\":\"s\",\"time\":\"yesterday\",\"value\":1}",
    b"[{\"machine\":\"m\",\"sensor\":\"s\",\"time\":1,\"value\":1},{]",
    b"{\"machine\":\"m\",\"time\":[1,2],\"sensors\":{\"a\":[1]}}",
    b"\xff\xfe\x00",
];
const ROUNDS: usize = 100;

#[test]
fn malformed_records_are_kept_and_dead_lettered_and_stall_nothing() {
    let stack = Stack::start(&[]);
    let producer = Producer::new(stack.endpoint("kafka"));
    for round in 0..ROUNDS {
        producer.send("press-01", reading("press-01", "oil", round as u64).as_bytes());
        for broken in BROKEN {
            producer.send("press-01", broken);
        }
    }
    producer.flush();
    let (good, bad) = (ROUNDS as i64, (ROUNDS * BROKEN.len()) as i64);
    stack.wait_number("select count(*) from records", "all records kept", |n| n >= good + bad);
    assert_eq!(stack.number("select count(*) from records"), good + bad);
    assert_eq!(stack.number("select count(*) from readings"), good);
    assert_eq!(stack.number("select count(*) from dead_letters where error is not null"), bad);
    stack.wait_number("select cast(sum(count) as bigint) from readings_1m", "views", |n| n == good);

    let mut letters = dead_letters(&stack, bad as usize);
    letters.sort();
    let mut expected: Vec<(String, Vec<u8>)> = BROKEN
        .iter()
        .flat_map(|b| std::iter::repeat_n(("press-01".to_owned(), b.to_vec()), ROUNDS))
        .collect();
    expected.sort();
    assert!(letters == expected, "{} letters, {} expected", letters.len(), expected.len());
}

/// Key and value of each dead letter; each must name where it came from and what is wrong.
fn dead_letters(stack: &Stack, count: usize) -> Vec<(String, Vec<u8>)> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", stack.endpoint("kafka"))
        .set("group.id", "dead-letter-reader")
        .set("auto.offset.reset", "earliest")
        .create()
        .unwrap();
    consumer.subscribe(&["readings.dlq"]).unwrap();
    let mut letters = Vec::new();
    let until = Instant::now() + SOON;
    while letters.len() < count {
        assert!(Instant::now() < until, "{} of {count} dead letters", letters.len());
        let Some(message) = consumer.poll(Duration::from_millis(200)) else { continue };
        let message = message.unwrap();
        let headers = message.headers().expect("headers");
        for name in ["topic", "partition", "offset", "exception.message"] {
            let name = format!("__connect.errors.{name}");
            assert!(headers.iter().any(|h| h.key == name && h.value.is_some()), "{name}");
        }
        letters.push((
            String::from_utf8(message.key().unwrap().to_vec()).unwrap(),
            message.payload().unwrap_or_default().to_vec(),
        ));
    }
    letters
}
