//! How a lane ends: by itself, in order at a stop, or because what was read of its log is not to be trusted.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use stillwell_schema::TopicPartition;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::timeout;

use super::super::client::{Client, give_up};
use super::super::doubt::{Finding, finding};
use super::super::lookup::refuse_for_good;
use super::super::slot::{Ending, REOPEN_MIN, Slot, closed_for, reopen_after, report};
use super::Lanes;
use crate::chunk::RecordChunk;
use crate::lane::{LaneEnd, Stage};

/// How long lanes may take to flush at a stop; a little more than a stage itself waits.
const STOPPED_WITHIN: Duration = Duration::from_secs(35);

impl<S: Stage> Lanes<S> {
    /// An offset of some lane is out of range: each is held against its log until it gets a record.
    pub(in super::super) fn doubt_all(&mut self) {
        for (_, slot) in &mut self.slots {
            if let Slot::Open(open) = slot {
                open.out_of_range = Some(open.marks.looks());
            }
        }
    }

    /// Some lane's records cannot be read, and what comes next may follow a hole: a jump in the offsets of a
    /// lane is no gap of its log until a record has come without one.
    pub(in super::super) fn be_wary(&mut self) {
        for (_, slot) in &mut self.slots {
            if let Slot::Open(open) = slot {
                open.is_wary = true;
            }
        }
    }

    /// Starts the lane over if it is in doubt and its log does not have its next offset.
    pub(super) fn hold_to_its_log(&mut self, client: &Client, at: usize) {
        let (id, Slot::Open(open)) = &self.slots[at] else { return };
        let Some(since) = open.out_of_range else { return };
        let is_idle = !open.paused && open.held.is_empty();
        let (next, (low, high)) = (open.feed.expects(), open.marks.ends());
        let Some(found) = finding(next, low, high, open.marks.looks() - since, is_idle) else { return };
        tracing::error!(lane = %id, next = next.0, low, high, ?found, "an offset is out of range; the lane starts over");
        if found == Finding::Beyond {
            refuse_for_good(&self.settings.group, id, next, high);
        }
        self.retire(client, at);
    }

    /// Ends a lane in order, to be opened again from its stored position: what it has received is made durable
    /// first.
    pub(super) fn retire(&mut self, client: &Client, at: usize) {
        let (id, slot) = &mut self.slots[at];
        let mut open = match std::mem::replace(slot, closed_for(REOPEN_MIN, REOPEN_MIN)) {
            Slot::Open(open) => open,
            other => {
                *slot = other;
                return;
            }
        };
        if let Err(error) = give_up(client, &[(id.topic.to_string(), id.partition)]) {
            tracing::warn!(%error, lane = %id, "kafka refuses to give a partition up");
        }
        self.runtime.spawn(hand_over(open.take_rest(&self.budget), open.chunks));
        let (revoked, task, opened, wait) = (open.revoked, open.task, open.opened, open.wait);
        *slot = Slot::Ending(Ending { revoked, task, opened, wait });
        self.forget_closed();
    }

    /// Flushes and ends every lane, in order.
    pub(in super::super) fn stop(&mut self) {
        let mut tasks = Vec::new();
        for (id, slot) in std::mem::take(&mut self.slots) {
            match slot {
                Slot::Open(mut open) => {
                    self.runtime.spawn(hand_over(open.take_rest(&self.budget), open.chunks));
                    tasks.push(ended(id, open.task));
                }
                Slot::Ending(ending) => tasks.push(ended(id, ending.task)),
                Slot::Starting { lookup, .. } => lookup.abort(),
                Slot::Closed { .. } => {}
            }
        }
        let all = futures::future::join_all(tasks);
        match self.runtime.block_on(async { timeout(STOPPED_WITHIN, all).await }) {
            Ok(ended) => ended.iter().for_each(|(id, ended)| report(&self.settings, id, ended)),
            Err(_) => {
                tracing::warn!("lanes do not end in time; what they hold is read again at the next start");
            }
        }
    }

    /// Closes a lane whose task has ended; it is opened again from its stored position.
    pub(super) fn close(&mut self, client: &Client, at: usize) {
        let (id, slot) = &mut self.slots[at];
        let (task, opened, wait) = match slot {
            Slot::Open(open) => (&mut open.task, open.opened, open.wait),
            Slot::Ending(ending) => (&mut ending.task, ending.opened, ending.wait),
            Slot::Starting { .. } | Slot::Closed { .. } => return,
        };
        let ended = self.runtime.block_on(task);
        report(&self.settings, id, &ended);
        let restart = matches!(ended, Ok(Ok(LaneEnd::Restart)));
        let (after, wait) = reopen_after(restart, opened.elapsed(), wait);
        if let Err(error) = give_up(client, &[(id.topic.to_string(), id.partition)]) {
            tracing::warn!(%error, lane = %id, "kafka refuses to give a partition up");
        }
        *slot = closed_for(after, wait);
        self.forget_closed();
    }

    /// Forgets the ends of lanes that are closed.
    pub(super) fn forget_closed(&self) {
        let mut watched = self.sources.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|lane| {
            self.slots.iter().any(
                |(_, slot)| matches!(slot, Slot::Open(open) if Arc::ptr_eq(&open.received, &lane.received)),
            )
        });
    }
}

/// Hands a lane the last that it gets, then closes its chunks.
async fn hand_over(rest: Vec<RecordChunk>, chunks: mpsc::Sender<RecordChunk>) {
    for chunk in rest {
        // A lane that has ended needs no more chunks.
        let _ = chunks.send(chunk).await;
    }
}

type Ended = Result<Result<LaneEnd, String>, JoinError>;

async fn ended(id: TopicPartition, task: JoinHandle<Result<LaneEnd, String>>) -> (TopicPartition, Ended) {
    (id, task.await)
}

impl<S> Drop for Lanes<S> {
    /// Lanes that are left when the polling ends out of order are told not to go on.
    fn drop(&mut self) {
        for (_, slot) in &self.slots {
            match slot {
                Slot::Open(open) => open.revoked.cancel(),
                Slot::Ending(ending) => ending.revoked.cancel(),
                Slot::Starting { lookup, .. } => lookup.abort(),
                Slot::Closed { .. } => {}
            }
        }
    }
}
