use arrow::array::{
    BinaryArray, BooleanArray, DictionaryArray, Float64Array, Int64Array, ListArray, NullArray, StringArray,
    TimestampMicrosecondArray, UInt64Array,
};
use arrow::datatypes::Int32Type as DictionaryKey;
use arrow::ipc::reader::StreamReader;
use axum::http::HeaderValue;
use serde_json::Value;

use super::*;

const FRESHNESS: Freshness = Freshness { archive_us: Some(5), views_us: None };

fn answer(columns: Vec<(&str, ArrayRef)>) -> Answer {
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, column)| (name, column, true)),
    );
    let batch = batch.unwrap();
    Answer { schema: batch.schema(), rows: batch.num_rows(), batches: vec![batch], truncated: false }
}

fn write(answer: &Answer, format: Format) -> Vec<u8> {
    encode(answer, format, FRESHNESS, 1.5, usize::MAX).unwrap()
}

fn check(column: impl Array + 'static, expected_json: Value, expected_csv: &[&str]) {
    let answer = answer(vec![("a", Arc::new(column)), ("b", Arc::new(Int64Array::from(vec![1, 1])))]);
    let body: Value = serde_json::from_slice(&write(&answer, Format::Json)).unwrap();
    let cells: Vec<&Value> = body["rows"].as_array().unwrap().iter().map(|row| &row[0]).collect();
    assert_eq!(serde_json::to_value(cells).unwrap(), expected_json);
    let csv = String::from_utf8(write(&answer, Format::Csv)).unwrap();
    let lines: Vec<&str> = csv.lines().map(|line| line.strip_suffix(",1").unwrap_or(line)).collect();
    assert_eq!(lines[1..], *expected_csv);
}

#[test]
fn values_are_written_as_documented() {
    check(
        Int64Array::from(vec![Some(i64::MAX), None]),
        json!([i64::MAX, null]),
        &["9223372036854775807", ""],
    );
    check(UInt64Array::from(vec![u64::MAX, 0]), json!([u64::MAX, 0]), &["18446744073709551615", "0"]);
    check(Float64Array::from(vec![f64::NAN, f64::INFINITY]), json!([null, null]), &["NaN", "inf"]);
    check(Float64Array::from(vec![0.1, -2.5e300]), json!([0.1, -2.5e300]), &["0.1", "-2.5e300"]);
    check(BooleanArray::from(vec![true, false]), json!([true, false]), &["true", "false"]);
    check(StringArray::from(vec!["a\"b", "ü\n"]), json!(["a\"b", "ü\n"]), &["\"a\"\"b\"", "\"ü", "\""]);
    check(NullArray::new(2), json!([null, null]), &["", ""]);
    check(BinaryArray::from(vec![b"\x00\xff".as_ref(), b""]), json!(["AP8=", ""]), &["AP8=", ""]);
}

#[test]
fn times_are_utc_with_microseconds() {
    let times = TimestampMicrosecondArray::from(vec![1_767_225_600_000_001, -1]).with_timezone("UTC");
    let texts = ["2026-01-01T00:00:00.000001Z", "1969-12-31T23:59:59.999999Z"];
    check(times, json!(texts), &texts);
}

#[test]
fn lists_and_dictionaries_are_written_by_their_values() {
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1), None]), None]);
    check(list, json!([[1, null], null]), &["\"[1,null]\"", ""]);
    let words: DictionaryArray<DictionaryKey> = vec![Some("on"), None].into_iter().collect();
    check(words, json!(["on", null]), &["on", ""]);
}

#[test]
fn json_says_what_the_answer_is() {
    let answer = Answer { truncated: true, ..answer(vec![("t", Arc::new(StringArray::from(vec!["x"])))]) };
    let body: Value = serde_json::from_slice(&write(&answer, Format::Json)).unwrap();
    let expected = json!({
        "columns": [{"name": "t", "type": "text"}], "rows": [["x"]], "row_count": 1, "truncated": true,
        "elapsed_ms": 1.5, "freshness": {"archive_us": 5, "views_us": null},
    });
    assert_eq!(body, expected);
}

