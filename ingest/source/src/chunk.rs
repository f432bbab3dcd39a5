//! A run of one partition's records, whole and in order, in one piece of memory.

use std::sync::Arc;

use stillwell_schema::{Gap, Offset, OffsetRange, TopicPartition};

use crate::budget::Claim;

/// Consecutive records of one lane: every offset of `range` is either a record or in a gap.
///
/// Key, value and headers of all records lie back to back in one buffer, so a chunk costs two
/// allocations whatever it holds.
#[derive(Debug)]
pub struct RecordChunk {
    lane: TopicPartition,
    range: OffsetRange,
    gaps: Vec<Gap>,
    rows: Vec<Row>,
    bytes: Vec<u8>,
    /// The share of the memory budget that this chunk, and what was cut off it, hold until both are dropped.
    claim: Option<Arc<Claim>>,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    offset: i64,
    timestamp_ms: i64,
    start: usize,
    /// `NULL` where absent.
    key: u32,
    value: u32,
    headers: u32,
}

const NULL: u32 = u32::MAX;

/// One record, borrowed from its chunk.
#[derive(Clone, Copy, Debug)]
pub struct RecordRef<'a> {
    /// Offset within the partition.
    pub offset: Offset,
    /// Kafka timestamp, ms since the epoch; -1 where the broker gave none.
    pub timestamp_ms: i64,
    /// Key bytes, if any.
    pub key: Option<&'a [u8]>,
    /// Value bytes; none for a tombstone.
    pub value: Option<&'a [u8]>,
    headers: &'a [u8],
}

impl RecordChunk {
    /// An empty chunk that starts at `first`.
    #[must_use]
    pub fn new(lane: TopicPartition, first: Offset) -> Self {
        Self {
            lane,
            range: OffsetRange::empty(first),
            gaps: Vec::new(),
            rows: Vec::new(),
            bytes: Vec::new(),
            claim: None,
        }
    }

    /// Makes room for so many bytes of keys, values and headers, and so many records.
    pub fn reserve(&mut self, bytes: usize, records: usize) {
        self.bytes.reserve_exact(bytes);
        self.rows.reserve_exact(records);
    }

