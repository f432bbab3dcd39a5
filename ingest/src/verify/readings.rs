//! The readings of a run of entries, held against their records and what is stated of them.

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use stillwell_schema::Entry;

use super::records::{Held, Spine};
use super::report::{Problem, ProblemKind};
use super::unit::{Stated, unreadable};
use crate::reader::each_batch;

/// Readings as they come.
pub(super) struct Counts<'a> {
    spine: &'a Spine<'a>,
    /// Readings still to come of each record.
    due: Vec<i64>,
    strays: u64,
    path: String,
}

/// What one file holds.
#[derive(Default)]
struct Seen {
    rows: u64,
    times_us: Option<(i64, i64)>,
}

impl<'a> Counts<'a> {
    pub(super) fn new(spine: &'a Spine<'a>) -> Self {
        let due = spine.held().iter().map(|held| match held {
            Held::Readings(readings) => i64::from(*readings),
            Held::Erased => 0,
        });
        Self { spine, due: due.collect(), strays: 0, path: String::new() }
    }

    /// Takes the next file of readings.
    pub(super) fn file(&mut self, stated: &Stated<'_>, bytes: Bytes, problems: &mut Vec<Problem>) {
        self.path.clone_from(&stated.file.path);
        let mut seen = Seen::default();
        let columns = ["time", "offset"];
        if let Err(error) = each_batch(bytes, Some(&columns), &mut |batch| self.batch(batch, &mut seen)) {
            problems.push(unreadable(stated, &error));
            return;
        }
        if seen.rows != stated.file.rows {
            let message = format!("holds {} readings, where {} are stated", seen.rows, stated.file.rows);
            problems.push(Problem::new(ProblemKind::Counts, &self.path, message));
        }
        if seen.times_us != stated.times_us {
            let message = "its earliest and latest time are not those that are stated";
            problems.push(Problem::new(ProblemKind::Counts, &self.path, message));
        }
    }

    fn batch(&mut self, batch: &RecordBatch, seen: &mut Seen) {
        let times = batch["time"].as_primitive::<TimestampMicrosecondType>().values();
        let offsets = batch["offset"].as_primitive::<Int64Type>().values();
        seen.rows += batch.num_rows() as u64;
        for (time, offset) in times.iter().zip(offsets) {
            let (min, max) = seen.times_us.unwrap_or((*time, *time));
            seen.times_us = Some((min.min(*time), max.max(*time)));
            match self.spine.place(*offset) {
                Some(place) => self.due[place] -= 1,
                None => self.strays += 1,
            }
        }
    }

    /// All readings of all records have come, and no others.
    pub(super) fn finish(&self, entries: &[Entry], problems: &mut Vec<Problem>) {
        let own = entries.first().and_then(|entry| entry.readings.as_ref()).map_or("", |file| &*file.path);
        let path = if self.path.is_empty() { own } else { &*self.path };
        if let Some(place) = self.due.iter().position(|due| *due != 0) {
            let message = format!("its record states {} readings more than are here", self.due[place]);
            problems.push(Problem::new(ProblemKind::Counts, path, message).at(self.spine.offset(place)));
        }
        if self.strays > 0 {
            let message = format!("{} readings are of no record of these entries", self.strays);
            problems.push(Problem::new(ProblemKind::Counts, path, message));
        }
    }
}
