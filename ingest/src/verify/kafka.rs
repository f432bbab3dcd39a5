//! Holds the archive against Kafka: every record that the topic still has, byte for byte.

use std::ops::ControlFlow;

use serde::Serialize;
use stillwell_schema::{Offset, TopicPartition};
use stillwell_source::scan::{End, Patience, Progress, Scan, ScanError, Stretch};
use stillwell_source::settings::KafkaSettings;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use super::report::{LaneReport, Problem, ProblemKind, Report};
use crate::life::ledger::read_view;
use crate::life::lookup::{self, Leaves, LookupError};
use crate::life::pieces::{Piece, Pieces};
use crate::manifest::ManifestError;
use crate::store::ArchiveStore;
use crate::writer::leaf;

/// What was compared of one lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// Records that are the same in Kafka and in the archive, or of which the archive kept the same leaf.
    pub same: u64,
    /// Archived records that Kafka no longer has: fallen to its retention, or compacted away.
    pub gone: u64,
    /// Offsets of the topic that are not archived yet.
    pub ahead: u64,
}

/// Why the comparison was not made, or not to its end.
#[derive(Debug, Error)]
pub enum CompareError {
    /// Kafka.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// A chain of the archive.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A file of the archive.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// It was told to stop.
    #[error("stopped before all of {0} was compared")]
    Stopped(TopicPartition),
}

/// Reads the topics of a verified archive again and holds every record against the archive's; what differs is added
/// to `report`. `tick` hears of bytes read from Kafka. Blocks.
///
/// # Errors
/// [`CompareError`].
pub fn compare(
    store: &dyn ArchiveStore,
    kafka: &KafkaSettings,
    report: &mut Report,
    stop: &CancellationToken,
    tick: &dyn Fn(u64),
) -> Result<(), CompareError> {
    for lane in &mut report.lanes {
        let compared = compare_lane(store, kafka, lane, stop, tick)?;
        lane.kafka = Some(compared);
    }
    report.judge();
    Ok(())
}

fn compare_lane(
    store: &dyn ArchiveStore,
    kafka: &KafkaSettings,
    report: &mut LaneReport,
    stop: &CancellationToken,
    tick: &dyn Fn(u64),
) -> Result<Compared, CompareError> {
    let id = TopicPartition::new(&*report.topic, report.partition);
    let scan = Scan::new(kafka, &report.topic)?;
    let ends = scan.ends(report.partition)?;
    let Some(range) = report.range else {
        return Ok(Compared { ahead: (ends.high.0 - ends.low.0).unsigned_abs(), ..Compared::default() });
    };
    if ends.low < range.first {
        let message =
            format!("Kafka has records from {} on, and the archive begins at {}", ends.low, range.first);
        report.problem(Problem::new(ProblemKind::Kafka, id.to_string(), message).at(ends.low));
    }
    let (from, to) = (range.first.max(ends.low), range.next.min(ends.high));
    let ahead = (ends.high.0 - range.next.0).max(0).unsigned_abs();
    if ends.high < range.next {
        let message = format!(
            "the topic ends at {}, before the archive's {}: it was made anew or cut",
            ends.high, range.next
        );
        report.problem(Problem::new(ProblemKind::Kafka, id.to_string(), message).at(ends.high));
    }
    let view = read_view(store, &id)?;
    let mut archived =
        Archived { store, pieces: Pieces::new(store, &id, &view), piece: None, found: Leaves::default() };
    let mut compared = Compared { ahead, ..Compared::default() };
    let mut failed = None;
    let mut before = Progress::default();
    let stretch = Stretch { partition: report.partition, from, to: to.max(from) };
    let end = scan.read(
        &[stretch],
        Patience::default(),
        stop,
        |chunk| {
            for record in chunk.records() {
                match archived.take(record.offset) {
                    Ok(Some(kept)) if kept == leaf(&id, &record) => compared.same += 1,
                    Ok(Some(_)) => {
                        let message = "the record in Kafka is not the archived one";
                        report.problem(
                            Problem::new(ProblemKind::Kafka, id.to_string(), message).at(record.offset),
                        );
                    }
                    Ok(None) => {
                        let message = "Kafka has a record here, and the archive has none";
                        report.problem(
                            Problem::new(ProblemKind::Kafka, id.to_string(), message).at(record.offset),
                        );
                    }
                    Err(error) => {
                        failed = Some(error);
                        return ControlFlow::Break(());
                    }
                }
            }
            ControlFlow::Continue(())
        },
        |progress| {
            tick(progress.bytes - before.bytes);
            before = *progress;
        },
    )?;
    match (failed, end) {
        (Some(error), _) => return Err(error),
        (None, End::Stopped) => return Err(CompareError::Stopped(id)),
        (None, End::Whole) => {}
    }
    compared.gone = report.records.saturating_sub(compared.same);
    Ok(compared)
}

/// The archived records of a lane, asked for in offset order.
struct Archived<'a> {
    store: &'a dyn ArchiveStore,
    pieces: Pieces<'a>,
    piece: Option<Piece>,
    found: Leaves,
}

impl Archived<'_> {
    /// The leaf of the record at `offset`; none where the archive has none.
    fn take(&mut self, offset: Offset) -> Result<Option<stillwell_schema::merkle::Hash>, CompareError> {
        while self.piece.as_ref().is_none_or(|piece| piece.span.range.next <= offset) {
            let Some(piece) = self.pieces.next().transpose()? else { return Ok(None) };
            if piece.span.range.next > offset {
                self.found = lookup::leaves(self.store, &piece, piece.span.range, None)?;
            }
            self.piece = Some(piece);
        }
        let place = self.found.leaves.binary_search_by_key(&offset.0, |(offset, _)| *offset);
        Ok(place.ok().map(|place| self.found.leaves[place].1))
    }
}
