//! A Delta Lake log over a topic's readings, so that Spark, Trino, DuckDB and Polars read exactly what is committed.
//!
//! The table's root is `<topic>/readings`, so that paths stay inside it: `<partition>/<file>.parquet`. Its log lies in
//! `_delta_log` there, JSON commits by version, created put-if-absent. Each call appends what changed between the log
//! and the lanes' views, as one version: `add` for files that appeared, `remove` for those that a merge or an erasure
//! superseded, which stay on the store for a day as they do for our own readers.
//!
//! Paths are URIs there; ours are digits, hyphens, hex and `act`, so that nothing needs an escape.
//!
//! Format: <https://github.com/delta-io/delta/blob/master/PROTOCOL.md>, reader version 1, writer version 2. Unsigned
//! columns are `long` there, which is what its readers make of Parquet's `UINT_32`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Value, json};
use stillwell_schema::ledger::ReadingsFile;
use stillwell_schema::manifest::{Entry, FileRef};
use stillwell_schema::{Clock, TopicPartition, columns};
use thiserror::Error;

use crate::evidence::lanes;
use crate::life::ledger::read_view;
use crate::manifest::{Chain, ManifestError};
use crate::store::{ArchiveStore, Creation, StoreError};

mod schema;

/// Attempts at a version that other processes take first.
const ATTEMPTS: usize = 10;

/// Why the log cannot be kept.
#[derive(Debug, Error)]
pub enum DeltaError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A chain cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A version of the log is no such thing.
    #[error("{path}: {reason}; remove the log's folder to have it made anew, nothing but it is lost")]
    Log {
        /// The object.
        path: String,
        /// What is wrong.
        reason: String,
    },
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
}

/// One action, as far as this log's own ones go.
#[derive(Deserialize)]
struct Action {
    add: Option<Named>,
    remove: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    path: String,
}

/// Brings the log of `topic` up to the lanes as they stand. Blocks.
///
/// # Errors
/// [`DeltaError`].
pub fn update(store: &dyn ArchiveStore, topic: &str, clock: &dyn Clock) -> Result<Updated, DeltaError> {
    let table = format!("{topic}/readings");
    let folder = format!("{table}/_delta_log");
    for _ in 0..ATTEMPTS {
        let (next, live) = read_log(store, &folder)?;
        let mut wanted = BTreeMap::new();
        for lane in lanes(store, Some(topic))? {
            files_of(store, &lane, &table, &mut |added| drop(wanted.insert(added.path.clone(), added)))?;
        }
        let removed: Vec<&String> = live.iter().filter(|path| !wanted.contains_key(*path)).collect();
        let added: Vec<&Added> = wanted.values().filter(|added| !live.contains(&added.path)).collect();
        let mut updated = Updated {
            topic: topic.to_owned(),
            table: table.clone(),
            version: next,
            added: added.len(),
            removed: removed.len(),
            files: wanted.len(),
            rows: wanted.values().map(|added| added.file.rows).sum(),
        };
        if next > 0 && added.is_empty() && removed.is_empty() {
            updated.version = next - 1;
            return Ok(updated);
        }
        let bytes = version(next, topic, &added, &removed, clock.now_us());
        if store.put_if_absent(&format!("{folder}/{next:020}.json"), &bytes)? == Creation::Created {
            return Ok(updated);
        }
    }
    Err(DeltaError::Raced(topic.to_owned()))
}

/// The next version, and the files that the log names now.
fn read_log(store: &dyn ArchiveStore, folder: &str) -> Result<(u64, BTreeSet<String>), DeltaError> {
    let mut live = BTreeSet::new();
    for version in 0.. {
        let path = format!("{folder}/{version:020}.json");
        let Some(bytes) = store.get(&path)? else { return Ok((version, live)) };
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let action: Action = serde_json::from_slice(line)
                .map_err(|error| DeltaError::Log { path: path.clone(), reason: error.to_string() })?;
            if let Some(removed) = action.remove {
                live.remove(&removed.path);
            }
            if let Some(added) = action.add {
                live.insert(added.path);
            }
        }
    }
    Ok((0, live))
}

/// Shows the readings files of a lane's view, with what is known of each.
fn files_of(
    store: &dyn ArchiveStore,
    lane: &TopicPartition,
    table: &str,
    each: &mut dyn FnMut(Added),
) -> Result<(), DeltaError> {
    let view = read_view(store, lane)?;
    let added = |file: &FileRef, stats: Value, modified_us| {
        let path = file.path.strip_prefix(&format!("{table}/"))?.to_owned();
        Some(Added { path, file: file.clone(), stats, modified_us })
    };
    for standing in view.covers() {
        for ReadingsFile { file, range, time_min_us, time_max_us, machines } in &standing.cover.readings {
            let machines = machines.as_deref();
            let stats = stats(
                lane,
                file,
                (range.first.0, range.next.0),
                Some((*time_min_us, *time_max_us)),
                machines,
            );
            added(file, stats, standing.written_us).into_iter().for_each(&mut *each);
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
            added(file, stats, *written_us).into_iter().for_each(&mut *each);
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
fn version(number: u64, topic: &str, added: &[&Added], removed: &[&String], now_us: i64) -> Vec<u8> {
    let now_ms = now_us / 1_000;
    let engine = concat!("stillwell/", env!("CARGO_PKG_VERSION"));
    let mut lines =
        vec![json!({ "commitInfo": { "timestamp": now_ms, "operation": "WRITE", "engineInfo": engine } })];
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
    lines.extend(
        removed.iter().map(
            |path| json!({ "remove": { "path": path, "deletionTimestamp": now_ms, "dataChange": true } }),
        ),
    );
    lines.extend(added.iter().map(|added| {
        json!({ "add": {
            "path": added.path,
            "partitionValues": {},
            "size": added.file.bytes,
            "modificationTime": added.modified_us / 1_000,
            "dataChange": true,
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
