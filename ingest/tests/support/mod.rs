//! What the tests of the write side share: a store that fails on demand, records, and the oracle.
#![allow(dead_code, reason = "each test file uses its share")]

pub(crate) mod proxy;
pub(crate) mod versitygw;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use ed25519_dalek::SigningKey;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use stillwell_ingest::life::ledger::read_view;
use stillwell_ingest::life::pieces::Pieces;
use stillwell_ingest::stage::{Ingest, Limits, Shared};
use stillwell_ingest::store::{ArchiveStore, Creation, Listed, StoreError};
use stillwell_ingest::verify::{LaneReport, Level, verify_lane};
use stillwell_ingest::workers::{Answer, Job, JobKind, Threads, Workers};
use stillwell_ingest::{DeadLetterError, DeadLetterSink, Retry};
use stillwell_schema::health::Board;
use stillwell_schema::manifest::FileRef;
use stillwell_schema::original::restore;
use stillwell_schema::{Clock, Gap, GapReason, Offset, TopicPartition};
use stillwell_source::chunk::{RecordChunk, RecordRef};
use stillwell_source::dead_letters::Waiting;
use stillwell_source::decode::DecodeError;
use stillwell_source::lane::{DisplayCommit, Lane, Stage as _};
use stillwell_source::settings::TopicSettings;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The methods of a store that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Put,
    Create,
    ReadBack,
    Read,
}

/// A failure to come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) op: Op,
    /// How many operations of its kind go well before.
    pub(crate) skip: usize,
    /// Whether the operation takes effect all the same.
    pub(crate) after: bool,
    pub(crate) kind: io::ErrorKind,
}

/// The disk is full: passes by itself.
pub(crate) const AWAY: io::ErrorKind = io::ErrorKind::StorageFull;
/// Stands for the death of the process: the commit goes no further.
pub(crate) const CRASH: io::ErrorKind = io::ErrorKind::InvalidInput;

/// An archive in memory.
#[derive(Default)]
pub(crate) struct MemoryStore {
    pub(crate) objects: Mutex<BTreeMap<String, Vec<u8>>>,
    /// When each object was put; 0 for those that are not here.
    put_us: Mutex<BTreeMap<String, i64>>,
    /// The store's clock.
    pub(crate) now_us: AtomicI64,
    pub(crate) faults: Mutex<VecDeque<Fault>>,
}

impl MemoryStore {
    pub(crate) fn fail(&self, op: Op, after: bool, kind: io::ErrorKind) {
        self.fail_after(0, op, after, kind);
    }

    pub(crate) fn fail_after(&self, skip: usize, op: Op, after: bool, kind: io::ErrorKind) {
        self.faults.lock().unwrap().push_back(Fault { op, skip, after, kind });
    }

    fn fault(&self, op: Op) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let at = faults.iter().position(|fault| fault.op == op)?;
        if faults[at].skip > 0 {
            faults[at].skip -= 1;
            return None;
        }
        faults.remove(at)
    }

    fn run<T>(
        &self,
        op: Op,
        path: &str,
        effect: impl FnOnce(&mut BTreeMap<String, Vec<u8>>) -> T,
    ) -> Result<T, StoreError> {
        let fault = self.fault(op);
        let value = match fault {
            Some(fault) if !fault.after => None,
            _ => Some(effect(&mut self.objects.lock().unwrap())),
        };
        match (fault, value) {
            (None, Some(value)) => Ok(value),
            (fault, _) => Err(StoreError::new("reach", path, fault.unwrap().kind.into())),
        }
    }
}

impl ArchiveStore for MemoryStore {
    fn put(&self, path: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.put_us.lock().unwrap().insert(path.into(), self.now_us.load(Ordering::Relaxed));
        self.run(Op::Put, path, |objects| drop(objects.insert(path.into(), bytes.into())))
    }

    fn put_if_absent(&self, path: &str, bytes: &[u8]) -> Result<Creation, StoreError> {
        self.run(Op::Create, path, |objects| {
            if objects.contains_key(path) {
                return Creation::AlreadyExists;
            }
            objects.insert(path.into(), bytes.into());
            Creation::Created
        })
    }

