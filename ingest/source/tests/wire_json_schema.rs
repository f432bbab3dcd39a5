//! The JSON Schema of the wire format and the decoder agree: on every example that the schema shows, and on
//! what is no record of this format.

use serde_json::{Value, json};
use stillwell_source::chunk::RecordRef;
use stillwell_source::columns::ReadingColumns;
use stillwell_source::decode::json::JsonDecoder;
use stillwell_source::decode::{DecodeError, DecodeFault, Decoder};
use stillwell_source::series::SeriesTable;
use stillwell_source::settings::TimeUnit;

fn schema() -> Value {
    serde_json::from_str(include_str!("../wire-json.schema.json")).expect("the schema is JSON")
}

fn decode(record: &Value) -> Result<ReadingColumns, DecodeError> {
    decode_in(TimeUnit::Millis, record)
}

fn decode_in(unit: TimeUnit, record: &Value) -> Result<ReadingColumns, DecodeError> {
    let mut columns = ReadingColumns::default();
    let bytes = serde_json::to_vec(record).unwrap();
    let record = RecordRef::new(0, None, &bytes);
    match JsonDecoder::new(unit).decode(&record, 0, &mut SeriesTable::default(), &mut columns) {
        Ok(()) => Ok(columns),
        Err(DecodeFault::Data(error)) => Err(error),
        Err(DecodeFault::Transient(error)) => panic!("{error}"),
    }
}

/// How many readings an example holds, read from the document itself.
fn readings(record: &Value) -> usize {
    match (record, record.get("sensors")) {
        (Value::Array(readings), _) => readings.len(),
        (_, Some(sensors)) => {
            let lists = sensors.as_object().unwrap().values();
            lists.flat_map(|list| list.as_array().unwrap()).filter(|cell| !cell.is_null()).count()
        }
        _ => 1,
    }
}

/// Every schema inside `schema`, itself first.
fn parts<'s>(schema: &'s Value, found: &mut Vec<&'s Value>) {
    found.push(schema);
    let inner: Vec<&Value> = match schema {
        Value::Object(members) => {
            members.iter().filter(|(key, _)| *key != "examples").map(|(_, part)| part).collect()
        }
        Value::Array(list) => list.iter().collect(),
        _ => Vec::new(),
    };
    for part in inner {
        parts(part, found);
    }
}

#[test]
fn every_example_decodes_to_the_readings_it_shows() {
    let schema = schema();
    for of in [&schema, &schema["$defs"]["reading"], &schema["$defs"]["batch"]] {
        let examples = of["examples"].as_array().expect("examples");
        assert!(!examples.is_empty());
        for example in examples {
            let decoded = decode(example).unwrap_or_else(|error| panic!("{example}: {error}"));
            assert_eq!(decoded.len(), readings(example), "{example}");
        }
    }
    for time in schema["$defs"]["time"]["examples"].as_array().unwrap() {
        decode(&json!({"machine": "m", "sensor": "s", "time": time, "value": 1})).unwrap();
    }
}

#[test]
fn the_examples_show_all_three_forms() {
    let schema = schema();
    let examples = schema["examples"].as_array().unwrap();
    assert!(examples.iter().any(Value::is_array), "no array");
    assert!(examples.iter().any(|example| example.get("sensors").is_some()), "no batch");
    assert!(examples.iter().any(|example| example.get("sensor").is_some()), "no single reading");
}

