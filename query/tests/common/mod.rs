//! A small archive, written as the write side would, and a server over it.
#![allow(dead_code, unreachable_pub, missing_docs)]

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, TimestampMillisecondArray, UInt32Array,
};
use arrow::compute::{SortColumn, concat_batches, lexsort_to_indices, take_record_batch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use ed25519_dalek::SigningKey;
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use stillwell_query::archive::{Catalogue, Pin};
use stillwell_query::engine::{Engine, Request};
use stillwell_query::machines::Machines;
use stillwell_query::views::Views;
use stillwell_query::{Bound, ClickHouseSettings, Limits, QueryError, QuerySettings};
use stillwell_schema::health::Board;
use stillwell_schema::ledger::{Cover, Deed, LedgerHead, Merge, ReadingsFile, RecordsFile, Span};
use stillwell_schema::manifest::{Entry, FORMAT, FileRef, GENESIS};
use stillwell_schema::paths::{self, FileKind};
use stillwell_schema::signed::Signed;
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
    /// The schema that entries and files name from now on; without one, files name none.
    pub schema: Option<&'static str>,
}

impl<'a> Lane<'a> {
    pub fn new(folder: &'a Path, partition: i32) -> Self {
        let lane = TopicPartition::new(TOPIC, partition);
        let key = SigningKey::from_bytes(&[7; 32]);
        let (previous, ledger) = (GENESIS.to_owned(), LedgerHead::genesis());
        let (entries, batches) = (Vec::new(), Vec::new());
        Self { folder, lane, key, seq: 0, next: 100, previous, entries, batches, ledger, schema: None }
    }

    /// The offset that the next commit begins at.
    pub fn next_offset(&self) -> i64 {
        self.next
    }

    /// One commit of these rows, one record each. Returns what was written.
    pub fn commit(&mut self, rows: &[Row]) -> RecordBatch {
        let batch = batch(self.lane.partition, self.next, rows);
        self.commit_files(rows.len(), &batch, None);
        batch
    }

    /// One commit of so many offsets, with these readings and records.
    pub fn commit_files(&mut self, offsets: usize, readings: &RecordBatch, records: Option<&RecordBatch>) {
        let first = self.next;
        self.next += offsets as i64;
        let range = OffsetRange { first: Offset(first), next: Offset(self.next) };
        let unique = format!("test-{}", self.seq);
        let times = || readings["time"].as_primitive::<TimestampMicrosecondType>().values().iter().copied();
        let entry = Entry {
            format: FORMAT,
            topic: TOPIC.to_owned(),
            partition: self.lane.partition,
            seq: self.seq,
            previous: self.previous.clone(),
            range,
            gaps: Vec::new(),
            readings: Some(self.file(FileKind::Readings, range, &unique, readings)),
            records: records.map(|records| self.file(FileKind::Records, range, &unique, records)),
            undecodable: 0,
            merkle_root: GENESIS.to_owned(),
            time_min_us: times().min(),
            time_max_us: times().max(),
            // Every third entry lists none, as one with too many would.
            machines: (self.seq % 3 != 2).then(|| machines(readings)),
            schema: self.schema.unwrap_or(columns::SCHEMA_ID).to_owned(),
            writer: "test".to_owned(),
            written_us: 1_000 + i64::try_from(self.seq).unwrap(),
            key: String::new(),
        };
        let signed = Signed::sign(entry, &self.key).unwrap();
        put(self.folder, &paths::entry(&self.lane, self.seq), &signed.bytes);
        self.previous.clone_from(&signed.sha256);
        self.seq += 1;
        // One of a later version is none that this one can cover.
        self.entries.extend(SignedEntry::parse(signed.bytes).ok());
        self.batches.push(readings.clone());
    }

    /// Puts one file, with the rows of the entries `first..next`, in the place of theirs, which go.
    pub fn merge(&mut self, first: usize, next: usize) {
        let batches = &self.batches[first..next];
        let all = sorted(&concat_batches(&columns::READINGS, batches).unwrap());
        self.cover(first..next, &[all], &[]);
    }

    /// Puts these files in the place of those of the entries, which go.
    pub fn cover(&mut self, entries: Range<usize>, readings: &[RecordBatch], records: &[RecordBatch]) {
        let lists_machines = entries.start.is_multiple_of(2);
        let entries = &self.entries[entries];
        let span = Span::of(entries).unwrap();
        let unique = |at: usize| format!("{}-{at}", paths::unique_of_act(self.ledger.seq, "test"));
        let range_of = |batch: &RecordBatch| {
            let offsets = || batch["offset"].as_primitive::<Int64Type>().values().iter().copied();
            let (first, last) = (offsets().min().unwrap(), offsets().max().unwrap());
            OffsetRange { first: Offset(first), next: Offset(last + 1) }
        };
        let readings = readings.iter().enumerate().map(|(at, batch)| {
            let times = || batch["time"].as_primitive::<TimestampMicrosecondType>().values().iter().copied();
            let range = range_of(batch);
            ReadingsFile {
                file: self.file(FileKind::Readings, range, &unique(at), batch),
                range,
                time_min_us: times().min().unwrap(),
                time_max_us: times().max().unwrap(),
                machines: lists_machines.then(|| machines(batch)),
            }
        });
        let records = records.iter().enumerate().map(|(at, batch)| {
            let range = range_of(batch);
            let file = self.file(FileKind::Records, range, &unique(at), batch);
            RecordsFile { file, range, undecodable: 0 }
        });
        let (readings, records) = (readings.collect(), records.collect());
        let cover = Cover { span, readings, records, leaves: Vec::new() };
        let act = self.ledger.sign(&self.lane, Deed::Merge(Merge { cover }), "test", 1, &self.key).unwrap();
        put(self.folder, &paths::act(&self.lane, act.act.seq), &act.bytes);
        for entry in entries.iter().map(|one| &one.entry) {
            for file in [&entry.readings, &entry.records].into_iter().flatten() {
                let _ = std::fs::remove_file(self.folder.join(&file.path));
            }
        }
        self.ledger = act.head();
    }

