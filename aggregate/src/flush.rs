//! Writes what all lanes have changed, about once a second, in one INSERT a table; then waits until the alerts that the
//! lanes have raised meanwhile are out ([`outbox`]); and then moves the lanes' positions.
//!
//! **Invariant:** the position of a lane is stored after everything below it. A crash between the two only
//! replays, and what is replayed is already in the rows, which know their version.
//!
//! Rows of all lanes are written together, so a store that is away holds all of them up. Alerts hold up
//! nobody but their lane, and of that only what follows them: its scorers' states and its position.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::try_join_all;
use metrics::{counter, gauge, histogram};
use stillwell_schema::health::{Board, State};
use stillwell_schema::{Clock, TopicPartition};
use tokio::sync::{mpsc, oneshot};

use crate::error::AggregateError;
use crate::lateness;
use crate::native::Block;
use crate::snapshot::Part;
use crate::stage::Awaited;
use crate::store::Store;

mod outbox;

use outbox::Outbox;

/// Lanes that flush within this of each other share their INSERTs.
const GATHER: Duration = Duration::from_millis(20);
/// Bounds of the wait between two tries.
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// Snapshots that may wait: one for each lane of a large process.
pub(crate) const SNAPSHOTS_MAX: usize = 256;

/// Tables that are written after the windows, in their order: what others are found by comes later.
const ORDER: &[&str] =
    &["latest_rows", lateness::TABLE, "refused_series", "commissioning", "models", "anomaly_rows", STATES];
/// Written when the alerts are out: a scorer does not score a record again that its state is past.
const STATES: &str = "scorer_states";
/// Written when what a lane has counted is: who finds a largest time of readings finds them counted.
const HIGHS: &str = "series_highs";

/// What a lane has changed up to an offset.
#[derive(Debug)]
pub struct Snapshot {
    /// The lane.
    pub lane: TopicPartition,
    /// The next offset of the lane: everything below is in `parts` or was written before.
    pub position: i64,
    /// The tables of windows that are complete up to there.
    pub tables: Vec<Arc<str>>,
    /// The next offset that the lane has not received; what lies between it and `position` waits to be decoded or
    /// folded.
    pub received: i64,
    /// The log's end as last seen.
    pub end: i64,
    /// Readings folded in the lane's life.
    pub readings: u64,
    /// Late ones among them.
    pub late: u64,
    /// What changed.
    pub parts: Vec<Part>,
    /// Alerts that have to be out before its lane may go on from here.
    pub alerts: Option<Awaited>,
    /// Told when all is stored.
    pub stored: oneshot::Sender<()>,
}

/// What is to be done for a snapshot, in this order; in between its alerts have to be out.
#[derive(Clone, Copy)]
enum Step {
    Rows,
    Position,
}

/// Snapshots by the step that is next.
#[derive(Default)]
struct Batch {
    fresh: Vec<Snapshot>,
    /// Those whose alerts are out.
    out: Vec<Snapshot>,
}

/// The one writer of a process.
pub(crate) struct Flusher<S> {
    store: S,
    outbox: Outbox,
    board: Board,
    clock: Arc<dyn Clock>,
}

impl<S: Store> Flusher<S> {
    pub(crate) fn new(store: S, board: Board, clock: Arc<dyn Clock>) -> Self {
        Self { store, outbox: Outbox::default(), board, clock }
    }

    /// Writes until the last lane is gone.
    pub(crate) async fn run(mut self, mut snapshots: mpsc::Receiver<Snapshot>) {
        while let Some(batch) = self.gather(&mut snapshots).await {
            let began = Instant::now();
            self.write(batch).await;
            histogram!("stillwell_flush_seconds").record(began.elapsed().as_secs_f64());
        }
    }

    /// What there is to write; none when the lanes are gone.
    async fn gather(&mut self, snapshots: &mut mpsc::Receiver<Snapshot>) -> Option<Batch> {
        let mut batch = Batch::default();
        tokio::select! {
            biased;
            first = snapshots.recv() => batch.fresh.push(first?),
            out = self.outbox.next() => batch.out.push(out),
        }
        let gather = tokio::time::sleep(GATHER);
        tokio::pin!(gather);
        loop {
            tokio::select! {
                biased;
                () = &mut gather => return Some(batch),
                more = snapshots.recv() => match more {
                    Some(snapshot) => batch.fresh.push(snapshot),
                    None => return Some(batch),
                },
                out = self.outbox.next() => batch.out.push(out),
            }
        }
    }

