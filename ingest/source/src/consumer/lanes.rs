//! The lanes of this consumer: opened at an assignment, fed, held back one by one, and closed.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use metrics::counter;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use stillwell_schema::health::State;
use stillwell_schema::{Offset, TopicPartition};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::ConsumerSettings;
use super::client::{Client, enter, give_up, list_of};
use super::feed::Feed;
use super::held::{Full, Held};
use super::lookup::{Refusal, Start, start_of};
use super::slot::{Open, REOPEN_MAX, REOPEN_MIN, Slot, closed_for, describe, part, reopen_after, report};
use super::watermarks::{Watched, Watchlist};
use crate::budget::Budget;
use crate::lane::{DisplayCommit, Lane, LaneEnd, Stage};

/// Chunks that a stage may have waiting: one being worked on, and enough to hide a hiccup.
const CHUNKS_WAITING_MAX: usize = 4;
const NAP: Duration = Duration::from_millis(1);
/// How long lanes that were taken away may take to end.
const REVOKED_WITHIN: Duration = Duration::from_secs(10);
/// How long lanes may take to flush at a stop; a little more than a stage itself waits.
const STOPPED_WITHIN: Duration = Duration::from_secs(35);
/// Where lanes come from.
pub(super) struct Sources<S> {
    pub(super) stage: Arc<S>,
    pub(super) ends: Arc<BaseConsumer>,
    pub(super) watched: Watchlist,
}

