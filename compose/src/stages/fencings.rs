//! When a stage that was fenced gives up.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Times at which another member of the same name took a stage's place. A broker that comes back from a crash may
/// say so of a stage's own former request, so the stage tries again; but two processes that take each other's place by
/// turns would never get on.
#[derive(Debug, Default)]
pub(super) struct Fencings(VecDeque<Instant>);

impl Fencings {
    const WITHIN: Duration = Duration::from_secs(600);
    const MAX: usize = 3;

    /// Notes one; whether they are too many.
    pub(super) fn add(&mut self, now: Instant) -> bool {
        self.0.push_back(now);
        self.0.retain(|&at| now - at < Self::WITHIN);
        self.0.len() >= Self::MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_that_is_fenced_again_and_again_gives_up() {
        let (mut fencings, start) = (Fencings::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(!fencings.add(start) && !fencings.add(after(100)));
        assert!(!fencings.add(after(650)), "the first is long ago");
        assert!(fencings.add(after(690)));
    }
}
