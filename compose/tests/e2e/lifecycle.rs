//! A stack's life: ready, asked, stopped by the terminal, killed, started again; and what each leaves behind.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::producer::{Producer, reading};
use crate::stack::{SOON, Stack, signal};

#[test]
fn the_terminals_ctrl_c_stops_everything_in_order_and_nothing_is_lost() {
    let mut stack = Stack::start(&[]);
    let producer = Producer::new(stack.endpoint("kafka"));
    for n in 0..5000 {
        producer.send("press-07", reading("press-07", "oil", n).as_bytes());
    }
    producer.flush();
    // A terminal sends SIGINT to the whole group of the foreground process: to `up` and to all that share it.
    signal_group(stack.pid(), "INT");
    assert!(stack.ended().success(), "{}", stack.log());
    assert_eq!(stack.processes(), [], "nothing is left running");
    assert!(!stack.data().join("endpoints.json").exists());
    assert!(!stack.log().contains("starting it again"), "{}", stack.log());
    let ports = [stack.endpoint("kafka").to_owned(), stack.endpoint("clickhouse").to_owned()];

    stack.restart();
    assert_eq!([stack.endpoint("kafka"), stack.endpoint("clickhouse")], ports, "clients find them again");
    stack.wait_number("select count(*) from readings", "archived", |n| n == 5000);
    stack.wait_number("select cast(sum(count) as bigint) from readings_1d", "in views", |n| n == 5000);

    let second = stack.run(&["up"]);
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && said.contains(&stack.pid().to_string()), "{said}");

    stack.kill();
    let until = Instant::now() + SOON;
    while !stack.processes().is_empty() {
        assert!(Instant::now() < until, "left after kill -9: {:?}", stack.processes());
        std::thread::sleep(Duration::from_millis(50));
    }
    let stale = stack.run(&["sql", "select 1"]);
    let said = String::from_utf8_lossy(&stale.stderr).into_owned();
    assert!(!stale.status.success() && said.contains("stillwell up --data"), "{said}");
    stack.restart();
    assert_eq!(stack.number("select count(*) from readings"), 5000);
}

#[test]
fn a_stop_during_the_start_leaves_nothing_behind() {
    for wait in [Duration::ZERO, Duration::from_millis(1500), Duration::from_millis(3500)] {
        let mut stack = Stack::begin(&[]);
        let until = Instant::now() + SOON;
        // From here on signals are its own to handle.
        while !stack.data().join("lock").exists() {
            assert!(Instant::now() < until, "{}", stack.log());
            std::thread::sleep(Duration::from_millis(1));
        }
        // The moment is what is varied; whichever part of the start it meets, the outcome is the same.
        std::thread::sleep(wait);
        signal(stack.pid(), "TERM");
        assert!(stack.ended().success(), "after {wait:?}: {}", stack.log());
        assert_eq!(stack.processes(), [], "after {wait:?}");
    }
}

#[test]
fn the_demo_shows_a_plant_at_once_and_goes_on_where_it_was() {
    let mut stack = Stack::start(&["--demo"]);
    let machines = "select count(distinct machine) from latest";
    stack.wait_number(machines, "the plant's machines", |n| n == 12);
    stack.wait_number("select count(*) from anomalies", "faults of the past hour", |n| n > 0);
    assert!(stack.stop().success());
    let twice = "select count(*) from (select machine, sensor, time from readings group by 1, 2, 3 having count(distinct value) > 1)";
    let oldest = "select cast(count(*) as bigint) from readings where time < now() - interval '30 minutes'";
    stack.restart();
    let (before, readings) = (stack.number(oldest), stack.number("select count(*) from readings"));
    stack.wait_number("select count(*) from readings", "the plant goes on", |n| n > readings + 200);
    // A second history would add hundreds of thousands.
    assert!(stack.number(oldest) < before + before / 10, "the past is told once");
    assert_eq!(stack.number(twice), 0, "a sensor shows one value at a time");
}

#[test]
fn stages_run_alone_beside_servers_that_are_there() {
    let stack = Stack::start(&["--stages", "none"]);
    let servers = ["--kafka", stack.endpoint("kafka"), "--clickhouse", stack.endpoint("clickhouse")];
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().to_str().unwrap();
    let mut ingest = Stage::start(&["ingest", "--data", other, servers[0], servers[1]]);
    let mut aggregate = Stage::start(&[&["aggregate", "--data", other], &servers[..]].concat());
    let query = ["query", "--data", other, "--http", "127.0.0.1:0", "--pg", "127.0.0.1:0"];
    let mut query = Stage::start(&[&query[..], &servers[2..]].concat());
    let producer = Producer::new(stack.endpoint("kafka"));
    for n in 0..1000 {
        producer.send("press-07", reading("press-07", "oil", n).as_bytes());
    }
    producer.flush();
    let http = query.said("http://");
    let until = Instant::now() + SOON;
    loop {
        let sql = "select (select count(*) from readings) as a, (select cast(sum(count) as bigint) from readings_1d) as v";
        let out = stack.run(&["sql", "--format", "csv", "--http", &http, sql]);
        if String::from_utf8_lossy(&out.stdout).contains("1000,1000") {
            break;
        }
        assert!(Instant::now() < until, "{out:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
    for stage in [&mut ingest, &mut aggregate] {
        let health = stage.said("http://");
        let base = health.trim_end_matches("/health").trim_start_matches("http://").to_owned();
        let (status, metrics) = crate::stack::http(&base, "GET", "/metrics", "").unwrap();
        assert!(status == 200 && metrics.contains("stillwell_watermark_offset"), "{metrics}");
        let (status, body) = crate::stack::http(&base, "GET", "/health", "").unwrap();
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &body["status"]), (200, &Value::from("ok")), "{body}");
    }
    for stage in [ingest, aggregate, query] {
        stage.stop();
    }
}

/// A stage as a process of its own.
struct Stage {
    child: std::process::Child,
    log: tempfile::NamedTempFile,
}

impl Stage {
    fn start(args: &[&str]) -> Self {
        let log = tempfile::NamedTempFile::new().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_stillwell"))
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.reopen().unwrap())
            .stderr(log.reopen().unwrap())
            .process_group(0)
            .spawn()
            .unwrap();
        Self { child, log }
    }

    /// The first word that it prints which begins like this.
    fn said(&mut self, begin: &str) -> String {
        let until = Instant::now() + SOON;
        loop {
            let text = std::fs::read_to_string(self.log.path()).unwrap();
            let mut words = text.split([' ', ',', '\n']);
            if let Some(word) = words.find(|word| word.starts_with(begin)) {
                return word.to_owned();
            }
            assert!(self.child.try_wait().unwrap().is_none() && Instant::now() < until, "{text}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn stop(mut self) {
        signal(self.child.id(), "TERM");
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{}", std::fs::read_to_string(self.log.path()).unwrap());
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // One that has ended in order is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal_group(leader: u32, name: &str) {
    let status =
        Command::new("kill").args([&format!("-{name}"), "--", &format!("-{leader}")]).status().unwrap();
    assert!(status.success(), "kill -{name} -{leader}");
}
