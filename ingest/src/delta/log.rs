//! Reads a table's log, as far as its own writer's actions go.

use std::collections::BTreeMap;

use serde::Deserialize;
use stillwell_schema::{Offset, paths};

use crate::manifest::ManifestError;
use crate::store::ArchiveStore;

/// What a log says up to its newest version.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// The version to come.
    pub(super) next: u64,
    /// The files of the table, with their rows where those are stated.
    pub(super) live: BTreeMap<String, Option<u64>>,
    /// When other files ceased to be of the table, ms UTC.
    pub(super) removed_ms: BTreeMap<String, i64>,
    /// Up to which offset a partition's files were ever of the table.
    ends: BTreeMap<String, Offset>,
}

#[derive(Deserialize)]
struct Action {
    add: Option<Add>,
    remove: Option<Remove>,
}

#[derive(Deserialize)]
struct Add {
    path: String,
    stats: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Remove {
    path: String,
    deletion_timestamp: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    num_records: u64,
}

/// The partition of a file of the table.
pub(super) fn partition(path: &str) -> &str {
    path.split_once('/').map_or("", |(partition, _)| partition)
}

/// Reads the log in `folder`; an empty one where there is none.
pub(super) fn read(store: &dyn ArchiveStore, folder: &str) -> Result<Log, ManifestError> {
    let mut log = Log::default();
    loop {
        let path = version_path(folder, log.next);
        let Some(bytes) = store.get(&path)? else { return Ok(log) };
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let action: Action = serde_json::from_slice(line)
                .map_err(|error| ManifestError::DeltaLog { path: path.clone(), reason: error.to_string() })?;
            log.apply(action);
        }
        log.next += 1;
    }
}

/// The object of a version.
pub(super) fn version_path(folder: &str, version: u64) -> String {
    format!("{folder}/{version:020}.json")
}

impl Log {
    /// Whether all that the archive holds of a partition before `next` was of the table at some time.
    pub(super) fn reaches(&self, partition: &str, next: Offset) -> bool {
        self.ends.get(partition).is_some_and(|end| next <= *end)
    }

    fn apply(&mut self, action: Action) {
        if let Some(removed) = action.remove {
            self.live.remove(&removed.path);
            // One without a time may have gone just now.
            self.removed_ms.insert(removed.path, removed.deletion_timestamp.unwrap_or(i64::MAX));
        }
        if let Some(added) = action.add {
            if let Some(range) = paths::data_range(&added.path) {
                let end = self.ends.entry(partition(&added.path).to_owned()).or_insert(range.next);
                *end = range.next.max(*end);
            }
            self.removed_ms.remove(&added.path);
            let stats = added.stats.and_then(|stats| serde_json::from_str::<Stats>(&stats).ok());
            self.live.insert(added.path, stats.map(|stats| stats.num_records));
        }
    }
}
