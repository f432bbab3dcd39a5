//! When a lane writes what it has changed, and how much of it.
//!
//! Windows of 10 s and last readings are watched live: they are written as soon as an interval has passed. A longer
//! window is written with them while they are few beside what was folded, and else after a
//! longer interval: written each time, it would be written hundreds of times before it ends.

use std::time::Duration;

use tokio::time::Instant;

use crate::fold::Level;

/// A lane with so many times more before it than it folded since its last snapshot shows nobody anything new: it writes
/// so many times less often, and thereby each window that is still open fewer times.
const CATCHING_UP: u32 = 4;
/// Series whose longer windows are written at every flush.
pub(crate) const FEW_SERIES: usize = 500;
/// Readings for each series, from which on writing its longer windows is cheap beside folding them.
const READINGS_PER_SERIES: usize = 256;
/// Lanes begin together, and would write their longer windows at the same moments, for which all that is watched live
/// would wait: they take turns, so many within the longer interval.
const TURNS: u32 = 4;
/// Snapshots after which memory is looked at.
const LOOK_AFTER: u32 = 8;

/// How often a lane writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Intervals {
    pub(crate) fine: Duration,
    pub(crate) coarse: Duration,
    /// Series of which windows of all widths are written each time.
    pub(crate) few_series: usize,
}

/// What one lane has not written yet, and when it does.
#[derive(Debug)]
pub(super) struct Pace {
    intervals: Intervals,
    /// When windows of 10 s are written next, and whether there is anything to write.
    fine_at: Instant,
    is_fine_changed: bool,
    /// The same of all widths.
    coarse_at: Instant,
    is_coarse_changed: bool,
    /// Readings folded since all widths were written.
    readings: usize,
    /// The position of the last snapshot.
    sent: i64,
    snapshots: u32,
}

impl Pace {
    /// For the lane of a partition that begins at a position.
    pub(super) fn new(intervals: Intervals, partition: i32, position: i64, now: Instant) -> Self {
        let turn = 1 + partition.unsigned_abs() % TURNS;
        Self {
            intervals,
            fine_at: now + intervals.fine,
            is_fine_changed: false,
            coarse_at: now + intervals.coarse / TURNS * turn,
            is_coarse_changed: false,
            readings: 0,
            sent: position,
            snapshots: 0,
        }
    }

    /// So many readings were folded.
    pub(super) fn changed(&mut self, readings: usize) {
        (self.is_fine_changed, self.is_coarse_changed) = (true, true);
        self.readings += readings;
    }

    /// When something is to be written; none while there is nothing.
    pub(super) fn due(&self) -> Option<Instant> {
        let fine = self.is_fine_changed.then_some(self.fine_at);
        let coarse = self.is_coarse_changed.then_some(self.coarse_at);
        fine.into_iter().chain(coarse).min()
    }

    /// What is written now, where windows of so many series changed since all widths were written; `is_much` where
    /// they may wait no longer.
    pub(super) fn level(&self, series: usize, is_much: bool, now: Instant) -> Level {
        let is_cheap = series <= self.intervals.few_series || series * READINGS_PER_SERIES <= self.readings;
        if now >= self.coarse_at || is_cheap || is_much { Level::All } else { Level::Fine }
    }

    /// Whether the log, which ends at `end`, is so far ahead of `position` that nobody waits for what is new there.
    pub(super) fn is_behind(&self, position: i64, end: i64) -> bool {
        end - position > i64::from(CATCHING_UP) * (position - self.sent)
    }

    /// A snapshot is on its way; the log ends at `end`.
    pub(super) fn sent(&mut self, level: Level, position: i64, end: i64, now: Instant) {
        let is_behind = self.is_behind(position, end);
        self.sent = position;
        self.is_fine_changed = false;
        self.fine_at = now + self.intervals.fine * if is_behind { CATCHING_UP } else { 1 };
        if level == Level::All {
            self.is_coarse_changed = false;
            self.readings = 0;
            self.coarse_at = now + self.intervals.coarse;
        }
    }

    /// The snapshot is stored: a store that is slow gets a rest. Whether it is time to look at the memory.
    pub(super) fn landed(&mut self, now: Instant) -> bool {
        self.fine_at = self.fine_at.max(now + self.intervals.fine / 4);
        self.snapshots += 1;
        self.snapshots.is_multiple_of(LOOK_AFTER)
    }

    /// Everything is to be written now.
    pub(super) fn finish(&mut self, now: Instant) {
        (self.fine_at, self.coarse_at) = (now, now);
        self.is_fine_changed |= self.is_coarse_changed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVALS: Intervals =
        Intervals { fine: Duration::from_secs(1), coarse: Duration::from_secs(10), few_series: FEW_SERIES };

    #[test]
    fn lanes_take_turns_with_their_long_windows() {
        let start = Instant::now();
        let first = |partition| {
            let mut pace = Pace::new(INTERVALS, partition, 0, start);
            pace.changed(1);
            pace.sent(Level::Fine, 1, 1, start);
            pace.due().unwrap() - start
        };
        assert_eq!([0, 1, 2, 3, 4].map(first), [2500, 5000, 7500, 10_000, 2500].map(Duration::from_millis));
    }

    #[test]
    fn many_long_windows_are_written_less_often() {
        let start = Instant::now();
        let mut pace = Pace::new(INTERVALS, 3, 0, start);
        assert_eq!(pace.due(), None);
        pace.changed(1000);
        assert_eq!(pace.due(), Some(start + INTERVALS.fine));
        assert_eq!(pace.level(FEW_SERIES, false, start), Level::All);
        assert_eq!(pace.level(1000, false, start), Level::Fine);
        assert_eq!(pace.level(1000, false, start + INTERVALS.coarse), Level::All);
        pace.sent(Level::Fine, 10, 10, start);
        assert_eq!(pace.due(), Some(start + INTERVALS.coarse), "the long ones are not forgotten");
        pace.changed(256_000);
        assert_eq!(pace.level(1000, false, start), Level::All, "it is little beside the readings");
        pace.sent(Level::All, 20, 20, start);
        assert_eq!(pace.due(), None);
    }

    #[test]
    fn a_lane_that_is_far_behind_waits_longer() {
        let start = Instant::now();
        let mut pace = Pace::new(INTERVALS, 3, 0, start);
        pace.sent(Level::All, 10, 50, start);
        pace.changed(1);
        assert_eq!(pace.due(), Some(start + INTERVALS.fine));
        pace.sent(Level::All, 20, 100, start);
        pace.changed(1);
        assert_eq!(pace.due(), Some(start + INTERVALS.fine * CATCHING_UP));
        pace.finish(start);
        assert_eq!(pace.due(), Some(start));
    }
}
