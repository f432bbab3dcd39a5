use serde_json::{Value, json};

use super::*;

const T0: i64 = 1_795_000_000_000;

fn encoder(format: Format, readings_max: usize) -> Encoder {
    let sensors = [
        WireSensor { name: "bearing \"1\"", kind: Some("vibration"), unit: Some("mm/s") },
        WireSensor { name: "state", kind: None, unit: None },
    ];
    Encoder::new(format, readings_max, "press-07", &sensors)
}

fn encode(format: Format, readings_max: usize, rows: &[(i64, [Cell<'_>; 2])]) -> Vec<(Value, u32)> {
    let mut encoder = encoder(format, readings_max);
    let mut out = Vec::new();
    for (time_us, cells) in rows {
        encoder.row(*time_us, cells, &mut out);
    }
    encoder.flush(&mut out);
    assert!(encoder.is_empty());
    out.iter().map(|record| (serde_json::from_slice(&record.value).unwrap(), record.readings)).collect()
}

fn rows() -> Vec<(i64, [Cell<'static>; 2])> {
    vec![
        (T0 * 1000, [Cell::Number(2.81), Cell::Literal("1.50")]),
        (T0 * 1000 + 1500, [Cell::Missing, Cell::Number(3.0)]),
    ]
}

#[test]
fn the_single_form_has_one_reading_a_record() {
    let records = encode(Format::Single, 100, &rows());
    assert_eq!(records.len(), 3);
    let first = json!({"machine": "press-07", "sensor": "bearing \"1\"", "kind": "vibration",
        "unit": "mm/s", "time": T0, "value": 2.81});
    assert_eq!(records[0], (first, 1));
    assert_eq!(records[2].0["time"], "2026-11-18T11:06:40.001500Z");
    assert!(records[1].0.get("kind").is_none());
}

#[test]
fn the_array_form_fills_up_to_its_bound_and_leaves_out_missing_cells() {
    let records = encode(Format::Array, 2, &rows());
    let counts: Vec<(usize, u32)> = records.iter().map(|(v, n)| (v.as_array().unwrap().len(), *n)).collect();
    assert_eq!(counts, [(2, 2), (1, 1)]);
}

#[test]
fn the_batch_form_has_columns_with_nulls() {
    let records = encode(Format::Batch, 100, &rows());
    let expected = json!({"machine": "press-07", "time": [T0, "2026-11-18T11:06:40.001500Z"],
        "sensors": {"bearing \"1\"": [2.81, null], "state": [1.5, 3]},
        "kinds": {"bearing \"1\"": "vibration"}, "units": {"bearing \"1\"": "mm/s"}});
    assert_eq!(records, [(expected, 3)]);
}

#[test]
fn a_batch_holds_whole_rows_within_its_bound() {
    let rows: Vec<_> = (0..7).map(|i| (i * 1000, [Cell::Number(1.0), Cell::Number(2.0)])).collect();
    let counts: Vec<u32> = encode(Format::Batch, 5, &rows).iter().map(|(_, n)| *n).collect();
    assert_eq!(counts, [4, 4, 4, 2]);
    let counts: Vec<u32> = encode(Format::Batch, 1, &rows).iter().map(|(_, n)| *n).collect();
    assert_eq!(counts, [2; 7], "at least one row");
}

#[test]
fn text_follows_the_batch_as_an_array() {
    let records = encode(Format::Batch, 100, &[(0, [Cell::Number(1.0), Cell::Text("worn")])]);
    assert_eq!(records[0].0["sensors"]["state"], json!([null]));
    assert_eq!(records[1].0[0]["text"], "worn");
    assert_eq!(records.iter().map(|(_, n)| n).sum::<u32>(), 2);
}

#[test]
fn numbers_keep_every_bit() {
    for number in [0.1 + 0.2, f64::MIN_POSITIVE, f64::MAX, -0.0, 5e-324, 1.0 / 3.0] {
        let mut out = Vec::new();
        assert!(put_number(&mut out, Cell::Number(number)));
        let back: f64 = std::str::from_utf8(&out).unwrap().parse().unwrap();
        assert_eq!(back.to_bits(), number.to_bits());
        assert!(is_json_number(std::str::from_utf8(&out).unwrap()));
    }
    assert!(!put_number(&mut Vec::new(), Cell::Number(f64::NAN)));
}

#[test]
fn json_numbers_are_told_from_others() {
    for good in ["0", "-0.0", "12", "1.5", "2.74e-19", "1E+5", "-7e3", "0e1"] {
        assert!(is_json_number(good), "{good}");
        assert!(serde_json::from_str::<f64>(good).is_ok(), "{good}");
    }
    for bad in ["", "-", "+1", "01", "-01", ".5", "1.", "1e", "1e+", "nan", "inf", "1 ", " 1", "0x1", "1.5.2"]
    {
        assert!(!is_json_number(bad), "{bad}");
    }
}
