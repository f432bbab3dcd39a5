//! Half-open offset ranges, gaps, and their algebra: ranges are appended, never overlapped.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ids::Offset;

/// The offsets `[first, next)` of one partition.
///
/// ```
/// use stillwell_schema::{Offset, OffsetRange};
/// let mut range = OffsetRange::new(Offset(0), Offset(10)).unwrap();
/// range.append(OffsetRange::new(Offset(10), Offset(12)).unwrap()).unwrap();
/// assert_eq!(range.len(), 12);
/// assert!(range.append(OffsetRange::new(Offset(11), Offset(13)).unwrap()).is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OffsetRange {
    /// The first offset inside.
    pub first: Offset,
    /// The first offset after.
    pub next: Offset,
}

/// Why two ranges do not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RangeError {
    /// `next` lies before `first`, or `first` is negative.
    #[error("offsets [{first}, {next}) are not a range")]
    Inverted {
        /// The refused first offset.
        first: Offset,
        /// The refused next offset.
        next: Offset,
    },
    /// The appended range does not start where this one ends.
    #[error("range must start at {expected}, but starts at {found}")]
    NotAdjacent {
        /// Where it had to start.
        expected: Offset,
        /// Where it started.
        found: Offset,
    },
}

impl OffsetRange {
    /// The range `[first, next)`; an empty one is allowed.
    ///
    /// # Errors
    /// [`RangeError::Inverted`] if `next < first` or `first < 0`.
    pub fn new(first: Offset, next: Offset) -> Result<Self, RangeError> {
        if first.0 < 0 || next < first {
            return Err(RangeError::Inverted { first, next });
        }
        Ok(Self { first, next })
    }

    /// The empty range at `at`.
    #[must_use]
    pub fn empty(at: Offset) -> Self {
        Self { first: at, next: at }
    }

    /// How many offsets lie inside.
    #[must_use]
    pub fn len(&self) -> u64 {
        (self.next.0 - self.first.0).unsigned_abs()
    }

    /// Whether no offset lies inside.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first == self.next
    }

    /// Whether `offset` lies inside.
    #[must_use]
    pub fn contains(&self, offset: Offset) -> bool {
        self.first <= offset && offset < self.next
    }

    /// Extends this range by one that starts exactly at its end. On error nothing changes.
    ///
    /// # Errors
    /// [`RangeError::NotAdjacent`] if `other` starts elsewhere.
    pub fn append(&mut self, other: Self) -> Result<(), RangeError> {
        if other.first != self.next {
            return Err(RangeError::NotAdjacent { expected: self.next, found: other.first });
        }
        self.next = other.next;
        Ok(())
    }
}

/// Why offsets inside a range carry no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// The broker skipped them on reading: transaction markers, aborted or compacted records.
    NotDelivered,
    /// They fell to the topic's retention before they were read.
    RetentionLoss,
}

/// Offsets inside a range that carry no record, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gap {
    /// The first missing offset.
    pub first: Offset,
    /// The first offset after the gap.
    pub next: Offset,
    /// Why it is missing.
    pub reason: GapReason,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_append_changes_nothing() {
        let mut range = OffsetRange::new(Offset(4), Offset(9)).unwrap();
        for first in [3, 8, 10] {
            let other = OffsetRange::new(Offset(first), Offset(20)).unwrap();
            assert!(range.append(other).is_err());
            assert_eq!(range, OffsetRange::new(Offset(4), Offset(9)).unwrap());
        }
    }

    #[test]
    fn inverted_and_negative_ranges_are_refused() {
        assert!(OffsetRange::new(Offset(5), Offset(4)).is_err());
        assert!(OffsetRange::new(Offset(-1), Offset(4)).is_err());
    }

    proptest::proptest! {
        #[test]
        fn appending_is_concatenation(cuts in proptest::collection::vec(0i64..1_000, 1..20)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let mut whole = OffsetRange::empty(Offset(cuts[0]));
            for pair in cuts.windows(2) {
                whole.append(OffsetRange::new(Offset(pair[0]), Offset(pair[1])).unwrap()).unwrap();
            }
            assert_eq!(whole.first.0, cuts[0]);
            assert_eq!(whole.next.0, *cuts.last().unwrap());
        }
    }
}
