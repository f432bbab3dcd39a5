//! Walks the chain of one lane, entry by entry, and goes on behind what is damaged.

use std::sync::Arc;

use rayon::prelude::*;
use stillwell_schema::key_change::KeyWatch;
use stillwell_schema::ledger::View;
use stillwell_schema::manifest::FileRef;
use stillwell_schema::{Entry, Head, OffsetRange, SignedEntry, TopicPartition, paths};

use super::orphans::{self, Named};
use super::report::{LaneReport, Problem, ProblemKind};
use super::trust::{Attested, Trust};
use super::unit::Unit;
use super::{Level, Tick, chain_end, ledger};
use crate::store::{ArchiveStore, StoreError};

/// Units checked side by side.
const ABREAST: usize = 32;

/// Verifies one lane. Where its ledger goes on meanwhile, files may be collected that the walk still looks for; what is
/// wrong then is looked for anew.
pub(super) fn verify(
    store: &dyn ArchiveStore,
    id: &TopicPartition,
    trust: &Trust,
    level: Level,
    tick: Tick<'_>,
) -> Result<LaneReport, StoreError> {
    loop {
        let (head, keys) = (Some(Head::genesis()), KeyWatch::default());
        let (named, report) = (Named::default(), LaneReport::new(id));
        let walk = Walk { store, id, trust, level, tick, head, keys, named, report };
        let (mut report, named) = walk.run()?;
        let moved = report.problems_total > 0 && store.exists(&paths::act(id, report.acts))?;
        if !moved || report.ledger_damaged {
            orphans::find(store, id, &named, &mut report)?;
            return Ok(report);
        }
    }
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
    keys: KeyWatch,
    named: Named,
    report: LaneReport,
}

