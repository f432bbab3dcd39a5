//! A lane: one partition's ordered path from Kafka into a stage.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use stillwell_schema::{Offset, TopicPartition};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::chunk::RecordChunk;

/// What a stage does with the partitions it is given.
pub trait Stage: Send + Sync + 'static {
    /// Why a lane could not go on.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The stage's own stored position of a lane: the next offset to read. None means that the lane is
    /// new and begins at the earliest offset. Called for several lanes at once, and dropped where the lane is
    /// revoked meanwhile; an error is logged and shown by its class ([`Stage::is_transient`]), and the partition
    /// asked for again with backoff.
    fn position(
        &self,
        lane: &TopicPartition,
    ) -> impl Future<Output = Result<Option<Offset>, Self::Error>> + Send;

    /// Whether an error of [`Stage::position`] passes by itself, so that the lane waits, or needs an operator.
    #[must_use]
    fn is_transient(_error: &Self::Error) -> bool {
        true
    }

    /// Runs a lane until its chunks end (revoked or shut down) or it cannot go on. Errors that pass by
    /// themselves (store away) are waited out inside, with backoff; meanwhile the lane's partition is
    /// paused once the lane holds its part of the stage's memory, and the others go on with the rest of it.
    fn run(&self, lane: Lane) -> impl Future<Output = Result<LaneEnd, Self::Error>> + Send;
}

/// One partition handed to a stage.
#[derive(Debug)]
pub struct Lane {
    /// Which one.
    pub id: TopicPartition,
    /// Where it starts: what [`Stage::position`] said, or the earliest offset there is.
    pub start: Offset,
    /// Chunks in order, each starting where the one before ended. It closes when the stage is to stop:
    /// after [`Lane::revoked`] is cancelled nothing more need be made durable, else (an orderly shut-down)
    /// what was received is to be flushed first.
    pub chunks: mpsc::Receiver<RecordChunk>,
    /// Cancelled when the partition went to another member of the group.
    pub revoked: CancellationToken,
    /// Commits positions to Kafka for lag display.
    pub display: DisplayCommit,
    /// The log's end as last seen: the offset that the next record written will have.
    pub end: Arc<AtomicI64>,
    /// What was received: the offset after the last chunk that was made of it, which may still wait to be taken.
    pub received: Arc<AtomicI64>,
}

/// How a lane ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneEnd {
    /// Its chunks ended.
    Done,
    /// Another writer went ahead (this one is fenced): ask [`Stage::position`] anew and start over.
    Restart,
}

/// Tells Kafka the group's committed offset of a lane, which nothing but lag display reads. Never blocks
/// and never fails: only the newest value of a lane is kept, and the consumer commits it when it can.
#[derive(Clone, Debug)]
pub struct DisplayCommit {
    lane: TopicPartition,
    out: mpsc::UnboundedSender<(TopicPartition, Offset)>,
}

impl DisplayCommit {
    /// For lane `lane`, into the consumer's queue.
    #[must_use]
    pub fn new(lane: TopicPartition, out: mpsc::UnboundedSender<(TopicPartition, Offset)>) -> Self {
        Self { lane, out }
    }

    /// The lane is durable up to `next`.
    pub fn durable(&self, next: Offset) {
        // A closed queue means that the consumer has stopped; nobody displays lag then.
        let _ = self.out.send((self.lane.clone(), next));
    }
}
