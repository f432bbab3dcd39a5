//! A record whose bytes are not kept is rebuilt to the very bytes that came; one that cannot be is kept.

mod support;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use proptest::prelude::*;
use stillwell_ingest::writer::{Batch, encode};
use stillwell_schema::original::{restore, templated};
use stillwell_schema::paths::FileKind;
use stillwell_schema::{Offset, columns};
use stillwell_source::chunk::RecordChunk;
use stillwell_source::decode::decoder_for;
use stillwell_source::settings::TopicSettings;
use support::{lane_id, read_parquet};

/// The records and readings files of one commit of these values.
fn commit(values: &[Vec<u8>]) -> (RecordBatch, Vec<RecordBatch>) {
    let mut batch = Batch::new(lane_id(), Offset(0));
    let mut decoder = decoder_for(&TopicSettings::new("readings"));
    for (number, values) in values.chunks(7).enumerate() {
        let mut chunk = RecordChunk::new(lane_id(), Offset(number as i64 * 7));
        for (offset, value) in (number as i64 * 7..).zip(values) {
            chunk.push(Offset(offset), 1, Some(b"key"), Some(value), []);
        }
        batch.push(&mut *decoder, chunk).unwrap();
    }
    let encoded = encode(&batch, "u").unwrap();
    let of = |kind| encoded.files.iter().find(move |file| file.kind == kind);
    let records = read_parquet(&of(FileKind::Records).unwrap().bytes);
    let records = concat_batches(&columns::STORED_RECORDS, &records).unwrap();
    (records, of(FileKind::Readings).map(|file| read_parquet(&file.bytes)).unwrap_or_default())
}

/// How many of the records have a template, once all came back as they were. The first of each look has none.
fn check(values: &[Vec<u8>]) -> usize {
    let (records, readings) = commit(values);
    let whole = restore(&records, &readings).unwrap();
    assert_eq!(whole.schema(), *columns::RECORDS);
    for (found, value) in whole["value"].as_binary::<i32>().iter().zip(values) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(found.map(text), Some(text(value)));
    }
    let kept = records["value"].as_binary::<i32>();
    let flags = templated(&records);
    let is_templated = |row| flags.as_ref().is_some_and(|flags| flags.value(row));
    assert!((0..values.len()).all(|row| kept.is_null(row) == is_templated(row)));
    flags.map_or(0, |flags| flags.true_count())
}

/// Lists of readings whose objects `write` makes of sensor, number and value, joined by `between`.
fn lists(count: usize, between: &str, write: impl Fn(usize, usize, f64) -> String) -> Vec<Vec<u8>> {
    let list = |record: usize| {
        let objects: Vec<String> = (0..=record % 12)
            .map(|index| write(index % 5, record * 100 + index, (record * 31 + index * 7) as f64 / 8.0))
            .collect();
        format!("[{}]", objects.join(between)).into_bytes()
    };
    (0..count).map(list).collect()
}

