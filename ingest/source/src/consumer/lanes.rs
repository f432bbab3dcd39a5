//! The lanes of this consumer: taken in at an assignment, opened ([`open`]), fed, held back one by one, and
//! ended ([`end`]).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use stillwell_schema::{Offset, TopicPartition};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::ConsumerSettings;
use super::client::{Client, give_up, list_of};
use super::headers;
use super::held::Full;
use super::slot::{REOPEN_MIN, Slot, part};
use super::watermarks::Watchlist;
use crate::budget::{Budget, Claim, Part};
use crate::lane::Stage;

mod end;
mod open;

/// The lanes' open chunks together hold about this part of the budget: with many lanes, each cuts smaller ones.
const CUT_SHARE: usize = 32;
/// Below this, handing a chunk over would cost more than what is in it.
const CHUNK_BYTES_MIN: usize = 64 << 10;
/// librdkafka counts for this part of the budget at most, so that lanes have theirs whatever the user lets it read
/// ahead; a warning says so.
const AHEAD_SHARE: usize = 2;

/// Chunks that a stage may have waiting: one being worked on, and enough to hide a hiccup.
const CHUNKS_WAITING_MAX: usize = 4;
const NAP: Duration = Duration::from_millis(1);
/// How long lanes that were taken away may take to end.
const REVOKED_WITHIN: Duration = Duration::from_secs(10);

/// Where lanes come from.
pub(super) struct Sources<S> {
    pub(super) stage: Arc<S>,
    pub(super) ends: Arc<BaseConsumer>,
    pub(super) watched: Watchlist,
    /// What librdkafka may hold.
    pub(super) ahead_bytes: usize,
}

/// All partitions that are ours.
pub(super) struct Lanes<S> {
    settings: ConsumerSettings,
    sources: Sources<S>,
    budget: Budget,
    /// What the budget counts for librdkafka, and for the chunks that are being cut or wait for room, as of the last
    /// tending.
    ahead: Claim,
    /// A chunk is handed on when it holds this many bytes.
    chunk_bytes: usize,
    runtime: Handle,
    display: mpsc::UnboundedSender<(TopicPartition, Offset)>,
    slots: Vec<(TopicPartition, Slot)>,
    /// The slot of the record before: records come in runs of one partition.
    last: usize,
}

impl<S: Stage> Lanes<S> {
    pub(super) fn new(
        settings: ConsumerSettings,
        sources: Sources<S>,
        budget: Budget,
        runtime: Handle,
        display: mpsc::UnboundedSender<(TopicPartition, Offset)>,
    ) -> Self {
        warn_of_ahead(settings.stage, sources.ahead_bytes, budget.bytes_max());
        let ahead = budget.hold(None, Part::Kafka, ahead_share(&sources, &budget));
        let chunk_bytes = settings.chunk_bytes;
        Self { settings, sources, budget, ahead, chunk_bytes, runtime, display, slots: Vec::new(), last: 0 }
    }

    /// Takes partitions in. The group has its answer at once; each partition is assigned to the client when
    /// its start is known ([`Lanes::tend`]), so that none waits for another.
    pub(super) fn assign(&mut self, client: &Client, partitions: Vec<(String, i32)>) {
        for (topic, partition) in partitions {
            let id = TopicPartition::new(topic, partition);
            if self.slots.iter().all(|(known, _)| *known != id) {
                let slot = self.look_up(&id, REOPEN_MIN);
                self.slots.push((id, slot));
            }
        }
        if let Err(error) = client.incremental_assign(&TopicPartitionList::new()) {
            tracing::error!(%error, "kafka refuses an assignment");
        }
    }

