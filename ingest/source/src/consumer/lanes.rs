//! The lanes of this consumer: opened at an assignment, fed, held back one by one, and closed.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use metrics::{Counter, counter};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use stillwell_schema::health::State;
use stillwell_schema::{Offset, TopicPartition};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::ConsumerSettings;
use super::client::Client;
use super::feed::Feed;
use super::watermarks::{Watched, Watchlist};
use crate::budget::Budget;
use crate::chunk::RecordChunk;
use crate::lane::{DisplayCommit, Lane, LaneEnd, Stage};

/// Chunks that a stage may have waiting: one being worked on, and enough to hide a hiccup.
const CHUNKS_WAITING_MAX: usize = 4;
/// How long the poll loop waits for a full lane before it pauses the partition: resuming makes librdkafka
/// fetch again what it had ahead.
const PATIENCE: Duration = Duration::from_millis(50);
const NAP: Duration = Duration::from_millis(1);
/// How long a lane that was taken away may take to end.
const REVOKED_WITHIN: Duration = Duration::from_secs(10);
/// How long lanes may take to flush at a stop; a little more than a stage itself waits.
const STOPPED_WITHIN: Duration = Duration::from_secs(35);
const QUERY_WITHIN: Duration = Duration::from_secs(5);
/// Bounds of the wait before a lane is opened again.
const REOPEN_MIN: Duration = Duration::from_millis(200);
const REOPEN_MAX: Duration = Duration::from_secs(10);

/// A partition that is ours.
enum Slot {
    /// To be opened again at a time.
    Closed {
        again: Instant,
        wait: Duration,
    },
    Open(Box<Open>),
}

/// A lane at work.
struct Open {
    feed: Feed,
    /// Cut chunks that the stage has no room for.
    held: VecDeque<RecordChunk>,
    paused: bool,
    chunks: mpsc::Sender<RecordChunk>,
    revoked: CancellationToken,
    task: JoinHandle<Result<LaneEnd, String>>,
    received: Arc<AtomicI64>,
    records: Counter,
    bytes: Counter,
    opened: Instant,
    wait: Duration,
}

/// All partitions that are ours.
pub(super) struct Lanes<S> {
    settings: ConsumerSettings,
    stage: Arc<S>,
    budget: Budget,
    runtime: Handle,
    display: mpsc::UnboundedSender<(TopicPartition, Offset)>,
    watched: Watchlist,
    slots: Vec<(TopicPartition, Slot)>,
    /// The slot of the record before: records come in runs of one partition.
    last: usize,
}

impl<S: Stage> Lanes<S> {
    pub(super) fn new(
        settings: ConsumerSettings,
        stage: Arc<S>,
        budget: Budget,
        runtime: Handle,
        display: mpsc::UnboundedSender<(TopicPartition, Offset)>,
        watched: Watchlist,
    ) -> Self {
        Self { settings, stage, budget, runtime, display, watched, slots: Vec::new(), last: 0 }
    }

    /// Opens newly assigned partitions and assigns them to the client, each at its position, in one call.
    /// Those that have no position yet are tried again later.
    pub(super) fn assign(&mut self, client: &Client, partitions: Vec<(String, i32)>) {
        let mut list = TopicPartitionList::new();
        for (topic, partition) in partitions {
            let id = TopicPartition::new(topic, partition);
            let slot = self.open(client, &id, REOPEN_MIN, &mut list);
            self.slots.push((id, slot));
        }
        if let Err(error) = client.incremental_assign(&list) {
            tracing::error!(%error, "kafka refuses an assignment");
        }
        self.publish_watchlist();
    }

