//! One lane of the write side: gathers chunks into an open batch while at most one batch before it is being
//! committed.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use stillwell_schema::health::State;
use stillwell_schema::{Head, Offset, TopicPartition};
use stillwell_source::backoff::Backoff;
use stillwell_source::chunk::RecordChunk;
use stillwell_source::decode::{Decoder, decoder_for};
use stillwell_source::halt::Streak;
use stillwell_source::lane::{DisplayCommit, Lane, LaneEnd};
use stillwell_source::original::Looks;
use stillwell_source::settings::TopicSettings;
use stillwell_source::waiting::Waiting;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::commit::Outcome;
use crate::dead::DeadLetterSink;
use crate::error::IngestError;
use crate::gc::Timetable;
use crate::memory::Holder;
use crate::stage::Shared;
use crate::workers::compute;
use crate::writer::{Batch, PushError};

mod compaction;
mod flight;
mod flush;
mod patience;
mod sweep;
mod trim;
mod wait;

use flush::Reason;

/// How long a lane that was taken away waits for its commit in flight, so that its successor need not read the
/// same records again; below the 10 s that the consumer waits.
const REVOKED_WAIT: Duration = Duration::from_secs(5);

/// How long an orderly stop waits for a store that is away. What is then not stored is read again from Kafka
/// at the next start.
const STOP_WAIT: Duration = Duration::from_secs(30);

/// Runs a lane to its end.
pub(crate) async fn run<D: DeadLetterSink>(
    shared: Arc<Shared<D>>,
    mut lane: Lane,
    holder: Holder,
    sweeps: Arc<Timetable>,
) -> Result<LaneEnd, IngestError> {
    shared.show(&lane.id, State::Starting, "reading the manifest");
    let Some(head) = head(&shared, &lane).await? else { return Ok(LaneEnd::Done) };
    if let Some(next) = head.next.filter(|next| *next < lane.start) {
        return Err(IngestError::Ahead { lane: lane.id, start: lane.start, next });
    }
    let topic = shared.topics.get(&*lane.id.topic);
    let topic = topic.ok_or_else(|| IngestError::UnknownTopic(lane.id.topic.to_string()))?.clone();
    shared.show(&lane.id, State::Ok, "");
    sweeps.enter(&lane.id, shared.clock.now_us());
    let next = head.next.unwrap_or(lane.start);
    let (id, display) = (lane.id.clone(), lane.display.clone());
    let decoder = Some(decoder_for(&topic));
    let writer = Writer {
        shared,
        id,
        topic,
        display,
        holder,
        head,
        next,
        decoder,
        open: None,
        looks: Looks::default(),
        streak: Streak::default(),
        waiting: None,
        flight: None,
        launched_us: 0,
        sweeps,
    };
    writer.run(&mut lane).await
}

/// The head of the lane's chain, waited for; none where the lane was taken away meanwhile.
async fn head<D: DeadLetterSink>(shared: &Shared<D>, lane: &Lane) -> Result<Option<Head>, IngestError> {
    let mut backoff = Backoff::new(shared.limits.retry, u64::from(lane.id.partition.unsigned_abs()));
    loop {
        match shared.head(&lane.id).await {
            Err(error) if error.is_transient() => shared.show_error(&lane.id, &error),
            head => return head.map(Some),
        }
        tokio::select! {
            biased;
            () = lane.revoked.cancelled() => return Ok(None),
            () = backoff.wait() => {}
        }
    }
}

