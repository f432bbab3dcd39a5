//! Walks the chain of one lane, entry by entry, and goes on behind what is damaged.

use rayon::prelude::*;
use stillwell_schema::manifest::{EntryError, FileRef};
use stillwell_schema::{Entry, Head, OffsetRange, SignedEntry, TopicPartition, paths};

use super::orphans::Named;
use super::report::{LaneReport, Problem, ProblemKind};
use super::trust::{Attested, Trust};
use super::{Level, Tick, files, orphans, records};
use crate::store::{ArchiveStore, StoreError};

/// Entries whose files are checked side by side.
const ABREAST: usize = 32;

/// Verifies one lane.
pub(super) fn verify(
    store: &dyn ArchiveStore,
    id: &TopicPartition,
    trust: &Trust,
    level: Level,
    tick: Tick<'_>,
) -> Result<LaneReport, StoreError> {
    let (head, named, report) = (Some(Head::genesis()), Named::default(), LaneReport::new(id));
    let walk = Walk { store, id, trust, level, tick, head, key: 0, named, report };
    let (mut report, named) = walk.run()?;
    orphans::find(store, id, &named, &mut report)?;
    Ok(report)
}

/// A walk along a lane.
struct Walk<'a> {
    store: &'a dyn ArchiveStore,
    id: &'a TopicPartition,
    trust: &'a Trust,
    level: Level,
    tick: Tick<'a>,
    /// What the next entry must follow; none behind damage, where any entry of the lane may be the next.
    head: Option<Head>,
    /// The place in the key ring of the newest key used so far.
    key: usize,
    named: Named,
    report: LaneReport,
}

