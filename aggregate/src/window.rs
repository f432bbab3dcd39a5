//! The state of one window of one series.

use crate::histogram::Histogram;

mod states;

pub use states::{OTHER, States};

/// The four widths, in µs: 10 s, 1 min, 1 h, 1 day.
pub const WIDTHS_US: [i64; 4] = [10_000_000, 60_000_000, 3_600_000_000, 86_400_000_000];

/// Their names, which are their tables' until one is built anew.
pub const TABLES: [&str; 4] = ["windows_10s", "windows_1m", "windows_1h", "windows_1d"];

/// Where the totals of a width are kept, by machine and kind; those of 10 s are not.
pub const TOTALS: [Option<&str>; 4] =
    [None, Some("fleet_windows_1m"), Some("fleet_windows_1h"), Some("fleet_windows_1d")];

/// The score of a window that has none.
pub const NO_SCORE: f32 = -1.0;

/// Start of the window of `width_us` that holds `time_us`.
#[must_use]
pub fn start_of(time_us: i64, width_us: i64) -> i64 {
    time_us.div_euclid(width_us) * width_us
}

/// What readings of one series within one span of time amount to. Merging is exact: counts, extremes, first
/// and last whatever the order, sums to rounding, areas where the parts follow each other in time.
#[derive(Clone, Debug, PartialEq)]
pub struct Fold {
    /// Readings with a value.
    pub count: u64,
    pub(crate) sum: f64,
    /// What the sum has lost to rounding (Neumaier 1974).
    pub(crate) sum_rest: f64,
    /// Sum of the squared deviations from the mean, M₂ of Welford (1962). The sum of squares itself would
    /// lose the deviations of values that are far from zero.
    pub m2: f64,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// The value of the earliest time; of equal times, the one that came first.
    pub first: f64,
    /// Its time, µs.
    pub first_time: i64,
    /// The value of the latest time; of equal times, the one that came last.
    pub last: f64,
    /// Its time, µs.
    pub last_time: i64,
    /// Area under the values held until the next, value × µs, from `first_time` to `last_time`.
    pub area_last: f64,
    /// Area under straight lines between the values, likewise.
    pub area_linear: f64,
    /// What a counter has counted from `first_time` to `last_time`: the sum of its rises, and after a reset all
    /// that it stands at.
    pub increase: f64,
    /// Falls from one value to the next: of a counter, its resets.
    pub resets: u32,
    /// Readings that came after a later one of the window; areas, increase and resets are exact while this is 0.
    pub disordered: u32,
    /// Readings of bad quality, with a value or without.
    pub bad: u32,
    /// Readings that left something in the window and came when it had ended.
    pub late: u32,
    /// Largest score, [`NO_SCORE`] without.
    pub score: f32,
    /// Distribution of the values.
    pub histogram: Histogram,
    /// Of readings with a string state.
    pub states: Option<Box<States>>,
}

impl Default for Fold {
    fn default() -> Self {
        Self {
            count: 0,
            sum: 0.0,
            sum_rest: 0.0,
            m2: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            first: 0.0,
            first_time: i64::MAX,
            last: 0.0,
            last_time: i64::MIN,
            area_last: 0.0,
            area_linear: 0.0,
            increase: 0.0,
            resets: 0,
            disordered: 0,
            bad: 0,
            late: 0,
            score: NO_SCORE,
            histogram: Histogram::default(),
            states: None,
        }
    }
}