#[test]
fn references_lead_somewhere() {
    let schema = schema();
    let mut found = Vec::new();
    parts(&schema, &mut found);
    for part in found {
        if let Some(reference) = part.get("$ref").and_then(Value::as_str) {
            assert!(schema.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        }
    }
}

#[test]
fn required_keys_are_the_decoders() {
    let schema = schema();
    for form in ["reading", "batch"] {
        let definition = &schema["$defs"][form];
        let example = &definition["examples"][0];
        let class = |key: &str| {
            let mut without = example.clone();
            without.as_object_mut().unwrap().remove(key).expect("the example has every key");
            decode(&without).map(|columns| columns.len()).map_err(|error| error.class)
        };
        let required: Vec<&str> =
            definition["required"].as_array().unwrap().iter().map(|key| key.as_str().unwrap()).collect();
        for key in example.as_object().unwrap().keys() {
            let needed = required.contains(&key.as_str()) || key == "value";
            assert_eq!(class(key).is_err(), needed, "{form} without {key}: {:?}", class(key));
        }
    }
}

#[test]
fn a_time_of_today_is_read_in_every_unit() {
    let integer = &schema()["$defs"]["time"]["oneOf"][1];
    let cases = [
        (TimeUnit::Seconds, 1_795_000_000_i64, 1_795_000_000_000_000),
        (TimeUnit::Millis, 1_795_000_000_123, 1_795_000_000_123_000),
        (TimeUnit::Micros, 1_795_000_000_123_456, 1_795_000_000_123_456),
        (TimeUnit::Nanos, 1_795_000_000_123_456_789, 1_795_000_000_123_456),
        (TimeUnit::Nanos, -1_795_000_000_123_456_789, -1_795_000_000_123_457),
    ];
    for (unit, time, time_us) in cases {
        assert!(integer["minimum"].as_i64() <= Some(time) && Some(time) <= integer["maximum"].as_i64());
        // The second reading goes the way of readings that look like the one before.
        let readings = json!([
            {"machine": "m", "sensor": "s", "time": time, "value": 1},
            {"machine": "m", "sensor": "s", "time": time, "value": 2},
        ]);
        assert_eq!(decode_in(unit, &readings).unwrap().time_us, [time_us, time_us], "{unit:?}");
        let batch = json!({"machine": "m", "time": [time], "sensors": {"s": [1]}});
        assert_eq!(decode_in(unit, &batch).unwrap().time_us, [time_us], "{unit:?}");
    }
}

/// One line per rule of the schema: what breaks it, and the decoder's word for it.
#[test]
fn what_the_schema_refuses_the_decoder_refuses() {
    let reading = |key: &str, value: Value| {
        let mut reading = json!({"machine": "m", "sensor": "s", "time": 1, "value": 1});
        reading[key] = value;
        reading
    };
    let cases = [
        (json!(null), "syntax"),
        (json!(5), "syntax"),
        (json!("text"), "syntax"),
        (json!({}), "missing_field"),
        (json!([{}]), "missing_field"),
        (json!([[]]), "syntax"),
        (reading("machine", json!("")), "empty_name"),
        (reading("machine", json!(null)), "missing_field"),
        (reading("machine", json!(7)), "syntax"),
        (reading("sensor", json!("")), "empty_name"),
        (reading("kind", json!(7)), "syntax"),
        (reading("unit", json!([])), "syntax"),
        (reading("text", json!(true)), "syntax"),
        (reading("time", json!(null)), "bad_time"),
        (reading("time", json!(1.5)), "bad_time"),
        (reading("time", json!("2026-11-18")), "bad_time"),
        (reading("time", json!("2026-11-18T10:26:40")), "bad_time"),
        (reading("time", json!(9_223_372_036_854_775_808_u64)), "bad_time"),
        (reading("value", json!("1")), "bad_value"),
        (reading("value", json!(true)), "bad_value"),
        (reading("quality", json!(-1)), "bad_quality"),
        (reading("quality", json!(4_294_967_296_i64)), "bad_quality"),
        (reading("quality", json!("good")), "bad_quality"),
        (json!({"machine": "m", "sensor": "s", "time": 1, "text": null}), "missing_field"),
        (json!({"machine": "m", "time": 1, "sensors": {}}), "syntax"),
        (json!({"machine": "m", "time": [], "sensors": null}), "syntax"),
        (json!({"machine": "m", "time": [], "sensors": {"": []}}), "empty_name"),
        (json!({"machine": "m", "time": [1], "sensors": {"a": ["1"]}}), "bad_value"),
        (json!({"machine": "m", "time": [null], "sensors": {"a": [1]}}), "bad_time"),
        (json!({"machine": "m", "time": [], "sensors": {}, "kinds": {"a": 1}}), "syntax"),
        (json!({"machine": "m", "time": [], "sensors": {}, "units": []}), "syntax"),
        (json!([{"machine": "m", "time": [], "sensors": {}}]), "bad_time"),
    ];
    for (record, class) in cases {
        assert_eq!(decode(&record).map(|_| ()).map_err(|error| error.class), Err(class), "{record}");
    }
}
