//! What compaction makes of a stream: reads records from stdin, one a line as `<Kafka time, ms>` tab `<JSON>`, archives
//! them in small commits, merges these at some zstd levels, and prints bytes and seconds as JSON, a line each. Beside the
//! readings lies a Delta log.
//!
//! `benches/peers/compaction.py` feeds it recordings and holds it against pyarrow.
#![allow(clippy::print_stdout)]

use std::io::{BufRead, stdin};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ed25519_dalek::SigningKey;
use stillwell_ingest::delta;
use stillwell_ingest::life::compact::{Merged, Policy, compact};
use stillwell_ingest::life::ledger::Pen;
use stillwell_ingest::manifest::find_head;
use stillwell_ingest::store::{ArchiveStore, LocalStore};
use stillwell_ingest::writer::{Batch, encode};
use stillwell_schema::{Offset, SystemClock, TopicPartition, paths};
use stillwell_source::chunk::RecordChunk;
use stillwell_source::decode::decoder_for;
use stillwell_source::settings::TopicSettings;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Records of a commit.
const RECORDS: usize = 500;

fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().ok_or("usage: compact FOLDER LEVEL… < records")?;
    let mut records = Vec::new();
    for line in stdin().lock().lines() {
        let line = line?;
        let (time_ms, json) = line.split_once('\t').ok_or("a line without a tab")?;
        records.push((time_ms.parse::<i64>()?, json.to_owned()));
    }
    for level in args {
        let level: i32 = level.parse()?;
        let (folder, key) = (Path::new(&folder).join(level.to_string()), SigningKey::from_bytes(&[7; 32]));
        let store: Arc<dyn ArchiveStore> = Arc::new(LocalStore::open(&folder)?);
        let lane = TopicPartition::new("readings", 0);
        for (number, records) in records.chunks(RECORDS).enumerate() {
            commit(&*store, &lane, number * RECORDS, records, &key)?;
        }
        let clock = Arc::new(SystemClock);
        let pen = Pen { store, key, writer: "bench".into(), clock };
        let policy = Policy { file_bytes_target: 256 << 20, before_us: i64::MAX, pieces_min: 2, level };
        let (began, mut last) = (Instant::now(), None::<Merged>);
        compact(&pen, &lane, policy, &|_| (), &mut |merged| {
            last = Some(merged);
            true
        })?;
        let seconds = began.elapsed().as_secs_f64();
        // So that other engines can be asked what they see.
        delta::update(&*pen.store, &lane.topic, &*pen.clock)?;
        let merged = serde_json::to_string(&last.ok_or("nothing to merge")?)?;
        println!("{{\"level\":{level},\"seconds\":{seconds:.3},\"merged\":{merged}}}");
    }
    Ok(())
}

fn commit(
    store: &dyn ArchiveStore,
    lane: &TopicPartition,
    first: usize,
    records: &[(i64, String)],
    key: &SigningKey,
) -> Result<(), Failure> {
    let first = Offset(i64::try_from(first)?);
    let mut chunk = RecordChunk::new(lane.clone(), first);
    for (offset, (time_ms, json)) in (first.0..).zip(records) {
        chunk.push(Offset(offset), *time_ms, None, Some(json.as_bytes()), []);
    }
    let mut batch = Batch::new(lane.clone(), first);
    batch.push(&mut *decoder_for(&TopicSettings::new("readings")), chunk)?;
    let mut encoded = encode(&batch, &format!("{:08}", first.0))?;
    for file in std::mem::take(&mut encoded.files) {
        store.put(&file.file.path, &file.bytes)?;
    }
    let head = find_head(store, lane)?;
    let entry = encoded.entry(&head, "bench", 1, key)?;
    store.put_if_absent(&paths::entry(lane, head.seq), &entry.bytes)?;
    Ok(())
}
