//! The records of a run of entries in offset order, held against the entries: offsets, gaps, Merkle roots, counts.

use arrow::array::Array;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use stillwell_schema::merkle::{Hash, Tree};
use stillwell_schema::{Entry, Gap, Offset};

use super::report::{Problem, ProblemKind};
use super::unit::{Stated, unreadable};
use crate::originals::each_record_batch;
use crate::reader::RecordColumns;

/// A run of offsets that have records, and the number of records before it.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: i64,
    next: i64,
    before: usize,
}

/// What is known of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// It is there, with so many readings.
    Readings(u32),
    /// It was erased, and its leaf kept.
    Erased,
}

/// The records of entries, as they come.
pub(super) struct Spine<'a> {
    entries: std::slice::Iter<'a, Entry>,
    /// The entry that is being read.
    at: Option<Reading<'a>>,
    /// Leaves of erased records, the next one last.
    erased: Vec<(i64, Hash)>,
    runs: Vec<Run>,
    held: Vec<Held>,
    path: String,
}

/// One entry while its records come.
struct Reading<'a> {
    entry: &'a Entry,
    tree: Tree,
    /// The offset that comes next.
    next: Offset,
    /// Gaps not passed yet.
    gaps: std::slice::Iter<'a, Gap>,
    records: u64,
    erased: u64,
    undecodable: u64,
}

impl<'a> Spine<'a> {
    pub(super) fn new(entries: &'a [Entry]) -> Self {
        let mut entries = entries.iter();
        let at = entries.next().map(Reading::new);
        Self { entries, at, erased: Vec::new(), runs: Vec::new(), held: Vec::new(), path: String::new() }
    }

    /// Takes the leaves of erased records, in offset order.
    pub(super) fn erased(&mut self, mut leaves: Vec<(i64, Hash)>) {
        leaves.reverse();
        self.erased = leaves;
    }

    /// Takes the next file of records, and the files of readings beside it.
    pub(super) fn file(
        &mut self,
        stated: &Stated<'_>,
        bytes: Bytes,
        readings: Vec<Bytes>,
        problems: &mut Vec<Problem>,
    ) {
        self.path.clone_from(&stated.file.path);
        let mut rows = 0;
        let read = each_record_batch(bytes, readings, &mut |batch| {
            rows += batch.num_rows() as u64;
            self.batch(batch, problems);
        });
        match read {
            Err(error) => problems.push(unreadable(stated, &error)),
            Ok(()) if rows != stated.file.rows => {
                let message = format!("holds {rows} records, where {} are stated", stated.file.rows);
                problems.push(Problem::new(ProblemKind::Counts, &self.path, message));
            }
            Ok(()) => {}
        }
    }

    fn batch(&mut self, batch: &RecordBatch, problems: &mut Vec<Problem>) {
        let columns = RecordColumns::of(batch);
        for row in 0..batch.num_rows() {
            let offset = columns.offset[row];
            self.erased_before(offset, problems);
            let undecodable = columns.failed.is_valid(row);
            self.take(
                offset,
                columns.leaf(row),
                Held::Readings(columns.readings[row]),
                undecodable,
                problems,
            );
        }
    }

    fn erased_before(&mut self, offset: i64, problems: &mut Vec<Problem>) {
        while let Some((erased, leaf)) = self.erased.pop_if(|(erased, _)| *erased < offset) {
            self.take(erased, leaf, Held::Erased, false, problems);
        }
    }

