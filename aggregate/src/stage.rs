//! One lane of the read side: folds chunks while at most one snapshot before them is being written.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use metrics::counter;
use stillwell_schema::health::{Board, State};
use stillwell_schema::{Offset, TopicPartition};
use stillwell_source::backoff::Retry;
use stillwell_source::compute::compute;
use stillwell_source::decode::{Decoder, decoder_for};
use stillwell_source::halt::{Halts, Streak, Tally};
use stillwell_source::lane::{Lane, LaneEnd, Stage};
use stillwell_source::series::SeriesTable;
use stillwell_source::settings::{self, TopicSettings};
use stillwell_source::waiting::Waiting;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::error::AggregateError;
use crate::flush::Snapshot;
use crate::fold::{LaneFold, Level, SeriesLimits, Widths};
use crate::lateness::LaneLateness;
use crate::reload;
use crate::scoring::{LaneScoring, Scorer};
use crate::snapshot;
use crate::store::{Store, Targets};

mod alerting;
mod folding;
mod pace;
mod room;

pub(crate) use alerting::Alerting;
pub use alerting::Awaited;
use alerting::LaneAlerts;
use pace::Pace;
pub(crate) use pace::{FEW_SERIES, Intervals};
pub(crate) use room::Room;
use room::Share;

/// How long a lane waits for more before it passes over records of which most cannot be decoded, as they may be the
/// first of many, over which the write side, which gathers longer, halts.
const SUSPECT_WAIT: Duration = Duration::from_secs(10);
/// How long an orderly stop waits for ClickHouse. What is then not stored is folded again at the next start.
const STOP_WAIT: Duration = Duration::from_secs(20);

/// What all lanes share.
pub(crate) struct Aggregate<S> {
    pub(crate) store: S,
    pub(crate) topics: Vec<TopicSettings>,
    pub(crate) scorer: Arc<Scorer>,
    pub(crate) alerting: Alerting,
    pub(crate) snapshots: mpsc::Sender<Snapshot>,
    pub(crate) intervals: Intervals,
    /// Where windows are written, as last seen.
    pub(crate) targets: watch::Receiver<Targets>,
    pub(crate) board: Board,
    pub(crate) room: Room,
    /// Bounds of series, and the series of all lanes.
    pub(crate) limits: SeriesLimits,
    pub(crate) series: Arc<AtomicUsize>,
    pub(crate) halts: Halts,
}

/// What a lane's CPU work needs; it moves to a compute thread and back.
pub(crate) struct Work {
    decoder: Box<dyn Decoder>,
    pub(crate) table: SeriesTable,
    pub(crate) fold: LaneFold,
    scoring: LaneScoring,
    lateness: LaneLateness,
    /// The tables of its windows.
    targets: Targets,
}

struct LaneTask<'a, S> {
    shared: &'a Aggregate<S>,
    lane: Lane,
    work: Option<Box<Work>>,
    /// The next offset to fold.
    position: i64,
    /// What the lane has shown before it began. Below that it has nothing new to show; and where a table is behind it,
    /// that table alone knows the largest times that go with its position, which is thus left as it is.
    shown: i64,
    /// Records that cannot be decoded for now; none are taken meanwhile.
    waiting: Option<Waiting>,
    /// The position of the snapshot on its way.
    flight: Option<(i64, oneshot::Receiver<()>)>,
    /// When what is written next.
    pace: Pace,
    /// Since any machine has a model.
    alerts: Option<LaneAlerts>,
    /// How much of what is not in a snapshot yet could be decoded,
    tally: Tally,
    /// what came before, as long as most of it could not,
    streak: Streak,
    /// and what share of it need not.
    share_max: settings::Share,
    /// Since when it is more than that, though few.
    suspect_since: Option<Instant>,
    share: Share,
    targets: watch::Receiver<Targets>,
    /// Series that were not taken in, as last said.
    refused: usize,
}

impl<S: Store> Stage for Aggregate<S> {
    type Error = AggregateError;

    async fn position(&self, lane: &TopicPartition) -> Result<Option<Offset>, AggregateError> {
        self.halts.check(lane).map_err(AggregateError::Halted)?;
        Ok(reload::start(&self.store, lane).await?.position.map(Offset))
    }

    async fn run(&self, lane: Lane) -> Result<LaneEnd, AggregateError> {
        let part = part(&lane.id);
        let done = match self.run_lane(lane).await {
            Err(AggregateError::Moved) => Ok(LaneEnd::Restart),
            done => done,
        };
        match &done {
            Ok(_) => {
                self.board.remove(&format!("{part}/series"));
                self.board.remove(&part);
            }
            Err(AggregateError::Halted(halted)) => self.halts.add(halted.clone()),
            Err(_) => {}
        }
        done
    }

