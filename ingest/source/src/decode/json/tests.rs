use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Readings as plain rows: names, time, value, text, quality, index.
type Row = (String, String, Option<String>, Option<String>, i64, Option<f64>, Option<String>, u32, u32);

struct Lane {
    decoder: JsonDecoder,
    table: SeriesTable,
}

impl Lane {
    fn new() -> Self {
        Self::remembering(LOOKS_BYTES_MAX)
    }

    fn remembering(looks_bytes_max: usize) -> Self {
        let decoder = JsonDecoder::remembering(TimeUnit::Millis, looks_bytes_max);
        Self { decoder, table: SeriesTable::default() }
    }

    fn decode(&mut self, value: &[u8]) -> Result<Vec<Row>, DecodeError> {
        let mut out = ReadingColumns::default();
        let record = RecordRef::new(0, None, value);
        let decoded = self.decoder.decode(&record, 3, &mut self.table, &mut out);
        assert!(decoded.is_ok() || out == ReadingColumns::default(), "a failed record leaves a trace");
        match decoded {
            Ok(()) => Ok(self.rows(&out)),
            Err(DecodeFault::Data(error)) => Err(error),
            Err(DecodeFault::Transient(error)) => panic!("{error}"),
        }
    }

    fn rows(&self, out: &ReadingColumns) -> Vec<Row> {
        let name = |code: u32| self.table.name(code).to_owned();
        let row = |i: usize| {
            let series = self.table.series(out.series[i]);
            assert_eq!(out.record[i], 3);
            let text = out.text.iter().find(|cell| cell.row as usize == i);
            (
                name(series.machine),
                name(series.sensor),
                series.kind.map(name),
                series.unit.map(name),
                out.time_us[i],
                out.has_value[i].then_some(out.value[i]),
                text.map(|cell| out.text_bytes[cell.start as usize..cell.end as usize].to_owned()),
                out.quality[i],
                out.index[i],
            )
        };
        (0..out.len()).map(row).collect()
    }
}

/// The same by serde_json.
fn oracle(value: &Value) -> Vec<Row> {
    let objects = match value {
        Value::Array(objects) => objects.iter().collect(),
        object if object.get("sensors").is_some() => return batch_oracle(object),
        object => vec![object],
    };
    let text = |v: &Value| v.as_str().map(str::to_owned);
    let row = |(i, o): (usize, &Value)| {
        let quality = u32::try_from(o["quality"].as_u64().unwrap_or(0)).unwrap();
        let names =
            (text(&o["machine"]).unwrap(), text(&o["sensor"]).unwrap(), text(&o["kind"]), text(&o["unit"]));
        let time = o["time"].as_i64().unwrap() * 1000;
        (names.0, names.1, names.2, names.3, time, o["value"].as_f64(), text(&o["text"]), quality, i as u32)
    };
    objects.into_iter().enumerate().map(row).collect()
}

fn batch_oracle(o: &Value) -> Vec<Row> {
    let times = o["time"].as_array().unwrap();
    let text = |v: &Value| v.as_str().map(str::to_owned);
    let mut rows = Vec::new();
    for (s, (sensor, cells)) in o["sensors"].as_object().unwrap().iter().enumerate() {
        for (t, cell) in cells.as_array().unwrap().iter().enumerate().filter(|(_, cell)| !cell.is_null()) {
            let index = (s * times.len() + t) as u32;
            let names = (text(&o["kinds"][sensor]), text(&o["units"][sensor]));
            let time = times[t].as_i64().unwrap() * 1000;
            let machine = text(&o["machine"]).unwrap();
            rows.push((machine, sensor.clone(), names.0, names.1, time, cell.as_f64(), None, 0, index));
        }
    }
    rows
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![3 => "(press|oven)-[0-9]{1,2}", 1 => "[a-zà-ü\"\\\\\n €😀]{1,6}"]
}

fn reading() -> impl Strategy<Value = Value> {
    let names = (name(), name(), proptest::option::of(name()), proptest::option::of(name()));
    let value =
        prop_oneof![4 => any::<i32>().prop_map(|n| json!(f64::from(n) / 1000.0)), 1 => Just(Value::Null)];
    let time = -9_000_000_000_000i64..9_000_000_000_000;
    (names, value, time, proptest::option::of(name()), proptest::option::of(any::<u32>()), any::<bool>())
        .prop_map(|(names, value, time, text, quality, further)| {
            let mut object = json!({"machine": names.0, "sensor": names.1, "time": time, "value": value});
            let mut put = |key: &str, value: Option<Value>| {
                if let Some(value) = value {
                    object[key] = value;
                }
            };
            put("kind", names.2.map(Value::from));
            put("unit", names.3.map(Value::from));
            put("text", text.map(Value::from));
            put("quality", quality.map(Value::from));
            put("further", further.then(|| json!({"deep": [1, {"er": "\"}"}], "t": true})));
            object
        })
}

