//! Files that no entry names.

use std::collections::HashSet;
use std::hash::BuildHasher;

use stillwell_schema::{TopicPartition, paths};

use super::report::{LISTED_MAX, LaneReport};
use crate::store::{ArchiveStore, StoreError};

/// The paths that entries name, by 64-bit hash: a lane of years names millions. Two paths of one hash could hide
/// an orphan, never damage.
#[derive(Debug, Default)]
pub(super) struct Named {
    hashes: HashSet<u64>,
    hasher: std::hash::RandomState,
}

impl Named {
    /// Notes a path; false where it was named before.
    pub(super) fn insert(&mut self, path: &str) -> bool {
        self.hashes.insert(self.hasher.hash_one(path))
    }

    fn contains(&self, path: &str) -> bool {
        self.hashes.contains(&self.hasher.hash_one(path))
    }
}

/// Lists the lane's data files that no entry names.
pub(super) fn find(
    store: &dyn ArchiveStore,
    id: &TopicPartition,
    named: &Named,
    report: &mut LaneReport,
) -> Result<(), StoreError> {
    for folder in paths::data_folders(id) {
        store.visit(&folder, &mut |listed| {
            if !named.contains(&listed.path) {
                report.orphans += 1;
                if report.orphan_files.len() < LISTED_MAX {
                    report.orphan_files.push(listed.path);
                }
            }
        })?;
    }
    report.orphan_files.sort_unstable();
    Ok(())
}
