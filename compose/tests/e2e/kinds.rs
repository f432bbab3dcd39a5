//! String states and counters, as their views show them.

use serde_json::{Value, json};

use crate::producer::Producer;
use crate::stack::Stack;

/// The first second of a minute.
const MINUTE_S: i64 = 1_794_999_960;

#[test]
fn states_and_counters_have_views_of_their_own() {
    let stack = Stack::start(&[]);
    let producer = Producer::new(stack.endpoint("kafka"));
    for (second, value) in [(0, 10), (10, 15), (20, 3), (50, 8)] {
        let reading = json!({"machine": "press", "sensor": "strokes", "kind": "counter", "time": (MINUTE_S + second) * 1000, "value": value});
        producer.send("press", reading.to_string().as_bytes());
    }
    for (second, state) in [(0, "run"), (4, "fault"), (34, "run"), (40, "stop")] {
        let reading =
            json!({"machine": "press", "sensor": "mode", "time": (MINUTE_S + second) * 1000, "text": state});
        producer.send("press", reading.to_string().as_bytes());
    }
    producer.flush();
    stack.wait_number("select count(*) from readings", "archived", |n| n == 8);
    stack.wait_views();
    let counter =
        "select increase, resets, rate, avg_held, area_held from readings_1m where sensor = 'strokes'";
    let expected = [json!(13.0), json!(1), json!(13.0 / 50.0), json!(6.8), json!(340e6)];
    assert_eq!(stack.rows(counter), [Vec::from(expected)]);
    let states =
        "select state, held_s, transitions, first, last from states_1m where sensor = 'mode' order by state";
    let row = |state: &str, held_s: f64| -> Vec<Value> {
        vec![json!(state), json!(held_s), json!(3), json!("run"), json!("stop")]
    };
    assert_eq!(stack.rows(states), [row("fault", 30.0), row("run", 10.0), row("stop", 0.0)]);
    let last = "select state, held_s from states_10s where sensor = 'mode' and time = '2026-11-18T11:06:40Z'";
    assert_eq!(stack.rows(last), [[json!("stop"), json!(0.0)]]);
}

/// Ms since 1970: in 1955, in 2026 and in 2150.
const CENTURIES_MS: [i64; 3] = [-468_000_000_000, MINUTE_S * 1000, 5_680_281_600_000];

#[test]
fn windows_of_any_century_are_found_again() {
    let mut stack = Stack::start(&[]);
    let send = |stack: &Stack| {
        let reading = |time: i64| json!({"machine": "press", "sensor": "oil", "kind": "temperature", "time": time, "value": 1});
        let producer = Producer::new(stack.endpoint("kafka"));
        producer.send("press", json!(CENTURIES_MS.map(reading)).to_string().as_bytes());
        producer.flush();
    };
    send(&stack);
    stack.wait_number("select count(*) from readings", "archived", |n| n == 3);
    stack.wait_views();
    // Nothing is in memory then.
    stack.kill();
    stack.restart();
    send(&stack);
    stack.wait_number("select count(*) from readings", "archived again", |n| n == 6);
    stack.wait_views();
    for view in
        ["readings_10s", "readings_1m", "readings_1h", "readings_1d", "fleet_1m", "fleet_1h", "fleet_1d"]
    {
        for range in
            ["time < '1970-01-01'", "time between '2026-01-01' and '2027-01-01'", "time >= '2149-12-31'"]
        {
            let counts =
                stack.rows(&format!("select \"count\" from {view} where machine = 'press' and {range}"));
            assert_eq!(counts, [[json!(2)]], "{view}, {range}");
        }
    }
}
