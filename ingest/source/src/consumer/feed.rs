//! Cuts one lane's records into chunks: contiguous, gaps named, nothing below what was expected.

use std::time::{Duration, Instant};

use stillwell_schema::{Gap, GapReason, Offset, TopicPartition};

use crate::chunk::RecordChunk;

/// The open chunk of a lane and what comes next.
#[derive(Debug)]
pub(crate) struct Feed {
    lane: TopicPartition,
    /// The next offset to take.
    next: Offset,
    /// Offsets below this fell to retention.
    earliest: Offset,
    open: Option<(RecordChunk, Instant)>,
    /// Bytes and records of the chunk before, which the next will hold about as many of.
    before: (usize, usize),
}

impl Feed {
    /// A lane that expects `next`, where the log begins at `earliest`.
    pub(crate) fn new(lane: TopicPartition, next: Offset, earliest: Offset) -> Self {
        Self { lane, next, earliest, open: None, before: (0, 0) }
    }

    /// Takes a record; one below the next offset was taken before and is dropped.
    #[inline]
    pub(crate) fn take<'a>(
        &mut self,
        offset: Offset,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>,
        now: Instant,
    ) {
        if offset < self.next {
            return;
        }
        let (lane, next, before) = (&self.lane, self.next, self.before);
        let (chunk, _) = self.open.get_or_insert_with(|| (chunk_like(before, lane, next), now));
        for gap in gaps(next, offset, self.earliest) {
            chunk.push_gap(gap);
        }
        chunk.push(offset, timestamp_ms, key, value, headers);
        self.next = Offset(offset.0 + 1);
    }

    /// The offset of the next record, as far as the log is known.
    #[inline]
    pub(crate) fn expects(&self) -> Offset {
        self.next.max(self.earliest)
    }

    /// The open chunk, if it is to go: it holds `bytes` or its first record is `age` old.
    pub(crate) fn cut(&mut self, bytes: usize, age: Duration, now: Instant) -> Option<RecordChunk> {
        let (chunk, since) = self.open.as_ref()?;
        let due = chunk.payload_bytes() >= bytes || now.duration_since(*since) >= age;
        if due { self.flush() } else { None }
    }

    /// Whether the open chunk holds so many bytes.
    #[inline]
    pub(crate) fn holds(&self, bytes: usize) -> bool {
        self.open.as_ref().is_some_and(|(chunk, _)| chunk.payload_bytes() >= bytes)
    }

    /// Bytes of memory that the open chunk holds.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.open.as_ref().map_or(0, |(chunk, _)| chunk.memory_bytes())
    }

    /// Retention took what lies below `low`.
    pub(crate) fn lost_below(&mut self, low: Offset) {
        self.earliest = self.earliest.max(low);
    }

    /// The open chunk and what is missing from there to `end`, after which nothing comes.
    pub(crate) fn finish(&mut self, end: Offset) -> Option<RecordChunk> {
        for gap in gaps(self.next, end, self.earliest) {
            let (lane, next) = (&self.lane, self.next);
            let open =
                self.open.get_or_insert_with(|| (RecordChunk::new(lane.clone(), next), Instant::now()));
            open.0.push_gap(gap);
            self.next = gap.next;
        }
        self.flush()
    }

    /// The open chunk, whatever it holds.
    pub(crate) fn flush(&mut self) -> Option<RecordChunk> {
        let (chunk, _) = self.open.take()?;
        self.before = (chunk.payload_bytes(), chunk.len());
        Some(chunk)
    }
}

/// An empty chunk with room for a little more than the one before, so that it is mostly not copied as it grows. Room
/// that is not used counts as memory all the same.
fn chunk_like((bytes, records): (usize, usize), lane: &TopicPartition, first: Offset) -> RecordChunk {
    let mut chunk = RecordChunk::new(lane.clone(), first);
    chunk.reserve(bytes + bytes / 16, records + records / 16);
    chunk
}

/// What is missing between `next` and `offset`: what retention took, and what the broker did not deliver.
fn gaps(next: Offset, offset: Offset, earliest: Offset) -> impl Iterator<Item = Gap> {
    let lost = earliest.clamp(next, offset);
    let parts = [(next, lost, GapReason::RetentionLoss), (lost, offset, GapReason::NotDelivered)];
    parts.into_iter().filter(|(first, next, _)| first < next).map(|(first, next, reason)| Gap {
        first,
        next,
        reason,
    })
}

#[cfg(test)]
mod tests {
    use stillwell_schema::OffsetRange;

    use super::*;

    fn take(feed: &mut Feed, offsets: &[i64]) {
        for &offset in offsets {
            feed.take(Offset(offset), 0, None, Some(b"0123456789"), [], Instant::now());
        }
    }

    fn feed(next: i64, earliest: i64) -> Feed {
        Feed::new(TopicPartition::new("t", 0), Offset(next), Offset(earliest))
    }

    #[test]
    fn jumps_become_gaps_and_what_was_taken_is_dropped() {
        let mut feed = feed(5, 0);
        take(&mut feed, &[3, 4, 5, 6, 9, 9, 7, 10]);
        let chunk = feed.flush().unwrap();
        assert_eq!(chunk.records().map(|r| r.offset.0).collect::<Vec<_>>(), [5, 6, 9, 10]);
        assert_eq!(
            chunk.gaps(),
            [Gap { first: Offset(7), next: Offset(9), reason: GapReason::NotDelivered }]
        );
        assert_eq!(chunk.range(), OffsetRange::new(Offset(5), Offset(11)).unwrap());
        assert_eq!(feed.next, Offset(11));
    }

    #[test]
    fn what_retention_took_is_told_from_what_was_not_delivered() {
        let mut feed = feed(5, 8);
        take(&mut feed, &[10]);
        let reasons: Vec<_> =
            feed.flush().unwrap().gaps().iter().map(|g| (g.first.0, g.next.0, g.reason)).collect();
        assert_eq!(reasons, [(5, 8, GapReason::RetentionLoss), (8, 10, GapReason::NotDelivered)]);
    }

    #[test]
    fn what_retention_took_is_not_expected() {
        assert_eq!(feed(5, 8).expects(), Offset(8));
        assert_eq!(feed(5, 0).expects(), Offset(5));
    }

    #[test]
    fn chunks_are_cut_by_size_and_age_and_join_seamlessly() {
        let mut feed = feed(0, 0);
        take(&mut feed, &[0]);
        let (hour, now) = (Duration::from_secs(3600), Instant::now());
        assert!(feed.cut(11, hour, now).is_none());
        assert!(feed.cut(10, hour, now).is_some());
        take(&mut feed, &[1]);
        let later = feed.cut(1000, Duration::ZERO, now).unwrap();
        assert_eq!(later.range(), OffsetRange::new(Offset(1), Offset(2)).unwrap());
        assert!(feed.flush().is_none());
    }
}
