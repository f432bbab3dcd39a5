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
    // Nearly all that comes is broken here, which a lane takes only if it is told to.
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("stillwell.toml");
    std::fs::write(&config, "[[topic]]\nname = 'readings'\ndead_letter_share_max = 1.0\n").unwrap();
    let stack = Stack::start(&["--config", config.to_str().unwrap()]);
    let producer = Producer::new(stack.endpoint("kafka"));
    for round in 0..ROUNDS {
        producer.send("press-01", reading("press-01", "oil", round as u64).as_bytes());
        for broken in BROKEN {
            producer.send("press-01", broken);
        }
        producer.send_raw(None, None, &[("trace", b"\x01\xff"), ("trace", b"again")]);
        producer.send_raw(None, Some(b"{"), &[]);
    }
    producer.flush();
    let (good, bad) = (ROUNDS as i64, (ROUNDS * (BROKEN.len() + 2)) as i64);
    stack.wait_number("select count(*) from records", "all records kept", |n| n >= good + bad);
    assert_eq!(stack.number("select count(*) from records"), good + bad);
    assert_eq!(stack.number("select count(*) from readings"), good);
    assert_eq!(stack.number("select count(*) from dead_letters where error is not null"), bad);
    stack.wait_number("select cast(sum(count) as bigint) from readings_1m", "views", |n| n == good);

    let mut letters = dead_letters(&stack, bad as usize);
    letters.sort();
    let key = || Some(b"press-01".to_vec());
    let broken = BROKEN.iter().map(|b| Letter { key: key(), value: Some(b.to_vec()), headers: Vec::new() });
    let traced = [("trace", b"\x01\xff".to_vec()), ("trace", b"again".to_vec())];
    let traced = traced.map(|(name, value)| (name.to_owned(), value)).to_vec();
    let bare = [
        Letter { key: None, value: None, headers: traced },
        Letter { key: None, value: Some(b"{".to_vec()), headers: Vec::new() },
    ];
    let mut expected: Vec<Letter> =
        broken.chain(bare).flat_map(|letter| std::iter::repeat_n(letter, ROUNDS)).collect();
    expected.sort();
    assert!(letters == expected, "{} letters, {} expected", letters.len(), expected.len());
    assert_eq!(stack.number("select count(*) from records where value is null"), ROUNDS as i64);
}

/// A record as it was sent: null and empty are not the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Letter {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Vec<u8>)>,
}

/// Each dead letter as it was sent; each must name where it came from and what is wrong.
fn dead_letters(stack: &Stack, count: usize) -> Vec<Letter> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", stack.endpoint("kafka"))
        .set("group.id", "dead-letter-reader")
        .set("auto.offset.reset", "earliest")
        .create()
        .unwrap();
    consumer.subscribe(&["readings.dlq"]).unwrap();
    let (mut letters, mut places) = (Vec::new(), Vec::new());
    let until = Instant::now() + SOON;
    while letters.len() < count {
        assert!(Instant::now() < until, "{} of {count} dead letters", letters.len());
        let Some(message) = consumer.poll(Duration::from_millis(200)) else { continue };
        let message = message.unwrap();
        let headers = message.headers().expect("headers");
        let error = |name: &str| {
            let name = format!("__connect.errors.{name}");
            let header = headers.iter().find(|header| header.key == name);
            let value = header.and_then(|header| header.value).unwrap_or_else(|| panic!("no {name}"));
            String::from_utf8(value.to_vec()).unwrap()
        };
        assert_eq!(error("topic"), "readings");
        assert!((0..8).contains(&error("partition").parse::<i32>().unwrap()));
        places.push((error("partition"), error("offset").parse::<i64>().unwrap()));
        assert!(!error("exception.message").is_empty());
        let own = headers.iter().filter(|header| !header.key.starts_with("__connect.errors."));
        letters.push(Letter {
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: own.map(|h| (h.key.to_owned(), h.value.unwrap_or_default().to_vec())).collect(),
        });
    }
    places.sort();
    places.dedup();
    assert_eq!(places.len(), count, "each from a place of its own");
    letters
}
