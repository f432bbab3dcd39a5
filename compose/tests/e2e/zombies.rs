//! Several `stillwell ingest` processes in one group, killed, frozen, thawed as zombies, added and sent away, with
//! broker crashes and aborted transactions under them: each record archived once, whole, and provably so.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use serde_json::Value;

use crate::members::{Blow, Members, seed};
use crate::producer::{Ends, Producer, reading};
use crate::stack::Stack;

/// Values of records in transactions, apart from all others.
const TRANSACTIONAL: u64 = 1_000_000_000;

const BLOWS: [Blow; 10] = [
    Blow::Kill,
    Blow::Kill,
    Blow::Kill,
    Blow::Freeze,
    Blow::Freeze,
    Blow::Blink,
    Blow::Add,
    Blow::Add,
    Blow::SendAway,
    Blow::CrashBroker,
];

/// What was produced: committed values, poison, and transactional values that were committed.
#[derive(Default)]
struct Produced {
    values: AtomicU64,
    poison: AtomicU64,
    committed: AtomicU64,
    committed_sum: AtomicU64,
}

#[test]
fn writers_that_die_and_come_back_as_zombies_archive_each_record_once() {
    let seed = seed();
    let stack = Stack::start(&["--stages", "query"]);
    let (stop, produced) = (AtomicBool::new(false), Produced::default());
    let settings = vec![("STILLWELL_INGEST_FLUSH_INTERVAL_MS", "300".to_owned())];
    let mut writers = Members::new(&stack, "ingest", settings);
    let rounds = std::thread::scope(|scope| {
        let _ends = Ends(&stop);
        let load = scope.spawn(|| produce(&stack, &stop, &produced));
        let transactions = scope.spawn(|| produce_in_transactions(&stack, &stop, &produced));
        let rounds = writers.endure(&BLOWS, seed, "select count(*) from records");
        stop.store(true, Ordering::Relaxed);
        load.join().unwrap();
        transactions.join().unwrap();
        rounds
    });
    writers.add();
    check(&stack, &produced);
    let fenced = writers.times_said("fenced by another writer");
    eprintln!("{rounds} rounds: {}, fenced {fenced} times", writers.summary());
}

/// Asks what a reader asks, then lets the archive be verified.
fn check(stack: &Stack, produced: &Produced) {
    let of = |n: &AtomicU64| n.load(Ordering::Relaxed).cast_signed();
    let (values, poison) = (of(&produced.values), of(&produced.poison));
    let (committed, committed_sum) = (of(&produced.committed), of(&produced.committed_sum));
    stack.wait_number("select count(*) from records", "all archived", |n| n >= values + poison + committed);
    let per_sensor =
        "select count(*), count(distinct value), cast(sum(value) as bigint) from readings where sensor = ";
    let sum = values * (values - 1) / 2;
    assert_eq!(stack.rows(&format!("{per_sensor}'plain'")), [[values, values, sum].map(Value::from)]);
    let sum = committed_sum + committed * TRANSACTIONAL.cast_signed();
    assert_eq!(
        stack.rows(&format!("{per_sensor}'transactional'")),
        [[committed, committed, sum].map(Value::from)]
    );
    let records =
        "select count(*), count(distinct partition || '-' || \"offset\"), count(error) from records";
    let all = values + poison + committed;
    assert_eq!(stack.rows(records), [[all, all, poison].map(Value::from)]);
    let key = stack.data().join("keys/archive.pub.pem");
    let verified = stack.run(&["verify", "--json", "--public-key", key.to_str().unwrap()]);
    let report = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(verified.status.success(), "{report}");
    let report: Value = serde_json::from_str(&report).unwrap();
    let total = |of: &str| {
        report["lanes"].as_array().unwrap().iter().filter_map(|lane| lane[of].as_i64()).sum::<i64>()
    };
    assert_eq!(
        [total("records"), total("readings"), total("undecodable")],
        [all, values + committed, poison]
    );
}

/// Some 2,000 readings a second over eight machines, every hundredth record poison.
fn produce(stack: &Stack, stop: &AtomicBool, produced: &Produced) {
    let producer = Producer::new(stack.endpoint("kafka"));
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..40 {
            let n = produced.values.fetch_add(1, Ordering::Relaxed);
            let machine = format!("press-{:02}", n % 8);
            producer.send(&machine, reading(&machine, "plain", n).as_bytes());
            if n.is_multiple_of(100) {
                producer.send(&machine, b"{\"machine\":\"press");
                produced.poison.fetch_add(1, Ordering::Relaxed);
            }
        }
        // Pacing.
        std::thread::sleep(Duration::from_millis(20));
    }
    producer.flush();
}

/// Transactions of ten readings, every third aborted: the log has markers and records that nobody is given.
fn produce_in_transactions(stack: &Stack, stop: &AtomicBool, produced: &Produced) {
    // One that polls by itself: deliveries must be heard of before a transaction can end.
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", stack.endpoint("kafka"))
        .set("transactional.id", "zombies")
        .set("transaction.timeout.ms", "60000")
        .set("message.timeout.ms", "60000")
        .set("reconnect.backoff.max.ms", "500")
        .create()
        .unwrap();
    let wait = Duration::from_secs(60);
    producer.init_transactions(wait).unwrap();
    for transaction in 0u64.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        producer.begin_transaction().unwrap();
        let values: Vec<u64> = (transaction * 10..transaction * 10 + 10).collect();
        for n in &values {
            let value = reading("lathe-01", "transactional", TRANSACTIONAL + n);
            let key = format!("lathe-{}", n % 8);
            producer.send(BaseRecord::to("readings").key(&key).payload(&value)).unwrap();
        }
        if transaction % 3 == 2 {
            insist(|| producer.abort_transaction(wait));
        } else {
            insist(|| producer.commit_transaction(wait));
            produced.committed.fetch_add(10, Ordering::Relaxed);
            produced.committed_sum.fetch_add(values.iter().sum(), Ordering::Relaxed);
        }
        // Pacing.
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Ends a transaction, however often the broker has to be asked.
fn insist(end: impl Fn() -> Result<(), KafkaError>) {
    for _ in 0..20 {
        match end() {
            Ok(()) => return,
            Err(KafkaError::Transaction(error)) if error.is_retriable() => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the transaction does not end");
}
