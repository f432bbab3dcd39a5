//! The time machine: views rebuilt from the archive and swapped under load, killed at each step, and as of a moment.

use std::collections::BTreeMap;
use std::fs;
use std::process::Output;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::producer::{Ends, Producer, reading};
use crate::stack::{SOON, Stack, http};

const VIEWS: [&str; 7] =
    ["readings_10s", "readings_1m", "readings_1h", "readings_1d", "fleet_1m", "fleet_1h", "fleet_1d"];
const STEPS: [&str; 11] = [
    "create",
    "fold",
    "trim",
    "take_over",
    "scores",
    "compare",
    "approve",
    "refresh",
    "move",
    "catch_up",
    "swap",
];

#[test]
fn views_are_swapped_under_load_without_a_hole_or_a_double() {
    let stack = Stack::start(&[]);
    let producer = Producer::new(stack.endpoint("kafka"));
    let (stop, swapped, produced) = (AtomicBool::new(false), AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let _ends = (Ends(&stop), Ends(&swapped));
        let load = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..20 {
                    send(&producer, produced.fetch_add(1, Ordering::Relaxed));
                }
                // Pacing: some 2,000 readings a second.
                std::thread::sleep(Duration::from_millis(10));
            }
            producer.flush();
        });
        stack.wait_number("select count(*) from readings", "the archive", |n| n > 10_000);
        let watched = VIEWS.map(|view| {
            let (stack, swapped) = (&stack, &swapped);
            scope.spawn(move || never_falls(stack, view, swapped))
        });
        for view in VIEWS {
            let done = said(&stack.run(&["rebuild", view, "--swap", "--yes", "--json"]));
            assert_eq!(done["phase"], "finished", "{done}");
            assert_eq!(done["comparison"]["different"], 0, "{done}");
        }
        swapped.store(true, Ordering::Relaxed);
        for watch in watched {
            watch.join().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        load.join().unwrap();
    });
    equal(&stack, produced.into_inner());
    for view in VIEWS {
        let done = said(&stack.run(&["rebuild", view, "--diff", "--json"]));
        assert_eq!(&done["comparison"]["different"], 0, "{view}: {done}");
        assert!(done["comparison"]["compared"].as_u64().unwrap() > 0, "{view}: {done}");
    }
}

#[test]
fn killed_at_each_step_it_is_resumed_or_undone() {
    let stack = Stack::start(&[]);
    let producer = Producer::new(stack.endpoint("kafka"));
    let mut produced = 0;
    send_more(&producer, &mut produced);
    equal(&stack, produced);
    let rounds = STEPS.iter().flat_map(|step| [(step, "before", "resume"), (step, "after", "undo")]);
    for (step, moment, then) in rounds {
        let at = format!("{step}:{moment}");
        let killed = stack.run(&["rebuild", "readings_1m", "--swap", "--yes", "--die-at", &at]);
        assert!(!killed.status.success(), "it was to die at {at}: {killed:?}");
        let all = said(&stack.run(&["saga", "list", "--json"]));
        let open: Vec<&Value> =
            all.as_array().unwrap().iter().filter(|saga| saga["phase"] == "under way").collect();
        assert_eq!(open.len(), 1, "{all}");
        let id = open[0]["saga"].as_str().unwrap();
        let second = stack.run(&["rebuild", "readings_1m", "--swap", "--yes"]);
        let why = String::from_utf8_lossy(&second.stderr).into_owned();
        assert!(!second.status.success() && why.contains(&format!("saga resume {id}")), "{why}");
        // Readings come meanwhile, whichever table lanes write.
        send_more(&producer, &mut produced);
        let words: &[&str] =
            if then == "resume" { &["saga", "resume", id, "--swap"] } else { &["saga", "undo", id] };
        driven(&stack, words);
        let phase = if then == "resume" { "finished" } else { "undone" };
        let all = said(&stack.run(&["saga", "list", "--json"]));
        let found = all.as_array().unwrap().iter().find(|saga| saga["saga"] == id).unwrap().clone();
        assert_eq!(found["phase"], phase, "{at}: {found}");
        equal(&stack, produced);
    }
}

