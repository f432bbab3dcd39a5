//! What is inside the files of an entry: each record under the Merkle root, each count as stated.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use stillwell_schema::manifest::{Entry, FileRef};
use stillwell_schema::merkle::Tree;
use stillwell_schema::{Gap, Offset};

use super::report::{Problem, ProblemKind};
use crate::reader::{RecordColumns, each_batch};

/// Checks the contents of an entry's files.
pub(super) fn check(
    entry: &Entry,
    readings: Option<Bytes>,
    records: Option<Bytes>,
    problems: &mut Vec<Problem>,
) {
    let path = |file: &Option<FileRef>| file.as_ref().map(|file| file.path.clone()).unwrap_or_default();
    let mut records_seen = RecordsSeen::new(entry, path(&entry.records));
    if let Some(bytes) = records
        && let Err(error) = each_batch(bytes, None, &mut |batch| records_seen.batch(batch, problems))
    {
        problems.push(unreadable(&records_seen.path, records_seen.next, &error));
        return;
    }
    records_seen.finish(problems);
    let mut readings_seen = ReadingsSeen::new(entry, path(&entry.readings), &records_seen);
    let columns = ["time", "offset"];
    if let Some(bytes) = readings
        && let Err(error) = each_batch(bytes, Some(&columns), &mut |batch| readings_seen.batch(batch))
    {
        problems.push(unreadable(&readings_seen.path, entry.range.first, &error));
        return;
    }
    readings_seen.finish(problems);
}

fn unreadable(path: &str, offset: Offset, error: &ArrowError) -> Problem {
    let message = format!("cannot be read as what its entry says it is: {error}");
    Problem::new(ProblemKind::Unreadable, path, message).at(offset)
}

/// The records of an entry, as they come.
struct RecordsSeen<'a> {
    entry: &'a Entry,
    path: String,
    tree: Tree,
    /// The lowest offset that may come next.
    next: Offset,
    /// Gaps not passed yet.
    gaps: std::slice::Iter<'a, Gap>,
    /// Offset and number of readings of each record.
    readings: Vec<(i64, u32)>,
    undecodable: u64,
}

impl<'a> RecordsSeen<'a> {
    fn new(entry: &'a Entry, path: String) -> Self {
        let (tree, next, gaps) = (Tree::default(), entry.range.first, entry.gaps.iter());
        Self { entry, path, tree, next, gaps, readings: Vec::new(), undecodable: 0 }
    }

    fn batch(&mut self, batch: &RecordBatch, problems: &mut Vec<Problem>) {
        let columns = RecordColumns::of(batch);
        for row in 0..batch.num_rows() {
            let offset = Offset(columns.offset[row]);
            self.skip_gaps();
            if offset != self.next {
                let message = format!("has offset {offset} where {} comes next", self.next);
                problems.push(Problem::new(ProblemKind::Records, &self.path, message).at(self.next));
            }
            self.next = Offset(offset.0.saturating_add(1));
            self.tree.push(columns.leaf(row));
            self.readings.push((offset.0, columns.readings[row]));
            self.undecodable += u64::from(columns.failed.is_valid(row));
        }
    }

    fn skip_gaps(&mut self) {
        while let Some(gap) = self.gaps.as_slice().first().filter(|gap| gap.first == self.next) {
            self.next = gap.next;
            self.gaps.next();
        }
    }

    fn finish(&mut self, problems: &mut Vec<Problem>) {
        self.skip_gaps();
        let entry = self.entry;
        if self.next != entry.range.next {
            let message =
                format!("ends at offset {}, where its entry ends at {}", self.next, entry.range.next);
            problems.push(Problem::new(ProblemKind::Records, &self.path, message).at(self.next));
        }
        let root = hex::encode(self.tree.root());
        if root != entry.merkle_root {
            let message = format!(
                "its records have the Merkle root {root}, where its entry states {}",
                entry.merkle_root
            );
            problems.push(Problem::new(ProblemKind::Records, &self.path, message).at(entry.range.first));
        }
        let stated = entry.records.as_ref().map_or(0, |file| file.rows);
        count(problems, &self.path, "records", self.readings.len() as u64, stated);
        count(problems, &self.path, "undecodable records", self.undecodable, entry.undecodable);
    }
}

fn count(problems: &mut Vec<Problem>, path: &str, of: &str, found: u64, stated: u64) {
    if found != stated {
        let message = format!("holds {found} {of}, where its entry states {stated}");
        problems.push(Problem::new(ProblemKind::Counts, path, message));
    }
}

/// The readings of an entry, as they come.
struct ReadingsSeen<'a> {
    entry: &'a Entry,
    path: String,
    /// Offset and readings still to come of each record.
    due: Vec<(i64, i64)>,
    rows: u64,
    time_us: Option<(i64, i64)>,
    strays: u64,
}

impl<'a> ReadingsSeen<'a> {
    fn new(entry: &'a Entry, path: String, records: &RecordsSeen<'_>) -> Self {
        let due = records.readings.iter().map(|(offset, readings)| (*offset, i64::from(*readings))).collect();
        Self { entry, path, due, rows: 0, time_us: None, strays: 0 }
    }

    fn batch(&mut self, batch: &RecordBatch) {
        let times = batch["time"].as_primitive::<TimestampMicrosecondType>().values();
        let offsets = batch["offset"].as_primitive::<Int64Type>().values();
        self.rows += batch.num_rows() as u64;
        for (time, offset) in times.iter().zip(offsets) {
            let (min, max) = self.time_us.unwrap_or((*time, *time));
            self.time_us = Some((min.min(*time), max.max(*time)));
            match self.due.binary_search_by_key(offset, |(offset, _)| *offset) {
                Ok(at) => self.due[at].1 -= 1,
                Err(_) => self.strays += 1,
            }
        }
    }

    fn finish(&self, problems: &mut Vec<Problem>) {
        let entry = self.entry;
        count(
            problems,
            &self.path,
            "readings",
            self.rows,
            entry.readings.as_ref().map_or(0, |file| file.rows),
        );
        let off = self.due.iter().find(|(_, due)| *due != 0);
        if let Some((offset, due)) = off {
            let message = format!("its record states {due} readings more than are here");
            problems.push(Problem::new(ProblemKind::Counts, &self.path, message).at(Offset(*offset)));
        }
        if self.strays > 0 {
            let message = format!("{} readings are of no record of the entry", self.strays);
            problems.push(Problem::new(ProblemKind::Counts, &self.path, message));
        }
        if self.time_us != entry.time_min_us.zip(entry.time_max_us) {
            let message = "its earliest and latest time are not those that its entry states";
            problems.push(Problem::new(ProblemKind::Counts, &self.path, message));
        }
    }
}
