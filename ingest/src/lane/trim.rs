//! Cuts off what is durable already.

use stillwell_schema::{Gap, Offset};
use stillwell_source::chunk::RecordChunk;

/// The part of `chunk` from `first` on: all of it where it starts there or later, nothing where it ends
/// before. A position read just before another writer's last commit delivers such offsets again.
pub(super) fn from(mut chunk: RecordChunk, first: Offset) -> Option<RecordChunk> {
    if chunk.range().first >= first {
        return Some(chunk);
    }
    if chunk.range().next <= first {
        return None;
    }
    let mut rest = RecordChunk::new(chunk.lane().clone(), first);
    if let Some(claim) = chunk.take_claim() {
        rest.hold(claim);
    }
    let mut gaps = chunk.gaps().iter().filter(|gap| gap.next > first).peekable();
    for record in chunk.records().filter(|record| record.offset >= first) {
        while let Some(gap) = gaps.next_if(|gap| gap.first < record.offset) {
            rest.push_gap(Gap { first: gap.first.max(first), ..*gap });
        }
        rest.push(record.offset, record.timestamp_ms, record.key, record.value, record.headers());
    }
    for gap in gaps {
        rest.push_gap(Gap { first: gap.first.max(first), ..*gap });
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use stillwell_schema::{GapReason, OffsetRange, TopicPartition};
    use stillwell_source::budget::Budget;

    use super::*;

    /// Records at 10, 11, 15, 16; gaps 12..15 and 17..20.
    fn chunk() -> RecordChunk {
        let mut chunk = RecordChunk::new(TopicPartition::new("t", 0), Offset(10));
        for offset in [10, 11, 15, 16] {
            if offset == 15 {
                chunk.push_gap(Gap { first: Offset(12), next: Offset(15), reason: GapReason::NotDelivered });
            }
            chunk.push(Offset(offset), offset, Some(b"k"), None, [("h", None)]);
        }
        chunk.push_gap(Gap { first: Offset(17), next: Offset(20), reason: GapReason::RetentionLoss });
        chunk
    }

    #[test]
    fn what_is_left_keeps_its_claim() {
        let (budget, mut whole) = (Budget::new(100), chunk());
        whole.hold(budget.try_claim(&TopicPartition::new("t", 0), 10).unwrap());
        let rest = from(whole, Offset(15)).unwrap();
        assert_eq!(budget.used_bytes(), 10);
        drop(rest);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn every_cut_leaves_exactly_the_rest() {
        for first in 5..25 {
            let expected: Vec<i64> = [10, 11, 15, 16].into_iter().filter(|o| *o >= first).collect();
            let Some(rest) = from(chunk(), Offset(first)) else {
                assert!(first >= 20);
                continue;
            };
            assert_eq!(rest.records().map(|r| r.offset.0).collect::<Vec<_>>(), expected, "{first}");
            assert_eq!(rest.range(), OffsetRange::new(Offset(first.max(10)), Offset(20)).unwrap());
            let missing: i64 = rest.gaps().iter().map(|gap| gap.next.0 - gap.first.0).sum();
            assert_eq!(missing + expected.len() as i64, 20 - first.max(10), "{first}");
        }
    }
}
