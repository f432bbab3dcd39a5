//! A log-bucket histogram from which quantiles are read with a relative error of at most 1 %.
//!
//! After Masson, Rim, Lee, "DDSketch" (VLDB 2019). With α = 0.01 and γ = (1 + α) / (1 − α), the positive value
//! x falls into the bucket i = ⌈log_γ x⌉, whose estimate 2γ^i / (γ + 1) is within α of it. A bucket's key is
//! i + 1100 for positive values, its negative for negative ones, and 0 for what is nearer to zero than 1e-9;
//! so keys sort as values do. The views read keys by the same rule.

/// The relative error.
pub const ALPHA: f64 = 0.01;
/// What is nearer to zero counts as zero.
const ZERO: f64 = 1e-9;
/// Keeps the keys of positive values positive: log_γ 1e-9 is −1036.
const SHIFT: i32 = 1100;

/// A bucket: its key, and the number of its values, which stays at its largest from there on.
pub type Bucket = (i32, u32);

/// Counts by bucket key, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    buckets: Vec<Bucket>,
}

/// The bucket key of a value.
#[must_use]
pub fn key(value: f64) -> i32 {
    let size = value.abs();
    if size < ZERO {
        return 0;
    }
    let gamma_ln = (1.0 + ALPHA).ln() - (1.0 - ALPHA).ln();
    #[allow(clippy::cast_possible_truncation, reason = "|log_γ x| stays below 36,000 for any f64")]
    let i = (size.ln() / gamma_ln).ceil() as i32;
    if value > 0.0 { i + SHIFT } else { -(i + SHIFT) }
}

/// The estimate of a bucket's values.
#[must_use]
pub fn estimate(key: i32) -> f64 {
    if key == 0 {
        return 0.0;
    }
    let gamma = (1.0 + ALPHA) / (1.0 - ALPHA);
    let size = 2.0 * gamma.powi(key.abs() - SHIFT) / (gamma + 1.0);
    size.copysign(f64::from(key))
}

impl Histogram {
    /// From bucket keys and counts, in any order.
    #[must_use]
    pub fn from_buckets(buckets: impl IntoIterator<Item = (i32, u64)>) -> Self {
        let narrow = |(key, count)| (key, u32::try_from(count).unwrap_or(u32::MAX));
        let mut buckets: Vec<Bucket> = buckets.into_iter().map(narrow).collect();
        buckets.sort_unstable();
        Self { buckets }
    }

    /// Counts one value.
    pub fn add(&mut self, value: f64) {
        self.add_key(key(value), 1);
    }

    fn add_key(&mut self, key: i32, count: u32) {
        match self.buckets.binary_search_by_key(&key, |&(key, _)| key) {
            Ok(at) => self.buckets[at].1 = self.buckets[at].1.saturating_add(count),
            Err(at) => {
                if self.buckets.len() == self.buckets.capacity() {
                    self.buckets.reserve_exact(1 + self.buckets.len() / 4);
                }
                self.buckets.insert(at, (key, count));
            }
        }
    }

    /// Adds another's counts.
    pub fn merge(&mut self, other: &Self) {
        self.add_all(&other.buckets);
    }

    /// Adds these counts; they are sorted, each key once.
    pub(crate) fn add_all(&mut self, more: &[Bucket]) {
        if self.buckets.is_empty() {
            self.buckets.extend_from_slice(more);
            return;
        }
        // Neighbours in time are neighbours in value: most keys are there, one after the other.
        let mut at = 0;
        for &(key, count) in more {
            while self.buckets.get(at).is_some_and(|bucket| bucket.0 < key) {
                at += 1;
            }
            match self.buckets.get_mut(at) {
                Some(bucket) if bucket.0 == key => bucket.1 = bucket.1.saturating_add(count),
                _ => self.add_key(key, count),
            }
        }
    }

    /// Forgets all counts but keeps the memory.
    pub fn clear(&mut self) {
        self.buckets.clear();
    }

    /// Bytes of memory held.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<Bucket>()
    }

    /// Keys and counts, by value.
    #[must_use]
    pub fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    /// The value below which `p` of all values lie, 0 ≤ p ≤ 1; none where there is no value.
    #[must_use]
    pub fn quantile(&self, p: f64) -> Option<f64> {
        let total: u64 = self.buckets.iter().map(|&(_, count)| u64::from(count)).sum();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let rank = ((p * total as f64).ceil() as u64).max(1);
        let mut seen = 0;
        self.buckets.iter().find_map(|&(key, count)| {
            seen += u64::from(count);
            (seen >= rank).then(|| estimate(key))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn quantiles_are_within_a_percent(mut values in proptest::collection::vec(-1e12..1e12f64, 1..300), p in 0.0..1.0f64) {
            let mut histogram = Histogram::default();
            values.iter().for_each(|&value| histogram.add(value));
            values.sort_by(f64::total_cmp);
            let rank = ((p * values.len() as f64).ceil() as usize).max(1);
            let (exact, found) = (values[rank - 1], histogram.quantile(p).unwrap());
            prop_assert!((found - exact).abs() <= ALPHA * 1.000_001 * exact.abs() + ZERO, "{found} for {exact}");
        }

        #[test]
        fn keys_sort_as_values_do(a in -1e300..1e300f64, b in -1e-6..1e-6f64) {
            for (a, b) in [(a, b), (a, -a), (b, a * b)] {
                prop_assert!(a >= b || key(a) <= key(b));
            }
        }

        #[test]
        fn merging_is_adding(a in proptest::collection::vec(-1e3..1e3f64, 0..50), b in proptest::collection::vec(-1e3..1e3f64, 0..50)) {
            let of = |values: &[f64]| {
                let mut histogram = Histogram::default();
                values.iter().for_each(|&value| histogram.add(value));
                histogram
            };
            let mut merged = of(&a);
            merged.merge(&of(&b));
            prop_assert_eq!(merged, of(&[a, b].concat()));
        }
    }

    #[test]
    fn the_ends_of_the_range_have_keys() {
        for value in [f64::MAX, f64::MIN, f64::MIN_POSITIVE, 0.0, -0.0] {
            let _ = key(value);
        }
        assert_eq!(key(0.0), 0);
    }
}
