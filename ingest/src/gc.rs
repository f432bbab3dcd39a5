//! Collects data files that no entry names: what crashed and fenced writers left.
//!
//! It runs only after a commit of one's own and deletes only files written [`AGE_US`] or more before that commit
//! began, however long it took. A writer whose files are that old did not know of that commit when it wrote
//! them, so it has lost the creation of its entry already or will lose it: no entry will ever name them.
//!
//! A file is named after the range of its commit, and so is every file that an entry names. A candidate needs
//! to be held against the entries that start at its first offset only: the chain is streamed past a window of
//! candidates, which bounds the memory however long the lane is.

use std::collections::BTreeMap;

use stillwell_schema::paths::FileKind;
use stillwell_schema::{Entry, Head, Offset, TopicPartition, paths};

use crate::manifest::{Chain, ManifestError};
use crate::store::{ArchiveStore, Listed, StoreError};

mod timetable;

pub(crate) use timetable::Timetable;

/// How old a file must be, µs: an hour, far beyond any difference between the clocks of two writers.
pub const AGE_US: i64 = 3_600 * 1_000_000;

/// Candidates held at once, some 200 bytes each.
const WINDOW_MAX: usize = 100_000;

/// Which files of a lane are looked at.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// Only what starts at or after this point of the chain: what lies before was swept.
    pub from: &'a Head,
    /// The head after a commit of one's own.
    pub head: &'a Head,
    /// Only what was last written before, µs UTC.
    pub before_us: i64,
}

/// Deletes the files of `lane` within `scope` that no entry names; returns how many. Blocks.
///
/// # Errors
/// [`ManifestError`]; what was not held against the whole chain up to the head stays.
pub fn collect(
    store: &dyn ArchiveStore,
    lane: &TopicPartition,
    scope: Scope<'_>,
) -> Result<u64, ManifestError> {
    collect_by(WINDOW_MAX, store, lane, scope)
}

fn collect_by(
    window_max: usize,
    store: &dyn ArchiveStore,
    lane: &TopicPartition,
    scope: Scope<'_>,
) -> Result<u64, ManifestError> {
    let mut chain = Chain::after(store, lane.clone(), scope.from.clone());
    let mut ahead = None;
    let mut first = scope.from.next.unwrap_or(Offset(0));
    let mut collected = 0;
    loop {
        let mut window = Window::new(first, scope.before_us, window_max);
        window.fill(store, lane)?;
        let Some(last) = window.last() else { return Ok(collected) };
        // A chain with a hole ends early, and files named beyond it would look unnamed.
        while let Some(entry) = next_up_to(&mut ahead, &mut chain, last)? {
            window.keep(&entry)?;
        }
        if ahead.is_none() && chain.head().seq < scope.head.seq {
            return Err(ManifestError::Missing { path: paths::entry(lane, chain.head().seq) });
        }
        for path in window.unnamed() {
            store.delete(path)?;
            collected += 1;
        }
        first = Offset(last.0 + 1);
    }
}

/// The chain's next entry, if it starts at `last` or before; one that starts later is kept in `ahead`.
fn next_up_to(
    ahead: &mut Option<Entry>,
    chain: &mut Chain<'_>,
    last: Offset,
) -> Result<Option<Entry>, ManifestError> {
    if ahead.is_none() {
        *ahead = chain.next().transpose()?.map(|signed| signed.entry);
    }
    Ok(ahead.take_if(|entry| entry.range.first <= last))
}

/// Old files by their first offset, the lowest of those from `first` on.
struct Window {
    first: Offset,
    /// Files from here on are left to the next window, all of one first offset together.
    end: Offset,
    before_us: i64,
    files_max: usize,
    files: usize,
    by_first: BTreeMap<Offset, Vec<String>>,
}

impl Window {
    fn new(first: Offset, before_us: i64, files_max: usize) -> Self {
        let end = Offset(i64::MAX);
        Self { first, end, before_us, files_max, files: 0, by_first: BTreeMap::new() }
    }

    fn fill(&mut self, store: &dyn ArchiveStore, lane: &TopicPartition) -> Result<(), StoreError> {
        for kind in [FileKind::Readings, FileKind::Records] {
            store.visit(&paths::data_folder(lane, kind), &mut |listed| self.offer(listed))?;
        }
        Ok(())
    }

    fn offer(&mut self, listed: Listed) {
        let Some(first) = paths::data_first(&listed.path) else { return };
        if listed.modified_us >= self.before_us || first < self.first || first >= self.end {
            return;
        }
        self.by_first.entry(first).or_default().push(listed.path);
        self.files += 1;
        while self.files > self.files_max && self.by_first.len() > 1 {
            let Some((end, files)) = self.by_first.pop_last() else { return };
            self.end = end;
            self.files -= files.len();
        }
    }

    fn last(&self) -> Option<Offset> {
        self.by_first.last_key_value().map(|(first, _)| *first)
    }

    /// Takes what `entry` names off the candidates.
    fn keep(&mut self, entry: &Entry) -> Result<(), ManifestError> {
        for file in [&entry.readings, &entry.records].into_iter().flatten() {
            if paths::data_first(&file.path) != Some(entry.range.first) {
                return Err(ManifestError::Misnamed { path: file.path.clone() });
            }
            if let Some(files) = self.by_first.get_mut(&entry.range.first) {
                files.retain(|path| *path != file.path);
            }
        }
        Ok(())
    }

    fn unnamed(&self) -> impl Iterator<Item = &String> {
        self.by_first.values().flatten()
    }
}

#[cfg(test)]
mod tests;
