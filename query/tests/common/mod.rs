//! A small archive, written as the write side would, and a server over it.
#![allow(dead_code, unreachable_pub, missing_docs)]

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, TimestampMillisecondArray, UInt32Array,
};
use arrow::compute::{SortColumn, concat_batches, lexsort_to_indices, take_record_batch};
use ed25519_dalek::SigningKey;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use stillwell_query::{Bound, ClickHouseSettings, Limits, QuerySettings};
use stillwell_schema::health::Board;
use stillwell_schema::ledger::{Cover, Deed, LedgerHead, Merge, ReadingsFile, Span};
use stillwell_schema::manifest::{Entry, FORMAT, FileRef, GENESIS};
use stillwell_schema::paths::{self, FileKind};
use stillwell_schema::{Offset, OffsetRange, SignedEntry, SystemClock, TopicPartition, columns};
use tokio_util::sync::CancellationToken;

pub const TOPIC: &str = "readings";

/// One row of the archive, as far as tests vary it.
#[derive(Clone, Debug)]
pub struct Row {
    pub machine: String,
    pub sensor: String,
    pub time_us: i64,
    pub value: Option<f64>,
    pub quality: u32,
}

pub fn batch(partition: i32, first: i64, rows: &[Row]) -> RecordBatch {
    let strings =
        |of: fn(&Row) -> String| Arc::new(StringArray::from_iter_values(rows.iter().map(of))) as ArrayRef;
    let none = || Arc::new(StringArray::from(vec![None::<&str>; rows.len()])) as ArrayRef;
    let offsets = first..first + rows.len() as i64;
    let arrays: Vec<ArrayRef> = vec![
        strings(|row| row.machine.clone()),
        strings(|row| row.sensor.clone()),
        none(),
        none(),
        Arc::new(
            TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.time_us))
                .with_timezone("UTC"),
        ),
        Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.value))),
        none(),
        Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| row.quality))),
        strings(|_| TOPIC.to_owned()),
        Arc::new(Int32Array::from(vec![partition; rows.len()])),
        Arc::new(Int64Array::from_iter_values(offsets)),
        Arc::new(UInt32Array::from(vec![0; rows.len()])),
        Arc::new(
            TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| row.time_us / 1_000))
                .with_timezone("UTC"),
        ),
    ];
    RecordBatch::try_new(Arc::clone(&columns::READINGS), arrays).unwrap()
}

/// Writes commits of one partition, one after the other.
pub struct Lane<'a> {
    folder: &'a Path,
    lane: TopicPartition,
    key: SigningKey,
    seq: u64,
    next: i64,
    previous: String,
    entries: Vec<SignedEntry>,
    batches: Vec<RecordBatch>,
    ledger: LedgerHead,
}

impl<'a> Lane<'a> {
    pub fn new(folder: &'a Path, partition: i32) -> Self {
        let lane = TopicPartition::new(TOPIC, partition);
        let key = SigningKey::from_bytes(&[7; 32]);
        let (previous, ledger) = (GENESIS.to_owned(), LedgerHead::genesis());
        let (entries, batches) = (Vec::new(), Vec::new());
        Self { folder, lane, key, seq: 0, next: 100, previous, entries, batches, ledger }
    }

    /// One commit of these rows, one record each. Returns what was written.
    pub fn commit(&mut self, rows: &[Row]) -> RecordBatch {
        let first = self.next;
        self.next += rows.len() as i64;
        let range = OffsetRange { first: Offset(first), next: Offset(self.next) };
        let batch = batch(self.lane.partition, first, rows);
        let path = paths::data_file(&self.lane, FileKind::Readings, range, &format!("test-{}", self.seq));
        let bytes = parquet(&batch);
        put(self.folder, &path, &bytes);
        let mut machines: Vec<String> = rows.iter().map(|row| row.machine.clone()).collect();
        machines.sort();
        machines.dedup();
        let entry = Entry {
            format: FORMAT,
            topic: TOPIC.to_owned(),
            partition: self.lane.partition,
            seq: self.seq,
            previous: self.previous.clone(),
            range,
            gaps: Vec::new(),
            readings: Some(FileRef {
                path,
                bytes: bytes.len() as u64,
                rows: rows.len() as u64,
                sha256: GENESIS.to_owned(),
            }),
            records: None,
            undecodable: 0,
            merkle_root: GENESIS.to_owned(),
            time_min_us: rows.iter().map(|row| row.time_us).min(),
            time_max_us: rows.iter().map(|row| row.time_us).max(),
            // Every third entry lists none, as one with too many would.
            machines: (self.seq % 3 != 2).then_some(machines),
            schema: columns::SCHEMA_ID.to_owned(),
            writer: "test".to_owned(),
            written_us: 1_000 + i64::try_from(self.seq).unwrap(),
            key: String::new(),
        };
        let signed = entry.sign(&self.key).unwrap();
        put(self.folder, &paths::entry(&self.lane, self.seq), &signed.bytes);
        self.previous.clone_from(&signed.sha256);
        self.seq += 1;
        self.entries.push(signed);
        self.batches.push(batch.clone());
        batch
    }

