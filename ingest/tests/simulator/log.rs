//! A partition's log as Kafka keeps it: records, offsets without one, and a low end that retention moves.

use std::sync::Mutex;

use stillwell_schema::{Gap, GapReason, Offset};
use stillwell_source::chunk::RecordChunk;
use tokio::sync::Notify;

use crate::records::Record;
use crate::world::lane_id;

/// What an offset holds.
#[derive(Debug)]
pub(crate) enum Slot {
    Record(Record),
    /// A transaction's marker, or an aborted record: no reader ever gets it.
    Marker,
}

pub(crate) struct Log {
    slots: Mutex<Vec<Slot>>,
    low: Mutex<i64>,
    /// Tells of each growth. (A `watch` wakes in an order that no seed determines.)
    grown: Notify,
}

/// Where a reader of the log stands.
#[derive(Debug)]
pub(crate) struct Cursor {
    pub(crate) next: i64,
    /// The low end when it was opened: what is missing below fell to retention.
    pub(crate) earliest: i64,
}

impl Log {
    /// A log whose first `fallen` offsets have fallen to retention.
    pub(crate) fn new(fallen: i64) -> Self {
        let slots = (0..fallen).map(|_| Slot::Marker).collect();
        Self { slots: Mutex::new(slots), low: Mutex::new(fallen), grown: Notify::new() }
    }

    pub(crate) fn append(&self, slots: impl IntoIterator<Item = Slot>) {
        self.slots.lock().unwrap().extend(slots);
        self.grown.notify_waiters();
    }

    pub(crate) fn low(&self) -> i64 {
        *self.low.lock().unwrap()
    }

    pub(crate) fn end(&self) -> i64 {
        self.slots.lock().unwrap().len() as i64
    }

    pub(crate) fn retain_from(&self, low: i64) {
        let mut at = self.low.lock().unwrap();
        *at = low.clamp(*at, self.end());
    }

    /// What is at `offset`.
    pub(crate) fn look<T>(&self, offset: i64, at: impl FnOnce(Option<&Slot>) -> T) -> T {
        let slots = self.slots.lock().unwrap();
        at(usize::try_from(offset).ok().and_then(|offset| slots.get(offset)))
    }

    /// Waits until a reader at `next` has a record before it.
    pub(crate) async fn grows_beyond(&self, next: i64) {
        loop {
            let grown = self.grown.notified();
            if self.has_record_from(next) {
                return;
            }
            grown.await;
        }
    }

    fn has_record_from(&self, next: i64) -> bool {
        let slots = self.slots.lock().unwrap();
        let from = usize::try_from(next.max(self.low())).unwrap();
        slots.iter().skip(from).any(|slot| matches!(slot, Slot::Record(_)))
    }

    /// The chunk that a consumer cuts from the next `records` records for its lane, offsets without one named as
    /// gaps; none where there is no record.
    pub(crate) fn read(&self, partition: i32, cursor: &mut Cursor, records: u64) -> Option<RecordChunk> {
        let slots = self.slots.lock().unwrap();
        let from = usize::try_from(cursor.next.max(cursor.earliest)).unwrap();
        let there = slots.iter().enumerate().skip(from).filter_map(|(offset, slot)| match slot {
            Slot::Record(record) => Some((offset as i64, record)),
            Slot::Marker => None,
        });
        let mut chunk: Option<RecordChunk> = None;
        for (offset, record) in there.take(records as usize) {
            let chunk =
                chunk.get_or_insert_with(|| RecordChunk::new(lane_id(partition), Offset(cursor.next)));
            let lost = cursor.earliest.clamp(cursor.next, offset);
            for (first, next, reason) in
                [(cursor.next, lost, GapReason::RetentionLoss), (lost, offset, GapReason::NotDelivered)]
            {
                if first < next {
                    chunk.push_gap(Gap { first: Offset(first), next: Offset(next), reason });
                }
            }
            let headers = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
            chunk.push(
                Offset(offset),
                record.timestamp_ms,
                record.key.as_deref(),
                record.value.as_deref(),
                headers,
            );
            cursor.next = offset + 1;
        }
        chunk
    }
}