#[test]
fn an_answer_without_rows_is_whole() {
    let none = answer(vec![("a", Arc::new(Int64Array::from(Vec::<i64>::new())))]);
    let none = Answer { batches: Vec::new(), rows: 0, ..none };
    let body: Value = serde_json::from_slice(&write(&none, Format::Json)).unwrap();
    assert_eq!(body["rows"], json!([]));
    assert_eq!(write(&none, Format::Csv), b"a\n");
    let reader = StreamReader::try_new(std::io::Cursor::new(write(&none, Format::Arrow)), None).unwrap();
    assert_eq!(reader.count(), 0);
}

#[test]
fn arrow_comes_back_as_it_went() {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("i", Arc::new(Int64Array::from(vec![Some(i64::MIN), None]))),
        ("f", Arc::new(Float64Array::from(vec![Some(f64::NEG_INFINITY), Some(1.0)]))),
        ("t", Arc::new(TimestampMicrosecondArray::from(vec![1, 2]).with_timezone("UTC"))),
    ];
    let answer = answer(columns);
    let bytes = write(&answer, Format::Arrow);
    let mut reader = StreamReader::try_new(std::io::Cursor::new(bytes), None).unwrap();
    assert_eq!(reader.next().unwrap().unwrap(), answer.batches[0]);
    assert!(reader.next().is_none());
}

#[test]
fn a_body_does_not_grow_beyond_its_limit() {
    // Columns of nulls take no memory, and much room when they are written.
    let nulls = answer(vec![("a", Arc::new(NullArray::new(100_000)))]);
    for format in [Format::Json, Format::Csv] {
        let error = encode(&nulls, format, FRESHNESS, 0.0, 50_000).unwrap_err();
        assert!(matches!(error, QueryError::TooLarge { limit: 50_000 }), "{format:?}: {error:?}");
    }
    let numbers = answer(vec![("a", Arc::new(Int64Array::from(vec![0; 10_000])))]);
    let error = encode(&numbers, Format::Arrow, FRESHNESS, 0.0, 50_000).unwrap_err();
    assert!(matches!(error, QueryError::TooLarge { .. }), "{error:?}");
}

#[test]
fn the_format_is_what_the_client_likes_best() {
    let check = |accept: &[&str], expected: Option<Format>| {
        let mut headers = HeaderMap::new();
        for line in accept {
            headers.append(header::ACCEPT, HeaderValue::from_str(line).unwrap());
        }
        assert_eq!(Format::accepted(&headers).ok(), expected, "{accept:?}");
    };
    let arrow = "application/vnd.apache.arrow.stream";
    check(&[], Some(Format::Json));
    check(&[""], Some(Format::Json));
    check(&["*/*"], Some(Format::Json));
    check(&["application/json"], Some(Format::Json));
    check(&["Text/CSV"], Some(Format::Csv));
    check(&["text/csv; charset=utf-8; header=present"], Some(Format::Csv));
    check(&["text/*"], Some(Format::Csv));
    check(&[arrow], Some(Format::Arrow));
    check(&["text/csv, application/json"], Some(Format::Csv));
    check(&["text/csv;q=0.5, application/json"], Some(Format::Json));
    check(&["text/csv;q=0.5", "application/vnd.apache.arrow.stream; q=0.9"], Some(Format::Arrow));
    check(&["text/html, application/xhtml+xml, */*;q=0.8"], Some(Format::Json));
    check(&["application/json;q=0, */*"], Some(Format::Csv));
    check(&["application/json;q=0.1, */*;q=0.9"], Some(Format::Csv));
    check(&["text/html"], None);
    check(&["application/json;q=0"], None);
}

#[test]
fn times_are_written_as_chrono_writes_them() {
    const DAY_US: i64 = 86_400_000_000;
    let some = (-40_000..40_000).map(|n: i64| n * DAY_US * 10 + n * 1_234_567_891);
    let bounds =
        [-62_167_219_200_000_001, -62_167_219_200_000_000, 253_402_300_799_999_999, 253_402_300_800_000_000];
    for us in some.chain(bounds).chain([-1, 0, 1]) {
        let time = DateTime::from_timestamp_micros(us).unwrap();
        let mut out = Vec::new();
        rfc3339(&mut out, time).unwrap();
        let expected = format!("\"{}\"", time.to_rfc3339_opts(SecondsFormat::Micros, true));
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