/// A lane at work.
struct Writer<D> {
    shared: Arc<Shared<D>>,
    id: TopicPartition,
    topic: TopicSettings,
    display: DisplayCommit,
    /// What the lane holds of the memory.
    holder: Holder,
    /// The end of the lane's chain, as of the last commit that ended.
    head: Head,
    /// The next offset to receive.
    next: Offset,
    /// The lane's decoder, save while it is at work.
    decoder: Option<Box<dyn Decoder>>,
    open: Option<Open>,
    /// What records of the batch before looked like.
    looks: Looks,
    /// The batches before it, as long as most of them cannot be decoded.
    streak: Streak,
    /// Records that cannot be decoded for now; none are received meanwhile.
    waiting: Option<Waiting>,
    flight: Option<AbortOnDropHandle<Result<Outcome, IngestError>>>,
    /// When the last flight began.
    launched_us: i64,
    /// When what dead writers left is looked for.
    sweeps: Arc<Timetable>,
}

/// The open batch.
struct Open {
    batch: Batch,
    /// When it is committed at the latest.
    due: Instant,
}

impl<D: DeadLetterSink> Writer<D> {
    async fn run(mut self, lane: &mut Lane) -> Result<LaneEnd, IngestError> {
        loop {
            let full = self.full();
            if let Some(reason) = full.filter(|_| self.flight.is_none()) {
                self.launch(reason);
                continue;
            }
            let full = full.is_some();
            let look = self.waiting.as_ref().map(Waiting::look_at);
            let due = self.open.as_ref().filter(|_| self.flight.is_none()).map(|open| open.due);
            tokio::select! {
                biased;
                () = lane.revoked.cancelled() => return self.revoked().await,
                outcome = landed(&mut self.flight) => {
                    if let Some(end) = self.land(outcome?) {
                        return Ok(end);
                    }
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.launch(Reason::Freshness);
                }
                () = self.holder.told(), if due.is_some() || full => {}
                () = sleep_until(look.unwrap_or_else(Instant::now)), if look.is_some() && !full => {
                    if lane.chunks.is_closed() {
                        return self.stop(lane).await;
                    }
                    self.try_again().await?;
                }
                chunk = lane.chunks.recv(), if !full && look.is_none() => match chunk {
                    Some(chunk) => self.receive(chunk).await?,
                    None if lane.revoked.is_cancelled() => return self.revoked().await,
                    None => return self.stop(lane).await,
                },
            }
        }
    }

    /// Takes a chunk into the open batch, decoded.
    async fn receive(&mut self, chunk: RecordChunk) -> Result<(), IngestError> {
        let Some(chunk) = trim::from(chunk, self.next) else { return Ok(()) };
        self.push(chunk, Waiting::backoff(self.shared.limits.retry, &self.id)).await
    }

    /// Goes on with the records that wait, if it is time.
    async fn try_again(&mut self) -> Result<(), IngestError> {
        let Some(waiting) = self.waiting.take_if(|waiting| waiting.is_due()) else { return Ok(()) };
        let (rest, backoff) = waiting.into_parts();
        self.push(rest, backoff).await?;
        if self.waiting.is_none() {
            tracing::info!(lane = %self.id, "decoding goes on");
            self.shared.show(&self.id, State::Ok, "");
        }
        Ok(())
    }

    async fn push(&mut self, mut chunk: RecordChunk, backoff: Backoff) -> Result<(), IngestError> {
        let first = chunk.range().first;
        // The batch counts for it once it is in.
        let claim = chunk.take_claim();
        let mut decoder = self.decoder.take().unwrap_or_else(|| decoder_for(&self.topic));
        let Open { mut batch, due } = self.open.take().unwrap_or_else(|| {
            decoder.new_table();
            let due = Instant::now() + self.shared.limits.flush_interval;
            let looks = std::mem::take(&mut self.looks);
            Open { batch: Batch::new(self.id.clone(), self.next).with_looks(looks), due }
        });
        let (batch, decoder, pushed) = compute(&*self.shared.workers, move || {
            let pushed = batch.push(&mut *decoder, chunk);
            (batch, decoder, pushed)
        })
        .await;
        self.holder.set_decoder(decoder.memory_bytes());
        self.decoder = Some(decoder);
        self.next = batch.range().next;
        self.open = Some(Open { batch, due }).filter(|open| !open.batch.range().is_empty());
        self.holder.set_open(self.open.as_ref().map_or(0, |open| open.batch.memory_bytes()), claim);
        match pushed {
            Ok(()) => {}
            Err(PushError::Range(source)) => return Err(IngestError::Hole { lane: self.id.clone(), source }),
            Err(PushError::Stalled { error, mut rest }) => {
                let claim = self.holder.lay_aside(rest.memory_bytes());
                rest.hold(claim);
                let fresh = Waiting::backoff(self.shared.limits.retry, &self.id);
                // What another record waits for is waited for from the first.
                let backoff = if rest.range().first > first { fresh } else { backoff };
                self.wait_with(*rest, &error, backoff);
            }
        }
        Ok(())
    }

