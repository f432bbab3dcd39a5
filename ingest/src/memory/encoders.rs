//! Turns at encoding: as many batches at once as the share of the budget for it allows, in the order in which they
//! ask. One that needs more than the whole share goes alone, so that each has its turn.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Pages that are not full yet, and rows gathered into arrays, whatever the batch holds.
const FIXED_BYTES: usize = 8 << 20;

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

/// Bytes that encoding takes beside a batch of `batch_bytes`: for a large one half as many, as a row's place in
/// the order is 8 bytes where its reading holds some 40, and each file, about a tenth of its batch, is held twice
/// while its pages are put together. What is fixed is never more than a copy of a small batch.
pub(super) fn need(batch_bytes: usize) -> usize {
    batch_bytes.min(batch_bytes / 2 + FIXED_BYTES)
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
    fn encoding_takes_no_more_than_a_copy_of_the_batch() {
        assert_eq!(need(1 << 20), 1 << 20);
        assert_eq!(need(64 << 20), 40 << 20);
    }
}