    fn is_transient(error: &AggregateError) -> bool {
        !matches!(error, AggregateError::Halted(_))
    }
}

impl<S: Store> Aggregate<S> {
    async fn run_lane(&self, lane: Lane) -> Result<LaneEnd, AggregateError> {
        let topic = self.topics.iter().find(|topic| *topic.name == *lane.id.topic);
        let topic = topic.ok_or_else(|| AggregateError::UnknownTopic(lane.id.topic.to_string()))?;
        // What was said before is older than what is asked now.
        let mut targets = self.targets.clone();
        targets.mark_unchanged();
        let start = reload::start(&self.store, &lane.id).await?;
        if start.position.is_some_and(|position| position != lane.start.0) {
            // Another owner has moved on since this lane's position was asked for.
            return Ok(LaneEnd::Restart);
        }
        let mut table = SeriesTable::default();
        let mut fold =
            LaneFold::default().with_totals(Widths::TOTALS).within(self.limits, Arc::clone(&self.series));
        // What is written first is read last: states are never ahead of the windows that go with them.
        let scoring = self.scorer.open(&self.store, &lane.id, &mut table).await?;
        reload::series(&self.store, &lane.id, &start, &mut fold, &mut table).await?;
        // Their largest times are written after it: what is late by those is not counted again.
        let standing = self.store.standing(&lane.id).await?;
        if let Some(standing) = standing {
            (fold.counted_from, fold.readings, fold.late) =
                (standing.position, standing.readings, standing.late);
        }
        reload::refused(&self.store, &lane.id, &mut fold, &mut table).await?;
        let mut lateness = LaneLateness::default();
        lateness.restore(self.store.lateness(&lane.id).await?, &mut table);
        let wanted = scoring.wanted(&fold);
        for some in reload::statements(&wanted) {
            reload::windows(&self.store, &lane.id, &start.targets, some, &mut fold, &table).await?;
        }
        let work =
            Work { decoder: decoder_for(topic), table, fold, scoring, lateness, targets: start.targets };
        self.board.set(&part(&lane.id), State::Ok, "");
        let task = LaneTask {
            shared: self,
            position: lane.start.0,
            shown: standing.map_or(lane.start.0, |standing| standing.position),
            pace: Pace::new(self.intervals, lane.id.partition, lane.start.0, Instant::now()),
            alerts: None,
            lane,
            work: Some(Box::new(work)),
            waiting: None,
            flight: None,
            tally: Tally::default(),
            streak: Streak::default(),
            share_max: topic.dead_letter_share_max,
            suspect_since: None,
            share: self.room.enter(),
            targets,
            refused: 0,
        };
        task.run().await
    }
}