impl Fold {
    /// The sum of the values.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.sum + self.sum_rest
    }

    /// Sets a sum that was stored.
    pub fn set_sum(&mut self, sum: f64) {
        (self.sum, self.sum_rest) = (sum, 0.0);
    }

    /// Whether nothing was folded in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0 && self.bad == 0 && self.states.is_none()
    }

    /// Mean of the values; there must be one.
    #[allow(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
    fn mean(&self) -> f64 {
        self.sum() / self.count as f64
    }

    /// Folds in one reading that has no value.
    pub fn add_valueless(&mut self, is_bad: bool) {
        self.bad += u32::from(is_bad);
    }

    /// Folds in the string state of a reading.
    pub fn add_state(&mut self, time_us: i64, state: &str) {
        self.states.get_or_insert_default().add(time_us, state);
    }

    /// Folds one reading in.
    pub fn add(&mut self, time_us: i64, value: f64, is_bad: bool) {
        self.add_but_histogram(time_us, value, is_bad);
        self.histogram.add(value);
    }

    /// Folds one reading in but for its place in the distribution.
    #[inline]
    pub(crate) fn add_but_histogram(&mut self, time_us: i64, value: f64, is_bad: bool) {
        self.add_deviation(1, value, 0.0);
        self.add_sum(value);
        self.count += 1;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.bad += u32::from(is_bad);
        if time_us < self.first_time {
            (self.first, self.first_time) = (value, time_us);
        }
        if time_us >= self.last_time {
            if self.count > 1 {
                self.extend(time_us, value);
            }
            (self.last, self.last_time) = (value, time_us);
        } else {
            self.disordered += 1;
        }
    }

    /// Folds one reading in as far as totals go: count, sum, extremes and quality.
    #[inline]
    pub(crate) fn add_total(&mut self, value: f64, is_bad: bool) {
        self.add_sum(value);
        self.count += 1;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.bad += u32::from(is_bad);
    }

    /// Folds in what came after, as far as totals go.
    pub(crate) fn merge_total(&mut self, later: &Self) {
        self.add_sum(later.sum);
        self.sum_rest += later.sum_rest;
        self.count += later.count;
        self.min = self.min.min(later.min);
        self.max = self.max.max(later.max);
        self.bad += later.bad;
        self.late += later.late;
        self.score = self.score.max(later.score);
    }

    /// Folds in what came after, in the order of arrival.
    pub fn merge(&mut self, later: &Self) {
        self.bad += later.bad;
        self.late += later.late;
        self.score = self.score.max(later.score);
        if let Some(states) = &later.states {
            self.states.get_or_insert_default().merge(states);
        }
        if later.count == 0 {
            return;
        }
        self.add_deviation(later.count, later.mean(), later.m2);
        self.add_sum(later.sum);
        self.sum_rest += later.sum_rest;
        self.min = self.min.min(later.min);
        self.max = self.max.max(later.max);
        self.histogram.merge(&later.histogram);
        self.disordered += later.disordered;
        if self.count == 0 {
            (self.area_last, self.area_linear) = (later.area_last, later.area_linear);
            (self.increase, self.resets) = (later.increase, later.resets);
        } else if later.first_time >= self.last_time {
            self.extend(later.first_time, later.first);
            self.area_last += later.area_last;
            self.area_linear += later.area_linear;
            self.increase += later.increase;
            self.resets += later.resets;
        } else {
            self.disordered = self.disordered.saturating_add(u32::try_from(later.count).unwrap_or(u32::MAX));
        }
        self.count += later.count;
        if later.first_time < self.first_time {
            (self.first, self.first_time) = (later.first, later.first_time);
        }
        if later.last_time >= self.last_time {
            (self.last, self.last_time) = (later.last, later.last_time);
        }
    }

    /// The areas from the last reading to one that follows it, and what was counted between them.
    fn extend(&mut self, time_us: i64, value: f64) {
        #[allow(clippy::cast_precision_loss, reason = "spans within a day are exact")]
        let span_us = (time_us - self.last_time) as f64;
        self.area_last += self.last * span_us;
        self.area_linear += f64::midpoint(self.last, value) * span_us;
        let rise = value - self.last;
        if rise >= 0.0 {
            self.increase += rise;
        } else {
            self.increase += value;
            self.resets += 1;
        }
    }

    /// M₂ with `count` more values of this mean and M₂ (Chan, Golub, LeVeque 1979); the count and the sum
    /// are still those before.
    #[allow(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
    fn add_deviation(&mut self, count: u64, mean: f64, m2: f64) {
        self.m2 += m2;
        if self.count > 0 {
            let apart = mean - self.mean();
            let (before, more) = (self.count as f64, count as f64);
            self.m2 += apart * apart * (before * more / (before + more));
        }
    }

    fn add_sum(&mut self, value: f64) {
        let sum = self.sum + value;
        self.sum_rest +=
            if self.sum.abs() >= value.abs() { (self.sum - sum) + value } else { (value - sum) + self.sum };
        self.sum = sum;
    }
}

/// A window of a series as the lane holds it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Window {
    /// Its start, µs.
    pub start_us: i64,
    /// What is folded in is complete up to this offset: readings below are in it already.
    pub version: i64,
    /// Whether it changed since it was last written.
    pub dirty: bool,
    /// What its readings amount to.
    pub fold: Fold,
}

