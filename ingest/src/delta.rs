//! A Delta Lake log over a topic's readings, so that Spark, Trino, DuckDB and Polars read exactly what is committed.
//!
//! The table's root is `<topic>/readings`, so that paths stay inside it: `<partition>/<file>.parquet`. Its log lies in
//! `_delta_log` there, JSON commits by version, created put-if-absent. Each call appends what changed between the log
//! and the lanes' views: `add` for files that appeared, `remove` for those that a merge or an erasure superseded, which
//! stay on the store until the log has let go of them for a day. Merges of rows that the log had before are a version
//! of their own without `dataChange`, so that who follows the table as a stream is not shown those rows again.
//!
//! Paths are URIs there; ours are digits, hyphens, hex and `act`, so that nothing needs an escape.
//!
//! Format: <https://github.com/delta-io/delta/blob/master/PROTOCOL.md>, reader version 1, writer version 2. Unsigned
//! columns are `long` there, which is what its readers make of Parquet's `UINT_32`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use stillwell_schema::ledger::ReadingsFile;
use stillwell_schema::manifest::{Entry, FileRef};
use stillwell_schema::{Clock, Offset, OffsetRange, TopicPartition, columns, paths};
use thiserror::Error;

use crate::evidence::lanes;
use crate::life::ledger::read_view;
use crate::manifest::{Chain, ManifestError};
use crate::store::{ArchiveStore, Creation, StoreError};

mod log;
mod schema;

use log::{Log, partition, version_path};

/// Attempts at a version that other processes take first.
const ATTEMPTS: usize = 10;

/// Why the log cannot be kept.
#[derive(Debug, Error)]
pub enum DeltaError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A chain or the log cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Other processes keep writing versions.
    #[error("the delta log of {0} is written by another process; run it again")]
    Raced(String),
}

/// What a call did.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Updated {
    /// Topic.
    pub topic: String,
    /// The folder to give to a reader, relative to the archive's root.
    pub table: String,
    /// The newest version.
    pub version: u64,
    /// Files added by this call.
    pub added: usize,
    /// Files removed.
    pub removed: usize,
    /// Files of the table now.
    pub files: usize,
    /// Rows of the table now.
    pub rows: u64,
}

/// A file as the log names it.
struct Added {
    path: String,
    file: FileRef,
    stats: Value,
    modified_us: i64,
    /// The offsets of whose files it stands in the place alone; none for an entry's own.
    covers: Option<OffsetRange>,
}

/// What a version does.
struct Step<'a> {
    /// Whether other rows are in the table after it.
    data_change: bool,
    added: Vec<&'a Added>,
    removed: Vec<&'a String>,
}

/// Brings the log of `topic` up to the lanes as they stand. Blocks.
///
/// # Errors
/// [`DeltaError`].
pub fn update(store: &dyn ArchiveStore, topic: &str, clock: &dyn Clock) -> Result<Updated, DeltaError> {
    let table = format!("{topic}/readings");
    let folder = log_folder(topic);
    let (mut added, mut removed) = (0, 0);
    'attempts: for _ in 0..ATTEMPTS {
        let log = log::read(store, &folder)?;
        let mut wanted = BTreeMap::new();
        for lane in lanes(store, Some(topic))? {
            files_of(store, &lane, &table, &mut |added| drop(wanted.insert(added.path.clone(), added)))?;
        }
        let mut next = log.next;
        for step in steps(&log, &wanted) {
            let bytes = version(next, topic, &step, clock.now_us());
            if store.put_if_absent(&version_path(&folder, next), &bytes)? != Creation::Created {
                continue 'attempts;
            }
            (added, removed) = (added + step.added.len(), removed + step.removed.len());
            next += 1;
        }
        return Ok(Updated {
            topic: topic.to_owned(),
            table,
            version: next.saturating_sub(1),
            added,
            removed,
            files: wanted.len(),
            rows: wanted.values().map(|added| added.file.rows).sum(),
        });
    }
    Err(DeltaError::Raced(topic.to_owned()))
}

