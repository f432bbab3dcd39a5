//! Where memory, freshness and file size cannot all be had: files that memory cut short, counted over a while, and
//! the memory that they would have taken.

use std::time::Duration;

/// How often it is said at most.
const SAY_EVERY_US: i64 = 60 * 1_000_000;

/// A batch that goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flushed {
    /// Whether only for want of memory.
    pub(crate) by_memory: bool,
    /// Bytes of keys, values and headers.
    pub(crate) bytes: usize,
    /// Since its first record came.
    pub(crate) age: Duration,
}

/// What the user asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// How old the first record of a file may grow.
    pub(crate) freshness: Duration,
    /// Bytes of records that a file is to hold.
    pub(crate) file_bytes: usize,
    /// Bytes of memory.
    pub(crate) memory_bytes: usize,
}

/// What stands against each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// Files that memory cut short,
    pub(crate) short: u64,
    /// of so many.
    pub(crate) files: u64,
    /// Bytes of records in a short one, on average.
    pub(crate) bytes: u64,
    /// The memory with which they would have grown to what is asked for.
    pub(crate) memory_bytes: u64,
}

/// The files of a while.
#[derive(Debug, Default)]
pub(super) struct Conflicts {
    since_us: Option<i64>,
    files: u64,
    short: u64,
    /// Bytes of records in the short ones, and those that they would have come to.
    bytes: u128,
    asked_bytes: u128,
}

impl Conflicts {
    /// Takes note of a batch; a conflict where there was one and nothing was said for a while.
    pub(super) fn note(&mut self, flushed: Flushed, asked: Asked, now_us: i64) -> Option<Conflict> {
        self.files += 1;
        let asked_bytes = would_hold(flushed, asked);
        if flushed.by_memory && asked_bytes > flushed.bytes as u128 {
            self.short += 1;
            self.bytes += flushed.bytes as u128;
            self.asked_bytes += asked_bytes;
        }
        // A clock that is set back must not keep it quiet.
        let since_us = self.since_us.map_or(now_us, |since_us| since_us.min(now_us));
        self.since_us = Some(since_us);
        if now_us.saturating_sub(since_us) < SAY_EVERY_US {
            return None;
        }
        let over = std::mem::replace(self, Self { since_us: Some(now_us), ..Self::default() });
        (over.short > 0).then(|| over.conflict(asked))
    }

    fn conflict(&self, asked: Asked) -> Conflict {
        let memory = asked.memory_bytes as u128 * self.asked_bytes / self.bytes.max(1);
        Conflict {
            short: self.short,
            files: self.files,
            bytes: u64::try_from(self.bytes / u128::from(self.short.max(1))).unwrap_or(u64::MAX),
            memory_bytes: u64::try_from(memory).unwrap_or(u64::MAX),
        }
    }
}

/// Bytes to which a batch would have grown at the pace at which it came, had there been the memory.
fn would_hold(flushed: Flushed, asked: Asked) -> u128 {
    let bytes = flushed.bytes as u128;
    let when_due = bytes * asked.freshness.as_micros() / flushed.age.as_micros().max(1);
    when_due.min(asked.file_bytes as u128).max(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_US: i64 = 1_000_000;
    const ASKED: Asked = Asked { freshness: Duration::from_secs(5), file_bytes: 64, memory_bytes: 256 };

    fn flushed(by_memory: bool, bytes: usize, seconds: u64) -> Flushed {
        Flushed { by_memory, bytes, age: Duration::from_secs(seconds) }
    }

    #[test]
    fn a_conflict_is_said_once_a_minute_with_what_would_mend_it() {
        let mut conflicts = Conflicts::default();
        assert_eq!(conflicts.note(flushed(true, 16, 1), ASKED, 0), None);
        assert_eq!(conflicts.note(flushed(false, 64, 1), ASKED, 59 * SECOND_US), None);
        let said = conflicts.note(flushed(true, 16, 1), ASKED, 60 * SECOND_US);
        assert_eq!(said, Some(Conflict { short: 2, files: 3, bytes: 16, memory_bytes: 256 * 4 }));
        assert_eq!(conflicts.note(flushed(true, 16, 1), ASKED, 119 * SECOND_US), None);
        assert!(conflicts.note(flushed(false, 64, 1), ASKED, 120 * SECOND_US).is_some());
    }

    #[test]
    fn freshness_bounds_what_a_file_would_have_held() {
        for (bytes, seconds, expected) in [(16, 1, 64), (16, 4, 20), (16, 5, 16), (16, 50, 16), (80, 1, 80)] {
            assert_eq!(would_hold(flushed(true, bytes, seconds), ASKED), expected, "{bytes} {seconds}");
        }
    }

    #[test]
    fn files_that_freshness_or_size_would_have_ended_then_are_none() {
        let mut conflicts = Conflicts::default();
        for (minute, batch) in (0..).zip([flushed(false, 1, 5), flushed(true, 1, 5), flushed(true, 64, 1)]) {
            assert_eq!(conflicts.note(batch, ASKED, minute * 60 * SECOND_US), None);
        }
        assert_eq!(conflicts.note(flushed(false, 1, 5), ASKED, 600 * SECOND_US), None);
    }

    #[test]
    fn a_clock_that_is_set_back_is_waited_for_no_longer_than_ever() {
        let mut conflicts = Conflicts::default();
        assert_eq!(conflicts.note(flushed(true, 1, 1), ASKED, 600 * SECOND_US), None);
        assert_eq!(conflicts.note(flushed(true, 1, 1), ASKED, 0), None);
        assert!(conflicts.note(flushed(true, 1, 1), ASKED, 60 * SECOND_US).is_some());
    }
}
