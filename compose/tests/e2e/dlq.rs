//! What could not be read is looked through, becomes readable by a mended config, and is sent again: each letter
//! once, through a kill; what cannot be mended ends in quarantine. A batch of nothing else stops its lane.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::producer::{Producer, reading};
use crate::stack::{SOON, Stack};

const LETTERS: usize = 60;

/// Reads the shape that `foreign` writes.
const MENDED: &str = r#"
[[topic]]
name = "readings"
[topic.mapping]
machine = "@.m"
sensor = "@.s"
time = "@.ts"
value = "@.v"
"#;

fn foreign(n: usize) -> String {
    format!(r#"{{"m":"press-01","s":"oil","ts":{},"v":{n}}}"#, 1_795_000_000_000 + n as u64 * 1000)
}

/// A stack with a config file, which is returned to be changed.
fn stack(folder: &Path, config: &str) -> (Stack, PathBuf) {
    let file = folder.join("stillwell.toml");
    fs::write(&file, config).unwrap();
    (Stack::start(&["--config", file.to_str().unwrap()]), file)
}

/// Runs `stillwell dlq` with the config.
fn dlq(stack: &Stack, config: &Path, args: &[&str]) -> Output {
    stack.run(&[&["dlq"][..], args, &["--config", config.to_str().unwrap()]].concat())
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}\n{output:?}"));
    text.lines().map(parse).collect()
}

/// The only line and the exit code.
fn report(output: &Output) -> (Value, Option<i32>) {
    let mut lines = lines(output);
    assert_eq!(lines.len(), 1, "{output:?}");
    (lines.remove(0), output.status.code())
}

#[test]
fn letters_that_a_mended_config_reads_are_sent_again_once_through_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let (mut stack, config) = stack(folder.path(), "");
    let producer = Producer::new(stack.endpoint("kafka"));
    producer.send("press-02", reading("press-02", "oil", 1).as_bytes());
    for n in 0..LETTERS {
        producer.send_raw(Some(b"press-01"), Some(foreign(n).as_bytes()), &[("trace", &[n as u8, 255])]);
    }
    producer.send("press-01", b"never a record");
    producer.flush();
    let all = (LETTERS + 1) as i64;
    stack.wait_number("select count(*) from records", "all are kept", |n| n == all + 1);

    let listed = dlq(&stack, &config, &["list", "--json"]);
    let letters = lines(&listed);
    assert_eq!(letters.len() as i64, all, "{listed:?}");
    let (counts, _) = report(&dlq(&stack, &config, &["histogram", "--json"]));
    assert_eq!((&counts["letters"], &counts["topic"]["readings"]), (&all.into(), &all.into()), "{counts}");
    let filtered = lines(&dlq(&stack, &config, &["list", "--json", "--class", "syntax"]));
    assert_eq!(filtered.len(), 1, "{filtered:?}");
    let first = letters[0]["letter"]["offset"].to_string();
    let shown = dlq(&stack, &config, &["show", &first]);
    let shown = String::from_utf8_lossy(&shown.stdout);
    assert!(shown.contains("\"m\":\"press-01\"") && shown.contains("today\ncannot be read"), "{shown}");

    let (dry, code) = report(&dlq(&stack, &config, &["redrive", "--dry-run", "--json"]));
    assert_eq!((&dry["would_pass"], code), (&0.into(), Some(2)), "{dry}");
    let redrive = ["redrive", "--reason", "the shape is mapped now", "--by", "mara", "--json"];
    let (early, code) = report(&dlq(&stack, &config, &redrive));
    assert_eq!((&early["redriven"], code), (&0.into(), Some(2)), "{early}");

    fs::write(&config, MENDED).unwrap();
    assert!(stack.stop().success(), "{}", stack.log());
    stack.restart();
    let (dry, code) = report(&dlq(&stack, &config, &["redrive", "--dry-run", "--json"]));
    assert_eq!((&dry["would_pass"], &dry["failed"]["syntax"]), (&LETTERS.into(), &1.into()), "{dry}");
    assert_eq!(code, Some(2));

    let mut killed = Command::new(env!("CARGO_BIN_EXE_stillwell"))
        .arg("dlq")
        .args(redrive)
        .args(["--rate", "5", "--config", config.to_str().unwrap(), "--data"])
        .arg(stack.data())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let redriven = |stack: &Stack| {
        let audits = lines(&dlq(stack, &config, &["audit", "--json"]));
        audits.into_iter().filter(|audit| audit["outcome"] == "redriven").collect::<Vec<_>>()
    };
    let until = Instant::now() + SOON;
    while redriven(&stack).is_empty() {
        assert!(Instant::now() < until && killed.try_wait().unwrap().is_none(), "no letter is sent");
        std::thread::sleep(Duration::from_millis(100));
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    let before = redriven(&stack).len();
    assert!((1..LETTERS).contains(&before), "the kill came amid the redrive: {before}");
    let (rest, code) = report(&dlq(&stack, &config, &redrive));
    assert_eq!(code, Some(2), "{rest}");
    let sent = rest["redriven"].as_u64().unwrap() + rest["redriven_before"].as_u64().unwrap();
    assert_eq!(sent, LETTERS as u64, "{rest}");

    let total = all + 1 + LETTERS as i64;
    stack.wait_number("select count(*) from records", "the redriven are kept", |n| n >= total);
    let of_press = "from readings where machine = 'press-01'";
    stack.wait_number(&format!("select count(*) {of_press}"), "readings", |n| n >= LETTERS as i64);
    let view = "select cast(sum(count) as bigint) from readings_1m where machine = 'press-01'";
    stack.wait_number(view, "they reach the views", |n| n >= LETTERS as i64);
    // Whatever a redrive that doubled something would still bring is behind this record.
    let (again, _) = report(&dlq(&stack, &config, &redrive));
    assert_eq!((&again["redriven"], &again["redriven_before"]), (&0.into(), &LETTERS.into()), "{again}");
    producer.send("press-01", foreign(LETTERS).as_bytes());
    producer.flush();
    let count = LETTERS as i64 + 1;
    stack.wait_number(&format!("select count(*) {of_press}"), "the last", |n| n >= count);
    let once = format!("select count(*), count(distinct value), cast(sum(value) as bigint) {of_press}");
    let sum = count * (count - 1) / 2;
    assert_eq!(stack.rows(&once), [[count, count, sum].map(Value::from)]);
    assert_eq!(stack.number("select count(*) from records"), total + 1);
    let twice = "select count(*) from (select value from records group by value having count(*) = 2)";
    assert_eq!(stack.number(twice), LETTERS as i64);
    stack.wait_number(view, "views have each once", |n| n == count);

    let audits = redriven(&stack);
    let mut places: Vec<_> = audits.iter().map(|audit| audit["letter"]["offset"].as_i64().unwrap()).collect();
    places.sort_unstable();
    places.dedup();
    assert_eq!((audits.len(), places.len()), (LETTERS, LETTERS));
    for audit in &audits {
        assert_eq!((&audit["by"], &audit["reason"]), (&"mara".into(), &"the shape is mapped now".into()));
    }

    // Tried in every round so far, and then no more.
    let mut quarantined = 0;
    for _ in 0..4 {
        let (round, code) = report(&dlq(&stack, &config, &redrive));
        quarantined += round["quarantined"].as_u64().unwrap();
        assert_eq!(code, Some(2));
    }
    let (last, _) = report(&dlq(&stack, &config, &redrive));
    assert_eq!((quarantined <= 1, &last["quarantined_before"]), (true, &1.into()), "{last}");
    let audits = lines(&dlq(&stack, &config, &["audit", "--json"]));
    let count = |outcome: &str| audits.iter().filter(|audit| audit["outcome"] == outcome).count();
    assert_eq!(count("quarantined"), 1);
    // All of the first round, and the broken one in two more.
    assert_eq!(count("failed"), LETTERS + 1 + 2);
}