    /// Appends the record at `offset`, which is the chunk's end: what is missing before it has been named by
    /// [`RecordChunk::push_gap`]. A header's name is text; one that came as other bytes comes encoded (see
    /// [`stillwell_schema::columns::RECORDS`]).
    ///
    /// # Panics
    /// If `offset` is not the chunk's end.
    pub fn push<'a>(
        &mut self,
        offset: Offset,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>,
    ) {
        assert_eq!(offset, self.range.next, "records are appended in order, gaps named");
        let start = self.bytes.len();
        let key = put(&mut self.bytes, key);
        let value = put(&mut self.bytes, value);
        let before = self.bytes.len();
        for (name, value) in headers {
            put_prefixed(&mut self.bytes, Some(name.as_bytes()));
            put_prefixed(&mut self.bytes, value);
        }
        let headers = len_u32(self.bytes.len() - before);
        self.rows.push(Row { offset: offset.0, timestamp_ms, start, key, value, headers });
        self.range.next = Offset(offset.0 + 1);
    }

    /// Names `gap.first..gap.next` as missing; it must start at the chunk's end.
    ///
    /// # Panics
    /// If it starts elsewhere.
    pub fn push_gap(&mut self, gap: Gap) {
        assert_eq!(gap.first, self.range.next, "a gap is appended in order");
        self.range.next = gap.next;
        self.gaps.push(gap);
    }

    /// The lane it belongs to.
    #[must_use]
    pub fn lane(&self) -> &TopicPartition {
        &self.lane
    }

    /// The offsets it covers.
    #[must_use]
    pub fn range(&self) -> OffsetRange {
        self.range
    }

    /// The offsets inside its range that carry no record.
    #[must_use]
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// Number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it holds no record; it may still cover a gap.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes of memory held.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.rows.capacity() * size_of::<Row>()
    }

    /// Bytes of keys, values and headers.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Record number `i`.
    ///
    /// # Panics
    /// If `i` is not below [`RecordChunk::len`].
    #[must_use]
    pub fn record(&self, i: usize) -> RecordRef<'_> {
        let row = &self.rows[i];
        let (key, rest) = take(&self.bytes[row.start..], row.key);
        let (value, rest) = take(rest, row.value);
        let headers = &rest[..row.headers as usize];
        RecordRef { offset: Offset(row.offset), timestamp_ms: row.timestamp_ms, key, value, headers }
    }

    /// Offset and Kafka timestamp, ms, of record number `i`.
    ///
    /// # Panics
    /// If `i` is not below [`RecordChunk::len`].
    #[must_use]
    #[inline]
    pub fn place(&self, i: usize) -> (Offset, i64) {
        let row = &self.rows[i];
        (Offset(row.offset), row.timestamp_ms)
    }

    /// All records in order.
    pub fn records(&self) -> impl ExactSizeIterator<Item = RecordRef<'_>> {
        (0..self.rows.len()).map(|i| self.record(i))
    }

    /// Lets go of the values of the records that `is_kept` says no of; they read as absent from then on.
    pub fn drop_values(&mut self, is_kept: impl Fn(usize) -> bool) {
        let kept = |i: usize, row: &Row| {
            if row.value == NULL || is_kept(i) { 0 } else { row.value as usize }
        };
        let dropped: usize = self.rows.iter().enumerate().map(|(i, row)| kept(i, row)).sum();
        if dropped == 0 {
            return;
        }
        let mut bytes = Vec::with_capacity(self.bytes.len() - dropped);
        for (i, row) in self.rows.iter_mut().enumerate() {
            let key = row.start + if row.key == NULL { 0 } else { row.key as usize };
            let value = key + if row.value == NULL { 0 } else { row.value as usize };
            let start = bytes.len();
            bytes.extend_from_slice(&self.bytes[row.start..key]);
            if row.value != NULL && is_kept(i) {
                bytes.extend_from_slice(&self.bytes[key..value]);
            } else {
                row.value = NULL;
            }
            bytes.extend_from_slice(&self.bytes[value..value + row.headers as usize]);
            row.start = start;
        }
        self.bytes = bytes;
    }

    /// Ties a claim on the memory budget to this chunk's life.
    pub fn hold(&mut self, claim: impl Into<Arc<Claim>>) {
        self.claim = Some(claim.into());
    }

    /// Takes the claim off, for whoever counts this chunk's memory from here on.
    #[must_use]
    pub fn take_claim(&mut self) -> Option<Arc<Claim>> {
        self.claim.take()
    }

    /// Cuts off the records from number `i` on, with the gaps that follow record `i - 1`; this chunk ends after
    /// that record.
    ///
    /// # Panics
    /// If `i` is not below [`RecordChunk::len`].
    #[must_use]
    pub fn split_off(&mut self, i: usize) -> Self {
        let cut = if i == 0 { self.range.first } else { Offset(self.rows[i - 1].offset + 1) };
        let start = self.rows[i].start;
        let gaps = self.gaps.split_off(self.gaps.partition_point(|gap| gap.first < cut));
        let rows = self.rows.split_off(i).into_iter().map(|row| Row { start: row.start - start, ..row });
        let rest = Self {
            lane: self.lane.clone(),
            range: OffsetRange { first: cut, next: self.range.next },
            gaps,
            rows: rows.collect(),
            bytes: self.bytes.split_off(start),
            claim: self.claim.clone(),
        };
        self.range.next = cut;
        rest
    }
}

impl<'a> RecordRef<'a> {
    /// A record that comes from no chunk, without headers.
    #[must_use]
    pub fn new(timestamp_ms: i64, key: Option<&'a [u8]>, value: &'a [u8]) -> Self {
        Self { offset: Offset(0), timestamp_ms, key, value: Some(value), headers: &[] }
    }

    /// The value's bytes; empty for a tombstone.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.value.unwrap_or_default()
    }

    /// Whether it has any header.
    #[must_use]
    pub fn has_headers(&self) -> bool {
        !self.headers.is_empty()
    }

    /// Headers in order: name and value.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> + use<'a> {
        let mut rest = self.headers;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let name = get_prefixed(&mut rest).unwrap_or_default();
            let value = get_prefixed(&mut rest);
            // Names came in as `str`.
            Some((std::str::from_utf8(name).unwrap_or_default(), value))
        })
    }
}

fn len_u32(len: usize) -> u32 {
    // Kafka bounds a record by an i32.
    u32::try_from(len).unwrap_or(NULL - 1)
}

fn put(bytes: &mut Vec<u8>, field: Option<&[u8]>) -> u32 {
    field.map_or(NULL, |field| {
        bytes.extend_from_slice(field);
        len_u32(field.len())
    })
}

