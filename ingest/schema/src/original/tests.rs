use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BinaryArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, UInt32Array,
};
use proptest::prelude::*;

use super::number::{Text, float};
use super::time::{epoch, moment};
use super::*;

fn written(value: f64, style: Style, mut decimals: u8) -> Option<String> {
    let mut text = Text::default();
    float(value, style, &mut decimals, &mut text).then(|| String::from_utf8(text.bytes().to_vec()).unwrap())
}

#[test]
fn numbers_are_written_in_each_style() {
    for (value, shortest, pointed, fixed) in [
        (2.8, "2.8", "2.8", Some("2.80")),
        (20.0, "20", "20.0", Some("20.00")),
        (-0.0, "-0", "-0.0", Some("-0.00")),
        (-1.05, "-1.05", "-1.05", Some("-1.05")),
        (0.125, "0.125", "0.125", None),
        (1e15, "1000000000000000", "1000000000000000.0", None),
        (0.1 + 0.2, "0.30000000000000004", "0.30000000000000004", None),
        (123_456_789_012_345.0, "123456789012345", "123456789012345.0", None),
    ] {
        assert_eq!(written(value, Style::Shortest, 0).as_deref(), Some(shortest));
        assert_eq!(written(value, Style::Pointed, 3).as_deref(), Some(pointed));
        assert_eq!(written(value, Style::Fixed(2), 0).as_deref(), fixed);
    }
    for none in [f64::NAN, f64::INFINITY, 1e22, 1.5e-16] {
        assert_eq!(written(none, Style::Shortest, 0), None);
    }
}

#[test]
fn times_are_written_in_each_unit() {
    let time_us = 1_795_586_879_123_000;
    let put = |write: &dyn Fn(&mut Text) -> Option<()>| {
        let mut text = Text::default();
        write(&mut text).map(|()| String::from_utf8(text.bytes().to_vec()).unwrap())
    };
    for (digits, expected) in [
        (0, None),
        (3, Some("1795586879123")),
        (6, Some("1795586879123000")),
        (9, Some("1795586879123000000")),
    ] {
        assert_eq!(put(&|text| epoch(time_us, digits, text)).as_deref(), expected);
    }
    for (time_us, digits, expected) in [
        (time_us, 3, Some("2026-11-25T06:07:59.123")),
        (time_us, 7, Some("2026-11-25T06:07:59.1230000")),
        (time_us, 2, None),
        (0, 0, Some("1970-01-01T00:00:00")),
        (-1, 6, Some("1969-12-31T23:59:59.999999")),
        (951_782_400_000_000, 0, Some("2000-02-29T00:00:00")),
        (i64::MAX, 6, None),
    ] {
        assert_eq!(put(&|text| moment(time_us, digits, text)).as_deref(), expected);
    }
}

#[test]
fn templates_are_read_as_they_are_written() {
    for text in [
        r#"[$({"machine":"$m","sensor":"$s","time":$t3,"value":$vs}$,,$)]"#,
        r#"{"m":"$m","s":"$s","k":"$k","u":"$u","at":"$i3Z","v":$vp,"q":$q,"x":"$x","$$(":1,"$$$$":2}"#,
        r#" [ $($v2$, , $) ] "#,
    ] {
        assert_eq!(text.parse::<Template>().unwrap().to_string(), text);
    }
    for (text, at) in
        [("$", 0), ("a$y", 1), ("$t4", 0), ("$v", 0), ("[$(a$)", 4), ("[$(a$,", 6), ("$,", 0), ("$é", 0)]
    {
        assert_eq!(text.parse::<Template>().unwrap_err().at, at, "{text}");
    }
    assert!("x".repeat(TEXT_BYTES_MAX + 1).parse::<Template>().is_err());
}