#[test]
fn a_batch_of_nothing_but_garbage_stops_its_lane_until_it_is_accepted() {
    const GARBAGE: i64 = 300;
    let folder = tempfile::tempdir().unwrap();
    let (mut stack, config) = stack(folder.path(), "");
    let producer = Producer::new(stack.endpoint("kafka"));
    for n in 0..GARBAGE {
        producer.send("press-01", format!("garbage {n}").as_bytes());
    }
    producer.flush();
    let until = Instant::now() + SOON;
    // The write side and the read side: what one reads later, the other may not have passed over.
    loop {
        let (_, metrics) = stack.http("GET", "/metrics", "").unwrap();
        let halted = metrics.lines().filter(|line| line.starts_with("stillwell_lane_halted{"));
        if halted.filter(|line| line.ends_with(" 1")).count() == 2 {
            break;
        }
        assert!(Instant::now() < until, "no alarm\n{}", stack.log());
        std::thread::sleep(Duration::from_millis(200));
    }
    let (_, health) = stack.http("GET", "/health", "").unwrap();
    for part in ["300 of 300", "garbage", "dead_letter_share_max = 1.0", "failed"] {
        assert!(health.contains(part), "{part}: {health}");
    }
    let (counts, _) = report(&dlq(&stack, &config, &["histogram", "--json"]));
    assert_eq!(counts["letters"], 0, "{counts}");
    assert_eq!(stack.number("select count(*) from records"), 0);

    fs::write(&config, "[[topic]]\nname = 'readings'\ndead_letter_share_max = 1.0\n").unwrap();
    assert!(stack.stop().success(), "{}", stack.log());
    stack.restart();
    stack.wait_number("select count(*) from records", "all are kept", |n| n == GARBAGE);
    let (counts, _) = report(&dlq(&stack, &config, &["histogram", "--json"]));
    assert_eq!(counts["letters"], GARBAGE, "{counts}");
}
