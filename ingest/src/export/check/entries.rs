//! The signed objects of a pack: entries, asked for in their order, and tombstones.

use std::collections::BTreeMap;

use stillwell_schema::checkpoint::{LaneMark, SignedCheckpoint};
use stillwell_schema::ledger::{Deed, SignedAct};
use stillwell_schema::{SignedEntry, TopicPartition};

use super::{Check, CheckError, Lines};
use crate::export::names;
use crate::proof;
use crate::verify::ProblemKind;

/// The entries of a pack, one after the other.
pub(super) struct Entries {
    lines: Lines,
    /// Where the newest checkpoint says that lanes end.
    marks: BTreeMap<TopicPartition, LaneMark>,
    at: Option<(TopicPartition, SignedEntry)>,
}

impl Entries {
    /// The entry number `seq` of `lane`, which comes after those that were asked for before; none where it is not
    /// there.
    pub(super) fn find(
        &mut self,
        check: &mut Check<'_>,
        lane: &TopicPartition,
        seq: u64,
    ) -> Result<Option<&SignedEntry>, CheckError> {
        while self.at.as_ref().is_none_or(|(of, signed)| (of, signed.entry.seq) < (lane, seq)) {
            if !self.advance(check)? {
                return Ok(None);
            }
        }
        let found = self.at.as_ref().filter(|(of, signed)| (of, signed.entry.seq) == (lane, seq));
        Ok(found.map(|(_, signed)| signed))
    }

    /// Checks those that are left.
    pub(super) fn finish(mut self, check: &mut Check<'_>) -> Result<(), CheckError> {
        while self.advance(check)? {}
        Ok(())
    }

    /// Goes on to the next entry that is one; false after the last.
    fn advance(&mut self, check: &mut Check<'_>) -> Result<bool, CheckError> {
        let before = self.at.take();
        while let Some((number, line)) = self.lines.next()? {
            let object = format!("{} line {number}", names::ENTRIES);
            let signed = match SignedEntry::parse(line) {
                Ok(signed) => signed,
                Err(error) => {
                    check.report.problem(ProblemKind::Altered, object, error.to_string());
                    continue;
                }
            };
            let entry = &signed.entry;
            let lane = TopicPartition::new(&*entry.topic, entry.partition);
            if let Err(error) = proof::check_key(&check.ring, &entry.key, check.audit.key) {
                check.report.problem(ProblemKind::Key, object, error.to_string());
                continue;
            }
            let same_lane = before.as_ref().filter(|(of, _)| *of == lane);
            if let Some(Err(error)) = same_lane.map(|(_, before)| before.head().check(&lane, entry)) {
                check.report.problem(ProblemKind::Chain, &*object, error.to_string());
            }
            let mark = self.marks.get(&lane).filter(|mark| mark.entries == entry.seq + 1);
            if mark.is_some_and(|mark| mark.head != signed.sha256) {
                check.report.problem(ProblemKind::Chain, object, "the checkpoint attests another entry here");
            }
            check.report.entries += 1;
            self.at = Some((lane, signed));
            return Ok(true);
        }
        Ok(false)
    }
}

impl Check<'_> {
    /// The pack's entries, and the checkpoint that they are held against.
    pub(super) fn entries(&mut self) -> Result<Entries, CheckError> {
        let lines = Lines::open(&self.folder.join(names::ENTRIES))?;
        Ok(Entries { lines, marks: self.marks()?, at: None })
    }

    fn marks(&mut self) -> Result<BTreeMap<TopicPartition, LaneMark>, CheckError> {
        let name = names::CHECKPOINT;
        if !self.report.manifest.files.iter().any(|file| file.name == name) {
            return Ok(BTreeMap::new());
        }
        let Some((_, line)) = Lines::open(&self.folder.join(name))?.next()? else {
            self.report.problem(ProblemKind::Altered, name, "is empty");
            return Ok(BTreeMap::new());
        };
        let body = match SignedCheckpoint::parse(line) {
            Ok(signed) => signed.body,
            Err(error) => {
                self.report.problem(ProblemKind::Altered, name, error.to_string());
                return Ok(BTreeMap::new());
            }
        };
        if let Err(error) = proof::check_key(&self.ring, &body.key, self.audit.key) {
            self.report.problem(ProblemKind::Key, name, error.to_string());
        }
        Ok(body.lanes.into_iter().map(|mark| (mark.lane(), mark)).collect())
    }

    /// Checks the tombstones.
    pub(super) fn erasures(&mut self) -> Result<(), CheckError> {
        let mut lines = Lines::open(&self.folder.join(names::ERASURES))?;
        while let Some((number, line)) = lines.next()? {
            let object = format!("{} line {number}", names::ERASURES);
            match SignedAct::parse(line) {
                Err(error) => self.report.problem(ProblemKind::Altered, object, error.to_string()),
                Ok(signed) => {
                    let known = proof::check_key(&self.ring, &signed.act.key, self.audit.key);
                    if let Err(error) = known {
                        self.report.problem(ProblemKind::Key, object, error.to_string());
                    } else if matches!(signed.act.deed, Deed::Erase(_)) {
                        self.report.erasures += 1;
                    } else {
                        self.report.problem(ProblemKind::Altered, object, "is no tombstone");
                    }
                }
            }
        }
        Ok(())
    }
}
