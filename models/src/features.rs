//! What a network sees of a row: each value against two references, missing cells masked.
//!
//! The frozen reference is mean and spread of the commissioning rows. The slow one is an exponentially
//! weighted mean that follows the machine, but only while it is un-alarmed: a fault is not learnt as normal.

/// Rows that a network sees at once: the newest and those before it.
pub const WINDOW: usize = 5;
/// Values per sensor and row: against the frozen and against the slow reference.
pub const CHANNELS: usize = 2;
/// Cells per sensor and row of a network's input: the values, 0 where masked, and whether they are there.
pub const INPUT_CHANNELS: usize = CHANNELS + 1;
/// Beyond so many spreads a value says no more than "far out".
const CLIP: f32 = 8.0;
/// Weight of a new value in the slow mean: a memory of about 200 rows.
const SLOW_WEIGHT: f32 = 0.005;
/// A value may stand still, or be missing, for so many times its longest stretch in commissioning, and …
const PATIENCE: u32 = 3;
/// … so many rows more, before it counts against the machine.
const PATIENCE_ROWS: u32 = 12;
/// What standing still at the limit counts for, in units of normal residuals.
const STILL_WEIGHT: f32 = 6.0;

/// A value farther from 0 is none: no sensor measures it, drivers put it where they have nothing to say, and
/// squares and means of smaller ones stay finite.
const VALUE_MAX: f32 = 1e30;

/// Whether it is a value, and not a missing one.
#[must_use]
pub fn is_value(value: f32) -> bool {
    value.abs() <= VALUE_MAX
}

/// What is normal of one sensor.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reference {
    /// Mean of the commissioning values.
    pub mean: f32,
    /// Their standard deviation, never 0.
    pub spread: f32,
    /// Standard deviation of the distance to the slow mean, never 0.
    pub slow_spread: f32,
    /// Rows that a value may stand still.
    pub still_max: u32,
    /// Rows that it may be missing.
    pub gap_max: u32,
}

/// What is remembered of one sensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SensorState {
    /// The slow mean.
    pub slow: f32,
    /// The last value; not a number before the first.
    pub last: f32,
    /// Rows that the last value has stood still.
    pub still: u32,
    /// Rows since the last value.
    pub gap: u32,
}

impl SensorState {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(reference: &Reference) -> Self {
        Self { slow: reference.mean, last: f32::NAN, still: 0, gap: 0 }
    }

    /// Takes the next value, none ([`is_value`]) where it is missing, and gives its features; the slow mean
    /// follows where `follow`.
    pub fn take(&mut self, reference: &Reference, value: f32, follow: bool) -> [f32; CHANNELS] {
        if !is_value(value) {
            self.gap = self.gap.saturating_add(1);
            return [f32::NAN; CHANNELS];
        }
        self.gap = 0;
        #[allow(clippy::float_cmp, reason = "standing still means the same value")]
        let is_same = value == self.last;
        self.still = if is_same { self.still.saturating_add(1) } else { 0 };
        self.last = value;
        let frozen = (value - reference.mean) / reference.spread;
        let slow = (value - self.slow) / reference.slow_spread;
        if follow {
            self.slow += SLOW_WEIGHT * (value - self.slow);
        }
        [frozen.clamp(-CLIP, CLIP), slow.clamp(-CLIP, CLIP)]
    }

    /// What standing still or missing counts for, 0 within what commissioning has shown.
    #[must_use]
    pub fn stalled(&self, reference: &Reference) -> f32 {
        let beyond = |rows: u32, limit: u32| {
            if rows <= limit {
                return 0.0;
            }
            #[allow(clippy::cast_precision_loss, reason = "a ratio of counts")]
            let ratio = rows as f32 / limit as f32;
            STILL_WEIGHT * ratio
        };
        beyond(self.still, reference.still_max).max(beyond(self.gap, reference.gap_max))
    }
}

/// The references of all sensors, out of commissioning rows: `rows` has `sensors` cells a row, NaN where
/// missing.
#[must_use]
pub fn references(sensors: usize, rows: &[f32]) -> Vec<Reference> {
    (0..sensors).map(|sensor| reference(rows.iter().skip(sensor).step_by(sensors).copied())).collect()
}

