//! Turns at encoding: as many batches at once as the share of the budget for it allows, in the order in which they
//! ask. One that needs more than the whole share goes alone, so that each has its turn.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Pages that are not full yet, and rows gathered into them, whatever the batch holds; never more than a small batch.
const FIXED_BYTES: usize = 8 << 20;

/// A reading's place in the order takes 8 bytes; its columns in the file, some 2, are there encoded and once more in a
/// file that doubles as it grows.
const READING_BYTES: usize = 16;

/// Keys, values and headers are in the writer's pages and once more in a file that doubles as it grows.
const KEPT_COPIES: usize = 2;

/// Who may encode.
#[derive(Debug)]
pub(super) struct Encoders {
    room: Arc<Semaphore>,
    room_kib: u32,
}

/// A turn at encoding, which ends when it is dropped.
#[derive(Debug)]
pub(super) struct Turn(#[allow(dead_code, reason = "held for its drop")] Option<OwnedSemaphorePermit>);

impl Encoders {
    /// Encoders that together take `bytes` beside their batches.
    pub(super) fn new(bytes: usize) -> Self {
        let room_kib = u32::try_from(bytes / 1024).unwrap_or(u32::MAX).clamp(1, 1 << 28);
        Self { room: Arc::new(Semaphore::new(room_kib as usize)), room_kib }
    }

    /// Waits for a turn that takes `bytes`.
    pub(super) async fn turn(&self, bytes: usize) -> Turn {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).clamp(1, self.room_kib);
        // It is never closed.
        Turn(Arc::clone(&self.room).acquire_many_owned(kib).await.ok())
    }
}

/// What is to be encoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    /// Readings.
    pub(crate) readings: usize,
    /// Bytes of keys, values and headers that are kept.
    pub(crate) kept_bytes: usize,
}

/// Bytes that encoding takes beside a batch of `batch_bytes`.
pub(super) fn need(work: Work, batch_bytes: usize) -> usize {
    FIXED_BYTES.min(batch_bytes) + work.readings * READING_BYTES + work.kept_bytes * KEPT_COPIES
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn batches_are_encoded_while_there_is_room_and_a_huge_one_alone() {
        let encoders = Encoders::new(64 << 10);
        let small = encoders.turn(40 << 10).await;
        let also = encoders.turn(20 << 10).await;
        let mut huge = Box::pin(encoders.turn(1 << 30));
        assert!((&mut huge).now_or_never().is_none());
        // In order: what asks later does not overtake.
        let mut later = Box::pin(encoders.turn(1));
        assert!((&mut later).now_or_never().is_none());
        drop((small, also));
        let huge = huge.await;
        assert!((&mut later).now_or_never().is_none());
        drop(huge);
        later.await;
    }

    #[test]
    fn encoding_takes_most_where_values_are_kept() {
        let check = |readings: usize, kept_bytes: usize, batch_bytes: usize, expected: usize| {
            assert_eq!(need(Work { readings, kept_bytes }, batch_bytes), expected);
        };
        check(0, 0, 1 << 10, 1 << 10);
        check(1 << 20, 0, 48 << 20, 24 << 20);
        check(1 << 20, 16 << 20, 64 << 20, 56 << 20);
    }
}
