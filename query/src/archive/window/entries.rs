//! Which entry committed an offset, where one file stands for many entries: their objects outlive their files, and
//! are searched by their ranges.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use stillwell_schema::{Offset, OffsetRange, TopicPartition};

use crate::archive::{ArchiveError, Catalogue};

/// Where the ranges of entries are read.
pub(super) trait Ranges {
    /// The range of an entry that is known to be there.
    fn range(
        &self,
        lane: &TopicPartition,
        seq: u64,
    ) -> impl Future<Output = Result<OffsetRange, ArchiveError>> + Send;
}

impl Ranges for Arc<Catalogue> {
    async fn range(&self, lane: &TopicPartition, seq: u64) -> Result<OffsetRange, ArchiveError> {
        Ok(self.entry(lane, seq).await?.entry.range)
    }
}

/// A search that keeps what it has read, and reads no entry twice.
#[derive(Debug)]
pub(super) struct Entries<R = Arc<Catalogue>> {
    ranges: R,
    /// By their first offset: the next one, and the seq.
    known: BTreeMap<(TopicPartition, Offset), (Offset, u64)>,
}

impl<R: Ranges> Entries<R> {
    pub(super) fn new(ranges: R) -> Self {
        Self { ranges, known: BTreeMap::new() }
    }

    /// The entry among `seqs` whose range `offset` lies in.
    ///
    /// # Errors
    /// [`ArchiveError`] where an entry cannot be read.
    pub(super) async fn committing(
        &mut self,
        lane: &TopicPartition,
        seqs: Range<u64>,
        offset: Offset,
    ) -> Result<u64, ArchiveError> {
        if seqs.end <= seqs.start + 1 {
            return Ok(seqs.start);
        }
        let Range { start: mut low, end: mut high } = match self.narrowed(lane, seqs, offset) {
            Ok(seq) => return Ok(seq),
            Err(narrowed) => narrowed,
        };
        while high > low + 1 {
            let middle = low + (high - low) / 2;
            match self.read(lane, middle).await? {
                range if range.contains(offset) => return Ok(middle),
                range if range.first < offset => low = middle + 1,
                _ => high = middle,
            }
        }
        self.read(lane, low).await?;
        Ok(low)
    }

    /// The entry, where it is known; else those between the nearest ones that are.
    fn narrowed(&self, lane: &TopicPartition, seqs: Range<u64>, offset: Offset) -> Result<u64, Range<u64>> {
        let at = (lane.clone(), offset);
        let of_lane = |((found, _), &(next, seq)): (&(TopicPartition, Offset), &(Offset, u64))| {
            (found == lane).then_some((next, seq))
        };
        let before = self.known.range(..=at.clone()).next_back().and_then(of_lane);
        let after = self.known.range(at..).next().and_then(of_lane);
        let (mut low, mut high) = (seqs.start, seqs.end);
        match before {
            Some((next, seq)) if offset < next => return Ok(seq),
            Some((_, seq)) => low = low.max(seq + 1),
            None => {}
        }
        if let Some((_, seq)) = after {
            high = high.min(seq);
        }
        Err(low..high)
    }

    async fn read(&mut self, lane: &TopicPartition, seq: u64) -> Result<OffsetRange, ArchiveError> {
        let range = self.ranges.range(lane, seq).await?;
        self.known.insert((lane.clone(), range.first), (range.next, seq));
        Ok(range)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Entries of ten offsets each, which count how often they are read.
    #[derive(Default)]
    struct Counted(AtomicU64);

    impl Ranges for &Counted {
        async fn range(&self, _: &TopicPartition, seq: u64) -> Result<OffsetRange, ArchiveError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            let first = i64::try_from(seq).unwrap() * 10;
            Ok(OffsetRange { first: Offset(first), next: Offset(first + 10) })
        }
    }

    #[tokio::test]
    async fn each_entry_of_a_cover_is_read_about_once() {
        const ENTRIES: u64 = 500;
        let (lane, other) = (TopicPartition::new("t", 1), TopicPartition::new("t", 2));
        let check = async |offsets: &mut dyn Iterator<Item = u64>, reads_max: u64| {
            let counted = Counted::default();
            let mut entries = Entries::new(&counted);
            entries.committing(&other, 0..ENTRIES, Offset(0)).await.unwrap();
            let before = counted.0.load(Ordering::Relaxed);
            for offset in offsets {
                let seq = entries.committing(&lane, 0..ENTRIES, Offset(offset.cast_signed())).await.unwrap();
                assert_eq!(seq, offset / 10, "{offset}");
            }
            let reads = counted.0.load(Ordering::Relaxed) - before;
            assert!(reads <= reads_max, "{reads} reads");
        };
        check(&mut (0..10 * ENTRIES), ENTRIES).await;
        check(&mut (0..10 * ENTRIES).rev(), ENTRIES).await;
        // By time, as a window's readings come, which is not by offset.
        check(&mut (0..10 * ENTRIES).map(|at| at * 2917 % (10 * ENTRIES)), ENTRIES).await;
        check(&mut std::iter::once(2345), 10).await;
    }
}