#[test]
fn totals_that_are_put_back_leave_what_was_known_of_series() {
    let stack = Stack::start(&[]);
    let producer = Producer::new(stack.endpoint("kafka"));
    let mut produced = 0;
    send_more(&producer, &mut produced);
    // One without a kind, twice in one minute: before, and while the new table is in use.
    let nameless = r#"{"machine":"press-01","sensor":"door","time":1795000000000,"value":7}"#;
    producer.send("press-01", nameless.as_bytes());
    producer.flush();
    holds(&stack, produced + 1, produced * (produced - 1) / 2 + 7);
    let done = said(&stack.run(&["rebuild", "fleet_1m", "--swap", "--yes", "--json"]));
    assert_eq!(done["phase"], "finished", "{done}");
    // All machines but the first one send while the new table is in use.
    let of_first = |n: u64| n.is_multiple_of(8);
    producer.send("press-01", nameless.as_bytes());
    let (mut all, mut sum) = (produced + 2, produced * (produced - 1) / 2 + 14);
    for n in (produced..2 * produced).filter(|n| !of_first(*n)) {
        send(&producer, n);
        (all, sum) = (all + 1, sum + n);
    }
    producer.flush();
    holds(&stack, all, sum);
    driven(&stack, &["saga", "undo", done["saga"].as_str().unwrap()]);
    // What is long past for the first one is late, and not its last reading.
    let newest = stack.rows("select time from latest where machine = 'press-00'");
    send(&producer, 0);
    producer.flush();
    holds(&stack, all + 1, sum);
    assert_eq!(stack.rows("select time from latest where machine = 'press-00'"), newest);
    for view in ["readings_1m", "fleet_1m"] {
        let late = format!("select cast(sum(late) as bigint) from {view} where machine = 'press-00'");
        assert_eq!(stack.number(&late), 1, "{view}");
    }
}

#[test]
fn as_of_a_moment_is_what_was_durable_then() {
    let stack = Stack::start(&[]);
    let producer = Producer::new(stack.endpoint("kafka"));
    (0..3000).for_each(|n| send(&producer, n));
    producer.flush();
    equal(&stack, 3000);
    let entries = entries(&stack);
    let moment = entries.iter().map(|(_, _, written_us)| *written_us).max().unwrap();
    (3000..6000).for_each(|n| send(&producer, n));
    producer.flush();
    equal(&stack, 6000);
    let done = said(&stack.run(&["rebuild", "readings_1m", "--as-of", &moment.to_string(), "--json"]));
    assert_eq!(done["phase"], "finished", "{done}");
    let number = done["plan"]["number"].as_u64().unwrap();
    let built = clickhouse(
        &stack,
        &format!(
            "SELECT machine, intDiv(toUnixTimestamp64Micro(time), 1000000), count, toInt64(sum), toInt64(min), toInt64(max) FROM readings_1m_asof_{number} ORDER BY machine, time FORMAT TSV"
        ),
    );
    let mut ends: BTreeMap<i64, i64> = BTreeMap::new();
    for (partition, next, _) in entries.iter().filter(|(_, _, written_us)| *written_us <= moment) {
        let end = ends.entry(*partition).or_default();
        *end = (*end).max(*next);
    }
    let bounds: Vec<String> = ends
        .iter()
        .map(|(partition, next)| format!("(partition = {partition} and \"offset\" < {next})"))
        .collect();
    let rows = stack.rows(&format!(
        "select machine, cast(extract(epoch from date_trunc('minute', time)) as bigint) as minute, count(*), cast(sum(value) as bigint), cast(min(value) as bigint), cast(max(value) as bigint) from readings where {} group by 1, 2 order by 1, 2",
        bounds.join(" or ")
    ));
    let cell = |cell: &Value| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
    let folded: Vec<String> =
        rows.iter().map(|row| row.iter().map(cell).collect::<Vec<_>>().join("\t")).collect();
    assert_eq!(built.lines().collect::<Vec<_>>(), folded);
    let totals = said(&stack.run(&["rebuild", "fleet_1m", "--as-of", &moment.to_string(), "--json"]));
    let number = totals["plan"]["number"].as_u64().unwrap();
    let of_totals = clickhouse(
        &stack,
        &format!("SELECT sum(count), toInt64(sum(sum)) FROM fleet_1m_asof_{number} FORMAT TSV"),
    );
    let of_windows = clickhouse(
        &stack,
        &format!(
            "SELECT sum(count), toInt64(sum(sum)) FROM {} FORMAT TSV",
            done["plan"]["table"].as_str().unwrap()
        ),
    );
    assert_eq!(of_totals, of_windows);
    let refused = stack.run(&["rebuild", "readings_1m", "--as-of", "7", "--swap"]);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && why.contains("leave --swap out"), "{why}");
    driven(&stack, &["saga", "forget", done["saga"].as_str().unwrap()]);
}