impl Walk<'_> {
    /// To the end of the lane: its report, and the files that its entries name.
    fn run(mut self) -> Result<(LaneReport, Named), StoreError> {
        let end = self.listed_end()?;
        let mut seq = 0;
        let mut abreast = Vec::with_capacity(ABREAST);
        loop {
            // Entries may be added meanwhile; one that is missing before a listed one is damage.
            let bytes = self.store.get(&paths::entry(self.id, seq))?;
            match bytes {
                None if seq >= end => break,
                None => self.missing(seq),
                Some(bytes) => abreast.extend(self.entry(seq, bytes)),
            }
            if abreast.len() == ABREAST {
                self.check_files(&abreast)?;
                abreast.clear();
            }
            seq += 1;
        }
        self.check_files(&abreast)?;
        self.check_length(seq);
        Ok((self.report, self.named))
    }

    /// What follows the highest seq in the lane's folder.
    fn listed_end(&mut self) -> Result<u64, StoreError> {
        let mut end = 0;
        let report = &mut self.report;
        self.store.visit(
            &paths::manifest_folder(self.id),
            &mut |listed| match paths::entry_seq(&listed.path) {
                Some(seq) => end = end.max(seq + 1),
                None => report.problem(Problem::new(ProblemKind::Altered, listed.path, "is no entry's name")),
            },
        )?;
        Ok(end)
    }

    fn missing(&mut self, seq: u64) {
        let message = "the entry is missing, but later ones exist; restore it from a backup";
        self.report
            .problem(Problem::new(ProblemKind::Missing, paths::entry(self.id, seq), message).of_entry(seq));
        self.head = None;
    }

    /// Checks entry `seq` by itself and against its predecessor.
    fn entry(&mut self, seq: u64, bytes: Vec<u8>) -> Option<Entry> {
        let path = paths::entry(self.id, seq);
        let signed = match SignedEntry::parse(bytes) {
            Ok(signed) => signed,
            Err(error) => {
                self.report
                    .problem(Problem::new(ProblemKind::Altered, path, error.to_string()).of_entry(seq));
                self.head = None;
                return None;
            }
        };
        let entry = &signed.entry;
        let expected = self.head.take().unwrap_or_else(|| Head {
            seq,
            next: Some(entry.range.first),
            previous: entry.previous.clone(),
        });
        if let Err(error) = expected.check(self.id, entry) {
            let kind = match &error {
                EntryError::Chain { .. } => ProblemKind::Chain,
                _ => ProblemKind::Altered,
            };
            self.report.problem(Problem::new(kind, path, error.to_string()).of_entry(seq));
        }
        self.head = Some(Head { seq: seq + 1, ..signed.head() });
        self.check_key(seq, &signed.entry.key);
        self.check_attested(seq, &signed.sha256);
        self.count(seq, &signed.entry);
        Some(signed.entry)
    }

    /// Checks that the key may sign, and that no later one was used before.
    fn check_key(&mut self, seq: u64, key: &str) {
        if !self.report.keys.iter().any(|known| known == key) {
            self.report.keys.push(key.to_owned());
        }
        let Some(ring) = &self.trust.ring else { return };
        let message = match ring.position(key) {
            None => format!("is signed by {key}, which is not trusted"),
            Some(place) if place < self.key => format!("is signed by {key}, which a later key had replaced"),
            Some(place) => {
                self.key = place;
                return;
            }
        };
        self.report
            .problem(Problem::new(ProblemKind::Key, paths::entry(self.id, seq), message).of_entry(seq));
    }

    fn attested(&self) -> Option<&Attested> {
        self.trust.lanes.get(self.id)
    }

    /// Holds the entry's hash against what checkpoints attest.
    fn check_attested(&mut self, seq: u64, sha256: &str) {
        if let Some((head, by)) = self.attested().and_then(|attested| attested.get(&(seq + 1)))
            && head != sha256
        {
            let message = format!("is not the entry that {by} attests");
            let problem = Problem::new(ProblemKind::Chain, paths::entry(self.id, seq), message);
            self.report.problem(problem.of_entry(seq));
        }
    }

    /// The lane must be as long as the longest that a checkpoint attests.
    fn check_length(&mut self, entries: u64) {
        let longest = self.attested().and_then(|attested| attested.last_key_value());
        if let Some((attested, (_, by))) = longest.filter(|(attested, _)| **attested > entries) {
            let message = format!("the lane ends after {entries} entries, where {by} attests {attested}");
            let path = paths::entry(self.id, entries);
            self.report.problem(Problem::new(ProblemKind::Truncated, path, message).of_entry(entries));
        }
    }

    /// Adds up what the entry states, and checks that it adds up.
    fn count(&mut self, seq: u64, entry: &Entry) {
        let rows = |file: &Option<FileRef>| file.as_ref().map_or(0, |file| file.rows);
        entry.gaps.iter().for_each(|gap| self.report.gap(gap));
        let missing: u64 = entry.gaps.iter().map(|gap| (gap.next.0 - gap.first.0).unsigned_abs()).sum();
        let path = paths::entry(self.id, seq);
        if rows(&entry.records) + missing != entry.range.len() {
            let message = "its records and gaps do not add up to its range";
            self.report.problem(Problem::new(ProblemKind::Counts, path.clone(), message).of_entry(seq));
        }
        for file in [&entry.readings, &entry.records].into_iter().flatten() {
            if !self.named.insert(&file.path) {
                let message = format!("names {}, which another entry names too", file.path);
                self.report.problem(Problem::new(ProblemKind::Chain, path.clone(), message).of_entry(seq));
            }
        }
        let first = self.report.range.map_or(entry.range.first, |range| range.first);
        self.report.range = Some(OffsetRange { first, next: entry.range.next });
        self.report.entries += 1;
        self.report.records += rows(&entry.records);
        self.report.readings += rows(&entry.readings);
        self.report.undecodable += entry.undecodable;
    }

    /// Checks what `entries` name, side by side.
    fn check_files(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        if self.level == Level::Chain {
            return Ok(());
        }
        let (store, tick) = (self.store, self.tick);
        let deep = self.level >= Level::Records;
        let found: Result<Vec<_>, StoreError> =
            entries.par_iter().map(|entry| check_entry(store, entry, deep, tick)).collect();
        for (bytes, problems) in found? {
            self.report.bytes += bytes;
            problems.into_iter().for_each(|problem| self.report.problem(problem));
        }
        Ok(())
    }
}

/// Checks the files of one entry; returns their bytes and what is wrong.
fn check_entry(
    store: &dyn ArchiveStore,
    entry: &Entry,
    deep: bool,
    tick: Tick<'_>,
) -> Result<(u64, Vec<Problem>), StoreError> {
    let mut problems = Vec::new();
    let readings = files::read(store, entry.readings.as_ref(), &mut problems)?;
    let records = files::read(store, entry.records.as_ref(), &mut problems)?;
    let bytes = [&readings, &records].into_iter().flatten().map(|bytes| bytes.len() as u64).sum();
    if deep && readings.is_some() == entry.readings.is_some() && records.is_some() == entry.records.is_some()
    {
        records::check(entry, readings, records, &mut problems);
    }
    tick(bytes);
    let placed = |problem: Problem| {
        let offset = problem.offset.unwrap_or(entry.range.first);
        problem.of_entry(entry.seq).at(offset)
    };
    Ok((bytes, problems.into_iter().map(placed).collect()))
}
