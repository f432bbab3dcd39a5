//! How far archive and views are: behind `/v1/pipeline`, the freshness of answers, and the board.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use stillwell_schema::TopicPartition;
use stillwell_schema::health::{Board, State};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::archive::{ArchiveError, Catalogue, Snapshot};
use crate::views::client::Positions;
use crate::views::{Views, ViewsError};

/// Positions are asked for at most this often, however many clients look.
const POSITIONS_AGE_MAX: Duration = Duration::from_millis(500);

/// A server that does not say how far it is within this time counts as away.
const POSITIONS_TIME_MAX: Duration = Duration::from_secs(2);

/// How fresh an answer is.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Freshness {
    /// When the newest commit of the archive was written, µs UTC; null where there is none.
    pub(crate) archive_us: Option<i64>,
    /// When the views last moved on, µs UTC; null where they do not answer.
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
}

/// The answer of `/v1/pipeline`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    now_us: i64,
    partitions: Vec<Marks>,
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

    /// How fresh an answer is that saw `seen` of the archive.
    pub(crate) async fn freshness(&self, seen: Option<&Snapshot>) -> Freshness {
        let archive = async {
            match seen {
                Some(seen) => seen.written_us(),
                None => self.archive().await.ok().and_then(|snapshot| snapshot.written_us()),
            }
        };
        let (archive_us, positions) = tokio::join!(archive, self.positions());
        let views_us = positions.ok().and_then(|all| all.iter().map(|one| one.updated_us).max());
        Freshness { archive_us, views_us }
    }

    /// Both sides, partition by partition.
    pub(crate) async fn report(&self, now_us: i64) -> Report {
        let (archive, positions) = tokio::join!(self.archive(), self.positions());
        let mut marks = std::collections::BTreeMap::<TopicPartition, Marks>::new();
        for head in archive.iter().flat_map(Snapshot::heads) {
            let at = at(&mut marks, &head.lane);
            at.durable = Some(head.range.next.0);
            at.durable_updated_us = Some(head.written_us);
        }
        for seen in positions.iter().flat_map(|all| all.iter()) {
            let at = at(&mut marks, &TopicPartition::new(seen.topic.as_str(), seen.partition));
            (at.end, at.received, at.visible) = (Some(seen.end), Some(seen.received), Some(seen.position));
            (at.visible_updated_us, at.readings) = (Some(seen.updated_us), Some(seen.readings));
        }
        Report {
            now_us,
            partitions: marks.into_values().collect(),
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
            Err(error @ (ArchiveError::Entry { .. } | ArchiveError::Missing { .. })) => {
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
