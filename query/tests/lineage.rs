//! From a view's cell to its readings: each with its file and row, the entry that committed it, its record's trace,
//! and whether the window's row holds it.

mod common;

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Int32Array, Int64Array, ListArray, RecordBatch, StringArray,
    StructArray, TimestampMillisecondArray, UInt32Array, new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow::ipc::writer::StreamWriter;
use common::{Lane, Row, TOPIC, sorted};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use stillwell_query::archive::Pin;
use stillwell_query::engine::{Engine, Request};
use stillwell_query::{Limits, QueryError};
use stillwell_schema::columns::{READINGS, RECORDS, header_fields};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// Where the window's row of partition 0 ends; partition 1 has none.
const VERSION: i64 = 140;

/// A reading, as it was committed.
struct Committed {
    partition: i32,
    offset: i64,
    seq: i64,
    row: Row,
}

/// Two partitions of eight commits; of the second, some are merged, and merged again.
fn write(folder: &Path) -> Vec<Committed> {
    let mut all = Vec::new();
    for partition in 0..2 {
        let mut lane = Lane::new(folder, partition);
        let mut records = Vec::new();
        for seq in 0..8 {
            let first = lane.next_offset();
            let mut rows: Vec<Row> = (0..12).map(|n| row(seq * 12 + n)).collect();
            rows.sort_by_key(|row| (row.machine.clone(), row.sensor.clone(), row.time_us));
            let batch = common::batch(partition, first, &rows);
            let stored = records_of(partition, first, rows.len());
            lane.commit_files(rows.len(), &batch, Some(&stored));
            records.push((batch, stored));
            all.extend((first..).zip(rows).map(|(offset, row)| Committed { partition, offset, seq, row }));
        }
        if partition == 1 {
            for (first, next) in [(1, 3), (1, 6)] {
                let (readings, records): (Vec<_>, Vec<_>) = records[first..next].iter().cloned().unzip();
                let readings = sorted(&concat_batches(&READINGS, &readings).unwrap());
                let records = concat_batches(&RECORDS, &records).unwrap();
                lane.cover(first..next, &[readings], &[records]);
            }
        }
    }
    all
}

/// One reading a second, of three machines with two sensors.
fn row(n: i64) -> Row {
    Row {
        machine: format!("m{}", n % 3),
        sensor: ["temp", "rpm"][usize::try_from(n / 3 % 2).unwrap()].to_owned(),
        time_us: n * 1_000_000,
        value: Some(n as f64),
        quality: 0,
    }
}

/// The trace of a record; every third has none.
fn trace_id(partition: i32, offset: i64) -> Option<String> {
    (offset % 3 != 0).then(|| format!("{:032x}", offset * 16 + i64::from(partition) + 1))
}

fn records_of(partition: i32, first: i64, rows: usize) -> RecordBatch {
    let offsets: Vec<i64> = (first..).take(rows).collect();
    let traces = offsets.iter().map(|offset| trace_id(partition, *offset));
    let headers: Vec<Vec<(&str, String)>> = traces
        .map(|trace| {
            let trace = trace.map(|id| ("traceparent", format!("00-{id}-00f067aa0ba902b7-01")));
            std::iter::once(("content-type", "application/json".to_owned())).chain(trace).collect()
        })
        .collect();
    let flat = || headers.iter().flatten();
    let names = StringArray::from_iter_values(flat().map(|(name, _)| *name).collect::<Vec<_>>());
    let values = BinaryArray::from_iter_values(flat().map(|(_, value)| value.as_bytes()).collect::<Vec<_>>());
    let flat_headers = StructArray::new(header_fields(), vec![Arc::new(names), Arc::new(values)], None);
    let DataType::List(header) = RECORDS.field_with_name("headers").unwrap().data_type() else { panic!() };
    let lengths = OffsetBuffer::from_lengths(headers.iter().map(Vec::len));
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec![TOPIC; rows])),
        Arc::new(Int32Array::from(vec![partition; rows])),
        Arc::new(Int64Array::from(offsets)),
        Arc::new(TimestampMillisecondArray::from(vec![1; rows]).with_timezone("UTC")),
        new_null_array(&DataType::Binary, rows),
        Arc::new(BinaryArray::from_iter_values(vec![b"{}"; rows])),
        Arc::new(ListArray::new(Arc::clone(header), lengths, Arc::new(flat_headers), None)),
        Arc::new(UInt32Array::from(vec![1; rows])),
        new_null_array(&DataType::Utf8, rows),
        new_null_array(&DataType::Utf8, rows),
    ];
    RecordBatch::try_new(Arc::clone(&RECORDS), arrays).unwrap()
}