fn send(producer: &Producer, n: u64) {
    let machine = format!("press-{:02}", n % 8);
    producer.send(&machine, reading(&machine, "oil", n).as_bytes());
}

/// Some more readings, which are acknowledged.
fn send_more(producer: &Producer, produced: &mut u64) {
    for _ in 0..200 {
        send(producer, *produced);
        *produced += 1;
    }
    producer.flush();
}

/// Waits until archive and views hold all readings, and checks that they hold them once.
fn equal(stack: &Stack, produced: u64) {
    holds(stack, produced, produced * (produced.max(1) - 1) / 2);
}

fn holds(stack: &Stack, readings: u64, sum: u64) {
    let (all, sum) = (readings.cast_signed(), sum.cast_signed());
    stack.wait_number("select count(*) from readings", "all archived", |n| n >= all);
    stack.wait_views();
    for view in VIEWS {
        let sql = format!("select cast(sum(count) as bigint), cast(sum(sum) as bigint) from {view}");
        assert_eq!(stack.rows(&sql), [[all, sum].map(Value::from)], "{view}");
    }
}

/// What a view counts never becomes less, until it is told to end.
fn never_falls(stack: &Stack, view: &str, end: &AtomicBool) {
    let sql = format!("select cast(sum(count) as bigint) from {view}");
    let mut before = 0;
    while !end.load(Ordering::Relaxed) {
        let now = stack.number(&sql);
        assert!(now >= before, "{view} falls from {before} to {now}");
        before = now;
        // Pacing: four of these share the machine with what they watch.
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The answer of a command that prints JSON.
fn said(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// Drives a saga, as soon as the process that died counts as gone.
fn driven(stack: &Stack, words: &[&str]) {
    let until = Instant::now() + SOON;
    loop {
        let output = stack.run(words);
        if output.status.success() {
            return;
        }
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(why.contains("is driven by") && Instant::now() < until, "{words:?}: {why}");
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Partition, next offset and commit time (µs) of every entry.
fn entries(stack: &Stack) -> Vec<(i64, i64, i64)> {
    let mut all = Vec::new();
    for partition in fs::read_dir(stack.data().join("archive/readings/manifest")).unwrap() {
        for entry in fs::read_dir(partition.unwrap().path()).unwrap() {
            let entry: Value = serde_json::from_slice(&fs::read(entry.unwrap().path()).unwrap()).unwrap();
            let body = &entry["body"];
            let number = |value: &Value| value.as_i64().unwrap();
            all.push((
                number(&body["partition"]),
                number(&body["range"]["next"]),
                number(&body["written_us"]),
            ));
        }
    }
    all
}

/// What ClickHouse itself answers.
fn clickhouse(stack: &Stack, sql: &str) -> String {
    let url = stack.endpoint("clickhouse").trim_start_matches("http://").trim_end_matches('/');
    let (login, host) = url.rsplit_once('@').unwrap();
    let (user, password) = login.split_once(':').unwrap();
    let path = format!("/?user={user}&password={password}&database=stillwell");
    let (status, answer) = http(host, "POST", &path, sql).unwrap();
    assert_eq!(status, 200, "{answer}");
    answer
}
