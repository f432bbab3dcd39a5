//! Collects the files that no reader is shown: what crashed and fenced writers left, and what acts superseded.
//!
//! Nothing is collected that may yet be named, or that a reader of an older view may still be reading:
//!
//! | file | is collected when |
//! |---|---|
//! | of a commit, named by no entry | it is [`AGE_US`] old, and the lane ends behind its first offset: no entry can start there any more |
//! | made for an act, named by none | it is [`AGE_US`] old, and there is an act of that number |
//! | of an entry or act that a newer act covers | that act is [`SUPERSEDED_AGE_US`] old |
//! | of those, one that the topic's Delta log has named | its `remove` there is as old |
//!
//! A file is named after the first offset of its commit or cover. A candidate needs to be held against the cover
//! there, or else against the entries that start there: the chain is streamed past a window of candidates, which
//! bounds the memory however long the lane is.

use std::collections::BTreeMap;

use serde::Serialize;
use stillwell_schema::ledger::View;
use stillwell_schema::{Entry, Head, Offset, TopicPartition, paths};

use crate::delta;
use crate::manifest::{Chain, ManifestError};
use crate::store::{ArchiveStore, Listed, StoreError};

mod timetable;

pub(crate) use timetable::Timetable;

/// How old a file must be, µs: an hour, far beyond any difference between the clocks of two writers.
pub const AGE_US: i64 = 3_600 * 1_000_000;

/// How long the files of an older view stay, µs: a day, far beyond any statement, export or copy that reads them.
pub const SUPERSEDED_AGE_US: i64 = 24 * 3_600 * 1_000_000;

/// Candidates held at once, some 200 bytes each.
const WINDOW_MAX: usize = 100_000;

/// Which files of a lane are looked at.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// Files of commits only where they start at or after this point of the chain: what lies before was swept.
    pub from: &'a Head,
    /// The end of the chain.
    pub head: &'a Head,
    /// What the lane's acts say, read from the store just before.
    pub view: &'a View,
    /// Only what was last written before, µs UTC.
    pub before_us: i64,
    /// Superseded files only where they were superseded before, µs UTC.
    pub superseded_before_us: i64,
}

/// A file that may go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// The file.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// The act that stands in its place; none for what nothing ever named.
    pub superseded_by: Option<u64>,
}

/// Deletes the files of `lane` within `scope` that no reader is shown; returns how many. Blocks.
///
/// # Errors
/// [`ManifestError`]; what was not held against the whole chain up to the head stays.
pub fn collect(
    store: &dyn ArchiveStore,
    lane: &TopicPartition,
    scope: Scope<'_>,
) -> Result<u64, ManifestError> {
    let mut collected = 0;
    find(store, lane, scope, &mut |found| {
        collected += 1;
        store.delete(&found.path)
    })?;
    Ok(collected)
}

/// Shows the files of `lane` within `scope` that no reader is shown, in the order of their offsets. Blocks.
///
/// # Errors
/// [`ManifestError`], also of `each`; what was not held against the whole chain up to the head is not shown.
pub fn find(
    store: &dyn ArchiveStore,
    lane: &TopicPartition,
    scope: Scope<'_>,
    each: &mut dyn FnMut(&Found) -> Result<(), StoreError>,
) -> Result<(), ManifestError> {
    find_by(WINDOW_MAX, store, lane, scope, each)
}

fn find_by(
    window_max: usize,
    store: &dyn ArchiveStore,
    lane: &TopicPartition,
    scope: Scope<'_>,
    each: &mut dyn FnMut(&Found) -> Result<(), StoreError>,
) -> Result<(), ManifestError> {
    let mut chain = Chain::after(store, lane.clone(), scope.from.clone());
    let (mut ahead, mut of_delta) = (None, None);
    let mut first = Offset(0);
    loop {
        let mut window = Window::new(first, scope, window_max);
        window.fill(store, lane)?;
        let Some(last) = window.last() else { return Ok(()) };
        // A chain with a hole ends early, and files named beyond it would look unnamed.
        while let Some(entry) = next_up_to(&mut ahead, &mut chain, last)? {
            window.keep(&entry)?;
        }
        if ahead.is_none() && chain.head().seq < scope.head.seq {
            return Err(ManifestError::Missing { path: paths::entry(lane, chain.head().seq) });
        }
        for found in window.unnamed() {
            if found.superseded_by.is_some() {
                // Read only once there is something that it may keep, as a log can be long.
                let of_delta = match &mut of_delta {
                    Some(of_delta) => of_delta,
                    None => {
                        of_delta.insert(delta::named_since(store, &lane.topic, scope.superseded_before_us)?)
                    }
                };
                if of_delta.contains(&found.path) {
                    continue;
                }
            }
            each(found)?;
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
struct Window<'a> {
    first: Offset,
    /// Files from here on are left to the next window, all of one first offset together.
    end: Offset,
    scope: Scope<'a>,
    files_max: usize,
    files: usize,
    by_first: BTreeMap<Offset, Vec<Found>>,
}

impl<'a> Window<'a> {
    fn new(first: Offset, scope: Scope<'a>, files_max: usize) -> Self {
        let end = Offset(i64::MAX);
        Self { first, end, scope, files_max, files: 0, by_first: BTreeMap::new() }
    }

    fn fill(&mut self, store: &dyn ArchiveStore, lane: &TopicPartition) -> Result<(), StoreError> {
        for folder in paths::data_folders(lane) {
            store.visit(&folder, &mut |listed| self.offer(listed))?;
        }
        Ok(())
    }

    fn offer(&mut self, listed: Listed) {
        let Some(first) = paths::data_first(&listed.path) else { return };
        if listed.modified_us >= self.scope.before_us || first < self.first || first >= self.end {
            return;
        }
        // An act to come may name it.
        if paths::act_of(&listed.path).is_some_and(|act| act >= self.scope.view.head().seq) {
            return;
        }
        let superseded_by = match self.scope.view.covering_offset(first) {
            Some(standing) => {
                let is_named = standing.cover.files().any(|file| file.path == listed.path);
                if is_named || standing.written_us >= self.scope.superseded_before_us {
                    return;
                }
                Some(standing.act)
            }
            None => {
                let swept = self.scope.from.next.is_some_and(|from| first < from);
                if swept || self.scope.head.next.is_none_or(|next| first >= next) {
                    return;
                }
                None
            }
        };
        let found = Found { path: listed.path, bytes: listed.bytes, superseded_by };
        self.by_first.entry(first).or_default().push(found);
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

    /// Takes what `entry` names off the candidates, unless an act stands in its place.
    fn keep(&mut self, entry: &Entry) -> Result<(), ManifestError> {
        if self.scope.view.covering(entry.seq).is_some() {
            return Ok(());
        }
        for file in [&entry.readings, &entry.records].into_iter().flatten() {
            if paths::data_first(&file.path) != Some(entry.range.first) {
                return Err(ManifestError::Misnamed { path: file.path.clone() });
            }
            if let Some(files) = self.by_first.get_mut(&entry.range.first) {
                files.retain(|found| found.path != file.path);
            }
        }
        Ok(())
    }

    fn unnamed(&self) -> impl Iterator<Item = &Found> {
        self.by_first.values().flatten()
    }
}

#[cfg(test)]
mod tests;
