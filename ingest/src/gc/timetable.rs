//! When each lane is swept: by the clock, one lane at a time in a process, from where it was swept before.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use stillwell_schema::{Head, TopicPartition};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::AGE_US;
use crate::life::compact::{Schedule, Settings};

/// What a writer left that died just before this process had the lane is old enough by then.
const FIRST_AFTER_US: i64 = AGE_US + 5 * 60 * 1_000_000;
const EVERY_US: i64 = 6 * 3_600 * 1_000_000;

// A sweep leaves files younger than the age to the next but one, which starts where this one's predecessor was.
const _: () = assert!(EVERY_US > AGE_US);

/// The sweeps of a process. It outlives the lanes, which may come and go within an hour.
#[derive(Debug)]
pub(crate) struct Timetable {
    compactions: Option<Arc<Schedule>>,
    lanes: Mutex<BTreeMap<TopicPartition, Lane>>,
    broom: Arc<Semaphore>,
}

#[derive(Debug)]
struct Lane {
    due_us: i64,
    /// The heads at the last sweep but one and the last. What is unnamed, old enough and not found by the last
    /// sweep was written an age before it or later, so it starts at the head of the last but one or after;
    /// but for the files of a writer that slept for hours, which the next process finds.
    heads: [Head; 2],
}

/// A sweep that is due.
#[derive(Debug)]
pub(crate) struct Sweep {
    /// Where the chain is read from.
    pub(crate) from: Head,
    /// Lets others sweep when it is dropped.
    _broom: OwnedSemaphorePermit,
}

impl Default for Timetable {
    fn default() -> Self {
        Self { compactions: None, lanes: Mutex::default(), broom: Arc::new(Semaphore::new(1)) }
    }
}

impl Timetable {
    /// One by which lanes are compacted too.
    pub(crate) fn compacting(settings: Settings) -> Self {
        Self { compactions: Some(Arc::new(Schedule::new(settings))), ..Self::default() }
    }

    /// When lanes are compacted, if they are.
    pub(crate) fn compactions(&self) -> Option<&Arc<Schedule>> {
        self.compactions.as_ref()
    }

    /// A lane was opened at `now_us`; one that is known keeps its times.
    pub(crate) fn enter(&self, lane: &TopicPartition, now_us: i64) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.entry(lane.clone()).or_insert_with(|| Lane {
            due_us: now_us + FIRST_AFTER_US,
            heads: [Head::genesis(), Head::genesis()],
        });
    }

    /// The sweep of `lane`, if it is due at `now_us`. One that is due while another lane is being swept is so
    /// again when it is asked for next.
    pub(crate) fn begin(&self, lane: &TopicPartition, now_us: i64) -> Option<Sweep> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let times = lanes.get_mut(lane).filter(|times| times.due_us <= now_us)?;
        let broom = Arc::clone(&self.broom).try_acquire_owned().ok()?;
        times.due_us = now_us + EVERY_US;
        Some(Sweep { from: times.heads[0].clone(), _broom: broom })
    }

    /// `lane` has been swept up to `head`. One that failed is made up for by the next.
    pub(crate) fn done(&self, lane: &TopicPartition, head: Head) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(times) = lanes.get_mut(lane) {
            times.heads.rotate_left(1);
            times.heads[1] = head;
        }
    }
}

#[cfg(test)]
mod tests {
    use stillwell_schema::Offset;

    use super::*;

    fn head(next: i64) -> Head {
        Head { next: Some(Offset(next)), ..Head::genesis() }
    }

    #[test]
    fn a_lane_is_swept_after_an_age_and_then_every_few_hours_however_often_it_is_opened() {
        let (times, lane) = (Timetable::default(), TopicPartition::new("t", 0));
        times.enter(&lane, 1_000);
        assert!(times.begin(&lane, 1_000 + AGE_US).is_none());
        times.enter(&lane, 1_000 + AGE_US);
        let first = 1_000 + FIRST_AFTER_US;
        assert!(times.begin(&lane, first).is_some());
        assert!(times.begin(&lane, first + EVERY_US - 1).is_none());
        assert!(times.begin(&lane, first + EVERY_US).is_some());
    }

    #[test]
    fn one_lane_is_swept_at_a_time() {
        let (times, [a, b]) = (Timetable::default(), [0, 1].map(|p| TopicPartition::new("t", p)));
        [&a, &b].into_iter().for_each(|lane| times.enter(lane, 0));
        let sweep = times.begin(&a, FIRST_AFTER_US).unwrap();
        assert!(times.begin(&b, FIRST_AFTER_US).is_none());
        drop(sweep);
        assert!(times.begin(&b, FIRST_AFTER_US).is_some());
    }

    #[test]
    fn a_sweep_starts_where_the_last_but_one_ended() {
        let (times, lane) = (Timetable::default(), TopicPartition::new("t", 0));
        times.enter(&lane, 0);
        let mut from = Vec::new();
        for (sweep, swept) in (0..).zip([Some(10), None, Some(20), Some(30), Some(40)]) {
            from.push(times.begin(&lane, FIRST_AFTER_US + sweep * EVERY_US).unwrap().from);
            if let Some(next) = swept {
                times.done(&lane, head(next));
            }
        }
        assert_eq!(from, [Head::genesis(), Head::genesis(), Head::genesis(), head(10), head(20)]);
    }
}
