//! Merges runs of small adjacent pieces into large sorted files.
//!
//! Small pieces of a lane, in order, are gathered until they have the size of a file; a run that has not come that
//! far is merged where it pays: where it at least doubles its largest piece, so that a record is rewritten a number of
//! times that is logarithmic in the size of a file. What is younger than an age is left to its writer's readers.
//!
//! Recovery, by what a crash leaves behind: before the act is created, files that no act names and none will, once
//! the ledger goes on; they are collected by age. Of two compactors one loses the creation and drops its work.

use stillwell_schema::TopicPartition;
use stillwell_schema::ledger::{Deed, Merge, View};

use super::LifeError;
use super::ledger::{Pen, follow, read_view};
use super::pieces::{Piece, Pieces};
use super::rewrite::Rewrite;
use crate::verify::Tick;

mod schedule;

pub(crate) use schedule::Schedule;
pub use schedule::Settings;

/// Which runs are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Bytes of readings and records that make a run full. Merging holds about twice as many in memory.
    pub file_bytes_target: u64,
    /// Pieces whose files were put in place later are left alone, µs UTC.
    pub before_us: i64,
    /// Pieces that make a run which is not full worth merging.
    pub pieces_min: usize,
    /// Of zstd.
    pub level: i32,
}

/// Pieces of a run at most: so many files are open at once.
const PIECES_MAX: usize = 512;

/// A run that is to be merged.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its pieces, in order, without a hole.
    pub pieces: Vec<Piece>,
}

/// What became of a run.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Merged {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// The first entry.
    pub first_seq: u64,
    /// The entry after the last.
    pub next_seq: u64,
    /// Files before.
    pub files_before: usize,
    /// Files after; none in a dry run.
    pub files_after: Option<usize>,
    /// Bytes before.
    pub bytes_before: u64,
    /// Bytes after; none in a dry run.
    pub bytes_after: Option<u64>,
    /// Bytes of readings files before.
    pub readings_bytes_before: u64,
    /// Bytes of readings files after; none in a dry run.
    pub readings_bytes_after: Option<u64>,
    /// Readings inside.
    pub readings: u64,
    /// The act that put them in place; none in a dry run.
    pub act: Option<u64>,
}

impl Run {
    fn bytes(&self) -> u64 {
        self.pieces.iter().map(Piece::bytes).sum()
    }

    fn report(&self, lane: &TopicPartition) -> Merged {
        let files = |piece: &Piece| piece.readings.len() + piece.records.len() + piece.leaves.len();
        let readings = || self.pieces.iter().flat_map(|piece| &piece.readings);
        Merged {
            topic: lane.topic.to_string(),
            partition: lane.partition,
            first_seq: self.pieces.first().map_or(0, |piece| piece.span.first_seq),
            next_seq: self.pieces.last().map_or(0, |piece| piece.span.next_seq),
            files_before: self.pieces.iter().map(files).sum(),
            files_after: None,
            bytes_before: self.bytes(),
            bytes_after: None,
            readings_bytes_before: readings().map(|file| file.bytes).sum(),
            readings_bytes_after: None,
            readings: readings().map(|file| file.rows).sum(),
            act: None,
        }
    }
}

/// The runs of a lane that are to be merged as it stands, one by one: each is found when it is asked for.
pub struct Plan<'a> {
    pieces: Pieces<'a>,
    policy: Policy,
    run: Vec<Piece>,
    ended: bool,
}

impl<'a> Plan<'a> {
    /// The runs among `pieces`.
    #[must_use]
    pub fn new(pieces: Pieces<'a>, policy: Policy) -> Self {
        Self { pieces, policy, run: Vec::new(), ended: false }
    }

    /// Ends the run; it is handed out if it is worth it.
    fn cut(&mut self) -> Option<Run> {
        let run = Run { pieces: std::mem::take(&mut self.run) };
        let (bytes, largest) = (run.bytes(), run.pieces.iter().map(Piece::bytes).max()?);
        let is_full = bytes >= self.policy.file_bytes_target || run.pieces.len() == PIECES_MAX;
        let pays = run.pieces.len() >= self.policy.pieces_min && bytes >= 2 * largest;
        (run.pieces.len() > 1 && (is_full || pays)).then_some(run)
    }
}

impl Iterator for Plan<'_> {
    type Item = Result<Run, LifeError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            let piece = match self.pieces.next() {
                Some(Ok(piece)) => piece,
                Some(Err(error)) => {
                    self.ended = true;
                    return Some(Err(error.into()));
                }
                None => {
                    self.ended = true;
                    return self.cut().map(Ok);
                }
            };
            let young = piece.written_us >= self.policy.before_us;
            let large = piece.bytes() >= self.policy.file_bytes_target / 2;
            if young || large {
                if let Some(run) = self.cut() {
                    return Some(Ok(run));
                }
                continue;
            }
            self.run.push(piece);
            let bytes: u64 = self.run.iter().map(Piece::bytes).sum();
            if (bytes >= self.policy.file_bytes_target || self.run.len() == PIECES_MAX)
                && let Some(run) = self.cut()
            {
                return Some(Ok(run));
            }
        }
        None
    }
}

/// Says what [`compact`] would merge at first, and changes nothing. Blocks.
///
/// # Errors
/// [`LifeError`].
pub fn plan(pen: &Pen, lane: &TopicPartition, policy: Policy) -> Result<Vec<Merged>, LifeError> {
    let view = read_view(&*pen.store, lane)?;
    let runs = Plan::new(Pieces::new(&*pen.store, lane, &view), policy);
    runs.map(|run| Ok(run?.report(lane))).collect()
}

/// Merges the runs of a lane until none is left. `merged` hears of each, and ends it by saying false. Blocks, and
/// computes: call it on a thread of its own.
///
/// # Errors
/// [`LifeError`]; what was merged before stands.
pub fn compact(
    pen: &Pen,
    lane: &TopicPartition,
    policy: Policy,
    tick: Tick<'_>,
    merged: &mut dyn FnMut(Merged) -> bool,
) -> Result<(), LifeError> {
    let mut view = read_view(&*pen.store, lane)?;
    while let Some(done) = merge_next(pen, lane, &mut view, policy, tick)? {
        if !merged(done) {
            break;
        }
    }
    Ok(())
}

/// Merges the next run that is due, if there is one.
fn merge_next(
    pen: &Pen,
    lane: &TopicPartition,
    view: &mut View,
    policy: Policy,
    tick: Tick<'_>,
) -> Result<Option<Merged>, LifeError> {
    let store = &*pen.store;
    let run = Plan::new(Pieces::new(store, lane, view), policy).next().transpose()?;
    let Some(run) = run else { return Ok(None) };
    let rewrite = Rewrite {
        store,
        lane,
        pieces: &run.pieces,
        act: view.head().seq,
        level: policy.level,
        erased: None,
        tick,
    };
    let cover = rewrite.run()?.cover;
    let mut done = run.report(lane);
    done.files_after = Some(cover.files().count());
    done.bytes_after = Some(cover.files().map(|file| file.bytes).sum());
    done.readings_bytes_after = Some(cover.readings.iter().map(|file| file.file.bytes).sum());
    done.act = Some(view.head().seq);
    pen.add(lane, view, Deed::Merge(Merge { cover }))?;
    follow(store, lane, view)?;
    Ok(Some(done))
}