#[test]
fn what_clients_of_one_kind_write_is_a_template() {
    let python = |sensor: usize, n: usize, value: f64| {
        format!(
            r#"{{"machine": "press", "sensor": "s{sensor}", "time": {}, "value": {value:?}}}"#,
            1_795_000_000_000 + n
        )
    };
    let script = |sensor: usize, n: usize, value: f64| {
        format!(
            r#"{{"time":{},"site":"hall $1","machine":"m","sensor":"s{sensor}","value":{value}}}"#,
            1_795_000_000 + n
        )
    };
    let fixed = |sensor: usize, n: usize, value: f64| {
        format!(
            r#"{{"value":{value:.3},"quality":{},"machine":"é","sensor":"s{sensor}","unit":"°C","kind":null,"time":"2026-11-25T06:{:02}:59.{:03}Z"}}"#,
            (n % 3) * 0x4000_0000,
            n / 1000 % 60,
            n % 1000
        )
    };
    let states = |sensor: usize, n: usize, _: f64| {
        let text = ["on", "off", ""][n % 3];
        format!(r#"{{"machine":"m","sensor":"s{sensor}","time":{n},"text":"{text}"}}"#)
    };
    let gaps = |sensor: usize, n: usize, value: f64| {
        let value = if n.is_multiple_of(3) { "null".to_owned() } else { (-value).to_string() };
        format!(r#"{{"machine":"m","sensor":"s{sensor}","time":{n},"value":{value}}}"#)
    };
    // Kept are the first of a look, a list of one reading, which does not tell what would be between two, and the
    // first whose numbers tell one style from another.
    let mostly = |values: &[Vec<u8>], kept_max: usize| {
        let templated = check(values);
        assert!(templated >= values.len() - kept_max, "{templated} of {}", values.len());
    };
    mostly(&lists(60, ", ", python), 3);
    mostly(&lists(60, ",", script), 1);
    mostly(&lists(60, " ,\n ", fixed), 3);
    mostly(&lists(60, ",", states), 1);
    mostly(&lists(60, ",", gaps), 2);
    mostly(&(0..60).map(|n| script(n % 5, n, n as f64).into_bytes()).collect::<Vec<_>>(), 1);
    // Clients of several kinds share a lane.
    let both = lists(40, ", ", python).into_iter().zip(lists(40, ",", gaps));
    mostly(&both.flat_map(|(a, b)| [a, b]).collect::<Vec<_>>(), 5);
}

#[test]
fn what_no_template_rebuilds_is_kept() {
    let kept = [
        r#"{"machine":"a\u0062","sensor":"s","time":1,"value":1}"#,
        r#"{"machine":"a","sensor":"s","time":1,"value":1e2}"#,
        r#"{"machine":"a","sensor":"s","time":1,"value":1.50}{"#,
        r#"{"machine":"a","sensor":"s","time":"2026-11-25T07:07:59+01:00","value":1}"#,
        r#"{"machine":"a","time":[1,2],"sensors":{"s":[1,null],"t":[2,3]}}"#,
        r#"[{"machine":"a","sensor":"s","time":1,"value":1},{"machine":"a","time":1,"sensor":"s","value":1}]"#,
        r#"[{"machine":"a","sensor":"s","time":1,"value":1}, {"machine":"a","sensor":"s","time":1,"value":1},{"machine":"a","sensor":"s","time":1,"value":1}]"#,
        "[]",
        "no JSON",
    ];
    for text in kept {
        // A look is a template from the second record on.
        assert_eq!(check(&vec![text.as_bytes().to_vec(); 4]), 0, "{text}");
    }
}

#[test]
fn a_lane_knows_in_its_next_batch_what_records_looked_like() {
    let values = lists(4, ",", |sensor, n, value| {
        format!(r#"{{"machine":"m","sensor":"s{sensor}","time":{n},"value":{value}}}"#)
    });
    let push = |batch: &mut Batch, offset: i64| {
        let mut chunk = RecordChunk::new(lane_id(), Offset(offset));
        chunk.push(Offset(offset), 1, None, Some(&values[offset as usize]), []);
        batch.push(&mut *decoder_for(&TopicSettings::new("readings")), chunk).unwrap();
        batch.kept_bytes()
    };
    let mut first = Batch::new(lane_id(), Offset(1));
    assert!(push(&mut first, 1) > 0, "nothing like it was seen before");
    let mut second = Batch::new(lane_id(), Offset(2)).with_looks(first.looks());
    assert_eq!(push(&mut second, 2), 0);
    let mut third = Batch::new(lane_id(), Offset(3)).with_looks(second.looks());
    assert_eq!(push(&mut third, 3), 0);
}

#[test]
fn many_looks_in_turn_are_all_templates() {
    let client = |client: usize, n: usize| {
        let open = format!(r#"{{"gateway":"g{client}","machine":"m","sensor":"s","time":{n},"value":2.5}}"#);
        open.into_bytes()
    };
    let values: Vec<_> = (0..90).map(|n| client(n % 8, n)).collect();
    assert_eq!(check(&values), 82);
}

#[test]
fn pages_say_what_is_in_them() {
    use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};
    use parquet::file::page_index::column_index::ColumnIndexMetaData;
    let values = lists(8000, ",", |sensor, n, value| {
        format!(r#"{{"machine":"m{}","sensor":"s{sensor}","time":{n},"value":{}}}"#, n % 3, value - 9_000.0)
    });
    let mut batch = Batch::new(lane_id(), Offset(0));
    let mut chunk = RecordChunk::new(lane_id(), Offset(0));
    for (offset, value) in values.iter().enumerate() {
        chunk.push(Offset(offset as i64), 1, None, Some(value), []);
    }
    batch.push(&mut *decoder_for(&TopicSettings::new("readings")), chunk).unwrap();
    let encoded = encode(&batch, "u").unwrap();
    let file = encoded.files.iter().find(|file| file.kind == FileKind::Readings).unwrap();
    let metadata = ParquetMetaDataReader::new()
        .with_page_index_policy(PageIndexPolicy::Required)
        .parse_and_finish(&bytes::Bytes::from(file.bytes.clone()))
        .unwrap();
    let rows = concat_batches(&columns::READINGS, &read_parquet(&file.bytes)).unwrap();
    let pages = metadata.offset_index().unwrap()[0][0].page_locations();
    assert!(pages.len() > 2);
    let index = &metadata.column_index().unwrap()[0];
    for (page, location) in pages.iter().enumerate() {
        let first = location.first_row_index as usize;
        let next = pages.get(page + 1).map_or(rows.num_rows(), |next| next.first_row_index as usize);
        let rows = rows.slice(first, next - first);
        let machines: Vec<_> = rows["machine"].as_string::<i32>().iter().flatten().collect();
        let ColumnIndexMetaData::BYTE_ARRAY(machine) = &index[0] else { panic!("machine has no index") };
        assert_eq!(machine.min_value(page), machines.iter().min().map(|name| name.as_bytes()));
        assert_eq!(machine.max_value(page), machines.iter().max().map(|name| name.as_bytes()));
        let times = rows["time"].as_primitive::<arrow::datatypes::TimestampMicrosecondType>().values();
        let ColumnIndexMetaData::INT64(time) = &index[4] else { panic!("time has no index") };
        assert_eq!((time.min_value(page), time.max_value(page)), (times.iter().min(), times.iter().max()));
        let values = rows["value"].as_primitive::<arrow::datatypes::Float64Type>().values();
        let ColumnIndexMetaData::DOUBLE(value) = &index[5] else { panic!("value has no index") };
        assert_eq!(value.min_value(page).copied(), values.iter().copied().reduce(f64::min));
        assert_eq!(value.max_value(page).copied(), values.iter().copied().reduce(f64::max));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_came_comes_back(
        objects in prop::collection::vec(
            (
                "[a-c\"\\\\$é]{1,2}", 0i64..4_000_000_000_000, r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?([eE][+-]?[0-9]{1,2})?|null",
                prop::option::of("[a-z$\\\\]{0,3}"), "( |,|\n){0,1}", any::<bool>(),
            ),
            1..12,
        ),
        per in 1usize..4,
    ) {
        let write = |(name, time, value, text, space, swap): &(String, i64, String, Option<String>, String, bool)| {
            let text = text.as_ref().map(|text| format!(r#","text":"{text}""#)).unwrap_or_default();
            let (first, second) = (format!(r#""machine":"{name}""#), format!(r#""sensor":"x{name}""#));
            let (first, second) = if *swap { (second, first) } else { (first, second) };
            format!(r#"{{{first},{second},"time":{time},{space}"value":{value}{text}}}"#)
        };
        let values: Vec<Vec<u8>> = objects
            .chunks(per)
            .map(|objects| format!("[{}]", objects.iter().map(write).collect::<Vec<_>>().join(",")).into_bytes())
            .collect();
        check(&[&values[..], &values, &values].concat());
    }
}