/// Brings the log of `topic` up to the lanes as they stand, where there is one. Blocks.
///
/// # Errors
/// [`DeltaError`].
pub fn update_if_any(store: &dyn ArchiveStore, topic: &str, clock: &dyn Clock) -> Result<(), DeltaError> {
    if store.exists(&version_path(&log_folder(topic), 0))? {
        update(store, topic, clock)?;
    }
    Ok(())
}

/// The files, by their paths in the archive, that the log of `topic` names or has let go of at `since_us` or later;
/// none where there is no log.
pub(crate) fn named_since(
    store: &dyn ArchiveStore,
    topic: &str,
    since_us: i64,
) -> Result<BTreeSet<String>, ManifestError> {
    let Log { live, removed_ms, .. } = log::read(store, &log_folder(topic))?;
    let lately = removed_ms.into_iter().filter(|(_, ms)| ms.saturating_mul(1_000) >= since_us);
    let all = live.into_keys().chain(lately.map(|(path, _)| path));
    Ok(all.map(|path| format!("{topic}/readings/{path}")).collect())
}

fn log_folder(topic: &str) -> String {
    format!("{topic}/readings/_delta_log")
}

/// The versions that make the table of a log that of the files `wanted`.
fn steps<'a>(log: &'a Log, wanted: &'a BTreeMap<String, Added>) -> Vec<Step<'a>> {
    let removed: Vec<&String> = log.live.keys().filter(|path| !wanted.contains_key(*path)).collect();
    let added: Vec<&Added> = wanted.values().filter(|added| !log.live.contains_key(&added.path)).collect();
    let same = of_same_rows(log, &added, &removed);
    let step = |data_change| Step {
        data_change,
        added: added.iter().copied().filter(|one| same.contains(&one.path) != data_change).collect(),
        removed: removed.iter().copied().filter(|path| same.contains(*path) != data_change).collect(),
    };
    let is_due = |step: &Step<'_>| {
        let is_first = log.next == 0 && step.data_change;
        is_first || !step.added.is_empty() || !step.removed.is_empty()
    };
    [step(false), step(true)].into_iter().filter(is_due).collect()
}