    fn get(&self, path: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.run(Op::Read, path, |objects| objects.get(path).cloned())
    }

    fn read_back(&self, path: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.run(Op::ReadBack, path, |objects| objects.get(path).cloned())
    }

    fn visit(&self, folder: &str, each: &mut dyn FnMut(Listed)) -> Result<(), StoreError> {
        let objects = self.objects.lock().unwrap();
        let inside =
            objects.iter().filter(|(path, _)| path.rsplit_once('/').is_some_and(|(f, _)| f == folder));
        let put_us = self.put_us.lock().unwrap();
        inside.for_each(|(path, b)| {
            let modified_us = put_us.get(path).copied().unwrap_or_default();
            each(Listed { path: path.clone(), bytes: b.len() as u64, modified_us });
        });
        Ok(())
    }

    fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let objects = self.objects.lock().unwrap();
        let below = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let inside = objects.keys().filter_map(|path| path.strip_prefix(&below)?.split_once('/'));
        let names: std::collections::BTreeSet<_> = inside.map(|(name, _)| name.to_owned()).collect();
        Ok(names.into_iter().collect())
    }

    fn delete(&self, path: &str) -> Result<(), StoreError> {
        self.objects.lock().unwrap().remove(path);
        Ok(())
    }
}

/// Topic, offset and class of a dead letter.
pub(crate) type Letter = (String, i64, &'static str);

/// Keeps dead letters.
#[derive(Clone, Default)]
pub(crate) struct Kept(pub(crate) Arc<Mutex<Vec<Letter>>>);

impl DeadLetterSink for Kept {
    async fn send(
        &self,
        topic: &str,
        _: &TopicPartition,
        failed: &[(RecordRef<'_>, &DecodeError)],
        _: Waiting<'_>,
    ) -> Result<(), DeadLetterError> {
        let letters = failed.iter().map(|(record, error)| (topic.to_owned(), record.offset.0, error.class));
        self.0.lock().unwrap().extend(letters);
        Ok(())
    }
}

pub(crate) struct FixedClock;

impl Clock for FixedClock {
    fn now_us(&self) -> i64 {
        1_795_000_000_000_000
    }
}

/// A clock that goes on by a quarter of an hour at each look.
#[derive(Default)]
pub(crate) struct LeapingClock(AtomicI64);

impl Clock for LeapingClock {
    fn now_us(&self) -> i64 {
        1_795_000_000_000_000 + self.0.fetch_add(900_000_000, Ordering::Relaxed)
    }
}

/// A clock that stands still but when told.
#[derive(Default)]
pub(crate) struct SetClock(AtomicI64);

impl SetClock {
    pub(crate) fn pass(&self, us: i64) {
        self.0.fetch_add(us, Ordering::Relaxed);
    }
}

impl Clock for SetClock {
    fn now_us(&self) -> i64 {
        1_795_000_000_000_000 + self.0.load(Ordering::Relaxed)
    }
}

/// Keeps jobs until the test does them, the oldest first.
#[derive(Default)]
pub(crate) struct ByHand(Mutex<VecDeque<Job>>);

impl Workers for ByHand {
    fn take(&self, _: JobKind, job: Job) {
        self.0.lock().unwrap().push_back(job);
    }
}

impl ByHand {
    pub(crate) fn waiting(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Waits for the next job, `what`, does it and gives its answer.
    pub(crate) async fn finish(&self, what: &str) {
        let answer = self.until(what).await;
        answer();
    }

    /// Waits, on a paused clock, for the next job, `what`, and does it; the answer is for the test to give.
    pub(crate) async fn until(&self, what: &str) -> Answer {
        for _ in 0..1_000 {
            if let Some(job) = self.0.lock().unwrap().pop_front() {
                return job();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("no job, expected {what}");
    }
}

pub(crate) fn lane_id() -> TopicPartition {
    TopicPartition::new("readings", 3)
}

pub(crate) fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

pub(crate) const QUICK: Retry = Retry { first: Duration::from_micros(10), most: Duration::from_millis(1) };

pub(crate) const LIMITS: Limits = Limits {
    flush_interval: Duration::from_secs(600),
    file_bytes: 1 << 20,
    memory_bytes: 64 << 20,
    retry: QUICK,
};

pub(crate) fn ingest(
    store: &Arc<MemoryStore>,
    writer: &str,
    limits: Limits,
) -> (Arc<Ingest<Kept>>, Kept, Board) {
    ingest_on(Arc::clone(store) as Arc<dyn ArchiveStore>, writer, limits)
}

pub(crate) fn ingest_on(
    store: Arc<dyn ArchiveStore>,
    writer: &str,
    limits: Limits,
) -> (Arc<Ingest<Kept>>, Kept, Board) {
    ingest_at(Arc::new(FixedClock), store, writer, limits)
}

pub(crate) fn ingest_at(
    clock: Arc<dyn Clock>,
    store: Arc<dyn ArchiveStore>,
    writer: &str,
    limits: Limits,
) -> (Arc<Ingest<Kept>>, Kept, Board) {
    let (kept, board) = (Kept::default(), Board::default());
    let stage = stage(Arc::new(Threads), clock, store, (writer, limits), (kept.clone(), board.clone()));
    (stage, kept, board)
}

pub(crate) fn ingest_by(
    workers: Arc<dyn Workers>,
    clock: Arc<dyn Clock>,
    store: Arc<dyn ArchiveStore>,
    limits: Limits,
) -> Arc<Ingest<Kept>> {
    stage(workers, clock, store, ("a", limits), (Kept::default(), Board::default()))
}

fn stage(
    workers: Arc<dyn Workers>,
    clock: Arc<dyn Clock>,
    store: Arc<dyn ArchiveStore>,
    (writer, limits): (&str, Limits),
    (dead_letters, board): (Kept, Board),
) -> Arc<Ingest<Kept>> {
    let topic = TopicSettings::new("readings");
    let ingest = Ingest::new(Shared {
        store,
        workers,
        key: key(),
        writer: writer.into(),
        clock,
        random: Mutex::new(StdRng::seed_from_u64(writer.bytes().fold(0, |seed, b| seed << 8 | u64::from(b)))),
        board,
        topics: [(topic.name.clone(), topic)].into(),
        dead_letters,
        limits,
    });
    Arc::new(ingest)
}

/// The consumer's side of a lane.
pub(crate) struct Feed {
    pub(crate) chunks: mpsc::Sender<RecordChunk>,
    pub(crate) revoked: CancellationToken,
    pub(crate) durable: mpsc::UnboundedReceiver<(TopicPartition, Offset)>,
}

pub(crate) fn lane(start: i64) -> (Lane, Feed) {
    lane_of(lane_id(), start)
}

/// The same of another partition.
pub(crate) fn lane_of(id: TopicPartition, start: i64) -> (Lane, Feed) {
    let (chunks, received) = mpsc::channel(4);
    let (out, durable) = mpsc::unbounded_channel();
    let revoked = CancellationToken::new();
    let display = DisplayCommit::new(id.clone(), out);
    let lane = Lane {
        id,
        start: Offset(start),
        chunks: received,
        revoked: revoked.clone(),
        display,
        end: Arc::default(),
        received: Arc::default(),
    };
    (lane, Feed { chunks, revoked, durable })
}

/// What record `offset` holds: every seventh cannot be decoded; every fifth has no key.
pub(crate) fn value_of(offset: i64) -> String {
    if offset % 7 == 3 {
        return format!("poison {offset}");
    }
    let (machine, time, value) = (offset % 3, 1_795_000_000_000 + offset * 10, offset as f64 / 4.0);
    format!(r#"{{"machine":"press-{machine}","sensor":"oil","time":{time},"value":{value:?}}}"#)
}

pub(crate) fn key_of(offset: i64) -> Option<String> {
    (offset % 5 != 0).then(|| format!("press-{}", offset % 3))
}

/// Whether offset is a gap, like the marker at the end of a transaction.
pub(crate) fn is_gap(offset: i64) -> bool {
    offset % 11 == 10
}

pub(crate) fn chunk(first: i64, next: i64) -> RecordChunk {
    chunk_of(&lane_id(), first, next)
}

/// The same records in another lane.
pub(crate) fn chunk_of(lane: &TopicPartition, first: i64, next: i64) -> RecordChunk {
    let mut chunk = RecordChunk::new(lane.clone(), Offset(first));
    for offset in first..next {
        if is_gap(offset) {
            chunk.push_gap(Gap {
                first: Offset(offset),
                next: Offset(offset + 1),
                reason: GapReason::NotDelivered,
            });
            continue;
        }
        let (key, value) = (key_of(offset), value_of(offset));
        let headers = [("trace", Some(value.as_bytes())), ("empty", None)];
        let headers = headers.into_iter().take((offset % 3) as usize);
        chunk.push(
            Offset(offset),
            offset * 10,
            key.as_deref().map(str::as_bytes),
            Some(value.as_bytes()),
            headers,
        );
    }
    chunk
}

/// The public half of [`key`], hex.
pub(crate) fn public_key() -> String {
    key().verifying_key().to_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The test lane's verification, as deep as it goes.
pub(crate) fn audit(store: &dyn ArchiveStore) -> LaneReport {
    verify_lane(store, &lane_id(), Level::Records, Some(&public_key())).unwrap()
}

/// All rows of a Parquet file.
pub(crate) fn read_parquet(bytes: &[u8]) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::copy_from_slice(bytes)).unwrap();
    reader.build().unwrap().map(Result::unwrap).collect()
}

/// Offset, key and value of a record.
pub(crate) type Record = (i64, Option<String>, Option<String>);

/// What a reader of the archive sees.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Seen {
    /// Each record.
    pub(crate) records: Vec<Record>,
    /// Offset of each reading, sorted.
    pub(crate) readings: Vec<i64>,
}

pub(crate) fn see(store: &dyn ArchiveStore) -> Seen {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;
    let mut seen = Seen::default();
    let view = read_view(store, &lane_id()).unwrap();
    for piece in Pieces::new(store, &lane_id(), &view) {
        let piece = piece.unwrap();
        let files = |files: &[FileRef]| -> Vec<RecordBatch> {
            files.iter().flat_map(|f| read_parquet(&store.get(&f.path).unwrap().unwrap())).collect()
        };
        let readings = files(&piece.readings);
        for batch in files(&piece.records).iter().map(|batch| restore(batch, &readings).unwrap()) {
            let offsets = batch["offset"].as_primitive::<Int64Type>();
            let (keys, values) = (batch["key"].as_binary::<i32>(), batch["value"].as_binary::<i32>());
            for ((offset, key), value) in offsets.values().iter().zip(keys).zip(values) {
                seen.records.push((*offset, key.map(text), value.map(text)));
            }
        }
        for batch in readings {
            seen.readings.extend(batch["offset"].as_primitive::<Int64Type>().values());
        }
    }
    seen.readings.sort_unstable();
    seen
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What it must see of the offsets `first..next`.
pub(crate) fn expected(first: i64, next: i64) -> Seen {
    let records = (first..next).filter(|o| !is_gap(*o));
    Seen {
        records: records.clone().map(|o| (o, key_of(o), Some(value_of(o)))).collect(),
        readings: records.filter(|o| o % 7 != 3).collect(),
    }
}

/// A writer's life: asks for the position, runs a lane from there, is revoked or fenced at some point, and
/// starts over, until the log's end is durable.
pub(crate) async fn live(store: Arc<dyn ArchiveStore>, name: String, seed: u64, end: i64) {
    let mut random = StdRng::seed_from_u64(seed);
    let (stage, ..) = ingest_on(store, &name, Limits { file_bytes: 2_000, ..LIMITS });
    loop {
        let Ok(position) = stage.position(&lane_id()).await else { continue };
        let start = position.map_or(0, |p| p.0);
        if start >= end {
            return;
        }
        let (lane, feed) = lane(start);
        let stage = Arc::clone(&stage);
        let running = tokio::spawn(async move { stage.run(lane).await });
        let mut at = start;
        while at < end {
            let next = (at + random.random_range(1..40)).min(end);
            if random.random_bool(0.05) {
                feed.revoked.cancel();
                break;
            }
            if feed.chunks.send(chunk(at, next)).await.is_err() {
                break;
            }
            at = next;
        }
        drop(feed);
        running.await.unwrap().unwrap();
    }
}