impl<S: Store> LaneTask<'_, S> {
    async fn run(mut self) -> Result<LaneEnd, AggregateError> {
        let revoked = self.lane.revoked.clone();
        loop {
            let room = self.share.bytes_max();
            let full = self.work.as_ref().is_some_and(|work| work.fold.dirty_bytes() >= room);
            if full && self.flight.is_none() {
                self.launch().await?;
                continue;
            }
            let look = self.waiting.as_ref().map(Waiting::look_at);
            let due = self.pace.due().filter(|_| self.flight.is_none() && self.has_news());
            let wait = self.suspect_since.map(|since| since + SUSPECT_WAIT);
            let due_at = due.max(wait).unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                () = revoked.cancelled() => return Ok(LaneEnd::Done),
                stored = landed(&mut self.flight) => self.land(stored).await?,
                () = tokio::time::sleep_until(due_at), if due.is_some() => self.launch().await?,
                () = moved(&mut self.targets, &self.work) => return Ok(LaneEnd::Restart),
                () = tokio::time::sleep_until(look.unwrap_or_else(Instant::now)), if look.is_some() && !full => {
                    if self.lane.chunks.is_closed() {
                        return self.stop().await;
                    }
                    self.try_again().await?;
                }
                chunk = self.lane.chunks.recv(), if !full && look.is_none() => match chunk {
                    Some(chunk) => {
                        let backoff = Waiting::backoff(Retry::default(), &self.lane.id);
                        self.fold(chunk, backoff).await?;
                    }
                    None if revoked.is_cancelled() => return Ok(LaneEnd::Done),
                    None => return self.stop().await,
                },
            }
        }
    }

    /// Whether what is folded is past what was shown.
    fn has_news(&self) -> bool {
        self.position >= self.shown
    }

    /// Hands what changed to the flusher, unless most of it could not be decoded.
    async fn launch(&mut self) -> Result<(), AggregateError> {
        self.suspect_since = None;
        let tally = std::mem::take(&mut self.tally);
        if let Some(halted) = self.streak.judge(&tally, self.share_max) {
            return Err(AggregateError::Halted(Box::new(halted)));
        }
        let Some(mut work) = self.work.take() else { return Err(AggregateError::Stopped) };
        let (lane, position) = (self.lane.id.clone(), self.position);
        let is_much = work.fold.coarse_bytes() > self.share.windows_bytes_max() / 2;
        let level = self.pace.level(work.fold.changed(Level::All), is_much, Instant::now());
        let start = self.lane.start.0;
        let (work, parts) = compute(move || {
            let Work { fold, table, scoring, lateness, targets, .. } = &mut *work;
            let mut parts = snapshot::take(&lane, fold, table, level, position, targets);
            parts.extend(snapshot::refused(&lane, fold, table, position, start));
            if level == Level::All {
                lateness.snapshot(&lane, position, table, &mut parts);
            }
            scoring.snapshot(&lane, position, level, table, &mut parts);
            (work, parts)
        })
        .await;
        let received = self.lane.received.load(Ordering::Relaxed).max(position);
        let end = self.lane.end.load(Ordering::Relaxed).max(received);
        let (stored, landing) = oneshot::channel();
        let snapshot = Snapshot {
            lane: self.lane.id.clone(),
            position,
            tables: work.targets.written(level.widths()).collect(),
            received,
            end,
            is_behind: self.pace.is_behind(position, end),
            readings: work.fold.readings,
            late: work.fold.late,
            parts,
            alerts: self.alerts.as_ref().and_then(LaneAlerts::awaited),
            stored,
        };
        self.report_refused(&work.fold);
        self.work = Some(work);
        self.shared.snapshots.send(snapshot).await.map_err(|_| AggregateError::Stopped)?;
        self.flight = Some((position, landing));
        self.pace.sent(level, position, end, Instant::now());
        Ok(())
    }

    /// Says that series were not taken in, each time that there are more of them.
    fn report_refused(&mut self, fold: &LaneFold) {
        let refused = fold.refused_series();
        if refused > self.refused {
            self.refused = refused;
            let why = format!(
                "{refused} series are more than their machine or the process may have, and are not in the views; raise series_per_machine_max or series_max of [aggregate], and rebuild, or mend the sender"
            );
            tracing::error!(lane = %self.lane.id, refused, "series are refused");
            counter!("stillwell_errors_total", "stage" => "aggregate", "kind" => "series").increment(1);
            self.shared.board.set(&format!("{}/series", part(&self.lane.id)), State::Failed, why);
        }
    }

    /// The snapshot on its way is stored: what it held may leave memory.
    async fn land(&mut self, stored: Result<i64, AggregateError>) -> Result<(), AggregateError> {
        self.flight = None;
        self.lane.display.durable(Offset(stored?));
        let Some(mut work) = self.work.take() else { return Err(AggregateError::Stopped) };
        let windows_max = self.pace.landed(Instant::now()).then(|| self.share.windows_bytes_max());
        let landed = compute(move || {
            work.fold.landed();
            if windows_max.is_some_and(|max| work.fold.memory_bytes() > max) {
                work.fold.evict_unused();
            }
            work
        });
        self.work = Some(landed.await);
        Ok(())
    }

    /// An orderly stop: what was received is stored first, if ClickHouse lets us.
    async fn stop(mut self) -> Result<LaneEnd, AggregateError> {
        let settle = async {
            self.pace.finish(Instant::now());
            while (self.pace.due().is_some() && self.has_news()) || self.flight.is_some() {
                if self.flight.is_none() {
                    self.launch().await?;
                }
                let stored = landed(&mut self.flight).await;
                self.land(stored).await?;
            }
            Ok(LaneEnd::Done)
        };
        tokio::time::timeout(STOP_WAIT, settle).await.unwrap_or(Ok(LaneEnd::Done))
    }
}

/// Its name on the board.
pub(crate) fn part(lane: &TopicPartition) -> String {
    format!("aggregate/{lane}")
}

/// The position that is stored; never, where no snapshot is on its way.
async fn landed(flight: &mut Option<(i64, oneshot::Receiver<()>)>) -> Result<i64, AggregateError> {
    match flight {
        None => pending().await,
        Some((position, landing)) => landing.await.map(|()| *position).map_err(|_| AggregateError::Stopped),
    }
}

/// Ends when windows are to be written elsewhere than this lane does.
async fn moved(targets: &mut watch::Receiver<Targets>, work: &Option<Box<Work>>) {
    match work {
        Some(work) => elsewhere(targets, &work.targets).await,
        None => pending().await,
    }
}

/// Ends when windows are to be written elsewhere than into these.
async fn elsewhere(targets: &mut watch::Receiver<Targets>, now: &Targets) {
    while targets.changed().await.is_ok() {
        if *targets.borrow_and_update() != *now {
            return;
        }
    }
    pending::<()>().await;
}