    /// Closes partitions that went to another member.
    pub(super) fn revoke(&mut self, client: &Client, partitions: &[(String, i32)]) {
        let is_gone =
            |id: &TopicPartition| partitions.iter().any(|(t, p)| **t == *id.topic && *p == id.partition);
        let (gone, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.slots).into_iter().partition(|(id, _)| is_gone(id));
        self.slots = kept;
        self.last = 0;
        let mut ending = Vec::new();
        for (id, slot) in gone {
            self.settings.board.remove(&part(&self.settings, &id));
            match slot {
                Slot::Open(open) => {
                    open.revoked.cancel();
                    ending.push(open.task);
                }
                Slot::Ending(lane) => {
                    lane.revoked.cancel();
                    ending.push(lane.task);
                }
                Slot::Starting { lookup, .. } => lookup.abort(),
                Slot::Closed { .. } => {}
            }
        }
        let all_end = futures::future::join_all(ending);
        if self.runtime.block_on(async { timeout(REVOKED_WITHIN, all_end).await }).is_err() {
            tracing::warn!("revoked lanes do not end; whatever they still do is fenced");
        }
        if let Err(error) = give_up(client, partitions) {
            tracing::error!(%error, "kafka refuses to give partitions up");
        }
        self.forget_closed();
    }

    /// Takes a record in.
    #[inline]
    pub(super) fn take(
        &mut self,
        client: &Client,
        message: &rdkafka::message::BorrowedMessage<'_>,
        now: Instant,
    ) {
        use rdkafka::message::Message;
        let Some(at) = self.find(message.topic(), message.partition()) else { return };
        let Slot::Open(open) = &mut self.slots[at].1 else { return };
        // Had the pause been in force, it would not have come.
        open.paused = false;
        open.out_of_range = None;
        let offset = Offset(message.offset());
        let expected = open.feed.expects();
        if open.is_wary && offset > expected {
            tracing::error!(lane = %self.slots[at].0, from = expected.0, to = offset.0, "records could not be read; the lane starts over");
            return self.retire(client, at);
        }
        open.is_wary &= offset != expected;
        let headers = headers::of(message);
        let headers = headers.iter().map(|(name, value)| (&**name, *value));
        let timestamp_ms = message.timestamp().to_millis().unwrap_or(-1);
        open.feed.take(offset, timestamp_ms, message.key(), message.payload(), headers, now);
        if open.feed.holds(self.chunk_bytes) {
            self.hand_on(client, at, now);
        }
    }

    fn find(&mut self, topic: &str, partition: i32) -> Option<usize> {
        let fits = |(id, _): &(TopicPartition, Slot)| id.partition == partition && *id.topic == *topic;
        if !self.slots.get(self.last).is_some_and(fits) {
            self.last = self.slots.iter().position(fits)?;
        }
        Some(self.last)
    }

    /// Cuts what is due of one lane and hands it to the stage; a lane that is full is paused.
    fn hand_on(&mut self, client: &Client, at: usize, now: Instant) {
        let (bytes, age) = (self.chunk_bytes, self.settings.chunk_age);
        let Slot::Open(open) = &mut self.slots[at].1 else { return };
        if let Some(chunk) = open.feed.cut(bytes, age, now) {
            open.records.increment(chunk.len() as u64);
            open.bytes.increment(chunk.payload_bytes() as u64);
            open.received.store(chunk.range().next.0, Ordering::Relaxed);
            open.held.push(chunk);
        }
        if open.held.drain(&open.chunks, &self.budget) || open.paused {
            return;
        }
        let others_have_room = self.slots.iter().enumerate().any(|(other, (_, slot))| {
            other != at && matches!(slot, Slot::Open(open) if !open.paused && open.held.is_empty())
        });
        let (id, Slot::Open(open)) = &mut self.slots[at] else { return };
        let since = Instant::now();
        loop {
            match open.held.when_full(others_have_room, since.elapsed()) {
                Full::GoOn => return,
                Full::Wait => std::thread::sleep(NAP),
                Full::Pause => break,
            }
            if open.held.drain(&open.chunks, &self.budget) {
                return;
            }
        }
        match client.pause(&list_of(id)) {
            Ok(()) => open.paused = true,
            Err(error) => tracing::warn!(%error, lane = %id, "kafka cannot pause a partition"),
        }
    }

