//! What the lanes of the write side hold of one budget, and which open batch goes first when it runs short.
//!
//! The plan, of the whole budget:
//!
//! | share | for |
//! |---|---|
//! | 1/8 | what librdkafka reads ahead; the consumer claims it |
//! | 1/8 | chunks that wait to be decoded, with what decoding will make of them, and at least one a lane |
//! | 1/8 | encoding, which takes turns: chunks that are taken in leave it free |
//! | 1/4 | one batch at most, so that a lone lane fills one while the one before is on its way |
//! | 3/4 | the first two shares, decoders, all open batches: beyond that the largest go, until the rest is within |
//!
//! What is on its way out has what those three quarters leave. Once half of the budget is held, the open batches of
//! lanes that have one on its way hold as much as one batch together, each its part: a few whose commits hang, and
//! which cannot be told to go, would else hold all that is left, and the others crawl.
//!
//! A batch that is told to go while it is still small is a file that is smaller than the user asks for: [`conflicts`]
//! counts those, and says what would mend it.
//!
//! Reading order: [`open`] chooses which batch goes, [`holder`] is one lane's side of it, [`encoders`] gives turns,
//! and [`flown`] tells what a batch on its way waited for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stillwell_schema::TopicPartition;
use stillwell_source::budget::{Budget, Part, Shares};

mod conflicts;
mod encoders;
mod flown;
mod holder;
mod open;

pub(crate) use conflicts::{Asked, Flushed};
pub(crate) use encoders::Work;
pub(crate) use flown::Slowest;
pub(crate) use holder::{Holder, Load};

use conflicts::Conflicts;
use encoders::Encoders;
use open::{Key, OpenBatches};

/// The shares of the plan, as parts of the budget.
const CHUNKS: usize = 8;
const ENCODERS: usize = 8;
const BATCH: usize = 4;
/// Beyond this part of the budget lanes with a batch on its way are held back.
const SHORT: usize = 2;

/// What a writer takes to be of use: librdkafka's least and the fixed part of encoding, with room around them,
const LEAST_BYTES: usize = 32 << 20;
/// and for each lane chunks of the least size, waiting, being cut and decoded.
const LEAST_LANE_BYTES: usize = 1 << 20;

/// The memory of a write side.
#[derive(Debug)]
pub(crate) struct Memory {
    budget: Budget,
    open: Mutex<OpenBatches>,
    encoders: Encoders,
    conflicts: Mutex<Conflicts>,
    /// Whether it was said that the budget is little.
    is_warned: AtomicBool,
}

impl Memory {
    /// A budget of `bytes_max` bytes, by the plan.
    pub(crate) fn new(bytes_max: usize) -> Self {
        let headroom = bytes_max / ENCODERS;
        Self {
            budget: Budget::with(Shares { bytes_max, chunks_max: bytes_max / CHUNKS, headroom }),
            open: Mutex::default(),
            encoders: Encoders::new(headroom),
            conflicts: Mutex::default(),
            is_warned: AtomicBool::new(false),
        }
    }

    /// The budget, which the consumer shares.
    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Lets a lane in, until its holder is dropped.
    pub(crate) fn enter(self: &Arc<Self>, lane: &TopicPartition) -> Holder {
        let (key, wake) = self.open().enter(lane);
        self.warn_of_little();
        Holder::new(Arc::clone(self), key, wake)
    }

    /// Says once that the budget is too small for so many lanes.
    fn warn_of_little(&self) {
        let (lanes, bytes_max) = (self.open().lanes(), self.budget.bytes_max());
        let least = least_bytes(lanes);
        if bytes_max < least && !self.is_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                lanes,
                memory_bytes_max = bytes_max,
                "[ingest] memory_bytes_max is little for so many partitions: files will be small and the writer slow; raise it to {least} at least"
            );
        }
    }

    /// Whether a lane's open batch, of `bytes`, takes no more: it is to go, or to wait for the one before it while
    /// memory runs short.
    fn is_full(&self, key: &Key, bytes: usize) -> bool {
        let batch_max = self.budget.bytes_max() / BATCH;
        let is_short = self.is_short();
        let mut open = self.open();
        bytes >= batch_max || open.is_told(key) || (is_short && open.hold_back(key, batch_max))
    }

    /// Whether so much is held that a lane whose commit hangs must not hold more and more of it.
    fn is_short(&self) -> bool {
        self.budget.used_bytes() > self.budget.bytes_max() / SHORT
    }

    /// Tells the largest open batches to go if what is not on its way out holds too much, and those to go on that
    /// waited for room, if there is.
    fn relieve(&self) {
        if !self.is_short() {
            self.open().go_on();
        }
        let bytes_max = self.budget.bytes_max();
        let mark = bytes_max - bytes_max / 4;
        let parts = [Part::Kafka, Part::Chunks, Part::Batches, Part::Decoders];
        let staying: usize = parts.map(|part| self.budget.used_by(part)).iter().sum();
        self.open().relieve(staying.saturating_sub(mark));
    }

    fn open(&self) -> MutexGuard<'_, OpenBatches> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The least budget with which so many lanes work well.
fn least_bytes(lanes: usize) -> usize {
    LEAST_BYTES + lanes * LEAST_LANE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_that_is_little_for_its_lanes_is_told_once() {
        let memory = Arc::new(Memory::new(least_bytes(2)));
        let enter = |i| memory.enter(&TopicPartition::new("t", i));
        let _lanes = [enter(0), enter(1)];
        assert!(!memory.is_warned.load(Ordering::Relaxed));
        let _more = enter(2);
        assert!(memory.is_warned.load(Ordering::Relaxed));
    }

    #[test]
    fn a_lane_whose_commit_hangs_leaves_the_others_their_memory() {
        let memory = Arc::new(Memory::new(800));
        let mut lanes: Vec<_> = (0..4).map(|i| memory.enter(&TopicPartition::new("t", i))).collect();
        lanes[0].set_open(190, None);
        let hanging = lanes[0].launch(190);
        lanes[0].set_open(60, None);
        assert!(!lanes[0].is_full(60), "there is room for all");
        lanes[1].set_open(160, None);
        assert!(lanes[0].is_full(60) && !lanes[1].is_full(160));
        lanes[1].set_open(100, None);
        assert!(!lanes[0].is_full(60), "there is room again");
        lanes[1].set_open(160, None);
        drop(hanging);
        lanes[0].landed();
        assert!(!lanes[0].is_full(60));
    }
}
