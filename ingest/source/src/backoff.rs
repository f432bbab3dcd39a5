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
pub struct Backoff {
    next: Duration,
    most: Duration,
    random: SmallRng,
}

impl Backoff {
    /// Waits as `retry` says; `seed` keeps those who wait for the same thing apart.
    #[must_use]
    pub fn new(retry: Retry, seed: u64) -> Self {
        Self { next: retry.first, most: retry.most, random: SmallRng::seed_from_u64(seed) }
    }

    /// The next wait: between half of the next span and all of it.
    pub fn next_wait(&mut self) -> Duration {
        let span = self.next;
        self.next = (span * 2).min(self.most);
        span.mul_f64(self.random.random_range(0.5..=1.0))
    }

    /// Waits that long.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.next_wait()).await;
    }
}
