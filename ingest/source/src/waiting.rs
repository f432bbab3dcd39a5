//! Records that cannot be decoded for now, as something that decoding needs is away (a schema registry).
//!
//! Their lane keeps them, in order, and takes no more until they are decoded: nothing that may be readable later
//! becomes a dead letter, and what was decoded before them is stored as ever.

use std::time::Duration;

use stillwell_schema::TopicPartition;
use tokio::time::Instant;

use crate::backoff::{Backoff, Retry};
use crate::chunk::RecordChunk;
use crate::decode::TransientError;

/// How long a waiting lane may take to see that it is to stop.
const LOOK: Duration = Duration::from_millis(250);

/// What a lane waits with, until it tries again.
#[derive(Debug)]
pub struct Waiting {
    rest: RecordChunk,
    backoff: Backoff,
    reason: String,
    again: Instant,
}

impl Waiting {
    /// Waits with `rest`, whose first record ended in `error`, for the next span of `backoff`.
    #[must_use]
    pub fn new(rest: RecordChunk, error: &TransientError, mut backoff: Backoff) -> Self {
        let reason = format!("decoding waits at offset {}: {error}", rest.range().first);
        let again = Instant::now() + backoff.next_wait();
        Self { rest, backoff, reason, again }
    }

    /// The waits of a lane that has not waited yet.
    #[must_use]
    pub fn backoff(retry: Retry, lane: &TopicPartition) -> Backoff {
        Backoff::new(retry, u64::from(lane.partition.unsigned_abs()))
    }

    /// What is waited for, for the board.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// When to look after it: to try again, or to see whether the lane is to stop.
    #[must_use]
    pub fn look_at(&self) -> Instant {
        self.again.min(Instant::now() + LOOK)
    }

    /// Whether it is time to try again.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.again <= Instant::now()
    }

    /// The records to decode, and the waits as they stand.
    #[must_use]
    pub fn into_parts(self) -> (RecordChunk, Backoff) {
        (self.rest, self.backoff)
    }
}
