//! Which entry committed an offset, where one file stands for many entries: their objects outlive their files, and
//! are searched by their ranges.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use stillwell_schema::{Offset, OffsetRange, TopicPartition};

use crate::archive::{ArchiveError, Catalogue};

/// A search that keeps what it has read: the readings of a window come from few entries.
#[derive(Debug)]
pub(super) struct Entries {
    catalogue: Arc<Catalogue>,
    /// By their first offset: the next one, and the seq.
    known: BTreeMap<(TopicPartition, Offset), (Offset, u64)>,
}

impl Entries {
    pub(super) fn new(catalogue: Arc<Catalogue>) -> Self {
        Self { catalogue, known: BTreeMap::new() }
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
        if let Some(seq) = self.known(lane, offset) {
            return Ok(seq);
        }
        let (mut low, mut high) = (seqs.start, seqs.end);
        while high > low + 1 {
            let middle = low + (high - low) / 2;
            match self.range(lane, middle).await? {
                range if range.contains(offset) => return Ok(middle),
                range if range.first < offset => low = middle,
                _ => high = middle,
            }
        }
        self.range(lane, low).await?;
        Ok(low)
    }

    fn known(&self, lane: &TopicPartition, offset: Offset) -> Option<u64> {
        let ((found, _), (next, seq)) = self.known.range(..=(lane.clone(), offset)).next_back()?;
        (found == lane && offset < *next).then_some(*seq)
    }

    async fn range(&mut self, lane: &TopicPartition, seq: u64) -> Result<OffsetRange, ArchiveError> {
        let range = self.catalogue.entry(lane, seq).await?.entry.range;
        self.known.insert((lane.clone(), range.first), (range.next, seq));
        Ok(range)
    }
}