fn batch() -> impl Strategy<Value = Value> {
    (1usize..6).prop_flat_map(|times| {
        let cell = proptest::option::of(any::<i32>().prop_map(f64::from));
        let cells = proptest::collection::vec(cell, times);
        let sensors = proptest::collection::btree_map(name(), cells, 0..5);
        (name(), proptest::collection::vec(0i64..1_000_000_000_000, times), sensors, name()).prop_map(
            |(machine, time, sensors, unit)| {
                let units: serde_json::Map<_, _> =
                    sensors.keys().map(|sensor| (sensor.clone(), json!(unit))).collect();
                json!({"machine": machine, "time": time, "sensors": sensors, "units": units})
            },
        )
    })
}

fn document() -> impl Strategy<Value = Value> {
    prop_oneof![
        reading(),
        proptest::collection::vec(reading(), 0..12).prop_map(Value::from),
        batch(),
        // Readings alike, as real lanes carry them.
        (reading(), proptest::collection::vec((0i64..1_000_000, -1e6..1e6f64), 1..12)).prop_map(
            |(first, rest)| {
                let alike = |(time, value): (i64, f64)| {
                    let mut object = first.clone();
                    object["time"] = json!(time);
                    object["value"] = json!(value);
                    object
                };
                Value::from(rest.into_iter().map(alike).collect::<Vec<_>>())
            }
        ),
    ]
}

