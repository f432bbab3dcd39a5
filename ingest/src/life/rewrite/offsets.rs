//! A set of offsets, a bit each where they lie close together; the gaps between them take nothing.

use std::collections::BTreeMap;

/// Offsets by the 64 that they lie in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Offsets(BTreeMap<i64, u64>);

impl Offsets {
    /// Adds an offset.
    pub(crate) fn insert(&mut self, offset: i64) {
        let (word, bit) = place(offset);
        *self.0.entry(word).or_default() |= bit;
    }

    /// Adds all of another set.
    pub(crate) fn append(&mut self, other: Self) {
        for (word, bits) in other.0 {
            *self.0.entry(word).or_default() |= bits;
        }
    }

    /// Whether it is inside.
    pub(crate) fn contains(&self, offset: i64) -> bool {
        let (word, bit) = place(offset);
        self.0.get(&word).is_some_and(|bits| bits & bit != 0)
    }

    /// How many are inside.
    pub(crate) fn len(&self) -> u64 {
        self.0.values().map(|bits| u64::from(bits.count_ones())).sum()
    }
}

fn place(offset: i64) -> (i64, u64) {
    (offset.div_euclid(64), 1 << offset.rem_euclid(64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_is_inside_and_nothing_else() {
        let (mut offsets, mut others) = (Offsets::default(), Offsets::default());
        for offset in [-1, 0, 100, 163, 164, i64::MIN] {
            offsets.insert(offset);
        }
        for offset in [164, 165, 1 << 40, i64::MAX] {
            others.insert(offset);
        }
        offsets.append(others);
        let inside: Vec<i64> = (-400..400).filter(|offset| offsets.contains(*offset)).collect();
        assert_eq!(inside, [-1, 0, 100, 163, 164, 165]);
        assert!([i64::MIN, 1 << 40, i64::MAX].iter().all(|offset| offsets.contains(*offset)));
        assert!(![i64::MIN + 1, (1 << 40) - 1, i64::MAX - 1].iter().any(|offset| offsets.contains(*offset)));
        assert_eq!(offsets.len(), 9);
    }

    #[test]
    fn a_gap_takes_nothing() {
        let mut offsets = Offsets::default();
        (0..1_000).for_each(|at| offsets.insert(at * 10_000_000_000));
        assert_eq!((offsets.len(), offsets.0.len()), (1_000, 1_000));
    }
}
