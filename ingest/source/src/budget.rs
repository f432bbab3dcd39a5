//! One budget of bytes for all that a stage holds of its topics, whatever the number of lanes.
//!
//! What is not there yet, a chunk on its way to its lane, is asked for ([`Budget::try_claim`]) and waits for room.
//! What is there already, or cannot wait, is only counted ([`Budget::hold`], [`Claim::turn`]); it may go beyond the
//! budget, and then nothing more is taken in until all is within it again.
//!
//! A chunk is asked for with what decoding will make of it, as far as the one before it of its lane tells
//! ([`Claim::became`]): a compact record of 16 bytes a reading becomes three to five times as much.
//!
//! No lane waits for ever on the others: one that holds nothing gets its chunk, however large, and one that has
//! none waiting is not kept from its next by those of lanes that stand still. So what is asked for goes beyond the
//! budget by a chunk a lane at most; what is only counted goes beyond it by what nobody could tell before: a chunk that
//! grows more than the one before it, and a batch that alone takes more than encoding is given.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stillwell_schema::TopicPartition;

/// What memory is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What librdkafka has ahead of us, and the chunks that are being cut or wait for room.
    Kafka,
    /// Chunks that wait to be decoded, with what decoding will make of them.
    Chunks,
    /// Open batches: records and readings.
    Batches,
    /// What decoders know of their streams.
    Decoders,
    /// Batches that are being encoded or wait for that, and what it takes beside them.
    Encoders,
    /// Encoded files that are not committed yet.
    Files,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Kafka, Self::Chunks, Self::Batches, Self::Decoders, Self::Encoders, Self::Files];

    /// Its name in the metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Chunks => "chunks",
            Self::Batches => "batches",
            Self::Decoders => "decoders",
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
    /// What chunks may hold that wait to be decoded, with what decoding will make of them.
    pub chunks_max: usize,
    /// What taking chunks in leaves free, for what is counted without being asked for.
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
    bytes: usize,
    /// What was asked for or counted at first, without what was to be made of it.
    own_bytes: usize,
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
    growth: Growth,
}

/// How much decoding made of so many bytes of chunks.
#[derive(Clone, Copy, Debug, Default)]
struct Growth {
    made: usize,
    of: usize,
}

impl Growth {
    /// What decoding will make of `bytes`; nothing as long as none of the lane were decoded.
    fn on(self, bytes: usize) -> usize {
        let made = bytes as u128 * self.made as u128 / self.of.max(1) as u128;
        usize::try_from(made).unwrap_or(usize::MAX)
    }
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

    /// Claims `bytes` for a chunk of `lane`, and what decoding will make of it, if there is room now, or the lane holds
    /// nothing at all. What it will become counts up to the share of all chunks: more would never find room.
    #[must_use]
    pub fn try_claim(&self, lane: &TopicPartition, bytes: usize) -> Option<Claim> {
        let Shares { bytes_max, chunks_max, headroom } = self.shares;
        let mut used = locked(&self.used);
        let of_lane = used.lanes.get(lane).copied().unwrap_or_default();
        let own_bytes = bytes;
        let bytes = own_bytes.saturating_add(of_lane.growth.on(own_bytes)).min(chunks_max).max(own_bytes);
        let fits = used.bytes() + bytes <= bytes_max.saturating_sub(headroom)
            && (of_lane.chunks == 0 || used.parts[Part::Chunks as usize] + bytes <= chunks_max);
        if of_lane.bytes > 0 && !fits {
            return None;
        }
        used.add(Some(lane), Part::Chunks, bytes);
        drop(used);
        Some(Claim {
            used: Arc::clone(&self.used),
            lane: Some(lane.clone()),
            part: Part::Chunks,
            bytes,
            own_bytes,
        })
    }

    /// Counts `bytes` that are there already, of `lane` or of no lane.
    #[must_use]
    pub fn hold(&self, lane: Option<&TopicPartition>, part: Part, bytes: usize) -> Claim {
        locked(&self.used).add(lane, part, bytes);
        Claim { used: Arc::clone(&self.used), lane: lane.cloned(), part, bytes, own_bytes: bytes }
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
        self.bytes
    }

    /// From now on it is `bytes` for `part`, be it more or less than before.
    pub fn turn(&mut self, part: Part, bytes: usize) {
        let mut used = locked(&self.used);
        used.take(self.lane.as_ref(), self.part, self.bytes);
        used.add(self.lane.as_ref(), part, bytes);
        drop(used);
        (self.part, self.bytes) = (part, bytes);
    }

    /// It is no lane's any more: what is not in a lane's hands, such as a put that hangs, keeps no lane from its next
    /// chunk.
    pub fn leave_lane(&mut self) {
        let mut used = locked(&self.used);
        used.take(self.lane.as_ref(), self.part, self.bytes);
        used.add(None, self.part, self.bytes);
        drop(used);
        self.lane = None;
    }

    /// Takes note that what it was claimed for has become `bytes`; the next chunk of its lane is asked for by that,
    /// as long as the lane holds anything.
    pub fn became(&self, bytes: usize) {
        let mut used = locked(&self.used);
        if let Some(of_lane) = self.lane.as_ref().and_then(|lane| used.lanes.get_mut(lane)) {
            of_lane.growth = Growth { made: bytes, of: self.own_bytes };
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        locked(&self.used).take(self.lane.as_ref(), self.part, self.bytes);
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
        drop(budget.try_claim(&lane(0), 10).unwrap());
        assert_eq!((first.bytes(), budget.used_bytes()), (60, 90));
        drop((first, held));
        assert_eq!((budget.used_bytes(), budget.peak_bytes()), (0, 100));
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
    fn what_has_left_its_lane_counts_in_all_alone() {
        let budget = Budget::with(SHARES);
        let mut files = budget.hold(Some(&lane(0)), Part::Files, 90);
        assert!(budget.try_claim(&lane(0), 1).is_none());
        files.leave_lane();
        assert_eq!((budget.used_bytes(), budget.used_by(Part::Files)), (90, 90));
        let next = budget.try_claim(&lane(0), 1);
        assert!(next.is_some() && budget.try_claim(&lane(0), 1).is_none());
        drop((files, next));
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn a_chunk_is_asked_for_with_what_becomes_of_it() {
        let budget = Budget::with(SHARES);
        let first = budget.try_claim(&lane(0), 10).unwrap();
        let _open = budget.hold(Some(&lane(0)), Part::Batches, 20);
        first.became(20);
        drop(first);
        let next = budget.try_claim(&lane(0), 5).unwrap();
        assert_eq!(next.bytes(), 15);
        drop(next);
        assert_eq!(budget.try_claim(&lane(0), 20).unwrap().bytes(), 40, "no more than all chunks may hold");
        assert_eq!(budget.try_claim(&lane(0), 50).unwrap().bytes(), 50);
        assert_eq!(budget.try_claim(&lane(1), 5).unwrap().bytes(), 5);
        let _others = budget.hold(None, Part::Kafka, 46);
        assert!(budget.try_claim(&lane(0), 5).is_none());
        assert!(budget.try_claim(&lane(0), 4).is_some());
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
