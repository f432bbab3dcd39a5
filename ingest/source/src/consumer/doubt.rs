//! Whether a lane is the one whose offset is out of range: librdkafka says that there is one, but not which, and
//! fetches nothing more for it.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use stillwell_schema::Offset;

/// A look at the log may have been under way before the error, the next was not.
const LOOKS_MIN: u64 = 2;
/// Looks at a log that has more, without a record of it, before the lane is taken for stuck.
const LOOKS_STUCK: u64 = 15;

/// The two ends of a lane's log as last seen from aside, and how often they were.
#[derive(Debug, Default)]
pub(super) struct Marks {
    low: AtomicI64,
    high: AtomicI64,
    looks: AtomicU64,
}

impl Marks {
    pub(super) fn set(&self, low: i64, high: i64) {
        self.low.store(low, Ordering::Relaxed);
        self.high.store(high, Ordering::Relaxed);
        self.looks.fetch_add(1, Ordering::Release);
    }

    pub(super) fn looks(&self) -> u64 {
        self.looks.load(Ordering::Acquire)
    }

    pub(super) fn ends(&self) -> (i64, i64) {
        (self.low.load(Ordering::Relaxed), self.high.load(Ordering::Relaxed))
    }
}

/// What a lane's next offset is to its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Retention overtook it.
    Below,
    /// The log was cut or made anew.
    Beyond,
    /// It lies inside, and yet nothing comes: the log had been shorter for a moment.
    Stuck,
}

/// What there is to say of a lane that got no record in `looks` looks since the error; none while nothing is
/// wrong or it is too early to tell. `is_idle` is whether it could take records.
pub(super) fn finding(next: Offset, low: i64, high: i64, looks: u64, is_idle: bool) -> Option<Finding> {
    match next.0 {
        _ if looks < LOOKS_MIN => None,
        next if next < low => Some(Finding::Below),
        next if next > high => Some(Finding::Beyond),
        next if next < high && is_idle && looks >= LOOKS_STUCK => Some(Finding::Stuck),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lane_outside_of_its_log_or_stuck_in_it_starts_over() {
        let cases = [
            (9, LOOKS_MIN, true, Some(Finding::Below)),
            (9, LOOKS_MIN - 1, true, None),
            (21, LOOKS_MIN, false, Some(Finding::Beyond)),
            (10, LOOKS_MIN, true, None),
            (20, LOOKS_STUCK, true, None),
            (15, LOOKS_STUCK - 1, true, None),
            (15, LOOKS_STUCK, true, Some(Finding::Stuck)),
            (15, LOOKS_STUCK, false, None),
        ];
        for (next, looks, is_idle, expected) in cases {
            assert_eq!(finding(Offset(next), 10, 20, looks, is_idle), expected, "{next} {looks} {is_idle}");
        }
    }
}