    fn take(&mut self, offset: i64, leaf: Hash, held: Held, undecodable: bool, problems: &mut Vec<Problem>) {
        while self.at.as_ref().is_some_and(|at| offset >= at.entry.range.next.0) {
            self.end_entry(problems);
        }
        let Some(at) = &mut self.at else {
            let message = format!("holds offset {offset}, which is beyond its entries");
            problems.push(Problem::new(ProblemKind::Records, &self.path, message));
            return;
        };
        at.skip_gaps();
        if at.next.0 != offset {
            let message = format!("has offset {offset} where {} comes next", at.next);
            problems.push(Problem::new(ProblemKind::Records, &self.path, message).at(at.next));
        }
        at.next = Offset(offset.saturating_add(1));
        at.tree.push(leaf);
        at.records += 1;
        at.erased += u64::from(held == Held::Erased);
        at.undecodable += u64::from(undecodable);
        match self.runs.last_mut().filter(|run| run.next == offset) {
            Some(run) => run.next += 1,
            None => self.runs.push(Run { first: offset, next: offset + 1, before: self.held.len() }),
        }
        self.held.push(held);
    }

    fn end_entry(&mut self, problems: &mut Vec<Problem>) {
        if let Some(at) = self.at.take() {
            at.finish(&self.path, problems);
        }
        self.at = self.entries.next().map(Reading::new);
    }

    /// Ends all entries.
    pub(super) fn finish(&mut self, problems: &mut Vec<Problem>) {
        self.erased_before(i64::MAX, problems);
        while self.at.is_some() {
            self.end_entry(problems);
        }
    }

    /// What each record holds, in offset order.
    pub(super) fn held(&self) -> &[Held] {
        &self.held
    }

    /// The place of a record among them.
    pub(super) fn place(&self, offset: i64) -> Option<usize> {
        let run = self.runs.partition_point(|run| run.first <= offset).checked_sub(1)?;
        let run = self.runs[run];
        (offset < run.next).then(|| run.before + usize::try_from(offset - run.first).unwrap_or(usize::MAX))
    }

    /// The offset of the record at a place.
    pub(super) fn offset(&self, place: usize) -> Offset {
        let run = self.runs.partition_point(|run| run.before <= place).checked_sub(1);
        let run = run.map(|run| self.runs[run]);
        Offset(run.map_or(-1, |run| run.first + i64::try_from(place - run.before).unwrap_or_default()))
    }
}

impl<'a> Reading<'a> {
    fn new(entry: &'a Entry) -> Self {
        let (next, gaps) = (entry.range.first, entry.gaps.iter());
        Self { entry, tree: Tree::default(), next, gaps, records: 0, erased: 0, undecodable: 0 }
    }

    fn skip_gaps(&mut self) {
        while let Some(gap) = self.gaps.as_slice().first().filter(|gap| gap.first == self.next) {
            self.next = gap.next;
            self.gaps.next();
        }
    }

    fn finish(mut self, path: &str, problems: &mut Vec<Problem>) {
        self.skip_gaps();
        let entry = self.entry;
        let path = if path.is_empty() { entry.records.as_ref().map_or("", |file| &*file.path) } else { path };
        let mut wrong = |kind, at: Offset, message: String| {
            problems.push(Problem::new(kind, path, message).of_entry(entry.seq).at(at));
        };
        if self.next != entry.range.next {
            let message =
                format!("ends at offset {}, where the entry ends at {}", self.next, entry.range.next);
            wrong(ProblemKind::Records, self.next, message);
        }
        let root = hex::encode(self.tree.root());
        if root != entry.merkle_root {
            let message = format!(
                "the records have the Merkle root {root}, where the entry states {}",
                entry.merkle_root
            );
            wrong(ProblemKind::Records, entry.range.first, message);
        }
        let stated = entry.records.as_ref().map_or(0, |file| file.rows);
        if self.records != stated {
            let message = format!("holds {} records, where the entry states {stated}", self.records);
            wrong(ProblemKind::Counts, entry.range.first, message);
        }
        let fits = match self.erased {
            0 => self.undecodable == entry.undecodable,
            _ => self.undecodable <= entry.undecodable,
        };
        if !fits {
            let (found, stated) = (self.undecodable, entry.undecodable);
            let message = format!("holds {found} undecodable records, where the entry states {stated}");
            wrong(ProblemKind::Counts, entry.range.first, message);
        }
    }
}
