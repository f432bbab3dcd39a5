//! Writes what all lanes have changed, about once a second, in one INSERT a table; then waits until the alerts that the
//! lanes have raised meanwhile are out ([`outbox`]); and then moves the lanes' positions.
//!
//! **Invariant:** the position of a lane is stored after everything below it. A crash between the two only
//! replays, and what is replayed is already in the rows, which know their version.
//!
//! Rows of all lanes are written together, so a store that is away holds all of them up. Alerts hold up
//! nobody but their lane, and of that only what follows them: its scorers' states and its position.

use std::sync::Arc;
use std::time::Duration;

use stillwell_schema::health::Board;
use stillwell_schema::{Clock, TopicPartition};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use crate::snapshot::Part;
use crate::stage::Awaited;
use crate::store::Store;

mod outbox;
mod writer;

use outbox::Outbox;
use writer::Writer;

/// Lanes that flush within this of each other share their INSERTs.
const GATHER: Duration = Duration::from_millis(20);
/// The same of lanes that are far behind.
const GATHER_BEHIND: Duration = Duration::from_millis(500);
/// Writes under way at a time, each of other lanes: while one waits for the store's disk, it works at the next.
const WRITES_MAX: usize = 2;
/// Snapshots that may wait: one for each lane of a large process.
pub(crate) const SNAPSHOTS_MAX: usize = 256;

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
    /// Whether that is so far ahead that nobody waits for this.
    pub is_behind: bool,
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

/// Snapshots by the step that is next.
#[derive(Default)]
struct Batch {
    fresh: Vec<Snapshot>,
    /// Those whose alerts are out.
    out: Vec<Snapshot>,
    /// When it is written; none while there is nothing.
    due: Option<Instant>,
}

impl Batch {
    fn add(&mut self, snapshot: Snapshot, is_out: bool) {
        let due = Instant::now() + if snapshot.is_behind { GATHER_BEHIND } else { GATHER };
        self.due = Some(self.due.map_or(due, |other| other.min(due)));
        let of = if is_out { &mut self.out } else { &mut self.fresh };
        of.push(snapshot);
    }
}

/// What writes for all lanes of a process.
pub(crate) struct Flusher<S> {
    writer: Arc<Writer<S>>,
    outbox: Outbox,
    writing: JoinSet<Vec<(Snapshot, Awaited)>>,
}

impl<S: Store> Flusher<S> {
    pub(crate) fn new(store: S, board: Board, clock: Arc<dyn Clock>) -> Self {
        let writer = Arc::new(Writer { store, board, clock });
        Self { writer, outbox: Outbox::default(), writing: JoinSet::new() }
    }

    /// Writes until the last lane is gone.
    pub(crate) async fn run(mut self, mut snapshots: mpsc::Receiver<Snapshot>) {
        let (mut batch, mut is_open) = (Batch::default(), true);
        while is_open || batch.due.is_some() || !self.writing.is_empty() {
            let is_due = batch.due.filter(|_| self.writing.len() < WRITES_MAX);
            tokio::select! {
                biased;
                Some(written) = self.writing.join_next() => self.settle(written),
                () = sleep_until(is_due.unwrap_or_else(Instant::now)), if is_due.is_some() => {
                    let Batch { fresh, out, .. } = std::mem::take(&mut batch);
                    self.writing.spawn(Arc::clone(&self.writer).write(fresh, out));
                }
                more = snapshots.recv(), if is_open => match more {
                    Some(snapshot) => batch.add(snapshot, false),
                    None => is_open = false,
                },
                out = self.outbox.next(), if is_open => batch.add(out, true),
            }
        }
    }

    /// Snapshots of which only the alerts are not out yet wait for these.
    fn settle(&mut self, written: Result<Vec<(Snapshot, Awaited)>, JoinError>) {
        match written {
            Ok(waiting) => {
                waiting.into_iter().for_each(|(snapshot, alerts)| self.outbox.put(snapshot, alerts));
            }
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}
