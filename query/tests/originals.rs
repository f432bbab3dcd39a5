//! The table `records` answers with the bytes that were sent, whether a file holds them or a template and readings.

mod common;

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BinaryArray, BooleanArray, Int32Array, Int64Array, ListArray, RecordBatch,
    StringArray, TimestampMillisecondArray, UInt32Array, new_empty_array, new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use common::{Both, Lane, Row, TOPIC, sorted};
use stillwell_query::{Limits, QueryError};
use stillwell_schema::columns::{READINGS, RECORDS, STORED_RECORDS};

const TEMPLATE: &str = r#"[$({"m":"$m","s":"$s","t":$t3,"v":$vs}$,,$)]"#;

/// A record as its client sent it, and what was decoded from it.
struct Sent {
    offset: i64,
    value: Option<String>,
    readings: Vec<Row>,
    /// What its value may be kept as.
    template: Option<String>,
}

impl Sent {
    /// Some have no value, some are no readings, most have one to three.
    fn at(offset: i64) -> Self {
        let plain = |value| Self { offset, value, readings: Vec::new(), template: None };
        if offset % 7 == 3 {
            return plain(None);
        }
        if offset % 5 == 2 {
            return plain(Some(format!("no reading {offset}")));
        }
        let readings: Vec<Row> = (0..=offset % 3)
            .map(|index| Row {
                machine: format!("m{}", offset % 4),
                sensor: ["temp", "rpm", "load"][index as usize].to_owned(),
                time_us: (1_795_586_879_123 + 10 * offset + index) * 1_000,
                value: (index != 1).then_some(offset as f64 / 4.0),
                quality: 0,
            })
            .collect();
        let objects: Vec<String> = readings.iter().map(object).collect();
        // Some records keep their bytes.
        let template = (offset % 11 != 4).then(|| TEMPLATE.to_owned());
        Self { offset, value: Some(format!("[{}]", objects.join(","))), readings, template }
    }

