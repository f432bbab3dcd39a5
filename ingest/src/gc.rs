//! Collects data files that no entry names: what crashed and fenced writers left.
//!
//! It runs only after a commit of one's own and deletes only files written [`AGE_US`] or more before. A writer
//! whose files are that old began before that commit, so it has lost the creation of its entry already or
//! will lose it: no entry will ever name them.

use std::collections::HashSet;

use stillwell_schema::paths::FileKind;
use stillwell_schema::{Head, TopicPartition, paths};

use crate::manifest::{Chain, ManifestError};
use crate::store::ArchiveStore;

/// How old a file must be, µs: an hour, far beyond any difference between the clocks of two writers.
pub const AGE_US: i64 = 3_600 * 1_000_000;

/// Deletes the files of `lane` last written before `before_us` that no entry names; returns how many. `head`
/// is the head after a commit of one's own. Blocks.
///
/// # Errors
/// [`ManifestError`]; nothing is deleted where the chain cannot be read as far as `head`.
pub fn collect(
    store: &dyn ArchiveStore,
    lane: &TopicPartition,
    head: &Head,
    before_us: i64,
) -> Result<u64, ManifestError> {
    let mut old = Vec::new();
    for kind in [FileKind::Readings, FileKind::Records] {
        let listed = store.list(&paths::data_folder(lane, kind))?;
        old.extend(listed.into_iter().filter(|l| l.modified_us < before_us).map(|l| l.path));
    }
    if old.is_empty() {
        return Ok(0);
    }
    let mut named = HashSet::new();
    let mut chain = Chain::new(store, lane.clone());
    for signed in &mut chain {
        let entry = signed?.entry;
        named.extend([entry.readings, entry.records].into_iter().flatten().map(|file| file.path));
    }
    // A chain with a hole ends early, and files named beyond it would look unnamed.
    if chain.head().seq < head.seq {
        return Err(ManifestError::Missing { path: paths::entry(lane, chain.head().seq) });
    }
    let mut collected = 0;
    for path in old.iter().filter(|path| !named.contains(*path)) {
        store.delete(path)?;
        collected += 1;
    }
    Ok(collected)
}
