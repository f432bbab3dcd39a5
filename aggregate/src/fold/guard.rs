//! How many series a lane takes in: a device that makes up names must take neither the aggregator's memory nor
//! ClickHouse down. What is refused is in the archive all the same, and is counted and reported here.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustc_hash::{FxBuildHasher, FxHashSet};
use stillwell_source::series::NameCode;

/// Names of refused series that are remembered, so that each is counted once. Beyond them `series` says at least.
const NAMES_MAX: usize = 1_000_000;

/// Bounds of series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesLimits {
    /// Of one machine, in one partition.
    pub per_machine: usize,
    /// Of all lanes of a process.
    pub total: usize,
}

impl SeriesLimits {
    /// No bounds.
    pub const NONE: Self = Self { per_machine: usize::MAX, total: usize::MAX };
    /// No room for more than what is known.
    pub(crate) const ALL_TAKEN: Self = Self { per_machine: 0, total: 0 };
}

/// What was refused of a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// Its series that were not taken in; at least so many, where a lane refuses more than a million.
    pub series: u64,
    /// Their readings so far.
    pub readings: u64,
}

/// The bounds at work in one lane.
#[derive(Debug)]
pub(super) struct Guard {
    limits: SeriesLimits,
    /// Series of all lanes of the process.
    total: Arc<AtomicUsize>,
    by_machine: HashMap<NameCode, usize, FxBuildHasher>,
    taken: usize,
    names: FxHashSet<(NameCode, NameCode)>,
    refused: HashMap<NameCode, Refused, FxBuildHasher>,
    /// What the lane's owners before have refused, and since when.
    before: HashMap<NameCode, (Refused, i64), FxBuildHasher>,
    /// Machines of which more was refused since that was last asked for.
    changed: FxHashSet<NameCode>,
}

impl Default for Guard {
    fn default() -> Self {
        Self::new(SeriesLimits::NONE, Arc::default())
    }
}

impl Guard {
    pub(super) fn new(limits: SeriesLimits, total: Arc<AtomicUsize>) -> Self {
        Self {
            limits,
            total,
            by_machine: HashMap::default(),
            taken: 0,
            names: FxHashSet::default(),
            refused: HashMap::default(),
            before: HashMap::default(),
            changed: FxHashSet::default(),
        }
    }

    /// A series is taken in.
    pub(super) fn take(&mut self, machine: NameCode) {
        *self.by_machine.entry(machine).or_default() += 1;
        self.taken += 1;
        self.total.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether there is room for one more; where there is none, it is counted.
    pub(super) fn allows(&mut self, machine: NameCode, sensor: NameCode) -> bool {
        let of_machine = self.by_machine.get(&machine).copied().unwrap_or(0);
        if of_machine < self.limits.per_machine && self.total.load(Ordering::Relaxed) < self.limits.total {
            return true;
        }
        if self.names.len() < NAMES_MAX && self.names.insert((machine, sensor)) {
            self.refused.entry(machine).or_default().series += 1;
            self.changed.insert(machine);
        }
        false
    }

    /// Readings of a refused series came.
    pub(super) fn count(&mut self, machine: NameCode, readings: u64) {
        self.refused.entry(machine).or_default().readings += readings;
        self.changed.insert(machine);
    }

    /// Goes on with what the lane's owners before have refused of a machine, from offset `since` on.
    pub(super) fn restore(&mut self, machine: NameCode, refused: Refused, since: i64) {
        self.before.insert(machine, (refused, since));
    }

    /// What was refused of the machines of which more was since it was last asked for, and since which offset; `start`
    /// is where this lane began. Names from before are not known: of the series there are at least so many.
    pub(super) fn take_changed(&mut self, start: i64) -> Vec<(NameCode, Refused, i64)> {
        let changed = std::mem::take(&mut self.changed).into_iter();
        let all = changed.filter_map(|machine| {
            let Refused { series, readings } = *self.refused.get(&machine)?;
            let (before, since) = self.before.get(&machine).copied().unwrap_or((Refused::default(), start));
            let (series, readings) = (series.max(before.series), readings + before.readings);
            Some((machine, Refused { series, readings }, since))
        });
        all.collect()
    }

    /// Series that were refused, of all machines, as far as they are remembered.
    pub(super) fn refused_series(&self) -> usize {
        self.names.len()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.total.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_share_the_total_and_give_it_back() {
        let (limits, total) = (SeriesLimits { per_machine: 3, total: 4 }, Arc::<AtomicUsize>::default());
        let mut first = Guard::new(limits, Arc::clone(&total));
        for sensor in 0..5 {
            if first.allows(7, sensor) {
                first.take(7);
            }
        }
        assert_eq!((first.taken, first.refused_series()), (3, 2));
        let mut second = Guard::new(limits, Arc::clone(&total));
        assert!(second.allows(7, 0));
        second.take(7);
        assert!(!second.allows(8, 0), "the process is full");
        drop(first);
        assert!(second.allows(8, 0));
    }

    #[test]
    fn a_refused_series_is_counted_once_and_its_readings_each_time() {
        let mut guard = Guard::new(SeriesLimits { per_machine: 0, total: 9 }, Arc::default());
        assert!(!guard.allows(1, 1) && !guard.allows(1, 1) && !guard.allows(1, 2));
        guard.count(1, 10);
        guard.count(1, 5);
        assert_eq!(guard.take_changed(7), [(1, Refused { series: 2, readings: 15 }, 7)]);
        assert_eq!(guard.take_changed(7), []);
        assert!(!guard.allows(2, 1));
        guard.count(2, 1);
        assert_eq!(
            guard.take_changed(7),
            [(2, Refused { series: 1, readings: 1 }, 7)],
            "and no other machine"
        );
    }

    #[test]
    fn a_lane_goes_on_with_what_was_refused_before_it() {
        let mut guard = Guard::new(SeriesLimits { per_machine: 0, total: 9 }, Arc::default());
        guard.restore(1, Refused { series: 3, readings: 40 }, 5);
        assert_eq!(guard.take_changed(90), []);
        assert!(!guard.allows(1, 1));
        guard.count(1, 2);
        assert_eq!(guard.take_changed(90), [(1, Refused { series: 3, readings: 42 }, 5)]);
    }
}
