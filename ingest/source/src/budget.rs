//! One byte budget that all lanes of a stage share.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that may be in flight at once, counted in KiB.
#[derive(Clone, Debug)]
pub struct Budget {
    kib: Arc<Semaphore>,
    kib_max: u32,
}

/// A share of the budget, given back when dropped.
#[derive(Debug)]
pub struct Claim(#[allow(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Budget {
    /// A budget of `bytes_max` bytes, at least 1 MiB.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        let kib_max = u32::try_from(bytes_max / 1024).unwrap_or(u32::MAX).clamp(1024, 1 << 29);
        Self { kib: Arc::new(Semaphore::new(kib_max as usize)), kib_max }
    }

    /// Claims `bytes` if they are free now. A claim larger than the whole budget is cut to it, so that one
    /// huge record can pass alone.
    #[must_use]
    pub fn try_claim(&self, bytes: usize) -> Option<Claim> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).clamp(1, self.kib_max);
        Arc::clone(&self.kib).try_acquire_many_owned(kib).ok().map(Claim)
    }

    /// Bytes claimed now.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        (self.kib_max as usize - self.kib.available_permits()) * 1024
    }
}