    fn file(&self, kind: FileKind, range: OffsetRange, unique: &str, batch: &RecordBatch) -> FileRef {
        let path = paths::data_file(&self.lane, kind, range, unique);
        let bytes = parquet(batch, self.schema);
        put(self.folder, &path, &bytes);
        let (rows, sha256) = (batch.num_rows() as u64, GENESIS.to_owned());
        FileRef { path, bytes: bytes.len() as u64, rows, sha256 }
    }
}

/// Readings as a file holds them.
pub fn sorted(readings: &RecordBatch) -> RecordBatch {
    let by = |name: &str| SortColumn { values: Arc::clone(&readings[name]), options: None };
    let order = ["machine", "sensor", "time", "offset", "index"].map(by);
    take_record_batch(readings, &lexsort_to_indices(&order, None).unwrap()).unwrap()
}

fn machines(readings: &RecordBatch) -> Vec<String> {
    let names = readings["machine"].as_string::<i32>().iter().flatten();
    names.map(str::to_owned).collect::<BTreeSet<_>>().into_iter().collect()
}

fn parquet(batch: &RecordBatch, schema: Option<&str>) -> Vec<u8> {
    // Small groups and pages, so that pruning inside a file has something to do.
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(16))
        .set_data_page_row_count_limit(4)
        .set_write_batch_size(4)
        .set_bloom_filter_enabled(true)
        .set_key_value_metadata(
            schema.map(|id| vec![KeyValue::new("stillwell.schema".to_owned(), id.to_owned())]),
        )
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
        has_machines: true,
        machines_file: Some(folder.join("machines.json")),
        hosts: vec!["plant.example".into()],
        limits,
        reconcile: Default::default(),
    }
}

/// An engine over the archive in `folder`.
pub fn engine(folder: &Path, settings: &QuerySettings) -> Engine {
    let store = object_store::local::LocalFileSystem::new_with_prefix(folder).unwrap();
    let catalogue = Arc::new(Catalogue::new(Arc::new(store), settings.topics.clone()));
    let views = Views::new(&settings.clickhouse, &settings.limits);
    let machines = Arc::new(Machines::open(settings.machines_file.clone(), Arc::new(SystemClock)));
    Engine::new(settings, &catalogue, &views, &machines).unwrap()
}

/// An archive, and a table in memory that holds the same.
pub struct Both {
    engine: Engine,
    memory: SessionContext,
}

impl Both {
    pub fn new(folder: &Path, table: &str, batches: Vec<RecordBatch>) -> Self {
        Self::within(Limits::default(), folder, table, batches)
    }

    /// The archive is asked within these limits.
    pub fn within(limits: Limits, folder: &Path, table: &str, batches: Vec<RecordBatch>) -> Self {
        let engine = engine(folder, &settings(folder, limits));
        let memory = SessionContext::new();
        let rows = MemTable::try_new(batches[0].schema(), vec![batches]).unwrap();
        memory.register_table(table, Arc::new(rows)).unwrap();
        Self { engine, memory }
    }

    pub async fn ask(&self, sql: &str) -> Result<Vec<RecordBatch>, QueryError> {
        let request = Request { sql: sql.to_owned(), ..Request::default() };
        Ok(self.engine.run(&request, Arc::new(Pin::default())).await?.batches)
    }

    pub async fn archive(&self, sql: &str) -> Vec<RecordBatch> {
        self.ask(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub async fn check(&self, sql: &str) {
        let found = self.archive(sql).await;
        let expected = self.memory.sql(sql).await.unwrap().collect().await.unwrap();
        let text = |batches: &[RecordBatch]| {
            let rows: Vec<RecordBatch> = batches.iter().filter(|one| one.num_rows() > 0).cloned().collect();
            pretty_format_batches(&rows).unwrap().to_string()
        };
        assert_eq!(text(&found), text(&expected), "{sql}");
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
    server_of(settings(folder, limits), Board::default()).await
}

/// A server that says on `board` how it is.
pub async fn server_of(settings: QuerySettings, board: Board) -> Server {
    let metrics = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder().handle();
    let server = stillwell_query::bind(settings, board, metrics, Arc::new(SystemClock)).await.unwrap();
    let (bound, stop) = (server.bound(), CancellationToken::new());
    tokio::spawn(server.run(stop.clone()));
    Server { bound, stop }
}
