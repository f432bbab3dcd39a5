//! One lane of the read side: folds chunks while at most one snapshot before them is being written.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use metrics::counter;
use stillwell_schema::health::{Board, State};
use stillwell_schema::{Offset, TopicPartition};
use stillwell_source::chunk::RecordChunk;
use stillwell_source::compute::compute;
use stillwell_source::decode::{Decoded, Decoder, decode_chunk, decoder_for};
use stillwell_source::lane::{Lane, LaneEnd, Stage};
use stillwell_source::series::SeriesTable;
use stillwell_source::settings::TopicSettings;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::client::Store;
use crate::error::AggregateError;
use crate::flush::Snapshot;
use crate::fold::LaneFold;
use crate::reload;
use crate::scoring::{LaneScoring, Scorer};
use crate::snapshot;

/// Series that may wait for being written before a lane stops taking chunks: about 100,000 rows.
const DIRTY_MAX: usize = 20_000;
/// Between two tries of reading back.
const RETRY: Duration = Duration::from_millis(500);
/// How long an orderly stop waits for ClickHouse. What is then not stored is folded again at the next start.
const STOP_WAIT: Duration = Duration::from_secs(20);

/// What all lanes share.
pub(crate) struct Aggregate {
    pub(crate) store: Store,
    pub(crate) topics: Vec<TopicSettings>,
    pub(crate) scorer: Arc<Scorer>,
    pub(crate) snapshots: mpsc::Sender<Snapshot>,
    pub(crate) flush_interval: Duration,
    pub(crate) board: Board,
}

/// What a lane's CPU work needs; it moves to a compute thread and back.
pub(crate) struct Work {
    decoder: Box<dyn Decoder>,
    pub(crate) table: SeriesTable,
    pub(crate) fold: LaneFold,
    scoring: LaneScoring,
}

struct LaneTask<'a> {
    shared: &'a Aggregate,
    lane: Lane,
    work: Option<Box<Work>>,
    /// The next offset to fold.
    position: i64,
    /// The position of the snapshot on its way.
    flight: Option<(i64, oneshot::Receiver<()>)>,
    /// What is not in a snapshot yet.
    changed: bool,
    due: Instant,
}

impl Stage for Aggregate {
    type Error = AggregateError;

    async fn position(&self, lane: &TopicPartition) -> Result<Option<Offset>, AggregateError> {
        Ok(reload::position(&self.store, lane).await?.map(|stored| Offset(stored.position)))
    }

    async fn run(&self, lane: Lane) -> Result<LaneEnd, AggregateError> {
        let part = format!("aggregate/{}", lane.id);
        let done = self.run_lane(lane).await;
        if done.is_ok() {
            self.board.remove(&part);
        }
        done
    }
}

impl Aggregate {
    async fn run_lane(&self, lane: Lane) -> Result<LaneEnd, AggregateError> {
        let topic = self.topics.iter().find(|topic| *topic.name == *lane.id.topic);
        let topic = topic.ok_or_else(|| AggregateError::UnknownTopic(lane.id.topic.to_string()))?;
        let mut table = SeriesTable::default();
        let mut fold = LaneFold::default();
        if let Some(stored) = reload::position(&self.store, &lane.id).await? {
            if stored.position != lane.start.0 {
                // Another owner has moved on since this lane's position was asked for.
                return Ok(LaneEnd::Restart);
            }
            (fold.readings, fold.late) = (stored.readings, stored.late);
            reload::series(&self.store, &lane.id, &mut fold, &mut table).await?;
        }
        let scoring = self.scorer.open(&self.store, &lane.id, &mut table).await?;
        let wanted = scoring.wanted(&mut fold);
        reload::windows(&self.store, &lane.id, &wanted, &mut fold, &table).await?;
        let decoder = decoder_for(topic.time_unit);
        let position = lane.start.0;
        let work = Some(Box::new(Work { decoder, table, fold, scoring }));
        let due = Instant::now() + self.flush_interval;
        self.board.set(&format!("aggregate/{}", lane.id), State::Ok, "");
        LaneTask { shared: self, lane, work, position, flight: None, changed: false, due }.run().await
    }
}