    /// Closes partitions that went to another member.
    pub(super) fn revoke(&mut self, client: &Client, partitions: &[(String, i32)]) {
        let mut list = TopicPartitionList::new();
        let is_gone =
            |id: &TopicPartition| partitions.iter().any(|(t, p)| **t == *id.topic && *p == id.partition);
        let (gone, kept) = std::mem::take(&mut self.slots).into_iter().partition(|(id, _)| is_gone(id));
        self.slots = kept;
        self.last = 0;
        let gone: Vec<(TopicPartition, Slot)> = gone;
        let mut ending = Vec::new();
        for (id, slot) in gone {
            list.add_partition(&id.topic, id.partition);
            self.settings.board.remove(&part(&self.settings, &id));
            if let Slot::Open(open) = slot {
                open.revoked.cancel();
                ending.push((id, open.task));
            }
        }
        for (id, task) in ending {
            let ended = self.runtime.block_on(async { timeout(REVOKED_WITHIN, task).await });
            if ended.is_err() {
                tracing::warn!(lane = %id, "the lane does not end; whatever it still does is fenced");
            }
        }
        if let Err(error) = client.incremental_unassign(&list) {
            tracing::warn!(%error, "kafka refuses to give partitions up");
        }
        self.publish_watchlist();
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

    /// Cuts what is due of one lane and hands it to the stage, which is given a moment to make room; then
    /// the partition is paused.
    fn hand_on(&mut self, client: &Client, at: usize, now: Instant) {
        let (bytes, age) = (self.settings.chunk_bytes, self.settings.chunk_age);
        let budget = self.budget.clone();
        let (id, Slot::Open(open)) = &mut self.slots[at] else { return };
        if let Some(chunk) = open.feed.cut(bytes, age, now) {
            open.records.increment(chunk.len() as u64);
            open.bytes.increment(chunk.payload_bytes() as u64);
            open.received.store(chunk.range().next.0, Ordering::Relaxed);
            open.held.push_back(chunk);
        }
        let until = Instant::now() + PATIENCE;
        while !open.drain(&budget) && !open.paused {
            if Instant::now() >= until {
                open.paused = true;
                let mut list = TopicPartitionList::new();
                list.add_partition(&id.topic, id.partition);
                if let Err(error) = client.pause(&list) {
                    tracing::warn!(%error, lane = %id, "kafka cannot pause a partition");
                }
                return;
            }
            std::thread::sleep(NAP);
        }
    }

    /// What is to be done now and then: cut chunks by age, resume what was paused, look after ended lanes.
    pub(super) fn tend(&mut self, client: &Client) {
        let now = Instant::now();
        for at in 0..self.slots.len() {
            let (id, slot) = &mut self.slots[at];
            match slot {
                Slot::Open(open) if open.task.is_finished() => {
                    let wait = if open.opened.elapsed() > REOPEN_MAX { REOPEN_MIN } else { open.wait };
                    let ended = self.runtime.block_on(&mut open.task);
                    report(&self.settings, id, &ended);
                    let again =
                        now + if matches!(ended, Ok(Ok(LaneEnd::Restart))) { Duration::ZERO } else { wait };
                    *slot = Slot::Closed { again, wait: (wait * 2).min(REOPEN_MAX) };
                    let mut list = TopicPartitionList::new();
                    list.add_partition(&id.topic, id.partition);
                    if let Err(error) = client.incremental_unassign(&list) {
                        tracing::debug!(%error, lane = %id, "a partition was not assigned");
                    }
                }
                Slot::Closed { again, wait } if *again <= now => {
                    let (id, wait) = (id.clone(), (*wait * 2).min(REOPEN_MAX));
                    let mut list = TopicPartitionList::new();
                    self.slots[at].1 = self.open(client, &id, wait, &mut list);
                    if list.count() > 0
                        && let Err(error) = client.incremental_assign(&list)
                    {
                        tracing::error!(%error, lane = %id, "kafka refuses an assignment");
                    }
                    self.publish_watchlist();
                }
                Slot::Open(_) => {
                    self.hand_on(client, at, now);
                    self.resume(client, at);
                }
                Slot::Closed { .. } => {}
            }
        }
    }

    fn resume(&mut self, client: &Client, at: usize) {
        let (id, Slot::Open(open)) = &mut self.slots[at] else { return };
        if open.paused && open.held.is_empty() && open.chunks.capacity() > CHUNKS_WAITING_MAX / 2 {
            let mut list = TopicPartitionList::new();
            list.add_partition(&id.topic, id.partition);
            match client.resume(&list) {
                Ok(()) => open.paused = false,
                Err(error) => tracing::warn!(%error, lane = %id, "kafka cannot resume a partition"),
            }
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
            let Slot::Open(mut open) = slot else { continue };
            open.held.extend(open.feed.flush());
            tasks.push(async move {
                for chunk in open.held {
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

    /// Asks where a partition starts and starts its lane; it is added to `list` at that offset.
    fn open(
        &self,
        client: &Client,
        id: &TopicPartition,
        wait: Duration,
        list: &mut TopicPartitionList,
    ) -> Slot {
        let closed = || Slot::Closed { again: Instant::now() + wait, wait };
        let position = self.runtime.block_on(self.stage.position(id)).map_err(|error| error.to_string());
        let ends = client.fetch_watermarks(&id.topic, id.partition, QUERY_WITHIN);
        let (position, (low, high)) = match (position, ends) {
            (Ok(position), Ok(ends)) => (position, ends),
            (Err(error), _) => {
                self.show(id, State::Waiting, format!("its position is not known: {error}"));
                return closed();
            }
            (_, Err(error)) => {
                self.show(id, State::Waiting, format!("kafka does not say where it ends: {error}"));
                return closed();
            }
        };
        let start = position.unwrap_or(Offset(low));
        if start.0 > high {
            let detail = format!(
                "stored position {start} lies beyond the topic's end {high}: the topic was made anew or cut; give it another name, or start with an empty store"
            );
            tracing::error!(lane = %id, detail, "a lane stands still");
            self.show(id, State::Failed, detail);
            return Slot::Closed { again: Instant::now() + REOPEN_MAX, wait: REOPEN_MAX };
        }
        if start.0 < low {
            tracing::error!(lane = %id, first = start.0, next = low, "records fell to the topic's retention before they were read; keep them longer (retention.ms)");
        }
        let at = rdkafka::Offset::Offset(start.0.max(low));
        if let Err(error) = list.add_partition_offset(&id.topic, id.partition, at) {
            tracing::error!(%error, lane = %id, "an offset is refused");
            return closed();
        }
        Slot::Open(Box::new(self.start(id, start, (low, high), wait)))
    }

    fn start(&self, id: &TopicPartition, start: Offset, (low, high): (i64, i64), wait: Duration) -> Open {
        let (chunks, receiver) = mpsc::channel(CHUNKS_WAITING_MAX);
        let revoked = CancellationToken::new();
        let end = Arc::new(AtomicI64::new(high));
        let received = Arc::new(AtomicI64::new(start.0));
        let lane = Lane {
            id: id.clone(),
            start,
            chunks: receiver,
            revoked: revoked.clone(),
            display: DisplayCommit::new(id.clone(), self.display.clone()),
            end: Arc::clone(&end),
        };
        let stage = Arc::clone(&self.stage);
        let task = self.runtime.spawn(async move { stage.run(lane).await.map_err(|error| describe(&error)) });
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.push(Watched { lane: id.clone(), end, received: Arc::clone(&received) });
        Open {
            feed: Feed::new(id.clone(), start, Offset(low)),
            held: VecDeque::new(),
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

    /// Forgets the ends of lanes that are closed.
    fn publish_watchlist(&self) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let open = |received: &Arc<AtomicI64>| {
            self.slots.iter().any(|(_, slot)| match slot {
                Slot::Open(open) => Arc::ptr_eq(&open.received, received),
                Slot::Closed { .. } => false,
            })
        };
        watched.retain(|lane| open(&lane.received));
    }

    fn show(&self, id: &TopicPartition, state: State, detail: String) {
        if state == State::Waiting {
            tracing::warn!(lane = %id, detail, "a lane waits");
        }
        self.settings.board.set(&part(&self.settings, id), state, detail);
    }
}

impl Open {
    /// Hands held chunks to the stage as long as it and the budget have room; whether all went.
    fn drain(&mut self, budget: &Budget) -> bool {
        while let Some(mut chunk) = self.held.pop_front() {
            let room = self.chunks.try_reserve();
            let claim = budget.try_claim(chunk.memory_bytes());
            match (room, claim) {
                (Ok(room), Some(claim)) => {
                    chunk.hold(claim);
                    room.send(chunk);
                }
                // A lane that has ended is looked after by `tend`.
                _ => {
                    self.held.push_front(chunk);
                    return false;
                }
            }
        }
        true
    }
}

fn part(settings: &ConsumerSettings, id: &TopicPartition) -> String {
    format!("{}/{id}", settings.stage)
}

fn report(
    settings: &ConsumerSettings,
    id: &TopicPartition,
    ended: &Result<Result<LaneEnd, String>, tokio::task::JoinError>,
) {
    let error = match ended {
        Ok(Ok(_)) => return,
        Ok(Err(error)) => error.clone(),
        Err(error) => error.to_string(),
    };
    tracing::error!(lane = %id, error, "a lane ended; it is started again");
    settings.board.set(&part(settings, id), State::Failed, error);
}

/// An error with its causes.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = next.source();
    }
    text
}
