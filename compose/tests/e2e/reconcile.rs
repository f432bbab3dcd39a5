//! Views that are tampered with are told by the archive: machine and hour.

use serde_json::Value;

use crate::producer::{Producer, reading};
use crate::stack::{Stack, http};

/// Readings of each machine, one a second: three hours.
const READINGS: u64 = 3 * 3600;
const MACHINES: [&str; 3] = ["press-01", "press-02", "o'press {3}"];

#[test]
fn what_was_tampered_with_is_named_and_nothing_else() {
    let stack = Stack::start(&[]);
    let producer = Producer::new(stack.endpoint("kafka"));
    for n in 0..READINGS {
        for machine in MACHINES {
            producer.send(machine, reading(machine, "oil", n).as_bytes());
            producer.send(machine, reading(machine, "bearing-1", n).as_bytes());
        }
    }
    producer.flush();
    let all = (READINGS * 2 * MACHINES.len() as u64).cast_signed();
    stack.wait_number("select count(*) from readings", "archived", |n| n == all);
    stack.wait_views();
    let lateness = stack.rows("select readings, late from machine_lateness order by machine");
    assert_eq!(lateness.len(), MACHINES.len(), "{lateness:?}");

    let (code, report) = reconcile(&stack, &[]);
    assert_eq!((code, &report["differing"], &report["pending"]), (0, &0.into(), &0.into()), "{report}");
    assert_eq!(report["archive_readings"], all, "{report}");

    // Of equal versions the row that was written last counts.
    let row = "machine = 'press-02' AND sensor = 'oil' ORDER BY start LIMIT 1 OFFSET 1";
    let changed = format!(
        "INSERT INTO stillwell.windows_1h SELECT * REPLACE (count + 5 AS count) \
         FROM stillwell.windows_1h FINAL WHERE {row}"
    );
    clickhouse(&stack, &changed);
    let start = clickhouse(
        &stack,
        &format!(
            "SELECT formatDateTime(start, '%FT%TZ') FROM (SELECT start FROM stillwell.windows_1h FINAL WHERE {row})"
        ),
    );
    let (code, report) = reconcile(&stack, &[]);
    let differences = report["differences"].as_array().unwrap();
    assert_eq!((code, differences.len()), (1, 1), "{report}");
    assert_eq!(differences[0]["machine"], "press-02", "{report}");
    assert!(differences[0]["detail"].as_str().unwrap().starts_with("oil: "), "{report}");
    let said = stack.run(&["reconcile", "--machine", "press-02"]);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains(&format!("{}  press-02: ", start.trim())), "{said} of {start}");
    assert_eq!(reconcile(&stack, &["--machine", "press-01"]).0, 0);
    assert_eq!(reconcile(&stack, &["--to", start.trim()]).0, 0, "the hour after is not asked for");

    clickhouse(
        &stack,
        "DELETE FROM stillwell.windows_1h WHERE machine = 'press-01' AND sensor = 'bearing-1'",
    );
    let (code, report) = reconcile(&stack, &["--machine", "press-01"]);
    let differences = report["differences"].as_array().unwrap();
    assert!(code == 1 && !differences.is_empty(), "{report}");
    for difference in differences {
        assert!(difference["detail"].as_str().unwrap().starts_with("bearing-1: no window"), "{report}");
    }

    let third = MACHINES[2];
    let changed = "INSERT INTO stillwell.fleet_windows_1h SELECT * REPLACE (sum + 5 AS sum) \
                   FROM stillwell.fleet_windows_1h FINAL WHERE startsWith(machine, 'o') ORDER BY start LIMIT 1";
    clickhouse(&stack, changed);
    let (code, report) = reconcile(&stack, &["--machine", third]);
    let differences = report["differences"].as_array().unwrap();
    assert_eq!((code, differences.len()), (1, 1), "{report}");
    assert!(differences[0]["detail"].as_str().unwrap().starts_with("fleet_1h, "), "{report}");
    let built = stack.run(&["rebuild", "fleet_1h", "--swap", "--yes"]);
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    assert_eq!(reconcile(&stack, &["--machine", third]).0, 0, "what was built anew is right");
}

/// Exit code and report.
fn reconcile(stack: &Stack, more: &[&str]) -> (i32, Value) {
    let out = stack.run(&[&["reconcile", "--json"][..], more].concat());
    let report = serde_json::from_slice(&out.stdout);
    let said = String::from_utf8_lossy(&out.stderr);
    (out.status.code().unwrap(), report.unwrap_or_else(|error| panic!("{error}: {said}")))
}

/// Asks the views' server itself.
fn clickhouse(stack: &Stack, sql: &str) -> String {
    let url = stack.endpoint("clickhouse").trim_start_matches("http://").trim_end_matches('/');
    let (login, base) = url.rsplit_once('@').unwrap();
    let (user, password) = login.split_once(':').unwrap();
    let (status, answer) = http(base, "POST", &format!("/?user={user}&password={password}"), sql).unwrap();
    assert_eq!(status, 200, "{sql}: {answer}");
    answer
}