/// Two templated records, one kept whole between them, and their readings by series.
fn archive() -> (RecordBatch, RecordBatch) {
    let template = r#"[$({"s":"$s","t":$t3,"v":$vs}$,,$)]"#;
    let records: Vec<(&str, ArrayRef)> = vec![
        ("offset", Arc::new(Int64Array::from(vec![5, 6, 9]))),
        ("value", Arc::new(BinaryArray::from(vec![None, Some(&b"whole"[..]), None]))),
        ("readings", Arc::new(UInt32Array::from(vec![2, 1, 1]))),
        ("template", Arc::new(StringArray::from(vec![Some(template), None, Some(template)]))),
    ];
    let times = [1000, 7000, 2000, 3000];
    let readings: Vec<(&str, ArrayRef)> = vec![
        ("machine", Arc::new(StringArray::from(vec!["m"; 4]))),
        ("sensor", Arc::new(StringArray::from(vec!["a", "a", "b", "b"]))),
        ("kind", Arc::new(StringArray::from(vec![None::<&str>; 4]))),
        ("unit", Arc::new(StringArray::from(vec![None::<&str>; 4]))),
        ("time", Arc::new(TimestampMicrosecondArray::from(times.to_vec()).with_timezone("UTC"))),
        ("value", Arc::new(Float64Array::from(vec![Some(1.5), Some(0.0), None, Some(3.0)]))),
        ("text", Arc::new(StringArray::from(vec![None::<&str>; 4]))),
        ("quality", Arc::new(UInt32Array::from(vec![0; 4]))),
        ("offset", Arc::new(Int64Array::from(vec![5, 6, 5, 9]))),
        ("index", Arc::new(UInt32Array::from(vec![0, 0, 1, 0]))),
    ];
    let batch = |columns: Vec<(&str, ArrayRef)>| RecordBatch::try_from_iter(columns).unwrap();
    (batch(records), batch(readings))
}

#[test]
fn records_are_restored_from_readings_in_any_order() {
    let (records, readings) = archive();
    for readings in [vec![readings.clone()], vec![readings.slice(2, 2), readings.slice(0, 2)]] {
        let whole = restore(&records, &readings).unwrap();
        assert!(whole.column_by_name("template").is_none());
        let values: Vec<_> = whole["value"].as_binary::<i32>().iter().map(Option::unwrap).collect();
        let first = br#"[{"s":"a","t":1,"v":1.5},{"s":"b","t":2,"v":null}]"#;
        assert_eq!(values, [&first[..], b"whole", br#"[{"s":"b","t":3,"v":3}]"#]);
    }
}

#[test]
fn what_does_not_rebuild_a_record_is_refused() {
    let (records, readings) = archive();
    let missing = restore(&records, &[readings.slice(0, 3)]).unwrap_err();
    assert!(matches!(missing, RestoreError::Missing { offset: 9, index: 0 }), "{missing}");
    let surplus = restore(&records, &[readings.clone(), readings.slice(2, 1)]).unwrap_err();
    assert!(matches!(surplus, RestoreError::Surplus { offset: 5, index: 1 }), "{surplus}");
    let mut columns = readings.columns().to_vec();
    columns[4] = Arc::new(TimestampMicrosecondArray::from(vec![1; 4]).with_timezone("UTC"));
    let odd = RecordBatch::try_new(readings.schema(), columns).unwrap();
    let misfit = restore(&records, &[odd]).unwrap_err();
    assert!(matches!(misfit, RestoreError::Misfit { offset: 5, index: 0 }), "{misfit}");
}

proptest! {
    #[test]
    fn decimals_come_back_whatever_was_looked_for_first(
        whole in 0u64..1_000_000_000, fraction in "[0-9]{0,5}[1-9]", decimals in 0u8..16, minus: bool,
    ) {
        let text = format!("{}{whole}.{fraction}", if minus { "-" } else { "" });
        let value: f64 = text.parse().unwrap();
        prop_assert_eq!(written(value, Style::Shortest, decimals), Some(text.clone()));
        prop_assert_eq!(written(value, Style::Pointed, decimals), Some(text.clone()));
        prop_assert_eq!(written(value, Style::Fixed(fraction.len() as u8), decimals), Some(text));
    }

    #[test]
    fn whatever_is_written_reads_as_the_number(bits: u64, decimals in 0u8..16) {
        let value = f64::from_bits(bits);
        for style in [Style::Shortest, Style::Pointed, Style::Fixed(3)] {
            if let Some(text) = written(value, style, decimals) {
                prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), bits);
                prop_assert_eq!(Some(text), written(value, style, 0));
            }
        }
    }
}