impl Window {
    /// Bytes of memory held.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.fold.histogram.memory_bytes()
            + self.fold.states.as_ref().map_or(0, |states| states.memory_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fold(readings: &[(i64, f64)]) -> Fold {
        let mut fold = Fold::default();
        readings.iter().for_each(|&(time, value)| fold.add(time, value, false));
        fold
    }

    fn assert_same(a: &Fold, b: &Fold, with_area: bool) {
        assert_eq!(
            (a.count, a.min, a.max, a.first, a.first_time, a.last, a.last_time, &a.histogram),
            (b.count, b.min, b.max, b.first, b.first_time, b.last, b.last_time, &b.histogram)
        );
        let near = |a: f64, b: f64, scale: f64| (a - b).abs() <= 1e-12 * scale.max(1.0);
        assert!(near(a.sum(), b.sum(), 1e9 * a.count as f64));
        assert!(near(a.m2, b.m2, 1e12 * a.count as f64), "{} {}", a.m2, b.m2);
        if with_area {
            assert!(near(a.area_last, b.area_last, 1e9 * 1e6 * a.count as f64), "{a:?} {b:?}");
            assert!(near(a.area_linear, b.area_linear, 1e9 * 1e6 * a.count as f64), "{a:?} {b:?}");
        }
    }

    proptest! {
        #[test]
        fn any_cut_merges_to_the_whole(
            readings in proptest::collection::vec((0i64..1_000_000, -1e6..1e6f64), 0..60),
            cuts in proptest::collection::vec(0usize..60, 0..6),
            ordered in any::<bool>(),
        ) {
            let mut readings = readings;
            if ordered {
                readings.sort_by_key(|&(time, _)| time);
            }
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(readings.len())).collect();
            cuts.extend([0, readings.len()]);
            cuts.sort_unstable();
            let mut merged = Fold::default();
            for pair in cuts.windows(2) {
                merged.merge(&fold(&readings[pair[0]..pair[1]]));
            }
            assert_same(&merged, &fold(&readings), ordered);
            prop_assert!(!ordered || merged.disordered == 0);
        }
    }

    #[test]
    fn the_deviation_of_values_far_from_zero_is_kept() {
        // By turns one below and one above: the population's deviation is 1.
        let readings: Vec<(i64, f64)> =
            (0..10_000).map(|i| (i, 1e8 + if i % 2 == 0 { 1.0 } else { -1.0 })).collect();
        let mut merged = Fold::default();
        readings.chunks(7).for_each(|some| merged.merge(&fold(some)));
        for whole in [fold(&readings), merged] {
            let deviation = (whole.m2 / whole.count as f64).sqrt();
            assert!((deviation - 1.0).abs() < 1e-9, "{deviation}");
        }
    }

    #[test]
    fn readings_without_a_value_leave_nothing_but_their_number() {
        let mut whole = fold(&[(0, 1.0), (5, 3.0)]);
        let plain = whole.clone();
        let mut bad = Fold::default();
        bad.add_valueless(true);
        assert!(!bad.is_empty());
        whole.merge(&bad);
        assert_eq!(whole, Fold { bad: 1, ..plain.clone() });
        bad.merge(&plain);
        assert_eq!(bad, whole);
    }

    #[test]
    fn areas_give_time_weighted_means() {
        let whole = fold(&[(0, 10.0), (4, 20.0), (10, 0.0)]);
        assert_eq!(whole.area_last, 10.0 * 4.0 + 20.0 * 6.0);
        assert_eq!(whole.area_linear, 15.0 * 4.0 + 10.0 * 6.0);
    }

    #[test]
    fn a_counter_counts_through_its_resets() {
        let readings = [(0, 10.0), (1, 15.0), (2, 3.0), (3, 3.0), (4, 8.0)];
        let whole = fold(&readings);
        assert_eq!((whole.increase, whole.resets), (5.0 + 3.0 + 0.0 + 5.0, 1));
        let mut merged = fold(&readings[..2]);
        merged.merge(&fold(&readings[2..]));
        assert_eq!((merged.increase, merged.resets), (whole.increase, whole.resets));
    }

    #[test]
    fn windows_start_at_multiples_also_before_1970() {
        assert_eq!(start_of(25_000_000, WIDTHS_US[0]), 20_000_000);
        assert_eq!(start_of(-1, WIDTHS_US[0]), -10_000_000);
    }
}
