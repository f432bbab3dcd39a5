//! The open batches of a process, and which of them go when memory is short: the largest first, of equal ones that
//! of the lane that comes first. A lane has one commit on its way at a time, so one that has is passed over; it is held
//! back instead, as the others must not make room for one whose commit hangs.

use std::collections::BTreeMap;
use std::sync::Arc;

use stillwell_schema::TopicPartition;
use tokio::sync::Notify;

/// A lane while it runs: the next lane of the same partition may begin before this one has ended.
pub(super) type Key = (TopicPartition, u64);

/// The open batches, by lane.
#[derive(Debug, Default)]
pub(super) struct OpenBatches {
    lanes: BTreeMap<Key, Open>,
    entered: u64,
}

#[derive(Debug)]
struct Open {
    bytes: usize,
    /// Whether the batch before it is on its way.
    is_flying: bool,
    /// Whether it was told to go, and has not gone yet.
    is_told: bool,
    /// Whether it takes no more until the batch before it has landed, or there is room again.
    is_held: bool,
    wake: Arc<Notify>,
}

impl OpenBatches {
    /// Lets a lane in; it is woken when its batch is to go, or to go on.
    pub(super) fn enter(&mut self, lane: &TopicPartition) -> (Key, Arc<Notify>) {
        let (key, wake) = ((lane.clone(), self.entered), Arc::<Notify>::default());
        self.entered += 1;
        let open =
            Open { bytes: 0, is_flying: false, is_told: false, is_held: false, wake: Arc::clone(&wake) };
        self.lanes.insert(key.clone(), open);
        (key, wake)
    }

    /// The lanes that are in.
    pub(super) fn lanes(&self) -> usize {
        self.lanes.len()
    }

    pub(super) fn leave(&mut self, key: &Key) {
        self.lanes.remove(key);
    }

    /// The lane's open batch holds `bytes` now.
    pub(super) fn set(&mut self, key: &Key, bytes: usize) {
        if let Some(open) = self.lanes.get_mut(key) {
            open.bytes = bytes;
        }
    }

    /// The lane's open batch is on its way.
    pub(super) fn launched(&mut self, key: &Key) {
        if let Some(open) = self.lanes.get_mut(key) {
            (open.bytes, open.is_flying, open.is_told) = (0, true, false);
        }
    }

    /// The lane has no batch on its way any more.
    pub(super) fn landed(&mut self, key: &Key) {
        if let Some(open) = self.lanes.get_mut(key) {
            (open.is_flying, open.is_held) = (false, false);
        }
    }

    /// Whether the lane's open batch is to go.
    pub(super) fn is_told(&self, key: &Key) -> bool {
        self.lanes.get(key).is_some_and(|open| open.is_told)
    }

    /// Holds a lane back whose batch is on its way, once its open one has its part of `bytes`; whether it is.
    pub(super) fn hold_back(&mut self, key: &Key, bytes: usize) -> bool {
        let most = bytes / self.lanes.len().max(1);
        self.lanes.get_mut(key).is_some_and(|open| {
            open.is_held = open.is_flying && open.bytes > most;
            open.is_held
        })
    }

    /// Wakes the lanes that are held back, to go on.
    pub(super) fn go_on(&mut self) {
        for open in self.lanes.values_mut().filter(|open| open.is_held) {
            open.is_held = false;
            open.wake.notify_one();
        }
    }

