//! One budget of bytes for all that a stage holds of its topics, whatever the number of lanes.
//!
//! What is not there yet, a chunk on its way to its lane, is asked for ([`Budget::try_claim`]) and waits for room.
//! What is there already, or cannot wait, is only counted ([`Budget::hold`], [`Claim::turn`]); it may go beyond the
//! budget, and then nothing more is taken in until all is within it again.
//!
//! No lane waits for ever on the others: one that holds nothing gets its chunk, however large, and one that has
//! none waiting is not kept from its next by those of lanes that stand still. So what is claimed goes beyond the
//! budget by a chunk a lane at most, and by what is made of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stillwell_schema::TopicPartition;

/// What memory is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What librdkafka has ahead of us, and the chunks that are being cut.
    Kafka,
    /// Chunks that wait to be decoded.
    Chunks,
    /// Open batches: records and readings.
    Batches,
    /// Batches that are being encoded or wait for that, and what it takes beside them.
    Encoders,
    /// Encoded files that are not committed yet.
    Files,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Kafka, Self::Chunks, Self::Batches, Self::Encoders, Self::Files];

    /// Its name in the metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Chunks => "chunks",
            Self::Batches => "batches",
            Self::Encoders => "encoders",
            Self::Files => "files",
        }
    }
}

/// How a budget is divided, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// All of it.
    pub bytes_max: usize,
    /// What chunks may hold that wait to be decoded.
    pub chunks_max: usize,
    /// What taking chunks in leaves free, for what is made of them.
    pub headroom: usize,
}

/// The bytes that a stage may hold, and does.
#[derive(Clone, Debug)]
pub struct Budget {
    shares: Shares,
    used: Arc<Mutex<Used>>,
}

/// A share of the budget, given back when dropped.
#[derive(Debug)]
pub struct Claim {
    used: Arc<Mutex<Used>>,
    lane: Option<TopicPartition>,
    part: Part,
    /// Changed under the lock of `used` alone.
    bytes: AtomicUsize,
}

#[derive(Debug, Default)]
struct Used {
    parts: [usize; Part::ALL.len()],
    lanes: BTreeMap<TopicPartition, OfLane>,
    peak: usize,
}

/// What one lane holds in all, and in chunks.
#[derive(Clone, Copy, Debug, Default)]
struct OfLane {
    bytes: usize,
    chunks: usize,
}

impl Budget {
    /// A budget of `bytes_max` bytes that chunks may fill.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self::with(Shares { bytes_max, chunks_max: bytes_max, headroom: 0 })
    }

    /// A budget that is divided.
    #[must_use]
    pub fn with(shares: Shares) -> Self {
        Self { shares, used: Arc::default() }
    }

    /// Claims `bytes` for a chunk of `lane`, if there is room now, or the lane holds nothing at all.
    #[must_use]
    pub fn try_claim(&self, lane: &TopicPartition, bytes: usize) -> Option<Claim> {
        let Shares { bytes_max, chunks_max, headroom } = self.shares;
        let mut used = locked(&self.used);
        let of_lane = used.lanes.get(lane).copied().unwrap_or_default();
        let fits = used.bytes() + bytes <= bytes_max.saturating_sub(headroom)
            && (of_lane.chunks == 0 || used.parts[Part::Chunks as usize] + bytes <= chunks_max);
        if of_lane.bytes > 0 && !fits {
            return None;
        }
        used.add(Some(lane), Part::Chunks, bytes);
        drop(used);
        Some(self.claim(Some(lane), Part::Chunks, bytes))
    }

    /// Counts `bytes` that are there already, of `lane` or of no lane.
    #[must_use]
    pub fn hold(&self, lane: Option<&TopicPartition>, part: Part, bytes: usize) -> Claim {
        locked(&self.used).add(lane, part, bytes);
        self.claim(lane, part, bytes)
    }

    fn claim(&self, lane: Option<&TopicPartition>, part: Part, bytes: usize) -> Claim {
        Claim { used: Arc::clone(&self.used), lane: lane.cloned(), part, bytes: AtomicUsize::new(bytes) }
    }

    /// All of it, bytes.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        self.shares.bytes_max
    }

    /// Bytes claimed now.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        locked(&self.used).bytes()
    }

    /// Bytes claimed now for `part`.
    #[must_use]
    pub fn used_by(&self, part: Part) -> usize {
        locked(&self.used).parts[part as usize]
    }

    /// The most bytes that were claimed at once.
    #[must_use]
    pub fn peak_bytes(&self) -> usize {
        locked(&self.used).peak
    }
}