/// Answers every statement with the one row that partition 0 has of each window, as a server of the views would the
/// columns topic, partition and version. Gives its URL.
async fn views() -> String {
    let columns: [(&str, ArrayRef); 3] = [
        ("topic", Arc::new(StringArray::from(vec![TOPIC]))),
        ("partition", Arc::new(Int32Array::from(vec![0]))),
        ("version", Arc::new(Int64Array::from(vec![VERSION]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut body = Vec::new();
    let mut writer = StreamWriter::try_new(&mut body, &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let body = body.clone();
            tokio::spawn(async move {
                let mut asked = Vec::new();
                while !is_whole(&asked) && client.read_buf(&mut asked).await.unwrap() > 0 {}
                let head =
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                client.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
            });
        }
    });
    url
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    body.len() >= length.unwrap_or(0)
}

struct Asked {
    engine: Engine,
}

impl Asked {
    fn new(folder: &Path, views: &str) -> Self {
        let mut settings = common::settings(folder, Limits::default());
        settings.clickhouse.url = views.to_owned();
        Self { engine: common::engine(folder, &settings) }
    }

    async fn ask(&self, sql: &str) -> Result<RecordBatch, QueryError> {
        let request = Request { sql: sql.to_owned(), ..Request::default() };
        let answer = self.engine.run(&request, Arc::new(Pin::default())).await?;
        Ok(concat_batches(&answer.schema, &answer.batches).unwrap())
    }
}

#[tokio::test]
async fn a_cell_names_exactly_its_readings_and_where_they_come_from() {
    let folder = tempfile::tempdir().unwrap();
    let all = write(folder.path());
    let asked = Asked::new(folder.path(), &views().await);
    let mut found_at_all = 0;
    for (view, width_us) in [("readings_10s", 10_000_000), ("readings_1m", 60_000_000)] {
        for (machine, sensor, at) in [
            ("m0", "temp", 13_000_000),
            ("m1", "rpm", 59_999_999),
            ("m2", "temp", 64_000_000),
            ("m9", "temp", 0),
        ] {
            let sql = format!(
                "SELECT \"partition\", \"offset\", seq, visible, trace_id FROM lineage('{machine}', '{sensor}', {at}, \
                 '{view}') ORDER BY 1, 2"
            );
            let start = at / width_us * width_us;
            let is_of = |one: &&Committed| {
                let Row { machine: own, sensor: of, time_us, .. } = &one.row;
                own == machine && of == sensor && (start..start + width_us).contains(time_us)
            };
            let expected: Vec<_> = all
                .iter()
                .filter(is_of)
                .map(|one| {
                    let visible = one.partition == 0 && one.offset < VERSION;
                    (one.partition, one.offset, one.seq, visible, trace_id(one.partition, one.offset))
                })
                .collect();
            let rows = asked.ask(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
            assert_eq!(readings(&rows), expected, "{sql}");
            found_at_all += expected.len();
        }
    }
    assert!(found_at_all > 40, "{found_at_all}");
}

type Reading = (i32, i64, i64, bool, Option<String>);

fn readings(rows: &RecordBatch) -> Vec<Reading> {
    let ints = |name: &str| rows[name].as_primitive::<Int64Type>().clone();
    let (offsets, seqs) = (ints("offset"), ints("seq"));
    let partitions = rows["partition"].as_primitive::<Int32Type>();
    let (visible, traces) = (rows["visible"].as_boolean(), rows["trace_id"].as_string::<i32>());
    (0..rows.num_rows())
        .map(|at| {
            let trace = traces.is_valid(at).then(|| traces.value(at).to_owned());
            (partitions.value(at), offsets.value(at), seqs.value(at), visible.value(at), trace)
        })
        .collect()
}

#[tokio::test]
async fn the_named_row_of_the_named_file_is_the_reading() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let asked = Asked::new(folder.path(), &views().await);
    let sql = "SELECT time, \"offset\", file, \"row\" FROM lineage('m1', 'temp', 0, 'readings_1h')";
    let rows = asked.ask(sql).await.unwrap();
    assert!(rows.num_rows() > 20, "{}", rows.num_rows());
    let times = rows["time"].as_primitive::<TimestampMicrosecondType>();
    let (offsets, numbers) =
        (rows["offset"].as_primitive::<Int64Type>(), rows["row"].as_primitive::<Int64Type>());
    let files = rows["file"].as_string::<i32>();
    for at in 0..rows.num_rows() {
        let file = std::fs::File::open(folder.path().join(files.value(at))).unwrap();
        let whole: Vec<RecordBatch> = ParquetRecordBatchReaderBuilder::try_new(file)
            .unwrap()
            .build()
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let whole = concat_batches(&whole[0].schema(), &whole).unwrap();
        let row = usize::try_from(numbers.value(at)).unwrap();
        let machine = whole["machine"].as_string::<i32>().value(row).to_owned();
        let time = whole["time"].as_primitive::<TimestampMicrosecondType>().value(row);
        let offset = whole["offset"].as_primitive::<Int64Type>().value(row);
        assert_eq!((machine.as_str(), time, offset), ("m1", times.value(at), offsets.value(at)));
    }
}

#[tokio::test]
async fn other_files_are_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let asked = Asked::new(folder.path(), &views().await);
    let sql = "SELECT count(*) FROM lineage('m0', 'temp', '1970-01-01T00:00:03Z')";
    let count = |rows: RecordBatch| rows.column(0).as_primitive::<Int64Type>().value(0);
    let before = count(asked.ask(sql).await.unwrap());
    assert!(before > 0);
    for entry in std::fs::read_dir(folder.path().join("readings/readings/0")).unwrap().flatten() {
        if !entry.file_name().to_string_lossy().starts_with("100-") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    assert_eq!(count(Asked::new(folder.path(), &views().await).ask(sql).await.unwrap()), before);
}

#[tokio::test]
async fn lineage_says_what_it_takes_and_when_the_views_are_away() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let asked = Asked::new(folder.path(), "http://127.0.0.1:9");
    for (sql, part) in [
        ("SELECT * FROM lineage('m0', 'temp')", "takes machine"),
        ("SELECT * FROM lineage('m0', 'temp', 'soon')", "no time"),
        ("SELECT * FROM lineage('m0', 'temp', 0, 'latest')", "readings_1h"),
        ("SELECT * FROM lineage('m0', 'temp', 0)", "views are unavailable"),
        ("SELECT * FROM lineage_windows('m0', 'temp', 0)", "views are unavailable"),
    ] {
        let error = asked.ask(sql).await.unwrap_err().to_string();
        assert!(error.contains(part), "{sql}: {error}");
    }
}