    /// One reading, and some thousand bytes beside it.
    fn long(offset: i64, is_kept: bool) -> Self {
        let around = |reading: &str| format!(r#"{{"note":"{:x<3800}","reading":{reading}}}"#, "");
        let row = Row {
            machine: "m".to_owned(),
            sensor: "temp".to_owned(),
            time_us: (1_795_586_879_123 + offset) * 1_000,
            value: Some(offset as f64),
            quality: 0,
        };
        let value = Some(around(&object(&row)));
        let template = (!is_kept).then(|| around(r#"{"m":"$m","s":"$s","t":$t3,"v":$vs}"#));
        Self { offset, value, readings: vec![row], template }
    }
}

fn object(row: &Row) -> String {
    let value = row.value.map_or("null".to_owned(), |value| value.to_string());
    let (machine, sensor, time_ms) = (&row.machine, &row.sensor, row.time_us / 1_000);
    format!(r#"{{"m":"{machine}","s":"{sensor}","t":{time_ms},"v":{value}}}"#)
}

fn sent(first: i64, offsets: i64) -> Vec<Sent> {
    (first..first + offsets).map(Sent::at).collect()
}

fn readings(partition: i32, sent: &[Sent]) -> RecordBatch {
    let rows: Vec<Row> = sent.iter().flat_map(|one| one.readings.iter().cloned()).collect();
    let places =
        sent.iter().flat_map(|one| (0u32..).zip(&one.readings).map(move |(index, _)| (one.offset, index)));
    let (offsets, indexes): (Vec<i64>, Vec<u32>) = places.unzip();
    let plain = common::batch(partition, 0, &rows);
    let mut columns = plain.columns().to_vec();
    columns[READINGS.index_of("offset").unwrap()] = Arc::new(Int64Array::from(offsets));
    columns[READINGS.index_of("index").unwrap()] = Arc::new(UInt32Array::from(indexes));
    sorted(&RecordBatch::try_new(plain.schema(), columns).unwrap())
}

/// Records as a file of this schema holds them: without the column `template` they are whole.
fn records(partition: i32, sent: &[Sent], schema: &SchemaRef) -> RecordBatch {
    let rows = sent.len();
    let stored = schema.column_with_name("template").is_some();
    let templates = || sent.iter().map(move |one| one.template.as_deref().filter(|_| stored));
    let values = sent.iter().zip(templates()).map(|(one, template)| match template {
        Some(_) => None,
        None => one.value.as_deref(),
    });
    let DataType::List(header) = RECORDS.field_with_name("headers").unwrap().data_type() else { panic!() };
    let no_headers = new_empty_array(header.data_type());
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec![TOPIC; rows])),
        Arc::new(Int32Array::from(vec![partition; rows])),
        Arc::new(Int64Array::from_iter_values(sent.iter().map(|one| one.offset))),
        Arc::new(
            TimestampMillisecondArray::from_iter_values(sent.iter().map(|one| one.offset))
                .with_timezone("UTC"),
        ),
        new_null_array(&DataType::Binary, rows),
        Arc::new(values.collect::<BinaryArray>()),
        Arc::new(ListArray::new(Arc::clone(header), OffsetBuffer::new_zeroed(rows), no_headers, None)),
        Arc::new(UInt32Array::from_iter_values(sent.iter().map(|one| one.readings.len() as u32))),
        new_null_array(&DataType::Utf8, rows),
        new_null_array(&DataType::Utf8, rows),
        Arc::new(templates().collect::<StringArray>()),
    ];
    RecordBatch::try_new(Arc::clone(schema), arrays[..schema.fields().len()].to_vec()).unwrap()
}

/// Commits what was sent at the next offsets; returns the records, whole.
fn commit(lane: &mut Lane<'_>, partition: i32, offsets: i64, schema: &SchemaRef) -> RecordBatch {
    commit_sent(lane, partition, &sent(lane.next_offset(), offsets), schema)
}

fn commit_sent(lane: &mut Lane<'_>, partition: i32, sent: &[Sent], schema: &SchemaRef) -> RecordBatch {
    let stored = records(partition, sent, schema);
    lane.commit_files(sent.len(), &readings(partition, sent), Some(&stored));
    records(partition, sent, &RECORDS)
}

/// The first two commits of a lane in two files each: readings by sensor, records by offset.
fn cover(lane: &mut Lane<'_>, partition: i32, first: i64, offsets: i64) {
    let sent = sent(first, offsets);
    let readings = readings(partition, &sent);
    let is_temp: BooleanArray =
        readings["sensor"].as_string::<i32>().iter().map(|sensor| Some(sensor == Some("temp"))).collect();
    let others = arrow::compute::not(&is_temp).unwrap();
    let split = [is_temp, others].map(|rows| filter_record_batch(&readings, &rows).unwrap());
    let stored = records(partition, &sent, &STORED_RECORDS);
    let (half, rows) = (stored.num_rows() / 2, stored.num_rows());
    lane.cover(0..2, &split, &[stored.slice(0, half), stored.slice(half, rows - half)]);
}

/// Files with templates and one from before there were any, in one lane; in the other a cover and what follows.
fn write(folder: &Path) -> Both {
    let mut whole = Vec::new();
    let mut lane = Lane::new(folder, 0);
    for schema in [&STORED_RECORDS, &RECORDS, &STORED_RECORDS] {
        whole.push(commit(&mut lane, 0, 45, schema));
    }
    let mut lane = Lane::new(folder, 1);
    let first = lane.next_offset();
    for offsets in [30, 20, 25] {
        whole.push(commit(&mut lane, 1, offsets, &STORED_RECORDS));
    }
    cover(&mut lane, 1, first, 50);
    Both::new(folder, "records", whole)
}

#[tokio::test]
async fn values_are_the_bytes_that_were_sent() {
    let folder = tempfile::tempdir().unwrap();
    let both = write(folder.path());
    let order = "ORDER BY \"partition\", \"offset\"";
    let one = Sent::at(121).value.unwrap();
    for filter in [
        "true",
        "\"offset\" >= 117 AND \"offset\" < 155",
        "\"offset\" IN (101, 128, 149, 171)",
        "\"partition\" = 1 AND readings = 3",
        &format!("value = '{one}'"),
        &format!("value <> '{one}' AND \"offset\" < 130"),
        "value LIKE '%\"m1\"%'",
        "value IS NULL",
        "value IS NOT NULL",
        "value IS NULL OR \"offset\" = 120",
        "length(arrow_cast(value, 'Utf8')) > 100",
    ] {
        both.check(&format!("SELECT \"partition\", \"offset\", value FROM records WHERE {filter} {order}"))
            .await;
        both.check(&format!("SELECT count(*) AS n, count(value) AS m FROM records WHERE {filter}")).await;
    }
    both.check(&format!("SELECT * FROM records {order}")).await;
}

#[tokio::test]
async fn statements_over_values_see_the_bytes_too() {
    let folder = tempfile::tempdir().unwrap();
    let both = write(folder.path());
    for sql in [
        "SELECT count(value) AS n FROM records",
        "SELECT value FROM records ORDER BY value LIMIT 5",
        "SELECT \"offset\", value FROM records WHERE \"partition\" = 0 ORDER BY \"offset\" DESC LIMIT 7",
        "SELECT count(*) AS n FROM records a JOIN records b ON a.value = b.value WHERE b.\"offset\" < 110",
        "SELECT count(*) AS n FROM (SELECT value FROM records GROUP BY value HAVING count(*) = 2) t",
    ] {
        both.check(sql).await;
    }
    let found = both.archive("SELECT value FROM records LIMIT 7").await;
    assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), 7);
}

