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
