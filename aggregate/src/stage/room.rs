//! How much may wait in memory to be written: a bound for the process, shared out evenly to its lanes.
//!
//! A lane never waits for another: what fills its share is its own, and it goes on when that is written.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the lanes of a process may have folded since their last snapshots. The snapshots on their way hold as
/// much again in windows, and about as much once more as encoded rows: 300 MiB in all, and what a chunk adds.
const PROCESS_BYTES_MAX: usize = 96 << 20;
/// For one lane, about 100,000 windows: more in one snapshot is not written faster.
const LANE_BYTES_MAX: usize = 24 << 20;

/// The lanes of a process.
#[derive(Debug)]
pub(crate) struct Room {
    lanes: Arc<AtomicUsize>,
    windows_bytes_max: usize,
}

/// What one of them may fill, for as long as it is there.
#[derive(Debug)]
pub(super) struct Share {
    lanes: Arc<AtomicUsize>,
    windows_bytes_max: usize,
}

impl Room {
    /// With so much memory for all windows.
    pub(crate) fn new(windows_bytes_max: usize) -> Self {
        Self { lanes: Arc::default(), windows_bytes_max }
    }

    pub(super) fn enter(&self) -> Share {
        self.lanes.fetch_add(1, Ordering::Relaxed);
        Share { lanes: Arc::clone(&self.lanes), windows_bytes_max: self.windows_bytes_max }
    }
}

impl Share {
    /// Bytes of what changed that a lane may hold before it takes no more chunks.
    pub(super) fn bytes_max(&self) -> usize {
        (PROCESS_BYTES_MAX / self.lanes()).min(LANE_BYTES_MAX)
    }

    /// Bytes of windows from which on those go that were not in use lately.
    pub(super) fn windows_bytes_max(&self) -> usize {
        self.windows_bytes_max / self.lanes()
    }

    fn lanes(&self) -> usize {
        self.lanes.load(Ordering::Relaxed).max(1)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.lanes.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_share_the_room_of_their_process() {
        let room = Room::new(1 << 30);
        let first = room.enter();
        assert_eq!(first.bytes_max(), LANE_BYTES_MAX);
        let others: Vec<Share> = (1..8).map(|_| room.enter()).collect();
        assert_eq!(first.bytes_max(), PROCESS_BYTES_MAX / 8);
        drop(others);
        assert_eq!(first.bytes_max(), LANE_BYTES_MAX);
    }
}