#[allow(clippy::cast_possible_truncation, reason = "statistics in f64, references in f32")]
fn reference(values: impl Iterator<Item = f32> + Clone) -> Reference {
    let present = values.clone().filter(|&value| is_value(value)).map(f64::from);
    let (mean, spread) = mean_and_spread(present);
    let scale_min = (mean.abs() * 1e-3).max(1e-6);
    let spread = spread.max(scale_min);
    let mut reference =
        Reference { mean: mean as f32, spread: spread as f32, slow_spread: 1.0, still_max: 0, gap_max: 0 };
    let mut state = SensorState::new(&reference);
    let (mut still, mut gap, mut rows, mut present) = (0, 0, 0u32, 0u32);
    let mut distances = Vec::new();
    for value in values {
        let slow = state.slow;
        state.take(&reference, value, true);
        (still, gap) = (still.max(state.still), gap.max(state.gap));
        rows += 1;
        if is_value(value) {
            present += 1;
            distances.push(f64::from(value - slow));
        }
    }
    let squares = distances.iter().map(|distance| distance * distance).sum::<f64>();
    let slow_spread = (squares / f64::from(present.max(1))).sqrt().max(spread * 0.1);
    reference.slow_spread = slow_spread as f32;
    reference.still_max = patience(still, present);
    reference.gap_max = patience(gap, rows);
    reference
}

/// Where a sensor stands still, or is missing, for a good part of commissioning, that says nothing.
fn patience(longest: u32, of: u32) -> u32 {
    if longest >= of / 4 { u32::MAX } else { longest * PATIENCE + PATIENCE_ROWS }
}

fn mean_and_spread(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let (mut count, mut sum) = (0.0, 0.0);
    for value in values.clone() {
        count += 1.0;
        sum += value;
    }
    if count == 0.0 {
        return (0.0, 0.0);
    }
    let mean = sum / count;
    let squares = values.map(|value| (value - mean) * (value - mean)).sum::<f64>();
    (mean, (squares / count).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wavy(n: usize) -> Vec<f32> {
        (0..n).map(|i| 10.0 + (i as f32 * 0.7).sin()).collect()
    }

    #[test]
    fn a_missing_value_has_no_features_and_leaves_the_references_alone() {
        let reference = references(1, &wavy(400))[0];
        let mut state = SensorState::new(&reference);
        let before = state.slow;
        assert!(state.take(&reference, f32::NAN, true).iter().all(|f| f.is_nan()));
        assert_eq!((state.slow, state.gap), (before, 1));
        assert!(reference.gap_max < 20);
    }

    #[test]
    fn a_value_out_of_all_bounds_is_a_missing_one() {
        let reference = references(1, &wavy(400))[0];
        let mut state = SensorState::new(&reference);
        for value in [f32::INFINITY, f32::NEG_INFINITY, 3e38] {
            assert!(state.take(&reference, value, true).iter().all(|feature| feature.is_nan()));
        }
        assert_eq!((state.slow, state.gap), (reference.mean, 3));
        let mut rows = wavy(400);
        rows[7] = f32::INFINITY;
        assert!(references(1, &rows)[0].spread < 2.0);
    }

    #[test]
    fn the_slow_mean_waits_while_alarmed() {
        let reference = references(1, &wavy(400))[0];
        let mut state = SensorState::new(&reference);
        for _ in 0..500 {
            state.take(&reference, 50.0, false);
        }
        assert_eq!(state.slow, reference.mean);
        for _ in 0..2000 {
            state.take(&reference, 50.0, true);
        }
        assert!((state.slow - 50.0).abs() < 0.1);
    }

    #[test]
    fn what_stands_still_for_long_counts_unless_it_always_does() {
        let moving = references(1, &wavy(400))[0];
        let constant = references(1, &[3.0; 400])[0];
        let (mut a, mut b) = (SensorState::new(&moving), SensorState::new(&constant));
        for _ in 0..100 {
            a.take(&moving, 10.0, false);
            b.take(&constant, 3.0, false);
        }
        assert!(a.stalled(&moving) > STILL_WEIGHT);
        assert_eq!(b.stalled(&constant), 0.0);
    }
}
