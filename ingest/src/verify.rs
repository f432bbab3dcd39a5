//! Checks a lane of the archive from its objects alone: the chain, the signatures and every file's hash.

use std::collections::HashSet;

use ed25519_dalek::VerifyingKey;
use sha2::{Digest, Sha256};
use stillwell_schema::manifest::FileRef;
use stillwell_schema::{OffsetRange, SignedEntry, TopicPartition, paths};

use crate::manifest::{Chain, ManifestError};
use crate::store::{ArchiveStore, StoreError};

/// What a verified lane holds, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Entries checked.
    pub entries: u64,
    /// The offsets covered, without a hole or an overlap; none where there is no entry.
    pub range: Option<OffsetRange>,
    /// Records inside.
    pub records: u64,
    /// Readings inside.
    pub readings: u64,
    /// Records that could not be decoded.
    pub undecodable: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Everything that is wrong, for people; empty where the lane is sound.
    pub problems: Vec<String>,
}

/// Walks the chain of `lane` and hashes its files anew. With `key`, entries signed by another are a problem.
/// Blocks.
///
/// # Errors
/// [`StoreError`] where the store does not answer: what was then left unchecked is neither good nor bad.
pub fn verify_lane(
    store: &dyn ArchiveStore,
    lane: &TopicPartition,
    key: Option<&VerifyingKey>,
) -> Result<Report, StoreError> {
    let key = key.map(|key| hex::encode(key.to_bytes()));
    let mut report = Report::default();
    let mut seen = HashSet::new();
    for signed in Chain::new(store, lane.clone()) {
        match signed {
            Ok(signed) => check(store, &signed, key.as_deref(), &mut seen, &mut report)?,
            Err(ManifestError::Store(error)) => return Err(error),
            Err(damage) => report.problems.push(damage.to_string()),
        }
    }
    let listed = store.list(&paths::manifest_folder(lane))?;
    if listed.iter().any(|object| object.path >= paths::entry(lane, report.entries)) {
        report.problems.push(format!("entries from {} on cannot be reached by the chain", report.entries));
    }
    Ok(report)
}

fn check(
    store: &dyn ArchiveStore,
    signed: &SignedEntry,
    key: Option<&str>,
    seen: &mut HashSet<String>,
    report: &mut Report,
) -> Result<(), StoreError> {
    let entry = &signed.entry;
    if key.is_some_and(|key| key != entry.key) {
        report.problems.push(format!("entry {} is signed by another key: {}", entry.seq, entry.key));
    }
    let rows = |file: &Option<FileRef>| file.as_ref().map_or(0, |file| file.rows);
    let missing: u64 = entry.gaps.iter().map(|gap| (gap.next.0 - gap.first.0).unsigned_abs()).sum();
    if rows(&entry.records) + missing != entry.range.len() {
        report.problems.push(format!("entry {}: its records and gaps do not add up to its range", entry.seq));
    }
    for file in [&entry.readings, &entry.records].into_iter().flatten() {
        if !seen.insert(file.path.clone()) {
            report.problems.push(format!("{} is named by two entries", file.path));
        }
        check_file(store, file, report)?;
    }
    report.entries += 1;
    report.range = Some(OffsetRange {
        first: report.range.map_or(entry.range.first, |range| range.first),
        next: entry.range.next,
    });
    report.records += rows(&entry.records);
    report.readings += rows(&entry.readings);
    report.undecodable += entry.undecodable;
    Ok(())
}

fn check_file(store: &dyn ArchiveStore, file: &FileRef, report: &mut Report) -> Result<(), StoreError> {
    let Some(bytes) = store.get(&file.path)? else {
        report.problems.push(format!("{} is missing", file.path));
        return Ok(());
    };
    report.bytes += bytes.len() as u64;
    if bytes.len() as u64 != file.bytes || hex::encode(Sha256::digest(&bytes)) != file.sha256 {
        report
            .problems
            .push(format!("{} was altered: its bytes do not have the hash that its entry states", file.path));
    }
    Ok(())
}
