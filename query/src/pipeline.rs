//! How far archive and views are: behind `/v1/pipeline`, the freshness of answers, and the board.
//!
//! `/v1/pipeline` answers with one object:
//!
//! | key | meaning |
//! |---|---|
//! | `now_us` | the server's clock, µs UTC |
//! | `partitions` | one object for each partition that archive or views know, see below |
//! | `archived_readings`, `archived_records` | rows in the archive, all partitions; null where it cannot be read |
//! | `archive_written_us` | when its newest commit was written, µs UTC |
//! | `views_away` | whether the views' server does not answer: what it alone knows is null or missing |
//! | `archive_error`, `views_error` | why one side's marks are missing, else null |
//!
//! A partition, where every value but the first two may be null:
//!
//! | key | from | meaning |
//! |---|---|---|
//! | `topic`, `partition` | | which it is |
//! | `end`, `received`, `visible` | views | next offsets: of the partition, received and seen in the views, as of the last flush |
//! | `visible_updated_us`, `readings` | views | when `visible` last moved, µs UTC; readings in the views |
//! | `durable`, `durable_updated_us` | archive | next offset not archived yet; when the newest commit was written |
//! | `archived_readings`, `archived_records` | archive | rows in this partition's files |

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use stillwell_schema::TopicPartition;
use stillwell_schema::health::{Board, State};
use stillwell_schema::paths::FileKind;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::archive::{ArchiveError, Catalogue, Snapshot};
use crate::views::client::Positions;
use crate::views::{Views, ViewsError};

/// Positions are asked for at most this often, however many clients look.
const POSITIONS_AGE_MAX: Duration = Duration::from_millis(500);

/// A server that does not say how far it is within this time counts as away.
const POSITIONS_TIME_MAX: Duration = Duration::from_secs(2);

/// What the views' server said stays good for this long where a statement does not read them.
const POSITIONS_KEPT_MAX: Duration = Duration::from_secs(5);

/// How fresh an answer is.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Freshness {
    /// The archive is complete up to what was written at this time, µs UTC; null where that is not known.
    pub(crate) archive_us: Option<i64>,
    /// The same for the views; null where they do not answer, or were not read and not asked lately.
    pub(crate) views_us: Option<i64>,
}

/// One partition's marks. Offsets are the next ones; what is not known is null.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Marks {
    topic: Arc<str>,
    partition: i32,
    end: Option<i64>,
    received: Option<i64>,
    visible: Option<i64>,
    durable: Option<i64>,
    visible_updated_us: Option<i64>,
    durable_updated_us: Option<i64>,
    readings: Option<u64>,
    archived_readings: Option<u64>,
    archived_records: Option<u64>,
}

/// The answer of `/v1/pipeline`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    now_us: i64,
    partitions: Vec<Marks>,
    archived_readings: Option<u64>,
    archived_records: Option<u64>,
    archive_written_us: Option<i64>,
    views_away: bool,
    /// Why the archive's marks are missing.
    archive_error: Option<String>,
    /// Why the views' marks are missing.
    views_error: Option<String>,
}

type Asked = Result<Arc<Vec<Positions>>, ViewsError>;

/// Looks at both sides and keeps the last look at the views for a moment.
#[derive(Debug)]
pub(crate) struct Pipeline {
    catalogue: Arc<Catalogue>,
    views: Views,
    board: Board,
    last: Mutex<Option<(Instant, Asked)>>,
}

impl Pipeline {
    pub(crate) fn new(catalogue: Arc<Catalogue>, views: Views, board: Board) -> Self {
        Self { catalogue, views, board, last: Mutex::default() }
    }

    /// How far the views are, before a statement runs. One that reads none of them does not wait for their
    /// server: it takes what was heard last.
    pub(crate) async fn before(&self, reads_views: bool) -> Option<Arc<Vec<Positions>>> {
        if reads_views {
            return self.positions().await.ok();
        }
        let last = self.last.try_lock().ok()?;
        let (asked, answer) = last.as_ref()?;
        (asked.elapsed() < POSITIONS_KEPT_MAX).then(|| answer.clone().ok()).flatten()
    }

    /// How fresh an answer is that saw `seen` of the archive, and was planned when the views were at `positions`.
    pub(crate) fn freshness(&self, seen: Option<&Snapshot>, positions: Option<&[Positions]>) -> Freshness {
        let last = if seen.is_none() { self.catalogue.last() } else { None };
        let archive = seen.or(last.as_ref());
        let lanes = archive.into_iter().flat_map(Snapshot::heads).map(|head| {
            let end = positions.into_iter().flatten().find(|one| one.is_of(&head.lane)).map(|one| one.end);
            (end.is_some_and(|end| head.range.next.0 < end), head.written_us)
        });
        let views = positions.into_iter().flatten().map(|one| (one.position < one.end, one.updated_us));
        Freshness { archive_us: complete_us(lanes), views_us: complete_us(views) }
    }