impl Claim {
    /// Bytes it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// From now on it is `bytes` for `part`, be it more or less than before.
    pub fn turn(&mut self, part: Part, bytes: usize) {
        let mut used = locked(&self.used);
        used.take(self.lane.as_ref(), self.part, self.bytes());
        used.add(self.lane.as_ref(), part, bytes);
        self.bytes.store(bytes, Ordering::Relaxed);
        drop(used);
        self.part = part;
    }

    /// Gives back what is beyond `bytes`.
    pub fn shrink_to(&self, bytes: usize) {
        let mut used = locked(&self.used);
        let beyond = self.bytes().saturating_sub(bytes);
        used.take(self.lane.as_ref(), self.part, beyond);
        self.bytes.store(self.bytes() - beyond, Ordering::Relaxed);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        locked(&self.used).take(self.lane.as_ref(), self.part, self.bytes());
    }
}

impl Used {
    fn bytes(&self) -> usize {
        self.parts.iter().sum()
    }

    fn add(&mut self, lane: Option<&TopicPartition>, part: Part, bytes: usize) {
        self.parts[part as usize] += bytes;
        self.peak = self.peak.max(self.bytes());
        if let Some(lane) = lane.filter(|_| bytes > 0) {
            let of_lane = self.lanes.entry(lane.clone()).or_default();
            of_lane.bytes += bytes;
            of_lane.chunks += if part == Part::Chunks { bytes } else { 0 };
        }
    }

    fn take(&mut self, lane: Option<&TopicPartition>, part: Part, bytes: usize) {
        self.parts[part as usize] -= bytes;
        let Some(lane) = lane else { return };
        let Some(of_lane) = self.lanes.get_mut(lane) else { return };
        of_lane.bytes -= bytes;
        of_lane.chunks -= if part == Part::Chunks { bytes } else { 0 };
        if of_lane.bytes == 0 {
            self.lanes.remove(lane);
        }
    }
}

fn locked(used: &Mutex<Used>) -> MutexGuard<'_, Used> {
    used.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARES: Shares = Shares { bytes_max: 100, chunks_max: 40, headroom: 20 };

    fn lane(partition: i32) -> TopicPartition {
        TopicPartition::new("t", partition)
    }

    #[test]
    fn what_is_claimed_is_given_back() {
        let budget = Budget::new(100);
        let first = budget.try_claim(&lane(0), 60).unwrap();
        let held = budget.hold(None, Part::Kafka, 30);
        assert_eq!((budget.used_bytes(), budget.used_by(Part::Kafka)), (90, 30));
        assert!(budget.try_claim(&lane(0), 11).is_none());
        first.shrink_to(50);
        first.shrink_to(55);
        assert_eq!((first.bytes(), budget.used_bytes()), (50, 80));
        drop(budget.try_claim(&lane(0), 11).unwrap());
        drop((first, held));
        assert_eq!((budget.used_bytes(), budget.peak_bytes()), (0, 91));
        assert!(locked(&budget.used).lanes.is_empty());
    }

    #[test]
    fn a_lane_that_holds_nothing_gets_its_chunk_however_large() {
        let budget = Budget::with(SHARES);
        let others = budget.hold(Some(&lane(1)), Part::Batches, 100);
        let huge = budget.try_claim(&lane(0), 1_000).unwrap();
        assert!(budget.try_claim(&lane(0), 1).is_none());
        drop(huge);
        drop(others);
        assert!(budget.try_claim(&lane(0), 1_000).is_some());
    }

    #[test]
    fn chunks_leave_room_for_what_is_made_of_them() {
        let budget = Budget::with(SHARES);
        let _open = budget.hold(Some(&lane(0)), Part::Batches, 50);
        assert!(budget.try_claim(&lane(0), 31).is_none());
        assert!(budget.try_claim(&lane(0), 30).is_some());
    }

    #[test]
    fn chunks_of_lanes_that_stand_still_keep_no_other_from_its_next() {
        let budget = Budget::with(SHARES);
        let _stuck = budget.try_claim(&lane(0), 40).unwrap();
        let _open = budget.hold(Some(&lane(1)), Part::Batches, 10);
        let next = budget.try_claim(&lane(1), 10);
        assert!(next.is_some());
        assert!(budget.try_claim(&lane(1), 10).is_none());
    }

    #[test]
    fn a_claim_turns_to_another_part_and_size() {
        let budget = Budget::with(SHARES);
        let mut claim = budget.try_claim(&lane(0), 10).unwrap();
        claim.turn(Part::Batches, 150);
        assert_eq!((budget.used_by(Part::Chunks), budget.used_by(Part::Batches)), (0, 150));
        assert!(budget.try_claim(&lane(0), 1).is_none());
        claim.turn(Part::Files, 5);
        assert_eq!((budget.used_bytes(), budget.peak_bytes()), (5, 150));
        assert!(budget.try_claim(&lane(0), 1).is_some());
    }
}