    /// Tells as many to go as hold `excess` bytes, with those that were told before.
    pub(super) fn relieve(&mut self, excess: usize) {
        let mut leaving: usize = self.lanes.values().filter(|open| open.is_told).map(|open| open.bytes).sum();
        while leaving < excess {
            let may_go = |open: &&mut Open| open.bytes > 0 && !open.is_flying && !open.is_told;
            // Of equal ones the last is taken.
            let largest = self.lanes.values_mut().rev().filter(may_go).max_by_key(|open| open.bytes);
            let Some(largest) = largest else { return };
            largest.is_told = true;
            largest.wake.notify_one();
            leaving += largest.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lanes 0, 1, … whose open batches hold so many bytes.
    fn holding(bytes: &[usize]) -> (OpenBatches, Vec<Key>) {
        let mut batches = OpenBatches::default();
        let enter = |(partition, bytes): (i32, &usize)| {
            let (key, _) = batches.enter(&TopicPartition::new("t", partition));
            batches.set(&key, *bytes);
            key
        };
        let keys = (0..).zip(bytes).map(enter).collect();
        (batches, keys)
    }

    fn told(batches: &OpenBatches, keys: &[Key]) -> Vec<usize> {
        (0..keys.len()).filter(|i| batches.is_told(&keys[*i])).collect()
    }

    #[test]
    fn the_largest_go_first_and_no_more_than_are_needed() {
        let check = |excess: usize, expected: &[usize]| {
            let (mut batches, keys) = holding(&[10, 40, 30, 50]);
            batches.relieve(excess);
            assert_eq!(told(&batches, &keys), expected, "{excess}");
        };
        check(0, &[]);
        check(1, &[3]);
        check(50, &[3]);
        check(51, &[1, 3]);
        check(91, &[1, 2, 3]);
        check(1_000, &[0, 1, 2, 3]);
    }

    #[test]
    fn of_equal_batches_that_of_the_first_lane_goes() {
        let (mut batches, keys) = holding(&[10, 20, 20, 20]);
        batches.relieve(1);
        assert_eq!(told(&batches, &keys), [1]);
        batches.relieve(21);
        assert_eq!(told(&batches, &keys), [1, 2]);
    }

    #[test]
    fn what_was_told_before_counts_until_it_has_gone() {
        let (mut batches, keys) = holding(&[10, 40, 30]);
        batches.relieve(5);
        batches.relieve(40);
        assert_eq!(told(&batches, &keys), [1]);
        batches.launched(&keys[1]);
        assert_eq!(told(&batches, &keys), [0usize; 0]);
        batches.relieve(5);
        assert_eq!(told(&batches, &keys), [2]);
    }

    #[test]
    fn a_lane_whose_batch_is_on_its_way_is_passed_over_until_it_lands() {
        let (mut batches, keys) = holding(&[10, 40]);
        batches.launched(&keys[1]);
        batches.set(&keys[1], 80);
        batches.relieve(1);
        assert_eq!(told(&batches, &keys), [0]);
        batches.landed(&keys[1]);
        batches.relieve(11);
        assert_eq!(told(&batches, &keys), [0, 1]);
    }

    #[test]
    fn a_lane_whose_batch_is_on_its_way_is_held_back_at_its_part() {
        let (mut batches, keys) = holding(&[0, 40, 0, 0]);
        let check = |batches: &mut OpenBatches, bytes: usize, expected: bool| {
            batches.set(&keys[1], bytes);
            assert_eq!(batches.hold_back(&keys[1], 80), expected, "{bytes}");
        };
        check(&mut batches, 40, false);
        batches.launched(&keys[1]);
        check(&mut batches, 20, false);
        check(&mut batches, 21, true);
        batches.landed(&keys[1]);
        check(&mut batches, 21, false);
    }

    #[tokio::test]
    async fn a_lane_that_is_held_back_is_woken_to_go_on() {
        let mut batches = OpenBatches::default();
        let (key, wake) = batches.enter(&TopicPartition::new("t", 0));
        batches.launched(&key);
        batches.set(&key, 10);
        assert!(batches.hold_back(&key, 5));
        batches.go_on();
        wake.notified().await;
        batches.go_on();
        assert!(futures::FutureExt::now_or_never(wake.notified()).is_none());
    }

    #[test]
    fn empty_batches_and_lanes_that_have_left_are_never_told() {
        let (mut batches, keys) = holding(&[0, 40]);
        batches.leave(&keys[1]);
        batches.relieve(100);
        assert_eq!(told(&batches, &keys), [0usize; 0]);
    }

    #[tokio::test]
    async fn a_lane_that_is_told_is_woken() {
        let mut batches = OpenBatches::default();
        let (key, wake) = batches.enter(&TopicPartition::new("t", 0));
        batches.set(&key, 10);
        batches.relieve(1);
        wake.notified().await;
    }
}
