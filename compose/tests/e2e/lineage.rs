//! From a cell of a view to the records that were produced: the offsets and traces are exactly theirs.

use serde_json::Value;

use crate::producer::{Producer, reading};
use crate::stack::Stack;

/// The time of reading 0, µs.
const BASE_US: u64 = 1_795_000_000_000_000;
const READINGS: u64 = 40;

fn trace_id(n: u64) -> String {
    format!("{:032x}", n + 1)
}

#[test]
fn a_cell_leads_to_its_records_and_their_traces() {
    let stack = Stack::start(&[]);
    let producer = Producer::new(stack.endpoint("kafka"));
    for n in 0..READINGS {
        let traceparent = format!("00-{}-00f067aa0ba902b7-01", trace_id(n));
        let value = reading("press-07", "oil", n);
        producer.send_raw(
            Some(b"press-07"),
            Some(value.as_bytes()),
            &[("traceparent", traceparent.as_bytes()), ("note", b"x")],
        );
        producer.send("press-08", reading("press-08", "oil", n).as_bytes());
    }
    producer.flush();
    let all = 2 * READINGS.cast_signed();
    stack.wait_number("select count(*) from readings", "archived", |n| n == all);
    stack.wait_views();

    // Readings are a second apart, and the first one's time begins a window.
    let at = BASE_US + 13_500_000;
    let cell = format!("'press-07', 'oil', {at}");
    let sql = format!("select \"offset\", trace_id, visible from lineage({cell}) order by 1");
    let found = stack.rows(&sql);
    let produced = "select \"offset\" from readings where machine = 'press-07' order by time";
    let offsets: Vec<Value> = stack.rows(produced).into_iter().map(|row| row[0].clone()).collect();
    let expected: Vec<Vec<Value>> =
        (10..20).map(|n| vec![offsets[n as usize].clone(), trace_id(n).into(), true.into()]).collect();
    assert_eq!(found, expected);

    let window = stack.rows(&format!("select table_name, count, version from lineage_windows({cell})"));
    assert_eq!(
        (window.len(), &window[0][0], &window[0][1]),
        (1, &Value::from("windows_10s"), &Value::from(10))
    );
    assert!(window[0][2].as_i64() > offsets[19].as_i64(), "{window:?}");
    let day = format!("select count(*) from lineage({cell}, 'readings_1d') where visible");
    assert_eq!(stack.number(&day), READINGS.cast_signed());

    let at = at.to_string();
    let args = ["lineage", "--machine", "press-07", "--sensor", "oil", "--at", &at];
    let out = stack.run(&args);
    let tree = String::from_utf8(out.stdout).unwrap();
    assert_eq!(out.status.code(), Some(0), "{tree}");
    for n in 0..READINGS {
        assert_eq!(tree.contains(&trace_id(n)), (10..20).contains(&n), "{n}: {tree}");
    }
    assert!(tree.contains("count 10") && tree.contains("a row of windows_10s"), "{tree}");

    let out = stack.run(&[&args[..], &["--json", "--limit", "3", "--view", "readings_1m"]].concat());
    let lineage: Value = serde_json::from_slice(&out.stdout).unwrap();
    let shown = lineage["readings"].as_array().unwrap().len();
    assert_eq!((out.status.code(), shown, &lineage["truncated"]), (Some(2), 3, &Value::Bool(true)));
    assert_eq!(lineage["cell"]["machine"], "press-07");

    let out = stack.run(&["lineage", "--machine", "press-99", "--sensor", "oil", "--at", &at]);
    assert_eq!(out.status.code(), Some(1), "{out:?}");
}
