//! The readings of a series' current 10 s that its windows do not hold yet.
//!
//! Readings arrive a few at a time, and four windows hold each of them. They are folded once, here, and merged
//! into the windows when these are to be read: when time moves on, when late data comes, when they are written.

use crate::histogram::{self, Bucket};
use crate::window::{Fold, NO_SCORE, WIDTHS_US};

/// Values whose buckets are kept as they came.
const KEYS: usize = 12;

/// Readings of one 10 s, in the order of time and of arrival alike but for a few.
#[derive(Clone, Debug)]
pub(super) struct Open {
    /// Start of its 10 s, µs.
    start_us: i64,
    fold: Fold,
    /// Bucket keys that are not in the fold's histogram yet.
    keys: [i32; KEYS],
    len: u8,
}

impl Default for Open {
    fn default() -> Self {
        Self { start_us: i64::MIN, fold: Fold::default(), keys: [0; KEYS], len: 0 }
    }
}

impl Open {
    /// Whether it is the 10 s of this time.
    #[inline]
    pub(super) fn holds(&self, time_us: i64) -> bool {
        time_us.wrapping_sub(self.start_us).cast_unsigned() < WIDTHS_US[0].cast_unsigned()
            && self.start_us != i64::MIN
    }

    /// Start of its 10 s, µs.
    pub(super) fn start_us(&self) -> i64 {
        self.start_us
    }

    /// Turns to another 10 s; nothing may be left in it.
    pub(super) fn begin(&mut self, start_us: i64) {
        debug_assert!(self.is_empty(), "what is in it belongs to windows");
        self.start_us = start_us;
    }

    /// Holds no time any more; nothing may be left in it.
    pub(super) fn close(&mut self) {
        self.begin(i64::MIN);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.fold.is_empty() && self.fold.score <= NO_SCORE
    }

    /// Folds in a reading with a value.
    #[inline]
    pub(super) fn add(&mut self, time_us: i64, value: f64, is_bad: bool) {
        self.fold.add_but_histogram(time_us, value, is_bad);
        if usize::from(self.len) == KEYS {
            self.spill();
        }
        self.keys[usize::from(self.len)] = histogram::key(value);
        self.len += 1;
    }

    /// Folds in anything else of a reading.
    pub(super) fn with(&mut self, change: impl FnOnce(&mut Fold)) {
        change(&mut self.fold);
    }

    /// Folds in a score; whether it is the highest yet.
    pub(super) fn score(&mut self, score: f32) -> bool {
        let is_highest = score > self.fold.score;
        self.fold.score = self.fold.score.max(score);
        is_highest
    }

    /// All that is in it.
    pub(super) fn settled(&mut self) -> &Fold {
        self.spill();
        &self.fold
    }

    /// Forgets what is in it; it stays at its 10 s.
    pub(super) fn clear(&mut self) {
        let mut histogram = std::mem::take(&mut self.fold.histogram);
        histogram.clear();
        self.fold = Fold { histogram, ..Fold::default() };
    }

    /// Bytes of memory held beside its own size.
    pub(super) fn heap_bytes(&self) -> usize {
        self.fold.histogram.memory_bytes()
            + self.fold.states.as_ref().map_or(0, |states| states.memory_bytes())
    }

    fn spill(&mut self) {
        let keys = &mut self.keys[..usize::from(self.len)];
        keys.sort_unstable();
        let mut buckets: [Bucket; KEYS] = [(0, 0); KEYS];
        let mut used = 0;
        for &key in &*keys {
            if used > 0 && buckets[used - 1].0 == key {
                buckets[used - 1].1 += 1;
            } else {
                buckets[used] = (key, 1);
                used += 1;
            }
        }
        self.fold.histogram.add_all(&buckets[..used]);
        self.len = 0;
    }
}
