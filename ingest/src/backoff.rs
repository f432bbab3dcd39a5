//! Jittered exponential waits between attempts.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// How long to wait between attempts at something that passes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The first wait.
    pub first: Duration,
    /// The longest wait; each is twice the one before.
    pub most: Duration,
}

impl Default for Retry {
    /// 100 ms to 10 s: short enough to go on soon after a disk was freed, long enough to stay quiet.
    fn default() -> Self {
        Self { first: Duration::from_millis(100), most: Duration::from_secs(10) }
    }
}

/// The waits of one operation.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    most: Duration,
    random: SmallRng,
}

impl Backoff {
    pub(crate) fn new(retry: Retry, seed: u64) -> Self {
        Self { next: retry.first, most: retry.most, random: SmallRng::seed_from_u64(seed) }
    }

    /// Waits between half of the next span and all of it.
    pub(crate) async fn wait(&mut self) {
        let span = self.next;
        self.next = (span * 2).min(self.most);
        tokio::time::sleep(span.mul_f64(self.random.random_range(0.5..=1.0))).await;
    }
}