impl LaneTask<'_> {
    async fn run(mut self) -> Result<LaneEnd, AggregateError> {
        let revoked = self.lane.revoked.clone();
        loop {
            let full = self.work.as_ref().is_some_and(|work| work.fold.dirty() >= DIRTY_MAX);
            if full && self.flight.is_none() {
                self.launch().await?;
                continue;
            }
            let is_due = self.changed && self.flight.is_none();
            tokio::select! {
                biased;
                () = revoked.cancelled() => return Ok(LaneEnd::Done),
                stored = landed(&mut self.flight) => self.land(stored)?,
                () = tokio::time::sleep_until(self.due), if is_due => self.launch().await?,
                chunk = self.lane.chunks.recv(), if !full => match chunk {
                    Some(chunk) => self.fold(chunk).await?,
                    None if revoked.is_cancelled() => return Ok(LaneEnd::Done),
                    None => return self.stop().await,
                },
            }
        }
    }

    /// Decodes a chunk, brings what it touches, folds and scores it.
    async fn fold(&mut self, chunk: RecordChunk) -> Result<(), AggregateError> {
        let next = chunk.range().next.0;
        let Some(mut work) = self.work.take() else { return Err(AggregateError::Stopped) };
        let (mut work, chunk, decoded, groups, missing) = compute(move || {
            let decoded = decode_chunk(&mut *work.decoder, &chunk, &mut work.table);
            let (groups, missing) = work.fold.gather(&decoded.columns, &work.table);
            (work, chunk, decoded, groups, missing)
        })
        .await;
        if !missing.is_empty() {
            self.bring(&missing, &mut work).await;
        }
        let lane = self.lane.id.clone();
        let (work, readings) = compute(move || {
            let Decoded { columns, .. } = &decoded;
            work.fold.apply(&chunk, columns, &groups, &work.table);
            let Work { table, fold, scoring, .. } = &mut *work;
            scoring.take(&lane, &chunk, columns, table, fold);
            (work, decoded.columns.len())
        })
        .await;
        self.work = Some(work);
        self.position = next;
        self.changed = true;
        counter!("stillwell_readings_total", "stage" => "aggregate").increment(readings as u64);
        Ok(())
    }

    /// Reads back what late data touches, for as long as it takes: the lane cannot go on without.
    async fn bring(&self, missing: &[crate::fold::Missing], work: &mut Work) {
        let part = format!("aggregate/{}", self.lane.id);
        let (store, id) = (&self.shared.store, &self.lane.id);
        while let Err(error) = reload::windows(store, id, missing, &mut work.fold, &work.table).await {
            self.shared.board.set(&part, State::Waiting, error.to_string());
            tokio::time::sleep(RETRY).await;
        }
        self.shared.board.set(&part, State::Ok, "");
    }

    /// Hands what changed to the flusher.
    async fn launch(&mut self) -> Result<(), AggregateError> {
        let Some(mut work) = self.work.take() else { return Err(AggregateError::Stopped) };
        let (lane, position) = (self.lane.id.clone(), self.position);
        let (work, parts, alerts) = compute(move || {
            let mut parts = snapshot::take(&lane, &mut work.fold, &work.table, position);
            let alerts = work.scoring.snapshot(&lane, position, &work.table, &mut parts);
            (work, parts, alerts)
        })
        .await;
        let (stored, landing) = oneshot::channel();
        let snapshot = Snapshot {
            lane: self.lane.id.clone(),
            position,
            received: position,
            end: self.lane.end.load(Ordering::Relaxed).max(position),
            readings: work.fold.readings,
            late: work.fold.late,
            parts,
            alerts,
            stored,
        };
        self.work = Some(work);
        self.shared.snapshots.send(snapshot).await.map_err(|_| AggregateError::Stopped)?;
        self.flight = Some((position, landing));
        self.changed = false;
        self.due = Instant::now() + self.shared.flush_interval;
        Ok(())
    }

    fn land(&mut self, stored: Result<i64, AggregateError>) -> Result<(), AggregateError> {
        self.flight = None;
        self.lane.display.durable(Offset(stored?));
        Ok(())
    }

    /// An orderly stop: what was received is stored first, if ClickHouse lets us.
    async fn stop(mut self) -> Result<LaneEnd, AggregateError> {
        let settle = async {
            while self.changed || self.flight.is_some() {
                if self.flight.is_none() {
                    self.launch().await?;
                }
                let stored = landed(&mut self.flight).await;
                self.land(stored)?;
            }
            Ok(LaneEnd::Done)
        };
        tokio::time::timeout(STOP_WAIT, settle).await.unwrap_or(Ok(LaneEnd::Done))
    }
}

/// The position that is stored; never, where no snapshot is on its way.
async fn landed(flight: &mut Option<(i64, oneshot::Receiver<()>)>) -> Result<i64, AggregateError> {
    match flight {
        None => pending().await,
        Some((position, landing)) => landing.await.map(|()| *position).map_err(|_| AggregateError::Stopped),
    }
}
