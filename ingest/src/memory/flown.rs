//! What a batch on its way takes its time for.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// When a batch came to the steps of its way, of which each ends where the next begins.
#[derive(Debug)]
pub(super) struct Flown {
    launched: Instant,
    steps: Mutex<Steps>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Steps {
    /// Its dead letters are sent: it asks for a turn at encoding.
    asked: Option<Instant>,
    /// It has its turn.
    encoded: Option<Instant>,
}

/// What a batch took longest for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Slowest {
    /// Sending its dead letters.
    DeadLetters,
    /// Waiting for its turn at encoding, which memory bounds.
    Turn,
    /// Being encoded and stored.
    #[default]
    Commit,
}

impl Flown {
    /// A batch that is launched now.
    pub(super) fn new() -> Self {
        Self { launched: Instant::now(), steps: Mutex::default() }
    }

    /// It asks for a turn at encoding.
    pub(super) fn asks(&self) {
        self.steps().asked = Some(Instant::now());
    }

    /// It has its turn.
    pub(super) fn encodes(&self) {
        self.steps().encoded = Some(Instant::now());
    }

    /// What it took longest for until now.
    pub(super) fn slowest(&self) -> Slowest {
        let (Steps { asked, encoded }, now) = (*self.steps(), Instant::now());
        let asked = asked.unwrap_or(now);
        let encoded = encoded.unwrap_or(now);
        slowest(asked - self.launched, encoded - asked, now - encoded)
    }

    fn steps(&self) -> MutexGuard<'_, Steps> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn slowest(dead_letters: Duration, turn: Duration, commit: Duration) -> Slowest {
    if commit >= dead_letters.max(turn) {
        Slowest::Commit
    } else if turn >= dead_letters {
        Slowest::Turn
    } else {
        Slowest::DeadLetters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_longest_step_is_told() {
        for (waits, expected) in [
            ([0, 0, 0], Slowest::Commit),
            ([5, 1, 2], Slowest::DeadLetters),
            ([1, 5, 2], Slowest::Turn),
            ([1, 2, 5], Slowest::Commit),
        ] {
            let [dead_letters, turn, commit] = waits.map(Duration::from_secs);
            let flown = Flown::new();
            tokio::time::advance(dead_letters).await;
            flown.asks();
            tokio::time::advance(turn).await;
            flown.encodes();
            tokio::time::advance(commit).await;
            assert_eq!(flown.slowest(), expected, "{waits:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_that_has_not_ended_counts() {
        let flown = Flown::new();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(flown.slowest(), Slowest::DeadLetters);
        flown.asks();
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(flown.slowest(), Slowest::Turn);
    }
}
