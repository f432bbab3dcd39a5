//! What is allocated at once, by an allocator that counts. One thread at a time asks.

#![allow(unsafe_code, reason = "an allocator that counts hands on what it is asked")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering};

struct Counting;

static NOW: AtomicIsize = AtomicIsize::new(0);
static PEAK: AtomicIsize = AtomicIsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(bytes: isize) {
    let now = NOW.fetch_add(bytes, Ordering::Relaxed) + bytes;
    if now > PEAK.load(Ordering::Relaxed) {
        PEAK.store(now, Ordering::Relaxed);
    }
}

#[allow(clippy::cast_possible_wrap, reason = "no layout is larger than isize::MAX")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new: usize) -> *mut u8 {
        count(new as isize - layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, new) }
    }
}

/// Begins to watch.
pub(crate) fn start() {
    PEAK.store(NOW.load(Ordering::Relaxed), Ordering::Relaxed);
    START.store(NOW.load(Ordering::Relaxed), Ordering::Relaxed);
}

static START: AtomicIsize = AtomicIsize::new(0);

/// Bytes held at once since then, beyond what was held.
pub(crate) fn peak() -> usize {
    usize::try_from(PEAK.load(Ordering::Relaxed) - START.load(Ordering::Relaxed)).unwrap_or(0)
}