    /// Puts one file, with the rows of the entries `first..next`, in the place of theirs, which go.
    pub fn merge(&mut self, first: usize, next: usize) {
        let batches = &self.batches[first..next];
        let all = concat_batches(&columns::READINGS, batches).unwrap();
        let by = |name: &str| SortColumn { values: Arc::clone(&all[name]), options: None };
        let order = lexsort_to_indices(&["machine", "sensor", "time", "offset"].map(by), None).unwrap();
        let all = take_record_batch(&all, &order).unwrap();
        let entries = &self.entries[first..next];
        let span = Span::of(entries).unwrap();
        let unique = paths::unique_of_act(self.ledger.seq, "test");
        let path = paths::data_file(&self.lane, FileKind::Readings, span.range, &unique);
        let bytes = parquet(&all);
        put(self.folder, &path, &bytes);
        let times = || entries.iter().map(|one| &one.entry);
        let mut machines: Vec<String> =
            all["machine"].as_string::<i32>().iter().flatten().map(str::to_owned).collect();
        machines.dedup();
        let file = FileRef {
            path,
            bytes: bytes.len() as u64,
            rows: all.num_rows() as u64,
            sha256: GENESIS.to_owned(),
        };
        let readings = vec![ReadingsFile {
            file,
            range: span.range,
            time_min_us: times().filter_map(|entry| entry.time_min_us).min().unwrap(),
            time_max_us: times().filter_map(|entry| entry.time_max_us).max().unwrap(),
            machines: first.is_multiple_of(2).then_some(machines),
        }];
        let cover = Cover { span, readings, records: Vec::new(), leaves: Vec::new() };
        let act = self.ledger.sign(&self.lane, Deed::Merge(Merge { cover }), "test", 1, &self.key).unwrap();
        put(self.folder, &paths::act(&self.lane, act.act.seq), &act.bytes);
        self.ledger = act.head();
        for file in entries.iter().filter_map(|one| one.entry.readings.as_ref()) {
            let _ = std::fs::remove_file(self.folder.join(&file.path));
        }
    }
}

fn parquet(batch: &RecordBatch) -> Vec<u8> {
    // Small groups and pages, so that pruning inside a file has something to do.
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(16))
        .set_data_page_row_count_limit(4)
        .set_write_batch_size(4)
        .set_bloom_filter_enabled(true)
        .build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    bytes
}

fn put(folder: &Path, path: &str, bytes: &[u8]) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

pub fn settings(folder: &Path, limits: Limits) -> QuerySettings {
    QuerySettings {
        http: "127.0.0.1:0".parse().unwrap(),
        pg: "127.0.0.1:0".parse().unwrap(),
        archive: stillwell_schema::ArchiveUrl::Folder(folder.to_owned()),
        archive_options: Default::default(),
        topics: vec![TOPIC.to_owned()],
        // Nothing listens on the discard port: ClickHouse is away.
        clickhouse: ClickHouseSettings {
            url: "http://127.0.0.1:9".into(),
            user: "default".into(),
            password: String::new(),
            database: "stillwell".into(),
        },
        hosts: vec!["plant.example".into()],
        limits,
    }
}

/// A server that runs until it is dropped.
pub struct Server {
    pub bound: Bound,
    pub stop: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub async fn server(folder: &Path, limits: Limits) -> Server {
    let metrics = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder().handle();
    let settings = settings(folder, limits);
    let server =
        stillwell_query::bind(settings, Board::default(), metrics, Arc::new(SystemClock)).await.unwrap();
    let (bound, stop) = (server.bound(), CancellationToken::new());
    tokio::spawn(server.run(stop.clone()));
    Server { bound, stop }
}