    /// Sends the open batch on its way into the archive.
    fn launch(&mut self, reason: Reason) {
        if let Some(open) = self.open.take().filter(|open| !open.batch.range().is_empty()) {
            self.say_flush(&open, reason);
            self.looks = open.batch.looks();
            let load = self.holder.launch(open.batch.memory_bytes());
            let halted = self.streak.judge(open.batch.tally(), self.topic.dead_letter_share_max);
            let flight = flight::Flight {
                shared: Arc::clone(&self.shared),
                dead_letters: self.topic.dead_letters.clone(),
                halted: halted.map(Box::new),
                display: self.display.clone(),
                head: self.head.clone(),
            };
            self.launched_us = self.shared.clock.now_us();
            self.flight = Some(AbortOnDropHandle::new(tokio::spawn(flight.run(open.batch, load))));
        }
    }

    /// Takes note of a commit's outcome, which may be the lane's end.
    fn land(&mut self, outcome: Outcome) -> Option<LaneEnd> {
        self.flight = None;
        self.holder.landed();
        match outcome {
            Outcome::Fenced => Some(LaneEnd::Restart),
            Outcome::Committed(head) => {
                let commit = sweep::Commit { launched_us: self.launched_us, head: &head };
                sweep::if_due(&self.shared, &self.sweeps, &self.id, commit);
                self.head = head;
                self.show_waiting();
                None
            }
        }
    }

    /// The partition went to another: what is open is its to read again.
    async fn revoked(mut self) -> Result<LaneEnd, IngestError> {
        if self.flight.is_some() {
            // Its successor learns the outcome from the manifest, whatever it is.
            let _ = timeout(REVOKED_WAIT, landed(&mut self.flight)).await;
        }
        Ok(LaneEnd::Done)
    }

    /// An orderly stop: everything received is made durable first, if the store lets us.
    async fn stop(mut self, lane: &Lane) -> Result<LaneEnd, IngestError> {
        let settled = async {
            while self.flight.is_some() || self.open.is_some() {
                if self.flight.is_none() {
                    self.launch(Reason::Stop);
                }
                if self.flight.is_some() {
                    let outcome = landed(&mut self.flight).await?;
                    if let Some(end) = self.land(outcome) {
                        return Ok(end);
                    }
                }
            }
            Ok(LaneEnd::Done)
        };
        tokio::select! {
            biased;
            settled = timeout(STOP_WAIT, settled) => settled.unwrap_or_else(|_| {
                tracing::warn!(lane = %lane.id, "stopping without the last batch, as the archive is away; it will be read again");
                Ok(LaneEnd::Done)
            }),
            () = lane.revoked.cancelled() => Ok(LaneEnd::Done),
        }
    }
}

/// The outcome of the commit in flight; never, where there is none.
async fn landed(
    flight: &mut Option<AbortOnDropHandle<Result<Outcome, IngestError>>>,
) -> Result<Outcome, IngestError> {
    match flight {
        None => pending().await,
        Some(handle) => match handle.await {
            Ok(outcome) => outcome,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // Aborted with its runtime, and so are we.
            Err(_) => pending().await,
        },
    }
}