fn take(bytes: &[u8], len: u32) -> (Option<&[u8]>, &[u8]) {
    if len == NULL {
        return (None, bytes);
    }
    let (field, rest) = bytes.split_at(len as usize);
    (Some(field), rest)
}

fn put_prefixed(bytes: &mut Vec<u8>, field: Option<&[u8]>) {
    bytes.extend_from_slice(&field.map_or(NULL, |f| len_u32(f.len())).to_le_bytes());
    bytes.extend_from_slice(field.unwrap_or_default());
}

fn get_prefixed<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, tail) = rest.split_first_chunk::<4>()?;
    let (field, tail) = take(tail, u32::from_le_bytes(*len));
    *rest = tail;
    field
}

#[cfg(test)]
mod tests {
    use stillwell_schema::GapReason;

    use super::*;

    #[test]
    fn a_cut_leaves_both_parts_whole() {
        let whole = || {
            let mut chunk = RecordChunk::new(TopicPartition::new("t", 0), Offset(5));
            let gap = |first, next| Gap {
                first: Offset(first),
                next: Offset(next),
                reason: GapReason::NotDelivered,
            };
            chunk.push_gap(gap(5, 6));
            chunk.push(Offset(6), 1, Some(b"k"), Some(b"first"), [("a", None)]);
            chunk.push_gap(gap(7, 9));
            chunk.push(Offset(9), 2, None, Some(b"second"), []);
            chunk.push(Offset(10), 3, None, None, [("b", Some(&b"x"[..]))]);
            chunk.push_gap(gap(11, 12));
            chunk
        };
        for (cut, at, gaps) in [(0, 5, 0), (1, 7, 1), (2, 10, 2)] {
            let mut before = whole();
            let after = before.split_off(cut);
            assert_eq!(before.range(), OffsetRange::new(Offset(5), Offset(at)).unwrap());
            assert_eq!(after.range(), OffsetRange::new(Offset(at), Offset(12)).unwrap());
            assert_eq!((before.gaps().len(), after.gaps().len()), (gaps, 3 - gaps));
            let records = |chunk: &RecordChunk| {
                let record = |r: RecordRef<'_>| format!("{r:?} {:?}", r.headers().collect::<Vec<_>>());
                chunk.records().map(record).collect::<Vec<_>>()
            };
            assert_eq!([records(&before), records(&after)].concat(), records(&whole()));
        }
    }

    #[test]
    fn values_that_are_dropped_leave_the_rest() {
        let mut chunk = RecordChunk::new(TopicPartition::new("t", 0), Offset(0));
        for (offset, value) in [Some(&b"first"[..]), Some(b"second"), None, Some(b"")].into_iter().enumerate()
        {
            chunk.push(Offset(offset as i64), 1, Some(b"key"), value, [("a", Some(&b"x"[..]))]);
        }
        let before = chunk.payload_bytes();
        chunk.drop_values(|i| i != 0);
        assert_eq!(chunk.payload_bytes(), before - b"first".len());
        let values: Vec<_> = chunk.records().map(|record| record.value).collect();
        assert_eq!(values, [None, Some(&b"second"[..]), None, Some(b"")]);
        assert!(chunk.records().all(|record| record.key == Some(b"key") && record.headers().count() == 1));
    }

    #[test]
    fn records_come_back_whole() {
        let mut chunk = RecordChunk::new(TopicPartition::new("t", 0), Offset(5));
        chunk.push(Offset(5), 10, Some(b"k"), Some(b"value"), [("a", Some(&b"1"[..])), ("b", None)]);
        chunk.push_gap(Gap { first: Offset(6), next: Offset(8), reason: GapReason::NotDelivered });
        chunk.push(Offset(8), 11, None, None, []);
        chunk.push(Offset(9), 12, Some(b""), Some(b""), []);
        assert_eq!(chunk.range(), OffsetRange::new(Offset(5), Offset(10)).unwrap());
        let first = chunk.record(0);
        assert_eq!((first.key, first.value), (Some(&b"k"[..]), Some(&b"value"[..])));
        assert_eq!(first.headers().collect::<Vec<_>>(), [("a", Some(&b"1"[..])), ("b", None)]);
        assert_eq!((chunk.record(1).key, chunk.record(1).value), (None, None));
        assert_eq!((chunk.record(2).key, chunk.record(2).value), (Some(&b""[..]), Some(&b""[..])));
        assert_eq!(chunk.records().map(|r| r.offset.0).collect::<Vec<_>>(), [5, 8, 9]);
    }
}
