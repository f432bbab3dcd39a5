//! What is checked at once: entries, and the files in which readers find their records.

use rayon::prelude::*;
use stillwell_schema::ledger::Cover;
use stillwell_schema::manifest::FileRef;
use stillwell_schema::{Entry, Offset, OffsetRange};

use super::records::Spine;
use super::report::Problem;
use super::{Tick, files, leaves, readings};
use crate::originals;
use crate::store::{ArchiveStore, StoreError};

/// Entries with the files that stand for them: their own, or those of the act that covers them.
pub(super) struct Unit {
    /// In order, without a hole between them; complete where a cover names more.
    pub(super) entries: Vec<Entry>,
    pub(super) cover: Option<std::sync::Arc<Cover>>,
}

/// A file and what is stated of it.
#[derive(Clone, Copy)]
pub(super) struct Stated<'a> {
    pub(super) file: &'a FileRef,
    pub(super) range: OffsetRange,
    /// Earliest and latest source time, µs UTC, of readings.
    pub(super) times_us: Option<(i64, i64)>,
}

impl Unit {
    /// Checks the unit; returns the bytes read and what is wrong.
    pub(super) fn check(
        &self,
        store: &dyn ArchiveStore,
        deep: bool,
        tick: Tick<'_>,
    ) -> Result<(u64, Vec<Problem>), StoreError> {
        let mut problems = Vec::new();
        let mut bytes = 0;
        let mut read = |stated: &Stated<'_>, problems: &mut Vec<Problem>| {
            let found = files::read(store, stated.file, problems)?;
            let len = found.as_ref().map_or(0, |bytes| bytes.len() as u64);
            tick(len);
            bytes += len;
            Ok::<_, StoreError>(found)
        };
        let (records, readings) = (self.records(), self.readings());
        let mut spine = Spine::new(&self.entries);
        let erased = self.cover.as_ref().map(|cover| leaves::read(store, cover, deep, &mut problems));
        spine.erased(erased.transpose()?.unwrap_or_default());
        let mut beside = Vec::new();
        for stated in &readings {
            beside.extend(read(stated, &mut problems)?.filter(|_| deep));
        }
        for stated in &records {
            let bytes = read(stated, &mut problems)?;
            // Where a file is missing or altered, all that follows from it would only repeat it.
            if let Some(bytes) = bytes.filter(|_| deep && problems.is_empty()) {
                spine.file(stated, bytes, beside.clone(), &mut problems);
            }
        }
        if deep && problems.is_empty() {
            spine.finish(&mut problems);
        }
        if deep && problems.is_empty() {
            let mut counts = readings::Counts::new(&spine);
            for (stated, bytes) in readings.iter().zip(beside) {
                counts.file(stated, bytes, &mut problems);
            }
            if problems.is_empty() {
                counts.finish(&self.entries, &mut problems);
            }
        }
        self.superseded(store, &mut problems)?;
        Ok((bytes, problems.into_iter().map(|problem| self.place(problem)).collect()))
    }

    /// Files that a cover stands for may still be there, for readers of before; then they are whole.
    fn superseded(&self, store: &dyn ArchiveStore, problems: &mut Vec<Problem>) -> Result<(), StoreError> {
        if self.cover.is_none() {
            return Ok(());
        }
        let files = self.entries.iter().flat_map(|entry| {
            [&entry.readings, &entry.records].into_iter().flatten().map(move |file| (entry, file))
        });
        let files: Vec<_> = files.collect();
        let altered = |(entry, file): &(&Entry, &FileRef)| {
            let problem = files::altered(store, file)?;
            Ok(problem.map(|problem| problem.of_entry(entry.seq).at(entry.range.first)))
        };
        let found: Result<Vec<_>, StoreError> = files.par_iter().map(altered).collect();
        problems.extend(found?.into_iter().flatten());
        Ok(())
    }

    fn records(&self) -> Vec<Stated<'_>> {
        match &self.cover {
            Some(cover) => {
                let stated = cover.records.iter();
                stated.map(|one| Stated { file: &one.file, range: one.range, times_us: None }).collect()
            }
            None => self.own(|entry| &entry.records, |_| None),
        }
    }

    fn readings(&self) -> Vec<Stated<'_>> {
        match &self.cover {
            Some(cover) => cover
                .readings
                .iter()
                .map(|one| {
                    let times_us = Some((one.time_min_us, one.time_max_us));
                    Stated { file: &one.file, range: one.range, times_us }
                })
                .collect(),
            None => self.own(|entry| &entry.readings, |entry| entry.time_min_us.zip(entry.time_max_us)),
        }
    }

    fn own<'a>(
        &'a self,
        file: impl Fn(&'a Entry) -> &'a Option<FileRef>,
        times: impl Fn(&Entry) -> Option<(i64, i64)>,
    ) -> Vec<Stated<'a>> {
        let stated = self.entries.iter().filter_map(|entry| {
            file(entry).as_ref().map(|file| Stated { file, range: entry.range, times_us: times(entry) })
        });
        stated.collect()
    }

    /// Names the entry and the offset of a problem, where it says neither.
    fn place(&self, problem: Problem) -> Problem {
        let Some(first) = self.entries.first() else { return problem };
        let offset = problem.offset.unwrap_or(first.range.first);
        let of = self.entries.iter().find(|entry| entry.range.contains(offset)).unwrap_or(first);
        let seq = problem.seq.unwrap_or(of.seq);
        problem.of_entry(seq).at(offset)
    }
}

/// Says that a file's rows cannot be read.
pub(super) fn unreadable(stated: &Stated<'_>, error: &arrow::error::ArrowError) -> Problem {
    let message = format!("cannot be read as what is stated of it: {error}");
    let offset = originals::offset_of(error).map_or(stated.range.first, Offset);
    Problem::new(super::ProblemKind::Unreadable, &stated.file.path, message).at(offset)
}