/// The files, old and new, of merges alone. A file that covers offsets that the log had all of brings no row, and one
/// that has as many rows as those it replaces has then lost none to an erasure either.
fn of_same_rows<'a>(log: &Log, added: &[&'a Added], removed: &[&'a String]) -> BTreeSet<&'a String> {
    let mut by_first = BTreeMap::<(&str, Offset), Vec<&'a String>>::new();
    for path in removed.iter().copied() {
        if let Some(first) = paths::data_first(path) {
            by_first.entry((partition(path), first)).or_default().push(path);
        }
    }
    let mut same = BTreeSet::new();
    for file in added.iter().copied() {
        let partition = partition(&file.path);
        let Some(range) = file.covers.filter(|range| log.reaches(partition, range.next)) else { continue };
        let inside = by_first.range((partition, range.first)..(partition, range.next));
        let sources: Vec<&'a String> = inside.flat_map(|(_, paths)| paths.iter().copied()).collect();
        let rows: Option<u64> = sources.iter().map(|path| log.live.get(*path).copied().flatten()).sum();
        if rows == Some(file.file.rows) {
            same.insert(&file.path);
            same.extend(sources);
        }
    }
    same
}

/// Shows the readings files of a lane's view, with what is known of each.
fn files_of(
    store: &dyn ArchiveStore,
    lane: &TopicPartition,
    table: &str,
    each: &mut dyn FnMut(Added),
) -> Result<(), DeltaError> {
    let view = read_view(store, lane)?;
    let added = |file: &FileRef, stats: Value, modified_us, covers| {
        let path = file.path.strip_prefix(&format!("{table}/"))?.to_owned();
        Some(Added { path, file: file.clone(), stats, modified_us, covers })
    };
    for standing in view.covers() {
        let covers = (standing.cover.readings.len() == 1).then_some(standing.cover.span.range);
        for ReadingsFile { file, range, time_min_us, time_max_us, machines } in &standing.cover.readings {
            let machines = machines.as_deref();
            let stats = stats(
                lane,
                file,
                (range.first.0, range.next.0),
                Some((*time_min_us, *time_max_us)),
                machines,
            );
            added(file, stats, standing.written_us, covers).into_iter().for_each(&mut *each);
        }
    }
    let mut chain = Chain::new(store, lane.clone());
    loop {
        while let Some(standing) = view.covering(chain.head().seq) {
            chain = Chain::after(store, lane.clone(), standing.cover.span.head());
        }
        let Some(signed) = chain.next().transpose()? else { return Ok(()) };
        let Entry { readings, range, time_min_us, time_max_us, machines, written_us, .. } = &signed.entry;
        if let Some(file) = readings {
            let (range, times) = ((range.first.0, range.next.0), time_min_us.zip(*time_max_us));
            let stats = stats(lane, file, range, times, machines.as_deref());
            added(file, stats, *written_us, None).into_iter().for_each(&mut *each);
        }
    }
}

/// What a reader may skip the file by. Times are of milliseconds there, so the largest is rounded up.
fn stats(
    lane: &TopicPartition,
    file: &FileRef,
    (first, next): (i64, i64),
    times: Option<(i64, i64)>,
    machines: Option<&[String]>,
) -> Value {
    let mut least = json!({ "partition": lane.partition, "offset": first });
    let mut most = json!({ "partition": lane.partition, "offset": next - 1 });
    if let Some((min, max)) =
        times.and_then(|(min, max)| schema::millis(min).zip(schema::millis(max.saturating_add(999))))
    {
        (least["time"], most["time"]) = (min.into(), max.into());
    }
    if let Some((min, max)) = machines.and_then(|machines| machines.first().zip(machines.last())) {
        (least["machine"], most["machine"]) = (min.as_str().into(), max.as_str().into());
    }
    json!({ "numRecords": file.rows, "minValues": least, "maxValues": most })
}

/// The lines of a version; the first one says what the table is.
fn version(number: u64, topic: &str, step: &Step<'_>, now_us: i64) -> Vec<u8> {
    let Step { data_change, added, removed } = step;
    let (now_ms, operation) = (now_us / 1_000, if *data_change { "WRITE" } else { "OPTIMIZE" });
    let engine = concat!("stillwell/", env!("CARGO_PKG_VERSION"));
    let mut lines =
        vec![json!({ "commitInfo": { "timestamp": now_ms, "operation": operation, "engineInfo": engine } })];
    if number == 0 {
        lines.push(json!({ "protocol": { "minReaderVersion": 1, "minWriterVersion": 2 } }));
        let schema = schema::of(&columns::READINGS).to_string();
        lines.push(json!({ "metaData": {
            "id": uuid::Uuid::new_v4().to_string(),
            "name": topic,
            "description": "readings, exactly as committed; kept by stillwell, not to be written to",
            "format": { "provider": "parquet", "options": {} },
            "schemaString": schema,
            "partitionColumns": [],
            "configuration": { "delta.appendOnly": "false" },
            "createdTime": now_ms,
        } }));
    }
    lines.extend(removed.iter().map(
        |path| json!({ "remove": { "path": path, "deletionTimestamp": now_ms, "dataChange": data_change } }),
    ));
    lines.extend(added.iter().map(|added| {
        json!({ "add": {
            "path": added.path,
            "partitionValues": {},
            "size": added.file.bytes,
            "modificationTime": added.modified_us / 1_000,
            "dataChange": data_change,
            "stats": added.stats.to_string(),
        } })
    }));
    let mut bytes = Vec::new();
    for line in lines {
        bytes.extend(line.to_string().into_bytes());
        bytes.push(b'\n');
    }
    bytes
}