/// Before the first template comes more than the sort may keep; what the rest is rebuilt with must be there still.
#[tokio::test]
async fn a_sort_of_more_values_than_fit_spills() {
    let folder = tempfile::tempdir().unwrap();
    let mut lane = Lane::new(folder.path(), 0);
    let first = lane.next_offset();
    let sent: Vec<Sent> =
        (first..first + 3_000).map(|offset| Sent::long(offset, offset < first + 2_300)).collect();
    let whole = commit_sent(&mut lane, 0, &sent, &STORED_RECORDS);
    // A sort keeps 10 MiB for its merges, a stream of records 16 MiB.
    let limits = Limits { memory_bytes: 36 << 20, ..Limits::default() };
    let both = Both::within(limits, folder.path(), "records", vec![whole]);
    both.check("SELECT \"offset\" FROM records ORDER BY value DESC").await;
}

#[tokio::test]
async fn a_statement_without_values_reads_no_readings() {
    let folder = tempfile::tempdir().unwrap();
    let both = write(folder.path());
    std::fs::remove_dir_all(folder.path().join(TOPIC).join("readings")).unwrap();
    for sql in [
        "SELECT count(*) AS n FROM records WHERE error_class IS NULL",
        "SELECT \"partition\", \"offset\", kafka_time, readings FROM records ORDER BY \"partition\", \"offset\"",
    ] {
        both.check(sql).await;
    }
}

/// The readings of old records are gone, so that to look for them would be an error.
#[tokio::test]
async fn the_last_records_are_found_without_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let mut lane = Lane::new(folder.path(), 0);
    let mut whole = Vec::new();
    for seq in 0..24 {
        let first = lane.next_offset();
        whole.push(commit(&mut lane, 0, 20, &STORED_RECORDS));
        if seq < 12 {
            let path = format!("readings/readings/0/{first}-{}-test-{seq}.parquet", first + 20);
            std::fs::remove_file(folder.path().join(path)).unwrap();
        }
    }
    let both = Both::new(folder.path(), "records", whole);
    both.check("SELECT * FROM records ORDER BY \"offset\" DESC LIMIT 10").await;
    both.ask("SELECT value FROM records ORDER BY \"offset\" LIMIT 10").await.unwrap_err();
}

async fn refused(both: &Both, names: &[&str]) {
    let error = both.ask("SELECT value FROM records").await.unwrap_err();
    assert!(matches!(error, QueryError::Archive(_)), "{error:?}");
    let text = error.to_string();
    for name in names.iter().chain(&["stillwell verify"]) {
        assert!(text.contains(name), "{name}: {text}");
    }
}

#[tokio::test]
async fn a_file_of_readings_that_is_gone_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut lane = Lane::new(folder.path(), 0);
    let both = Both::new(folder.path(), "records", vec![commit(&mut lane, 0, 20, &STORED_RECORDS)]);
    let path = "readings/readings/0/100-120-test-0.parquet";
    std::fs::remove_file(folder.path().join(path)).unwrap();
    refused(&both, &["offset 100", path]).await;
}

#[tokio::test]
async fn a_reading_that_is_gone_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut lane = Lane::new(folder.path(), 0);
    let sent = sent(lane.next_offset(), 20);
    let all = readings(0, &sent);
    let offsets = all["offset"].as_primitive::<Int64Type>().values().iter();
    let kept: BooleanArray = offsets.map(|offset| Some(*offset != 105)).collect();
    let (kept, stored) = (filter_record_batch(&all, &kept).unwrap(), records(0, &sent, &STORED_RECORDS));
    lane.commit_files(sent.len(), &kept, Some(&stored));
    let both = Both::new(folder.path(), "records", vec![records(0, &sent, &RECORDS)]);
    refused(&both, &["reading 0 of the record at offset 105", "100-120-test-0.parquet"]).await;
}

#[tokio::test]
async fn records_whose_readings_no_file_may_hold_name_the_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let mut lane = Lane::new(folder.path(), 0);
    let sent = sent(lane.next_offset(), 20);
    let whole = commit_sent(&mut lane, 0, &sent, &STORED_RECORDS);
    lane.cover(0..1, &[], &[records(0, &sent, &STORED_RECORDS)]);
    let both = Both::new(folder.path(), "records", vec![whole]);
    refused(&both, &["reading 0 of the record at offset 100", "readings/manifest/0"]).await;
}

/// A link to itself is a file that is there and cannot be opened.
#[cfg(unix)]
#[tokio::test]
async fn a_store_that_does_not_answer_is_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    let mut lane = Lane::new(folder.path(), 0);
    let both = Both::new(folder.path(), "records", vec![commit(&mut lane, 0, 20, &STORED_RECORDS)]);
    let path = folder.path().join("readings/readings/0/100-120-test-0.parquet");
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&path, &path).unwrap();
    let error = both.ask("SELECT value FROM records").await.unwrap_err();
    assert!(matches!(error, QueryError::Archive(_)), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("100-120-test-0.parquet") && !text.contains("stillwell verify"), "{text}");
}