    async fn write(&mut self, Batch { fresh, mut out }: Batch) {
        for mut snapshot in self.store(Step::Rows, fresh).await {
            match snapshot.alerts.take().filter(|alerts| !alerts.is_out()) {
                None => out.push(snapshot),
                Some(alerts) => {
                    snapshot.parts.retain(|part| part.table == STATES || part.table == HIGHS);
                    self.outbox.put(snapshot, alerts);
                }
            }
        }
        for snapshot in self.store(Step::Position, out).await {
            let (topic, partition) = (snapshot.lane.topic.to_string(), snapshot.lane.partition.to_string());
            #[allow(clippy::cast_precision_loss, reason = "gauges are floats; offsets stay below 2^53")]
            gauge!("stillwell_watermark_offset", "stage" => "aggregate", "topic" => topic, "partition" => partition,
                "mark" => "visible")
            .set(snapshot.position as f64);
            // A lane that is gone needs no answer.
            let _ = snapshot.stored.send(());
        }
    }

    /// Does a step, however often it takes: rows are absolute, so a repetition changes nothing. Lanes that are
    /// gone meanwhile are left out; their successors replay it.
    async fn store(&self, step: Step, mut batch: Vec<Snapshot>) -> Vec<Snapshot> {
        let mut wait = RETRY_MIN;
        while let Err(error) = self.try_store(step, &batch).await {
            let why = error.to_string();
            if wait == RETRY_MIN {
                tracing::warn!(error = why, "views wait");
            }
            counter!("stillwell_errors_total", "stage" => "aggregate", "kind" => "store").increment(1);
            self.board.set("aggregate", error.state(), why);
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
            batch.retain(|snapshot| !snapshot.stored.is_closed());
        }
        if wait > RETRY_MIN {
            self.board.set("aggregate", State::Ok, "");
        }
        batch
    }

    async fn try_store(&self, step: Step, batch: &[Snapshot]) -> Result<(), AggregateError> {
        match step {
            _ if batch.is_empty() => Ok(()),
            Step::Rows => self.insert(|table| table != STATES && table != HIGHS, batch).await,
            Step::Position => {
                self.insert(|table| table == STATES, batch).await?;
                let now_us = self.clock.now_us();
                // What a lane has counted goes before where it goes on: what is folded again is not counted again.
                self.store.insert("positions", vec![positions(batch, now_us)]).await?;
                self.insert(|table| table == HIGHS, batch).await?;
                self.store.insert("lane_positions", vec![lane_positions(batch, now_us)]).await
            }
        }
    }

    /// Writes the parts of these tables: windows of all widths at the same time, then the others one after the other.
    async fn insert(&self, is_meant: fn(&str) -> bool, batch: &[Snapshot]) -> Result<(), AggregateError> {
        let parts = batch.iter().flat_map(|snapshot| &snapshot.parts).filter(|part| is_meant(&part.table));
        let rank = |table: &str| ORDER.iter().position(|other| *other == table).map_or(0, |at| at + 1);
        let mut ranks = BTreeMap::<usize, BTreeMap<&str, Vec<&Part>>>::new();
        for part in parts {
            ranks.entry(rank(&part.table)).or_default().entry(&part.table).or_default().push(part);
        }
        for tables in ranks.into_values() {
            let inserts = tables.into_iter().map(|(table, parts)| self.insert_into(table, parts));
            try_join_all(inserts).await?;
        }
        Ok(())
    }

    async fn insert_into(&self, table: &str, parts: Vec<&Part>) -> Result<(), AggregateError> {
        let rows: usize = parts.iter().map(|part| part.rows).sum();
        self.store.insert(table, parts.into_iter().map(|part| part.bytes.clone()).collect()).await?;
        counter!("stillwell_flush_rows_total", "table" => table.to_owned()).increment(rows as u64);
        Ok(())
    }
}

fn lane_positions(batch: &[Snapshot], now_us: i64) -> Bytes {
    let rows = || batch.iter().flat_map(|s| s.tables.iter().map(move |table| (s, table)));
    let mut block = Block::new(5, rows().count());
    block.strings("topic", rows().map(|(s, _)| &*s.lane.topic));
    block.i32s("partition", rows().map(|(s, _)| s.lane.partition));
    block.strings("table_name", rows().map(|(_, table)| &**table));
    block.i64s("position", rows().map(|(s, _)| s.position));
    block.times("updated", rows().map(|_| now_us));
    block.finish()
}

fn positions(batch: &[Snapshot], now_us: i64) -> Bytes {
    let mut block = Block::new(8, batch.len());
    block.strings("topic", batch.iter().map(|s| &*s.lane.topic));
    block.i32s("partition", batch.iter().map(|s| s.lane.partition));
    block.i64s("position", batch.iter().map(|s| s.position));
    block.i64s("received", batch.iter().map(|s| s.received));
    block.i64s("end_offset", batch.iter().map(|s| s.end));
    block.u64s("readings", batch.iter().map(|s| s.readings));
    block.u64s("late", batch.iter().map(|s| s.late));
    block.times("updated", batch.iter().map(|_| now_us));
    block.finish()
}