/// All partitions that are ours.
pub(super) struct Lanes<S> {
    settings: ConsumerSettings,
    sources: Sources<S>,
    budget: Budget,
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
        Self { settings, sources, budget, runtime, display, slots: Vec::new(), last: 0 }
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
        use rdkafka::message::{Headers, Message};
        let Some(at) = self.find(message.topic(), message.partition()) else { return };
        let Slot::Open(open) = &mut self.slots[at].1 else { return };
        // Had the pause been in force, it would not have come.
        open.paused = false;
        let headers = message.headers();
        let headers = headers.iter().flat_map(|h| h.iter().map(|header| (header.key, header.value)));
        let timestamp_ms = message.timestamp().to_millis().unwrap_or(-1);
        open.feed.take(
            Offset(message.offset()),
            timestamp_ms,
            message.key(),
            message.payload(),
            headers,
            now,
        );
        if open.feed.holds(self.settings.chunk_bytes) {
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
        let (bytes, age) = (self.settings.chunk_bytes, self.settings.chunk_age);
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
        for at in 0..self.slots.len() {
            let (id, slot) = &self.slots[at];
            match slot {
                Slot::Closed { again, wait } if *again <= now => {
                    let starting = self.look_up(id, *wait);
                    self.slots[at].1 = starting;
                }
                Slot::Starting { lookup, .. } if lookup.is_finished() => self.open(client, at),
                Slot::Open(open) if open.task.is_finished() => self.close(client, at),
                Slot::Open(_) => {
                    self.hand_on(client, at, now);
                    self.resume(client, at);
                }
                Slot::Closed { .. } | Slot::Starting { .. } => {}
            }
        }
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

    /// Starts every lane over: the broker says that an offset is out of range, but not whose.
    pub(super) fn reopen_all(&mut self, client: &Client) {
        let all: Vec<(String, i32)> =
            self.slots.iter().map(|(id, _)| (id.topic.to_string(), id.partition)).collect();
        self.revoke(client, &all);
        self.assign(client, all);
    }

    /// Flushes and ends every lane, in order.
    pub(super) fn stop(&mut self) {
        let mut tasks = Vec::new();
        for (id, slot) in std::mem::take(&mut self.slots) {
            let mut open = match slot {
                Slot::Open(open) => open,
                Slot::Starting { lookup, .. } => {
                    lookup.abort();
                    continue;
                }
                Slot::Closed { .. } => continue,
            };
            tasks.push(async move {
                for chunk in open.held.take().chain(open.feed.flush()) {
                    // A lane that has ended needs no more chunks.
                    let _ = open.chunks.send(chunk).await;
                }
                drop(open.chunks);
                (id, open.task.await)
            });
        }
        let ended =
            self.runtime.block_on(async { timeout(STOPPED_WITHIN, futures::future::join_all(tasks)).await });
        match ended {
            Ok(ended) => ended.iter().for_each(|(id, ended)| report(&self.settings, id, ended)),
            Err(_) => {
                tracing::warn!("lanes do not end in time; what they hold is read again at the next start");
            }
        }
    }

    fn look_up(&self, id: &TopicPartition, wait: Duration) -> Slot {
        let Sources { stage, ends, .. } = &self.sources;
        let lookup = self.runtime.spawn(start_of(Arc::clone(stage), Arc::clone(ends), id.clone()));
        Slot::Starting { lookup, wait }
    }

    /// Starts the lane whose start has been looked up.
    fn open(&mut self, client: &Client, at: usize) {
        let (id, Slot::Starting { lookup, wait }) = &mut self.slots[at] else { return };
        let (id, wait) = (id.clone(), *wait);
        let found = self.runtime.block_on(lookup).unwrap_or_else(|e| Err(Refusal::waiting(e.to_string())));
        let entered = found.and_then(|start| match enter(client, &id, start.fetched()) {
            Ok(()) => Ok(start),
            Err(error) => Err(Refusal::waiting(format!("kafka refuses to assign it: {error}"))),
        });
        self.slots[at].1 = match entered {
            Ok(start) => {
                if start.offset.0 < start.low {
                    tracing::error!(lane = %id, first = start.offset.0, next = start.low, "records fell to the topic's retention before they were read; keep them longer (retention.ms)");
                }
                self.settings.board.set(&part(&self.settings, &id), State::Ok, "");
                Slot::Open(Box::new(self.start(&id, start, wait)))
            }
            Err(Refusal { state, detail }) => {
                self.show(&id, state, detail);
                closed_for(if state == State::Failed { REOPEN_MAX } else { wait }, wait)
            }
        };
    }

    fn start(&self, id: &TopicPartition, start: Start, wait: Duration) -> Open {
        let (chunks, receiver) = mpsc::channel(CHUNKS_WAITING_MAX);
        let revoked = CancellationToken::new();
        let end = Arc::new(AtomicI64::new(start.high));
        let received = Arc::new(AtomicI64::new(start.offset.0));
        let lane = Lane {
            id: id.clone(),
            start: start.offset,
            chunks: receiver,
            revoked: revoked.clone(),
            display: DisplayCommit::new(id.clone(), self.display.clone()),
            end: Arc::clone(&end),
        };
        let stage = Arc::clone(&self.sources.stage);
        let task = self.runtime.spawn(async move { stage.run(lane).await.map_err(|error| describe(&error)) });
        let mut watched = self.sources.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.push(Watched { lane: id.clone(), end, received: Arc::clone(&received) });
        Open {
            feed: Feed::new(id.clone(), start.offset, Offset(start.low)),
            held: Held::default(),
            paused: false,
            chunks,
            revoked,
            task,
            received,
            records: counter!("stillwell_received_records_total", "stage" => self.settings.stage),
            bytes: counter!("stillwell_received_bytes_total", "stage" => self.settings.stage),
            opened: Instant::now(),
            wait,
        }
    }

    /// Closes a lane whose task has ended; it is opened again from its stored position.
    fn close(&mut self, client: &Client, at: usize) {
        let (id, Slot::Open(open)) = &mut self.slots[at] else { return };
        let ended = self.runtime.block_on(&mut open.task);
        report(&self.settings, id, &ended);
        let restart = matches!(ended, Ok(Ok(LaneEnd::Restart)));
        let (after, wait) = reopen_after(restart, open.opened.elapsed(), open.wait);
        if let Err(error) = give_up(client, &[(id.topic.to_string(), id.partition)]) {
            tracing::warn!(%error, lane = %id, "kafka refuses to give a partition up");
        }
        self.slots[at].1 = closed_for(after, wait);
        self.forget_closed();
    }

    /// Forgets the ends of lanes that are closed.
    fn forget_closed(&self) {
        let mut watched = self.sources.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|lane| {
            self.slots.iter().any(
                |(_, slot)| matches!(slot, Slot::Open(open) if Arc::ptr_eq(&open.received, &lane.received)),
            )
        });
    }

    fn show(&self, id: &TopicPartition, state: State, detail: String) {
        if state == State::Failed {
            tracing::error!(lane = %id, detail, "a lane stands still");
        } else {
            tracing::warn!(lane = %id, detail, "a lane waits");
        }
        self.settings.board.set(&part(&self.settings, id), state, detail);
    }
}

impl<S> Drop for Lanes<S> {
    /// Lanes that are left when the polling ends out of order are told not to go on.
    fn drop(&mut self) {
        for (_, slot) in &self.slots {
            match slot {
                Slot::Open(open) => open.revoked.cancel(),
                Slot::Starting { lookup, .. } => lookup.abort(),
                Slot::Closed { .. } => {}
            }
        }
    }
}
