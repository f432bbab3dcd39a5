//! When each lane is compacted: every so often, one lane at a time in a process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stillwell_schema::TopicPartition;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How a process compacts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How often a lane is looked at.
    pub interval: Duration,
    /// Files younger than this are left alone.
    pub after: Duration,
    /// Bytes of readings and records that make a run full. Merging holds about twice as many in memory.
    pub file_bytes_target: u64,
    /// Of zstd.
    pub level: i32,
}

/// The compactions of a process. It outlives the lanes, which may come and go.
#[derive(Debug)]
pub(crate) struct Schedule {
    settings: Settings,
    due_us: Mutex<BTreeMap<TopicPartition, i64>>,
    turn: Arc<Semaphore>,
}

impl Schedule {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, due_us: Mutex::default(), turn: Arc::new(Semaphore::new(1)) }
    }

    pub(crate) fn settings(&self) -> Settings {
        self.settings
    }

    /// The turn of `lane`, if it is due at `now_us`; it ends when it is dropped. A lane is first due an interval
    /// after it is first asked for. One that is due while another has its turn is so when it is asked for next.
    pub(crate) fn begin(&self, lane: &TopicPartition, now_us: i64) -> Option<OwnedSemaphorePermit> {
        let interval_us = i64::try_from(self.settings.interval.as_micros()).unwrap_or(i64::MAX);
        let next_us = now_us.saturating_add(interval_us);
        let mut due_us = self.due_us.lock().unwrap_or_else(PoisonError::into_inner);
        let due_us = due_us.entry(lane.clone()).or_insert(next_us);
        if *due_us > now_us {
            return None;
        }
        let turn = Arc::clone(&self.turn).try_acquire_owned().ok()?;
        *due_us = next_us;
        Some(turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_have_their_turns_one_at_a_time() {
        let settings = Settings {
            interval: Duration::from_micros(10),
            after: Duration::ZERO,
            file_bytes_target: 1,
            level: 1,
        };
        let (schedule, [a, b]) = (Schedule::new(settings), [0, 1].map(|p| TopicPartition::new("t", p)));
        assert!(schedule.begin(&a, 0).is_none() && schedule.begin(&b, 5).is_none(), "not yet");
        let turn = schedule.begin(&a, 10);
        assert!(turn.is_some());
        assert!(schedule.begin(&b, 20).is_none(), "a has its turn");
        drop(turn);
        assert!(schedule.begin(&b, 20).is_some());
        assert!(schedule.begin(&a, 19).is_none() && schedule.begin(&a, 20).is_some());
    }
}