proptest! {
    #[test]
    fn decodes_as_serde_json_does(documents in proptest::collection::vec((document(), any::<bool>()), 1..6)) {
        let mut lane = Lane::new();
        for (document, pretty) in documents {
            let text = if pretty { serde_json::to_string_pretty(&document) } else { serde_json::to_string(&document) };
            prop_assert_eq!(lane.decode(text.unwrap().as_bytes()).unwrap(), oracle(&document));
        }
    }

    #[test]
    fn what_it_accepts_is_json(document in document(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut lane = Lane::new();
        let mut bytes = serde_json::to_vec(&document).unwrap();
        lane.decode(&bytes).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if lane.decode(&bytes).is_ok() {
            prop_assert!(std::str::from_utf8(&bytes).is_ok());
            prop_assert!(serde_json::from_slice::<Value>(&bytes).is_ok(), "{}", String::from_utf8_lossy(&bytes));
        }
        bytes.truncate(at);
        prop_assert!(lane.decode(&bytes).is_err() || serde_json::from_slice::<Value>(&bytes).is_ok());
    }
}

/// A piece of text that nearly fits where a value, a key or a space stands.
const PIECES: &[&str] = &[
    " ",
    "\n",
    ",",
    ":",
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    "-",
    "+",
    ".",
    "e",
    "E400",
    "1e400",
    "-0",
    "0",
    "01",
    "null",
    "NaN",
    "123456789012345678901",
    "0.1234567890123456789",
    "\\u00e9",
    "\u{e9}",
    "\"x\":[1,2],",
    "true",
    "\"2026-01-01T00:00:00Z\"",
];

/// A cut of a document and what comes in its place.
type Edit = (prop::sample::Index, usize, Vec<u8>);

fn edit() -> impl Strategy<Value = Edit> {
    let piece = prop_oneof![
        4 => proptest::sample::select(PIECES).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
        1 => Just(Vec::new()),
    ];
    (any::<prop::sample::Index>(), 0usize..4, piece)
}

fn edited(mut bytes: Vec<u8>, edits: Vec<Edit>) -> Vec<u8> {
    for (at, cut, piece) in edits {
        let at = at.index(bytes.len() + 1);
        let end = bytes.len().min(at + cut);
        bytes.splice(at..end, piece);
    }
    bytes
}

/// With bits in place of floats, as minus zero must stay minus zero.
fn exactly(decoded: Result<Vec<Row>, DecodeError>) -> Result<Vec<(Row, Option<u64>)>, DecodeError> {
    decoded.map(|rows| rows.into_iter().map(|row| (row.clone(), row.5.map(f64::to_bits))).collect())
}

proptest! {
    /// Whatever was read before, and however much of it is remembered, a document has the same readings or the
    /// same fault as when nothing is expected at all.
    #[test]
    fn what_is_expected_changes_nothing(
        documents in proptest::collection::vec((document(), any::<bool>()), 1..4),
        visits in proptest::collection::vec(
            (any::<prop::sample::Index>(), proptest::collection::vec(edit(), 0..3)), 1..24),
        some_bytes in 0usize..1000,
    ) {
        let documents: Vec<Vec<u8>> = documents.iter().map(|(document, pretty)| {
            if *pretty { serde_json::to_vec_pretty(document) } else { serde_json::to_vec(document) }.unwrap()
        }).collect();
        let mut lanes = [0, some_bytes, LOOKS_BYTES_MAX].map(Lane::remembering);
        for (document, edits) in visits {
            let bytes = edited(document.get(&documents).clone(), edits);
            let [general, some, all] = lanes.each_mut().map(|lane| exactly(lane.decode(&bytes)));
            prop_assert_eq!(&some, &general, "{}", String::from_utf8_lossy(&bytes));
            prop_assert_eq!(&all, &general, "{}", String::from_utf8_lossy(&bytes));
        }
    }
}

#[test]
fn a_document_cut_at_any_byte_is_refused_whatever_is_expected() {
    let whole = r#"[{"machine":"m","sensor":"é","time":1,"value":-20.125},{"machine":"m","sensor":"é","time":2,"value":1e3,"text":"a","x":[1]}]"#;
    let mut lane = Lane::new();
    for cut in 0..whole.len() {
        assert_eq!(lane.decode(whole.as_bytes()).unwrap().len(), 2);
        let cut = &whole.as_bytes()[..cut];
        assert_eq!(
            lane.decode(cut).map_err(|e| e.class),
            Lane::remembering(0).decode(cut).map_err(|e| e.class)
        );
        assert!(lane.decode(cut).is_err(), "{}", String::from_utf8_lossy(cut));
    }
}

#[test]
fn faults_have_their_class() {
    let deep = format!("{{\"x\":{}1{}}}", "[".repeat(200), "]".repeat(200));
    let cases: &[(&[u8], &str)] = &[
        (b"", "syntax"),
        (b"not json", "syntax"),
        (b"{\"machine\":\"m\"}", "missing_field"),
        (br#"{"machine":"m","sensor":"s","time":1}"#, "missing_field"),
        (br#"{"machine":"m","sensor":"s","value":1}"#, "missing_field"),
        (br#"{"machine":"","sensor":"s","time":1,"value":1}"#, "empty_name"),
        (br#"{"machine":"m","sensor":"s","time":1.5,"value":1}"#, "bad_time"),
        (br#"{"machine":"m","sensor":"s","time":"soon","value":1}"#, "bad_time"),
        (br#"{"machine":"m","sensor":"s","time":9999999999999999,"value":1}"#, "bad_time"),
        (br#"{"machine":"m","sensor":"s","time":1,"value":"1"}"#, "bad_value"),
        (br#"{"machine":"m","sensor":"s","time":1,"value":1e400}"#, "bad_value"),
        (br#"{"machine":"m","sensor":"s","time":1,"value":1,"quality":-1}"#, "bad_quality"),
        (br#"{"machine":"m","machine":"n","sensor":"s","time":1,"value":1}"#, "duplicate_key"),
        (br#"{"machine":"m","time":[1,2],"sensors":{"a":[1]}}"#, "length_mismatch"),
        (br#"{"machine":"m","time":[1],"sensors":{"a":[1,2]}}"#, "length_mismatch"),
        (br#"{"machine":"m","time":[1],"sensors":{"a":[1],"a":[2]}}"#, "duplicate_key"),
        (br#"{"machine":"m","time":[],"sensors":{},"kinds":{"a":"x","a":"y"}}"#, "duplicate_key"),
        (br#"{"machine":"m","time":[],"sensors":{},"units":{"a":null,"a":"y"}}"#, "duplicate_key"),
        (br#"[{"machine":"m","sensor":"s","time":1,"value":1},{]"#, "syntax"),
        (br#"[{"machine":"m","sensor":"s","time":1,"value":1},]"#, "syntax"),
        (br#"{"machine":"m","sensor":"s","time":1,"value":1} x"#, "syntax"),
        (b"\xff\xfe\x00", "utf8"),
        (deep.as_bytes(), "too_deep"),
    ];
    for (bytes, class) in cases {
        let found = Lane::new().decode(bytes).map_err(|error| error.class);
        assert_eq!(found, Err(*class), "{}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn a_name_with_a_quote_is_never_mistaken_for_another() {
    let mut lane = Lane::new();
    let first = br#"[{"machine":"a\\","sensor":"s","time":1,"value":1},{"machine":"a\\","sensor":"s","time":2,"value":1}]"#;
    assert_eq!(lane.decode(first).unwrap()[1].0, "a\\");
    let second = br#"{"machine":"a\" ,","sensor":"s","time":1,"value":1}"#;
    assert_eq!(lane.decode(second).unwrap()[0].0, "a\" ,");
}

#[test]
fn empty_forms_hold_no_reading() {
    for empty in [&b"[]"[..], b" [ ] ", br#"{"machine":"m","time":[],"sensors":{}}"#] {
        assert_eq!(Lane::new().decode(empty).unwrap(), []);
    }
}

#[test]
fn a_batch_of_many_sensors_is_read_and_checked_as_one_of_few() {
    for sensors in [1, 16, 17, 18, 500] {
        let object = |value: &dyn Fn(usize) -> Value| {
            Value::Object((0..sensors).map(|i| (format!("s{i}"), value(i))).collect())
        };
        let batch = json!({
            "machine": "m", "time": [1], "sensors": object(&|i| json!([i])),
            "kinds": object(&|i| json!(format!("k{i}"))), "units": object(&|_| Value::Null),
        });
        assert_eq!(Lane::new().decode(batch.to_string().as_bytes()).unwrap(), oracle(&batch), "{sensors}");
        for again in [0, sensors - 1] {
            let twice =
                batch.to_string().replacen("\"sensors\":{", &format!("\"sensors\":{{\"s{again}\":[1],"), 1);
            assert_eq!(Lane::new().decode(twice.as_bytes()).unwrap_err().class, "duplicate_key", "{sensors}");
        }
    }
}
