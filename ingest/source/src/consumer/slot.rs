//! A partition that is ours, and how its lane is.
//!
//! ```text
//!         its time          its start is known      what was read is not to be trusted
//! Closed ─────────▶ Starting ───────────────▶ Open ────────────────────────────────────▶ Ending
//!   ▲                  │ refused               │ its task ended              its task ended │
//!   └──────────────────┴───────────────────────┴────────────────────────────────────────────┘
//! ```

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::{Duration, Instant};

use metrics::Counter;
use stillwell_schema::TopicPartition;
use stillwell_schema::health::State;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::ConsumerSettings;
use super::doubt::Marks;
use super::feed::Feed;
use super::held::Held;
use super::lookup::{Refusal, Start};
use crate::budget::Budget;
use crate::chunk::RecordChunk;
use crate::lane::LaneEnd;

/// Bounds of the wait before a lane is opened again.
pub(super) const REOPEN_MIN: Duration = Duration::from_millis(200);
pub(super) const REOPEN_MAX: Duration = Duration::from_secs(10);

/// A partition that is ours. `wait` is the wait after the next failure.
pub(super) enum Slot {
    /// To be opened again at a time.
    Closed {
        again: Instant,
        wait: Duration,
    },
    /// Its start is being looked up.
    Starting {
        lookup: JoinHandle<Result<Start, Refusal>>,
        wait: Duration,
    },
    Open(Box<Open>),
    Ending(Ending),
}

/// A lane that gets no more records, while its stage makes durable what it has.
pub(super) struct Ending {
    pub(super) revoked: CancellationToken,
    pub(super) task: JoinHandle<Result<LaneEnd, String>>,
    pub(super) opened: Instant,
    pub(super) wait: Duration,
}

/// A lane at work.
pub(super) struct Open {
    pub(super) feed: Feed,
    /// Cut chunks that the stage has no room for.
    pub(super) held: Held,
    pub(super) paused: bool,
    /// Whether a jump in its offsets may be a hole that an error left.
    pub(super) is_wary: bool,
    /// How often its log had been looked at when an offset that may be its own was out of range.
    pub(super) out_of_range: Option<u64>,
    pub(super) marks: Arc<Marks>,
    pub(super) chunks: mpsc::Sender<RecordChunk>,
    pub(super) revoked: CancellationToken,
    pub(super) task: JoinHandle<Result<LaneEnd, String>>,
    pub(super) received: Arc<AtomicI64>,
    pub(super) records: Counter,
    pub(super) bytes: Counter,
    pub(super) opened: Instant,
    pub(super) wait: Duration,
}

impl Open {
    /// All that the stage has not got yet, in order.
    pub(super) fn take_rest(&mut self, budget: &Budget) -> Vec<RecordChunk> {
        if let Some(chunk) = self.feed.flush() {
            self.held.push(chunk);
        }
        self.held.take(budget)
    }
}

/// A slot to be opened after `after`; should that fail, it waits `wait`, doubled each time.
pub(super) fn closed_for(after: Duration, wait: Duration) -> Slot {
    Slot::Closed { again: Instant::now() + after, wait: (wait * 2).min(REOPEN_MAX) }
}

/// How long a lane that ended stays closed, and the wait that goes on from there. One that worked for a while
/// starts afresh; one that asked to start over does so at once, unless it does nothing else.
pub(super) fn reopen_after(restart: bool, lived: Duration, wait: Duration) -> (Duration, Duration) {
    let wait = if lived > REOPEN_MAX { REOPEN_MIN } else { wait };
    let after = if restart && lived >= REOPEN_MIN { Duration::ZERO } else { wait };
    (after, wait)
}

pub(super) fn part(settings: &ConsumerSettings, id: &TopicPartition) -> String {
    format!("{}/{id}", settings.stage)
}

pub(super) fn report(
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
pub(super) fn describe(error: &dyn std::error::Error) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_reopened_with_backoff_and_afresh_after_good_work() {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        assert_eq!(reopen_after(false, second, second), (second, second));
        assert_eq!(reopen_after(false, minute, second), (REOPEN_MIN, REOPEN_MIN));
    }

    #[test]
    fn a_lane_that_starts_over_waits_only_if_it_does_nothing_else() {
        let second = Duration::from_secs(1);
        assert_eq!(reopen_after(true, second, second), (Duration::ZERO, second));
        assert_eq!(reopen_after(true, Duration::ZERO, second), (second, second));
    }

    #[test]
    fn the_wait_doubles_up_to_its_bound() {
        let wait = |slot| match slot {
            Slot::Closed { wait, .. } => wait,
            _ => Duration::ZERO,
        };
        assert_eq!(wait(closed_for(REOPEN_MIN, REOPEN_MIN)), REOPEN_MIN * 2);
        assert_eq!(wait(closed_for(REOPEN_MIN, REOPEN_MAX)), REOPEN_MAX);
    }
}
