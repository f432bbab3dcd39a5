//! The signed objects of a pack: entries, asked for in their order, and tombstones.

use stillwell_schema::key_change::KeyWatch;
use stillwell_schema::ledger::{Deed, SignedAct};
use stillwell_schema::{Head, SignedEntry, TopicPartition};

use super::marks::Marks;
use super::{Check, CheckError, Lines};
use crate::export::names;
use crate::verify::ProblemKind;

/// The entries of a pack, one after the other: lanes in their order, and each lane's chain without a hole.
pub(super) struct Entries {
    lines: Lines,
    at: Option<(TopicPartition, SignedEntry)>,
    /// The keys of the lane that it is at.
    keys: KeyWatch,
    /// What checkpoints say of the entries.
    marks: Vec<Marks>,
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
        self.marks.iter().for_each(|marks| marks.finish(check));
        Ok(())
    }

    /// Goes on to the next entry that is one; false after the last.
    fn advance(&mut self, check: &mut Check<'_>) -> Result<bool, CheckError> {
        let before = self.at.take();
        while let Some((number, line)) = self.lines.next()? {
            let object = format!("{} line {number}", names::ENTRIES);
            match self.next(check, before.as_ref(), &object, line) {
                Ok(next) => {
                    self.at = Some(next);
                    return Ok(true);
                }
                Err((kind, message)) => check.report.problem(kind, object, message),
            }
        }
        Ok(false)
    }

    /// The entry of a line after `before`, or why it is none. What else is wrong with it is noted as being of
    /// `object`.
    fn next(
        &mut self,
        check: &mut Check<'_>,
        before: Option<&(TopicPartition, SignedEntry)>,
        object: &str,
        line: Vec<u8>,
    ) -> Result<(TopicPartition, SignedEntry), (ProblemKind, String)> {
        let signed = SignedEntry::parse(line).map_err(|error| (ProblemKind::Altered, error.to_string()))?;
        let entry = &signed.entry;
        let lane = TopicPartition::new(&*entry.topic, entry.partition);
        let same_lane = before.filter(|(of, _)| *of == lane);
        if let Some((of, _)) = before.filter(|(of, _)| lane < *of) {
            // Otherwise a lane that comes back could have lost what lay between.
            let message = format!("is of {lane}, and stands after an entry of {of}");
            return Err((ProblemKind::Chain, message));
        }
        if same_lane.is_none() {
            self.keys = KeyWatch::default();
        }
        let key = self.keys.check(&check.ring, &entry.key);
        key.map_err(|error| (ProblemKind::Key, error.to_string()))?;
        let head = match same_lane {
            Some((_, before)) => Some(before.head()),
            None => (entry.seq == 0).then(Head::genesis),
        };
        if let Some(Err(error)) = head.map(|head| head.check(&lane, entry)) {
            check.report.problem(ProblemKind::Chain, object, error.to_string());
        }
        for marks in &mut self.marks {
            marks.hold(check, &lane, &signed, object);
        }
        let seqs = &mut check.lanes.entry(lane.clone()).or_default().seqs;
        let (first, next) = (entry.seq, entry.seq.saturating_add(1));
        *seqs = Some(seqs.as_ref().map_or(first..next, |seqs| seqs.start..next));
        check.report.entries += 1;
        Ok((lane, signed))
    }
}

impl Check<'_> {
    /// The pack's entries, and the checkpoints that they are held against.
    pub(super) fn entries(&mut self) -> Result<Entries, CheckError> {
        let lines = Lines::open(&self.folder.join(names::ENTRIES))?;
        Ok(Entries { lines, at: None, keys: KeyWatch::default(), marks: self.marks()? })
    }

    /// Checks the tombstones, which stand by lane and in the order of its ledger.
    pub(super) fn erasures(&mut self) -> Result<(), CheckError> {
        let mut lines = Lines::open(&self.folder.join(names::ERASURES))?;
        let (mut before, mut keys) = (None, KeyWatch::default());
        while let Some((number, line)) = lines.next()? {
            let object = format!("{} line {number}", names::ERASURES);
            match self.erasure(&mut before, &mut keys, line) {
                Ok(()) => self.report.erasures += 1,
                Err((kind, message)) => self.report.problem(kind, object, message),
            }
        }
        Ok(())
    }

    fn erasure(
        &mut self,
        before: &mut Option<(TopicPartition, u64)>,
        keys: &mut KeyWatch,
        line: Vec<u8>,
    ) -> Result<(), (ProblemKind, String)> {
        let altered = |message: String| (ProblemKind::Altered, message);
        let act = SignedAct::parse(line).map_err(|error| altered(error.to_string()))?.act;
        let Deed::Erase(erase) = &act.deed else { return Err(altered("is no tombstone".into())) };
        let place = (TopicPartition::new(&*act.topic, act.partition), act.seq);
        if before.as_ref().is_some_and(|before| *before >= place) {
            return Err((ProblemKind::Chain, "does not come after the one before it".into()));
        }
        if before.as_ref().is_none_or(|before| before.0 != place.0) {
            *keys = KeyWatch::default();
        }
        keys.check(&self.ring, &act.key).map_err(|error| (ProblemKind::Key, error.to_string()))?;
        let span = &erase.cover.span;
        let lane = self.lanes.get_mut(&place.0);
        let lane = lane.filter(|lane| {
            let seqs = lane.seqs.as_ref();
            seqs.is_some_and(|seqs| span.first_seq < seqs.end && seqs.start < span.next_seq)
        });
        *before = Some(place);
        let lane = lane.ok_or_else(|| altered("is of entries that are not here".into()))?;
        lane.erasures += 1;
        Ok(())
    }
}
