//! Writes what all lanes have changed, about once a second, in one INSERT a table; and then, when all of it is
//! stored, moves the lanes' positions.
//!
//! **Invariant:** the position of a lane is stored after everything below it. A crash between the two only
//! replays, and what is replayed is already in the rows, which know their version.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use metrics::{counter, gauge, histogram};
use stillwell_schema::health::{Board, State};
use stillwell_schema::{Clock, TopicPartition};
use tokio::sync::{mpsc, oneshot};

use crate::alerts::{Alert, Alerts};
use crate::client::Store;
use crate::error::AggregateError;
use crate::native::Block;
use crate::snapshot::Part;

/// Lanes that flush within this of each other share their INSERTs.
const GATHER: Duration = Duration::from_millis(20);
/// Bounds of the wait between two tries.
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// Snapshots that may wait: one for each lane of a large process.
pub(crate) const SNAPSHOTS_MAX: usize = 256;

/// Tables in the order in which they are written: what others are found by comes later.
const ORDER: &[&str] = &[
    "windows_10s",
    "windows_1m",
    "windows_1h",
    "windows_1d",
    "latest_rows",
    "commissioning",
    "models",
    "anomaly_rows",
];
/// Written when the alerts are out: a scorer does not score a record again that its state is past.
const LAST: &[&str] = &["scorer_states"];

/// What a lane has changed up to an offset.
#[derive(Debug)]
pub struct Snapshot {
    /// The lane.
    pub lane: TopicPartition,
    /// The next offset of the lane: everything below is in `parts` or was written before.
    pub position: i64,
    /// The next offset that was received.
    pub received: i64,
    /// The log's end as last seen.
    pub end: i64,
    /// Readings folded in the lane's life.
    pub readings: u64,
    /// Late ones among them.
    pub late: u64,
    /// What changed.
    pub parts: Vec<Part>,
    /// Alerts raised since the last snapshot.
    pub alerts: Vec<Alert>,
    /// Told when all is stored.
    pub stored: oneshot::Sender<()>,
}

/// The one writer of a process.
pub(crate) struct Flusher {
    pub(crate) store: Store,
    pub(crate) alerts: Alerts,
    pub(crate) board: Board,
    pub(crate) clock: std::sync::Arc<dyn Clock>,
}

impl Flusher {
    /// Writes until the last lane is gone.
    pub(crate) async fn run(mut self, mut snapshots: mpsc::Receiver<Snapshot>) {
        while let Some(first) = snapshots.recv().await {
            let mut batch = vec![first];
            let gather = tokio::time::sleep(GATHER);
            tokio::pin!(gather);
            loop {
                tokio::select! {
                    () = &mut gather => break,
                    more = snapshots.recv() => match more {
                        Some(snapshot) => batch.push(snapshot),
                        None => break,
                    },
                }
            }
            self.write(batch).await;
        }
    }

    /// Writes a batch, however often it takes: rows are absolute, so a repetition changes nothing.
    async fn write(&mut self, mut batch: Vec<Snapshot>) {
        let began = Instant::now();
        let mut wait = RETRY_MIN;
        while let Err(error) = self.try_write(&mut batch).await {
            let why = error.to_string();
            if wait == RETRY_MIN {
                tracing::warn!(error = why, "views wait");
            }
            counter!("stillwell_errors_total", "stage" => "aggregate", "kind" => "store").increment(1);
            self.board.set("aggregate", State::Waiting, why);
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
            // Lanes that are gone by now have their successors replay it.
            batch.retain(|snapshot| !snapshot.stored.is_closed());
        }
        self.board.set("aggregate", State::Ok, "");
        histogram!("stillwell_flush_seconds").record(began.elapsed().as_secs_f64());
        for snapshot in batch {
            let (topic, partition) = (snapshot.lane.topic.to_string(), snapshot.lane.partition.to_string());
            #[allow(clippy::cast_precision_loss, reason = "gauges are floats; offsets stay below 2^53")]
            gauge!("stillwell_watermark_offset", "stage" => "aggregate", "topic" => topic, "partition" => partition,
                "mark" => "visible")
            .set(snapshot.position as f64);
            // A lane that is gone needs no answer.
            let _ = snapshot.stored.send(());
        }
    }

    async fn try_write(&mut self, batch: &mut [Snapshot]) -> Result<(), AggregateError> {
        self.insert(ORDER, batch).await?;
        for snapshot in batch.iter_mut() {
            self.alerts.publish(&snapshot.lane, snapshot.position, &mut snapshot.alerts).await?;
        }
        self.insert(LAST, batch).await?;
        self.store.insert("positions", positions(batch, self.clock.now_us())).await
    }

    async fn insert(&self, tables: &[&'static str], batch: &[Snapshot]) -> Result<(), AggregateError> {
        for table in tables {
            let parts = batch.iter().flat_map(|snapshot| &snapshot.parts).filter(|part| part.table == *table);
            let (mut rows, mut blocks) = (0, Vec::new());
            for part in parts {
                rows += part.rows;
                blocks.push(part.bytes.clone());
            }
            if rows > 0 {
                self.store.insert(table, joined(blocks)).await?;
                counter!("stillwell_flush_rows_total", "table" => *table).increment(rows as u64);
            }
        }
        Ok(())
    }
}

fn joined(mut blocks: Vec<Bytes>) -> Bytes {
    if blocks.len() == 1 {
        return blocks.swap_remove(0);
    }
    let mut all = BytesMut::with_capacity(blocks.iter().map(Bytes::len).sum());
    blocks.iter().for_each(|block| all.extend_from_slice(block));
    all.freeze()
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
