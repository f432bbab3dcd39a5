//! Which records of a piece have run out.

use std::collections::HashMap;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType, TimestampMillisecondType, UInt32Type};
use stillwell_schema::TopicPartition;
use stillwell_schema::ledger::{Hold, Rule};
use stillwell_schema::pattern::matches;

use super::super::hold::holds_time;
use super::super::rewrite::{Offsets, load};
use super::{LifeError, Piece};
use crate::reader::each_batch;
use crate::store::ArchiveStore;
use crate::verify::Tick;

/// What is kept, and where.
#[derive(Clone, Copy)]
pub(super) struct Keeping<'a> {
    pub(super) store: &'a dyn ArchiveStore,
    pub(super) lane: &'a TopicPartition,
    pub(super) rules: &'a [Rule],
    pub(super) holds: &'a [Hold],
    pub(super) tick: Tick<'a>,
}

/// Records that ran out.
#[derive(Default)]
pub(super) struct Expired {
    pub(super) offsets: Offsets,
    /// Their readings.
    pub(super) readings: u64,
    /// Records that ran out and are held.
    pub(super) held: u64,
}

impl Expired {
    /// How many.
    pub(super) fn records(&self) -> u64 {
        self.offsets.len()
    }

    /// Takes in those of the piece that follows.
    pub(super) fn append(&mut self, next: Self) {
        self.offsets.append(next.offsets);
        (self.readings, self.held) = (self.readings + next.readings, self.held + next.held);
    }
}

/// What the readings of a piece say of the records they came in.
#[derive(Default)]
struct Marks {
    /// A reading has run out.
    old: Offsets,
    /// A reading is kept by its class.
    kept: Offsets,
    /// A reading is held.
    held: Offsets,
}

/// What the rules and holds say of a machine.
struct Machine<'a> {
    /// What is older has run out; none where it is kept for ever.
    until_us: Option<i64>,
    holds: Vec<&'a Hold>,
}

impl<'a> Keeping<'a> {
    /// The records of a piece that ran out and are not held.
    pub(super) fn expired(&self, piece: &Piece) -> Result<Expired, LifeError> {
        let mut expired = Expired::default();
        let latest = |rules: &mut dyn Iterator<Item = &Rule>| rules.map(|rule| rule.until_us).max();
        let by_machine = latest(&mut self.rules.iter().filter(|rule| rule.machines.is_some()));
        let without =
            self.rules.iter().filter(|rule| rule.machines.is_none()).map(|rule| rule.until_us).min();
        let may_run_out = by_machine.zip(piece.time_us).is_some_and(|(until, (min, _))| min < until);
        if !may_run_out && without.is_none() {
            return Ok(expired);
        }
        let marks = if may_run_out { self.marks(piece)? } else { Marks::default() };
        for file in &piece.records {
            self.batches(
                &file.path,
                load(self.store, file)?,
                &["offset", "kafka_time", "readings"],
                |batch| {
                    let offsets = batch["offset"].as_primitive::<Int64Type>().values();
                    let times = batch["kafka_time"].as_primitive::<TimestampMillisecondType>().values();
                    let readings = batch["readings"].as_primitive::<UInt32Type>().values();
                    for ((offset, time_ms), readings) in offsets.iter().zip(times).zip(readings) {
                        let time_us = time_ms.saturating_mul(1_000);
                        let (is_expired, is_held) = match readings {
                            0 => (
                                without.is_some_and(|until| time_us < until),
                                self.holds.iter().any(|hold| holds_time(hold, time_us)),
                            ),
                            // One whose readings nobody has seen is kept: who knows how old they are.
                            _ => (
                                marks.old.contains(*offset) && !marks.kept.contains(*offset),
                                marks.held.contains(*offset),
                            ),
                        };
                        match (is_expired, is_held) {
                            (true, true) => expired.held += 1,
                            (true, false) => {
                                expired.offsets.insert(*offset);
                                expired.readings += u64::from(*readings);
                            }
                            _ => {}
                        }
                    }
                },
            )?;
        }
        Ok(expired)
    }

    /// Marks the records by their readings.
    fn marks(&self, piece: &Piece) -> Result<Marks, LifeError> {
        let mut marks = Marks::default();
        let mut machines = HashMap::<String, Machine<'a>>::new();
        for file in &piece.readings {
            let columns = ["machine", "time", "offset", "kafka_time"];
            self.batches(&file.path, load(self.store, file)?, &columns, |batch| {
                let names = batch["machine"].as_string::<i32>();
                let times = batch["time"].as_primitive::<TimestampMicrosecondType>().values();
                let offsets = batch["offset"].as_primitive::<Int64Type>().values();
                let kafka_times = batch["kafka_time"].as_primitive::<TimestampMillisecondType>().values();
                for row in 0..names.len() {
                    let name = names.value(row);
                    if !machines.contains_key(name) {
                        machines.insert(name.to_owned(), self.machine(name));
                    }
                    let machine = &machines[name];
                    let (time_us, offset) = (times[row], offsets[row]);
                    let age_us = time_us.max(kafka_times[row].saturating_mul(1_000));
                    match machine.until_us.is_some_and(|until| age_us < until) {
                        true => marks.old.insert(offset),
                        false => marks.kept.insert(offset),
                    }
                    if machine.holds.iter().any(|hold| holds_time(hold, time_us)) {
                        marks.held.insert(offset);
                    }
                }
            })?;
        }
        Ok(marks)
    }

    fn machine(&self, name: &str) -> Machine<'a> {
        let of = |rule: &&Rule| rule.machines.as_deref().is_some_and(|pattern| matches(pattern, name));
        // The longest keeps it: the one that ran out the longest ago.
        let until_us = self.rules.iter().filter(of).map(|rule| rule.until_us).min();
        let holds = self.holds.iter().filter(|hold| matches(&hold.machines, name)).collect();
        Machine { until_us, holds }
    }

    fn batches(
        &self,
        path: &str,
        bytes: bytes::Bytes,
        columns: &[&str],
        mut each: impl FnMut(&arrow::array::RecordBatch),
    ) -> Result<(), LifeError> {
        (self.tick)(bytes.len() as u64);
        let read = each_batch(bytes, Some(columns), &mut |batch| each(batch));
        read.map_err(|error| LifeError::Damaged {
            path: path.to_owned(),
            reason: format!("of {} cannot be read: {error}", self.lane),
        })
    }
}
