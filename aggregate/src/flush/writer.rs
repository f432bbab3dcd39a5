//! Writes snapshots: their rows, then what says that they are there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::{join, join_all};
use metrics::{counter, gauge, histogram};
use stillwell_schema::Clock;
use stillwell_schema::health::{Board, State};

use super::Snapshot;
use crate::error::AggregateError;
use crate::lateness;
use crate::native::Block;
use crate::snapshot::Part;
use crate::stage::Awaited;
use crate::store::Store;

/// Bounds of the wait between two tries.
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// Tables of which rows are found by others, and are thus written after the windows.
const AFTER_WINDOWS: &[&str] =
    &["latest_rows", lateness::TABLE, "refused_series", "commissioning", "models", "anomaly_rows"];
/// Written when the alerts are out: a scorer does not score a record again that its state is past.
const STATES: &str = "scorer_states";
/// Written when what a lane has counted is: who finds a largest time of readings finds them counted.
const HIGHS: &str = "series_highs";

/// What is to be done for a snapshot, in this order; in between its alerts have to be out.
#[derive(Clone, Copy)]
enum Step {
    Rows,
    Position,
}

/// The store, and what is told of it.
pub(super) struct Writer<S> {
    pub(super) store: S,
    pub(super) board: Board,
    pub(super) clock: Arc<dyn Clock>,
}

impl<S: Store> Writer<S> {
    /// Writes the rows of `fresh`, and what says so of those and of `out`; gives those whose alerts are not out yet.
    pub(super) async fn write(
        self: Arc<Self>,
        fresh: Vec<Snapshot>,
        mut out: Vec<Snapshot>,
    ) -> Vec<(Snapshot, Awaited)> {
        let began = Instant::now();
        let mut waiting = Vec::new();
        for mut snapshot in self.store(Step::Rows, fresh).await {
            match snapshot.alerts.take().filter(|alerts| !alerts.is_out()) {
                None => out.push(snapshot),
                Some(alerts) => {
                    snapshot.parts.retain(|part| part.table == STATES || part.table == HIGHS);
                    waiting.push((snapshot, alerts));
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
        histogram!("stillwell_flush_seconds").record(began.elapsed().as_secs_f64());
        waiting
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
                let now_us = self.clock.now_us();
                // What a lane has counted goes before where it goes on: what is folded again is not counted again.
                let counted = self.store.insert("positions", vec![positions(batch, now_us)]);
                let (states, counted) = join(self.insert(|table| table == STATES, batch), counted).await;
                states.and(counted)?;
                self.insert(|table| table == HIGHS, batch).await?;
                self.store.insert("lane_positions", vec![lane_positions(batch, now_us)]).await
            }
        }
    }

    /// Writes the parts of these tables: windows of all widths at the same time, then the others.
    async fn insert(&self, is_meant: fn(&str) -> bool, batch: &[Snapshot]) -> Result<(), AggregateError> {
        let parts = batch.iter().flat_map(|snapshot| &snapshot.parts).filter(|part| is_meant(&part.table));
        let mut tables = [BTreeMap::<&str, Vec<&Part>>::new(), BTreeMap::new()];
        for part in parts {
            let is_after = AFTER_WINDOWS.contains(&&*part.table);
            tables[usize::from(is_after)].entry(&part.table).or_default().push(part);
        }
        for tables in tables {
            let inserts = tables.into_iter().map(|(table, parts)| self.insert_into(table, parts));
            // Each is waited for, so that none is under way beside its repetition.
            join_all(inserts).await.into_iter().collect::<Result<(), _>>()?;
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
