//! What checkpoints say of a pack's entries: the pack's own, and one that was kept elsewhere.
//!
//! A mark says of its lane how many entries there were, where they ended, and the hash of the last. So it holds the entry
//! before it and the one after it, and of others only their offsets.

use std::collections::{BTreeMap, BTreeSet};

use stillwell_schema::checkpoint::{LaneMark, SignedCheckpoint};
use stillwell_schema::{SignedEntry, TopicPartition};

use super::{Check, CheckError, Lines};
use crate::export::names;
use crate::verify::ProblemKind;

/// The name of the kept one.
const KEPT: &str = "the checkpoint that was kept elsewhere";

/// The marks of one checkpoint.
pub(super) struct Marks {
    name: &'static str,
    lanes: BTreeMap<TopicPartition, LaneMark>,
    /// Lanes of which it holds an entry.
    held: BTreeSet<TopicPartition>,
}

impl Marks {
    fn of(name: &'static str, signed: &SignedCheckpoint) -> Self {
        let lanes = signed.body.lanes.iter().map(|mark| (mark.lane(), mark.clone())).collect();
        Self { name, lanes, held: BTreeSet::new() }
    }

    /// Holds an entry against its lane's mark.
    pub(super) fn hold(
        &mut self,
        check: &mut Check<'_>,
        lane: &TopicPartition,
        signed: &SignedEntry,
        object: &str,
    ) {
        let Some(mark) = self.lanes.get(lane) else { return };
        match fits(mark, signed) {
            None => {}
            Some(true) => {
                self.held.insert(lane.clone());
            }
            Some(false) => {
                let message = format!("{} attests another entry here", self.name);
                check.report.problem(ProblemKind::Chain, object, message);
            }
        }
    }

    /// All entries were held against it; says of which lanes a kept one could tell nothing.
    pub(super) fn finish(&self, check: &mut Check<'_>) {
        if self.name != KEPT {
            return;
        }
        let lanes = check.lanes.iter().filter(|(_, lane)| lane.seqs.is_some());
        let open: Vec<String> =
            lanes.filter(|(id, _)| !self.held.contains(*id)).map(|(id, _)| id.to_string()).collect();
        if !open.is_empty() {
            check.report.notes.push(format!(
                "{KEPT} marks none of the entries that are here of {}; hold the archive itself against it: `stillwell \
                 verify --checkpoint`",
                open.join(", ")
            ));
        }
    }
}

/// Whether an entry is as the mark of its lane has it; none where the mark says nothing of it.
fn fits(mark: &LaneMark, signed: &SignedEntry) -> Option<bool> {
    let entry = &signed.entry;
    if entry.seq.checked_add(1) == Some(mark.entries) {
        Some(signed.sha256 == mark.head && entry.range.next == mark.next)
    } else if entry.seq == mark.entries {
        Some(entry.previous == mark.head && entry.range.first == mark.next)
    } else {
        let inside = match entry.seq < mark.entries {
            true => entry.range.next <= mark.next,
            false => entry.range.first >= mark.next,
        };
        (!inside).then_some(false)
    }
}

impl Check<'_> {
    /// The marks of all checkpoints at hand.
    pub(super) fn marks(&mut self) -> Result<Vec<Marks>, CheckError> {
        let own = self.own_checkpoint()?;
        let mut marks: Vec<Marks> = own.iter().map(|own| Marks::of(names::CHECKPOINT, own)).collect();
        let Some(kept) = self.audit.checkpoint else { return Ok(marks) };
        if self.ring.position(&kept.body.key).is_none() {
            self.report.notes.push(format!(
                "{KEPT} is signed by {}, to which no change of key in the pack leads: nothing is held against it",
                kept.body.key
            ));
            return Ok(marks);
        }
        if let Some(message) = own.and_then(|own| differs(&own, kept)) {
            self.report.problem(ProblemKind::Chain, names::CHECKPOINT, message);
        }
        let count = usize::try_from(kept.body.key_changes).unwrap_or(usize::MAX);
        if count <= self.ring.changes().len() {
            self.hold_changes(KEPT, kept);
        }
        marks.push(Marks::of(KEPT, kept));
        Ok(marks)
    }

    /// The pack's checkpoint, if it is one.
    fn own_checkpoint(&mut self) -> Result<Option<SignedCheckpoint>, CheckError> {
        let name = names::CHECKPOINT;
        if !self.report.manifest.files.iter().any(|file| file.name == name) {
            return Ok(None);
        }
        let line = Lines::open(&self.folder.join(name))?.next()?.map(|(_, line)| line);
        let signed = match SignedCheckpoint::parse(line.unwrap_or_default()) {
            Ok(signed) => signed,
            Err(error) => {
                self.report.problem(ProblemKind::Altered, name, error.to_string());
                return Ok(None);
            }
        };
        if self.ring.position(&signed.body.key).is_none() {
            let message = format!("is signed by {}, which is not trusted", signed.body.key);
            self.report.problem(ProblemKind::Key, name, message);
            return Ok(None);
        }
        self.hold_changes(name, &signed);
        Ok(Some(signed))
    }

    /// The changes of key that a checkpoint counts must be here.
    fn hold_changes(&mut self, name: &str, signed: &SignedCheckpoint) {
        let Some(last) = signed.body.key_changes.checked_sub(1) else { return };
        let changes = self.ring.changes();
        if changes.get(usize::try_from(last).unwrap_or(usize::MAX)) != Some(&signed.body.key_change) {
            let message = format!("does not hold change {last} as {name} attests it");
            self.report.problem(ProblemKind::Truncated, names::KEYS, message);
        }
    }
}

/// What is wrong with the pack's checkpoint as one of the chain that the kept one is of, if anything.
fn differs(own: &SignedCheckpoint, kept: &SignedCheckpoint) -> Option<String> {
    let (seq, kept_seq) = (own.body.seq, kept.body.seq);
    let is_other = seq == kept_seq && own.sha256 != kept.sha256;
    let is_no_successor = kept_seq.checked_add(1) == Some(seq) && own.body.previous != kept.sha256;
    let lanes: BTreeMap<TopicPartition, &LaneMark> =
        own.body.lanes.iter().map(|mark| (mark.lane(), mark)).collect();
    let is_behind = |mark: &LaneMark| {
        lanes.get(&mark.lane()).is_none_or(|mine| {
            mine.entries < mark.entries
                || mine.acts < mark.acts
                || (mine.entries == mark.entries && mine.head != mark.head)
                || (mine.acts == mark.acts && mine.ledger != mark.ledger)
        })
    };
    if is_other || is_no_successor {
        return Some(format!("is not of the chain of {KEPT}"));
    }
    let behind = kept.body.lanes.iter().find(|mark| kept_seq < seq && is_behind(mark))?;
    Some(format!("attests less or other of {} than {KEPT}", behind.lane()))
}