    /// What is to be done now and then: cut chunks by age, resume what was paused, open and close lanes.
    pub(super) fn tend(&mut self, client: &Client) {
        let now = Instant::now();
        self.count_memory();
        for at in 0..self.slots.len() {
            let (id, slot) = &self.slots[at];
            match slot {
                Slot::Closed { again, wait } if *again <= now => {
                    let starting = self.look_up(id, *wait);
                    self.slots[at].1 = starting;
                }
                Slot::Starting { lookup, .. } if lookup.is_finished() => self.open(client, at),
                Slot::Open(open) if open.task.is_finished() => self.close(client, at),
                Slot::Ending(ending) if ending.task.is_finished() => self.close(client, at),
                Slot::Open(_) => {
                    self.hand_on(client, at, now);
                    self.resume(client, at);
                    self.hold_to_its_log(client, at);
                }
                Slot::Closed { .. } | Slot::Starting { .. } | Slot::Ending(_) => {}
            }
        }
    }

    /// Counts the chunks that are being cut or wait for room, and bounds them by the number of lanes.
    fn count_memory(&mut self) {
        let cut = |(_, slot): &(TopicPartition, Slot)| match slot {
            Slot::Open(open) => open.feed.memory_bytes() + open.held.unclaimed_bytes(),
            _ => 0,
        };
        let cut_bytes: usize = self.slots.iter().map(cut).sum();
        self.ahead.turn(Part::Kafka, ahead_share(&self.sources, &self.budget) + cut_bytes);
        self.chunk_bytes = chunk_bytes(self.budget.bytes_max(), self.slots.len(), self.settings.chunk_bytes);
    }

    fn resume(&mut self, client: &Client, at: usize) {
        let (id, Slot::Open(open)) = &mut self.slots[at] else { return };
        if open.paused && open.held.is_empty() && open.chunks.capacity() > CHUNKS_WAITING_MAX / 2 {
            match client.resume(&list_of(id)) {
                Ok(()) => open.paused = false,
                Err(error) => tracing::warn!(%error, lane = %id, "kafka cannot resume a partition"),
            }
        }
    }

    /// Resumes every lane that should flow. librdkafka drops a resume that its own pause at a rebalance
    /// overtakes; where nothing is paused this does nothing.
    pub(super) fn nudge(&self, client: &Client) {
        let mut list = TopicPartitionList::new();
        for (id, slot) in &self.slots {
            if matches!(slot, Slot::Open(open) if !open.paused) {
                list.add_partition(&id.topic, id.partition);
            }
        }
        if let Err(error) = client.resume(&list) {
            tracing::warn!(%error, "kafka cannot resume partitions");
        }
    }
}

/// Bytes that the budget counts for librdkafka.
fn ahead_share<S>(sources: &Sources<S>, budget: &Budget) -> usize {
    sources.ahead_bytes.min(budget.bytes_max() / AHEAD_SHARE)
}

/// Says where librdkafka may take more than the budget counts for it.
fn warn_of_ahead(stage: &str, ahead_bytes: usize, bytes_max: usize) {
    let counted = bytes_max / AHEAD_SHARE;
    if ahead_bytes > counted {
        tracing::warn!(
            stage,
            ahead_bytes,
            counted,
            memory_bytes_max = bytes_max,
            "librdkafka may read further ahead than memory_bytes_max counts for it, and the process grow by the rest; lower queued.max.messages.kbytes, queued.min.messages or fetch.max.bytes under [kafka], or raise memory_bytes_max"
        );
    }
}

/// At how many bytes each of `lanes` lanes cuts a chunk; `most` where they are few.
fn chunk_bytes(bytes_max: usize, lanes: usize, most: usize) -> usize {
    (bytes_max / CUT_SHARE / lanes.max(1)).max(CHUNK_BYTES_MIN).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_lanes_cut_smaller_chunks() {
        let (mib, most) = (1 << 20, 1 << 20);
        assert_eq!(chunk_bytes(256 * mib, 1, most), most);
        assert_eq!(chunk_bytes(256 * mib, 8, most), most);
        assert_eq!(chunk_bytes(256 * mib, 64, most), 128 << 10);
        assert_eq!(chunk_bytes(256 * mib, 10_000, most), CHUNK_BYTES_MIN);
        assert_eq!(chunk_bytes(0, 0, 1), 1);
    }
}
