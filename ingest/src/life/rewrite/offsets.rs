//! A set of offsets within a range, a bit each.

use stillwell_schema::OffsetRange;

/// Offsets of one range.
#[derive(Clone, Debug)]
pub(in crate::life) struct Offsets {
    range: OffsetRange,
    bits: Vec<u64>,
}

impl Offsets {
    /// None of `range`.
    pub(in crate::life) fn none(range: OffsetRange) -> Self {
        let words = usize::try_from(range.len().div_ceil(64)).unwrap_or(usize::MAX);
        Self { range, bits: vec![0; words] }
    }

    /// Adds an offset; one outside the range is none of its business.
    pub(in crate::life) fn insert(&mut self, offset: i64) {
        if let Some((word, bit)) = self.place(offset) {
            self.bits[word] |= bit;
        }
    }

    /// Whether it is inside.
    pub(in crate::life) fn contains(&self, offset: i64) -> bool {
        self.place(offset).is_some_and(|(word, bit)| self.bits[word] & bit != 0)
    }

    /// How many are inside.
    pub(in crate::life) fn len(&self) -> u64 {
        self.bits.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Those inside, in order.
    pub(in crate::life) fn iter(&self) -> impl Iterator<Item = i64> {
        let first = self.range.first.0;
        let bits = self.bits.iter().enumerate().filter(|(_, word)| **word != 0);
        bits.flat_map(move |(at, word)| {
            let set = (0..64).filter(move |bit| word & (1 << bit) != 0);
            set.map(move |bit| first + 64 * at as i64 + bit)
        })
    }

    fn place(&self, offset: i64) -> Option<(usize, u64)> {
        let at = u64::try_from(offset.checked_sub(self.range.first.0)?).ok()?;
        (at < self.range.len()).then(|| ((at / 64) as usize, 1 << (at % 64)))
    }
}

#[cfg(test)]
mod tests {
    use stillwell_schema::Offset;

    use super::*;

    #[test]
    fn what_was_put_in_is_inside_and_nothing_else() {
        let range = OffsetRange { first: Offset(100), next: Offset(300) };
        let mut offsets = Offsets::none(range);
        for offset in [99, 100, 163, 164, 299, 300, i64::MIN, i64::MAX] {
            offsets.insert(offset);
        }
        let inside: Vec<i64> = (0..400).filter(|offset| offsets.contains(*offset)).collect();
        assert_eq!(inside, [100, 163, 164, 299]);
        assert_eq!(offsets.len(), 4);
        assert_eq!(offsets.iter().collect::<Vec<_>>(), inside);
    }
}