    /// Both sides, partition by partition.
    pub(crate) async fn report(&self, now_us: i64) -> Report {
        let (archive, positions) = tokio::join!(self.archive(), self.positions());
        let mut marks = std::collections::BTreeMap::<TopicPartition, Marks>::new();
        for (lane, head) in archive.iter().flat_map(Snapshot::lanes).filter_map(|l| Some((l, l.head()?))) {
            let at = at(&mut marks, &head.lane);
            (at.durable, at.durable_updated_us) = (Some(head.range.next.0), Some(head.written_us));
            at.archived_readings = Some(lane.rows(FileKind::Readings));
            at.archived_records = Some(lane.rows(FileKind::Records));
        }
        for seen in positions.iter().flat_map(|all| all.iter()) {
            let at = at(&mut marks, &TopicPartition::new(seen.topic.as_str(), seen.partition));
            (at.end, at.received, at.visible) = (Some(seen.end), Some(seen.received), Some(seen.position));
            (at.visible_updated_us, at.readings) = (Some(seen.updated_us), Some(seen.readings));
        }
        Report {
            now_us,
            partitions: marks.into_values().collect(),
            archived_readings: archive.as_ref().ok().map(|all| all.rows(FileKind::Readings)),
            archived_records: archive.as_ref().ok().map(|all| all.rows(FileKind::Records)),
            archive_written_us: archive.as_ref().ok().and_then(Snapshot::written_us),
            views_away: positions.is_err(),
            archive_error: archive.err().map(|error| error.to_string()),
            views_error: positions.err().map(|error| error.to_string()),
        }
    }

    /// Looks at both sides, for the board alone.
    pub(crate) async fn look(&self) {
        let _ = tokio::join!(self.archive(), self.positions());
    }

    async fn archive(&self) -> Result<Snapshot, ArchiveError> {
        let snapshot = self.catalogue.refresh().await;
        match &snapshot {
            Ok(_) => self.board.set("query/archive", State::Ok, ""),
            Err(
                error @ (ArchiveError::Entry { .. }
                | ArchiveError::Act { .. }
                | ArchiveError::Later { .. }
                | ArchiveError::Missing { .. }),
            ) => {
                self.board.set("query/archive", State::Failed, error.to_string());
            }
            Err(error) => self.board.set("query/archive", State::Waiting, error.to_string()),
        }
        snapshot
    }

    async fn positions(&self) -> Asked {
        let mut last = self.last.lock().await;
        if let Some((asked, answer)) = &*last
            && asked.elapsed() < POSITIONS_AGE_MAX
        {
            return answer.clone();
        }
        let answer = match tokio::time::timeout(POSITIONS_TIME_MAX, self.views.positions()).await {
            Ok(answer) => answer.map(Arc::new),
            Err(_) => Err(ViewsError::Unavailable("the server does not answer in time".into())),
        };
        match &answer {
            Ok(_) => self.board.set("query/views", State::Ok, ""),
            Err(error) => self.board.set("query/views", State::Waiting, error.to_string()),
        }
        *last = Some((Instant::now(), answer.clone()));
        answer
    }
}

/// Lanes as (behind, when it last moved on): together they are complete up to the earliest of those behind. A
/// lane that has everything, however long idle, holds nothing back.
fn complete_us(lanes: impl Iterator<Item = (bool, i64)>) -> Option<i64> {
    let (mut behind, mut newest) = (None::<i64>, None::<i64>);
    for (is_behind, moved_us) in lanes {
        newest = newest.max(Some(moved_us));
        if is_behind {
            behind = Some(behind.map_or(moved_us, |earliest| earliest.min(moved_us)));
        }
    }
    behind.or(newest)
}

fn at<'a>(
    marks: &'a mut std::collections::BTreeMap<TopicPartition, Marks>,
    lane: &TopicPartition,
) -> &'a mut Marks {
    marks.entry(lane.clone()).or_insert_with(|| Marks {
        topic: Arc::clone(&lane.topic),
        partition: lane.partition,
        ..Marks::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_that_lags_says_how_fresh_the_whole_is() {
        let check = |lanes: &[(bool, i64)], expected| {
            assert_eq!(complete_us(lanes.iter().copied()), expected, "{lanes:?}");
        };
        check(&[], None);
        check(&[(false, 5), (false, 9)], Some(9));
        check(&[(true, 5), (false, 2), (false, 9)], Some(5));
        check(&[(true, 7), (true, 6), (false, 1)], Some(6));
    }
}