impl Walk<'_> {
    /// To the end of the lane: its report, and the files that it names.
    fn run(mut self) -> Result<(LaneReport, Named), StoreError> {
        let ledger = ledger::read(self.store, self.id, self.trust, &mut self.named, &mut self.report)?;
        let end = chain_end(self.store, &paths::manifest_folder(self.id), &mut self.report)?;
        let mut seq = 0;
        let mut units = Units::new(&ledger.view);
        loop {
            // Entries may be added meanwhile; one that is missing before a listed one is damage.
            let bytes = self.store.get(&paths::entry(self.id, seq))?;
            match bytes {
                None if seq >= end => break,
                None => {
                    self.missing(seq);
                    // One stray name far beyond must not be walked to.
                    seq = self.next_listed(seq)? - 1;
                }
                Some(bytes) => {
                    if let Some(signed) = self.entry(seq, bytes)
                        && !units.push(signed)
                    {
                        self.wrong(
                            ProblemKind::Chain,
                            seq,
                            "is not the entry that an act of the ledger covers",
                        );
                    }
                }
            }
            if units.closed.len() >= ABREAST {
                self.check(&std::mem::take(&mut units.closed))?;
            }
            seq += 1;
        }
        self.check(&units.finish())?;
        if let Some(message) = self.attested().and_then(|attested| attested.more_entries_than(seq)) {
            self.wrong(ProblemKind::Truncated, seq, message);
        }
        let beyond = ledger.view.covers().next_back().filter(|last| last.cover.span.next_seq > seq);
        if let Some(last) = beyond {
            let message = format!("act {} of the ledger covers entries beyond the lane's end", last.act);
            self.wrong(ProblemKind::Truncated, seq, message);
        }
        Ok((self.report, self.named))
    }

    /// The lowest listed seq above one that is missing.
    fn next_listed(&self, seq: u64) -> Result<u64, StoreError> {
        let mut next = u64::MAX;
        self.store.visit(&paths::manifest_folder(self.id), &mut |listed| {
            let found = paths::entry_seq(&listed.path).filter(|found| *found > seq);
            next = next.min(found.unwrap_or(u64::MAX));
        })?;
        Ok(next.max(seq + 1))
    }

    fn missing(&mut self, seq: u64) {
        let message = "the entry is missing, but later ones exist; restore it from a backup";
        self.report
            .problem(Problem::new(ProblemKind::Missing, paths::entry(self.id, seq), message).of_entry(seq));
        self.head = None;
    }

    /// Checks entry `seq` by itself and against its predecessor.
    fn entry(&mut self, seq: u64, bytes: Vec<u8>) -> Option<SignedEntry> {
        let signed = match SignedEntry::parse(bytes) {
            Ok(signed) => signed,
            Err(error) => {
                self.wrong(ProblemKind::Altered, seq, error.to_string());
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
            self.wrong(ProblemKind::Chain, seq, error.to_string());
        }
        self.head = Some(Head { seq: seq + 1, ..signed.head() });
        self.check_key(seq, &entry.key);
        if let Some(message) =
            self.attested().and_then(|attested| attested.differs_in_entry(seq, &signed.sha256))
        {
            self.wrong(ProblemKind::Chain, seq, message);
        }
        self.count(seq, entry);
        Some(signed)
    }

    /// Checks that the key may sign, and that no later one was used before.
    fn check_key(&mut self, seq: u64, key: &str) {
        if !self.report.keys.iter().any(|known| known == key) {
            self.report.keys.push(key.to_owned());
        }
        if let Err(error) = self.trust.check_key(&mut self.keys, key) {
            self.wrong(ProblemKind::Key, seq, error.to_string());
        }
    }

    /// Notes what is wrong with entry `seq`.
    fn wrong(&mut self, kind: ProblemKind, seq: u64, message: impl Into<String>) {
        self.report.problem(Problem::new(kind, paths::entry(self.id, seq), message).of_entry(seq));
    }

    fn attested(&self) -> Option<&Attested> {
        self.trust.lanes.get(self.id)
    }

    /// Adds up what the entry states, and checks that it adds up.
    fn count(&mut self, seq: u64, entry: &Entry) {
        let rows = |file: &Option<FileRef>| file.as_ref().map_or(0, |file| file.rows);
        entry.gaps.iter().for_each(|gap| self.report.gap(gap));
        let missing: u64 = entry.gaps.iter().map(|gap| (gap.next.0 - gap.first.0).unsigned_abs()).sum();
        if rows(&entry.records) + missing != entry.range.len() {
            self.wrong(ProblemKind::Counts, seq, "its records and gaps do not add up to its range");
        }
        for file in [&entry.readings, &entry.records].into_iter().flatten() {
            if !self.named.insert(&file.path) {
                let message = format!("names {}, which is named already", file.path);
                self.wrong(ProblemKind::Chain, seq, message);
            }
        }
        let first = self.report.range.map_or(entry.range.first, |range| range.first);
        self.report.range = Some(OffsetRange { first, next: entry.range.next });
        self.report.entries += 1;
        self.report.records += rows(&entry.records);
        self.report.readings += rows(&entry.readings);
        self.report.undecodable += entry.undecodable;
    }

    /// Checks units side by side.
    fn check(&mut self, units: &[Unit]) -> Result<(), StoreError> {
        if self.level == Level::Chain {
            return Ok(());
        }
        let (store, tick) = (self.store, self.tick);
        let deep = self.level >= Level::Records;
        let found: Result<Vec<_>, StoreError> =
            units.par_iter().map(|unit| unit.check(store, deep, tick)).collect();
        for (bytes, problems) in found? {
            self.report.bytes += bytes;
            problems.into_iter().for_each(|problem| self.report.problem(problem));
        }
        Ok(())
    }
}

/// Groups entries by the files that stand for them.
struct Units<'a> {
    view: &'a View,
    /// The entries of a cover that come still.
    open: Option<Unit>,
    closed: Vec<Unit>,
}

impl<'a> Units<'a> {
    fn new(view: &'a View) -> Self {
        Self { view, open: None, closed: Vec::new() }
    }

    /// Takes the next entry; false where it is not the one that its cover says.
    fn push(&mut self, signed: SignedEntry) -> bool {
        let seq = signed.entry.seq;
        let Some(standing) = self.view.covering(seq) else {
            self.closed.extend(self.open.take());
            self.closed.push(Unit { entries: vec![signed.entry], cover: None });
            return true;
        };
        let fits = standing.cover.span.fits(&signed);
        let same = |unit: &Unit| unit.cover.as_ref().is_some_and(|cover| Arc::ptr_eq(cover, &standing.cover));
        if !self.open.as_ref().is_some_and(same) {
            self.closed.extend(self.open.take());
        }
        let cover = Some(Arc::clone(&standing.cover));
        let unit = self.open.get_or_insert_with(|| Unit { entries: Vec::new(), cover });
        unit.entries.push(signed.entry);
        fits
    }

    fn finish(mut self) -> Vec<Unit> {
        self.closed.extend(self.open.take());
        self.closed
    }
}
