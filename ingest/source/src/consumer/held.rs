//! Chunks of one lane that its stage has no room for, and what is to be done about it.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::budget::{Budget, Claim, Part};
use crate::chunk::RecordChunk;

/// Chunks held before the partition is paused while others flow. Resuming makes librdkafka fetch again what
/// it had ahead, so a pause should be worth it.
const HELD_MAX: usize = 8;
/// How long the poll loop waits where nothing else could flow either.
const PATIENCE: Duration = Duration::from_millis(50);

/// Held chunks in order. Each claims its share of the budget as soon as there is one.
#[derive(Debug, Default)]
pub(super) struct Held(VecDeque<(RecordChunk, Option<Claim>)>);

/// What to do about a lane with held chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    GoOn,
    Wait,
    Pause,
}

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn push(&mut self, chunk: RecordChunk) {
        self.0.push_back((chunk, None));
    }

    /// Hands chunks to the stage as long as it and the budget have room; whether all went. What a lane that
    /// has ended holds is dropped with it.
    pub(super) fn drain(&mut self, chunks: &mpsc::Sender<RecordChunk>, budget: &Budget) -> bool {
        self.claim(budget);
        while self.0.front().is_some_and(|(_, claim)| claim.is_some()) {
            let Ok(room) = chunks.try_reserve() else { return false };
            if let Some((mut chunk, Some(claim))) = self.0.pop_front() {
                chunk.hold(claim);
                room.send(chunk);
            }
        }
        self.is_empty()
    }

    /// In order, so that no later chunk holds what the first waits for.
    fn claim(&mut self, budget: &Budget) {
        for (chunk, claim) in self.0.iter_mut().filter(|(_, claim)| claim.is_none()) {
            *claim = budget.try_claim(chunk.lane(), chunk.memory_bytes());
            if claim.is_none() {
                return;
            }
        }
    }

    /// What to do while [`Held::drain`] leaves some, `waited` so far. Only where no other lane could go on either,
    /// for want of room or of memory, is it right to hold up the polling, which all share.
    pub(super) fn when_full(&self, others_have_room: bool, waited: Duration) -> Full {
        let within_budget = self.0.iter().all(|(_, claim)| claim.is_some());
        let others_go_on = others_have_room && within_budget;
        if others_go_on && self.0.len() < HELD_MAX {
            Full::GoOn
        } else if !others_go_on && waited < PATIENCE {
            Full::Wait
        } else {
            Full::Pause
        }
    }

    /// Bytes of memory that have no share of the budget yet.
    pub(super) fn unclaimed_bytes(&self) -> usize {
        let unclaimed = self.0.iter().filter(|(_, claim)| claim.is_none());
        unclaimed.map(|(chunk, _)| chunk.memory_bytes()).sum()
    }

    /// All of them, in order, each with its share of the budget: what is there already cannot wait for one.
    pub(super) fn take(&mut self, budget: &Budget) -> Vec<RecordChunk> {
        let counted = |(mut chunk, claim): (RecordChunk, Option<Claim>)| {
            let claim =
                claim.unwrap_or_else(|| budget.hold(Some(chunk.lane()), Part::Chunks, chunk.memory_bytes()));
            chunk.hold(claim);
            chunk
        };
        std::mem::take(&mut self.0).into_iter().map(counted).collect()
    }
}

#[cfg(test)]
mod tests {
    use stillwell_schema::{Offset, TopicPartition};

    use super::*;

    fn chunk(offset: i64, bytes: usize) -> RecordChunk {
        let mut chunk = RecordChunk::new(TopicPartition::new("t", 0), Offset(offset));
        chunk.push(Offset(offset), 0, None, Some(&vec![0; bytes]), []);
        chunk
    }

    #[test]
    fn chunks_go_in_order_as_the_stage_makes_room() {
        let (budget, (sender, mut receiver)) = (Budget::new(1 << 20), mpsc::channel(1));
        let mut held = Held::default();
        held.push(chunk(0, 10));
        held.push(chunk(1, 10));
        assert!(!held.drain(&sender, &budget));
        assert_eq!(receiver.try_recv().unwrap().range().first, Offset(0));
        assert!(held.drain(&sender, &budget));
        assert_eq!(receiver.try_recv().unwrap().range().first, Offset(1));
    }

    #[test]
    fn a_chunk_beyond_the_budget_waits_and_then_pauses_its_lane() {
        let (budget, (sender, mut receiver)) = (Budget::new(1 << 20), mpsc::channel(4));
        let taken = budget.try_claim(&TopicPartition::new("t", 0), 1 << 20).unwrap();
        let mut held = Held::default();
        held.push(chunk(0, 10));
        assert!(!held.drain(&sender, &budget));
        assert_eq!(held.when_full(true, Duration::ZERO), Full::Wait);
        assert_eq!(held.when_full(true, PATIENCE), Full::Pause);
        drop(taken);
        assert!(held.drain(&sender, &budget));
        assert!(budget.used_bytes() > 0);
        drop(receiver.try_recv().unwrap());
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn chunks_are_counted_with_or_without_room_for_them() {
        let budget = Budget::new(1 << 20);
        let _taken = budget.try_claim(&TopicPartition::new("t", 0), 1 << 20).unwrap();
        let (first, second) = (chunk(0, 10), chunk(1, 20));
        let bytes = first.memory_bytes() + second.memory_bytes();
        let mut held = Held::default();
        held.push(first);
        held.push(second);
        assert_eq!(held.unclaimed_bytes(), bytes);
        let rest = held.take(&budget);
        assert_eq!((held.unclaimed_bytes(), rest.len()), (0, 2));
        assert_eq!(budget.used_bytes(), (1 << 20) + bytes);
        drop(rest);
        assert_eq!(budget.used_bytes(), 1 << 20);
    }

    #[test]
    fn polling_is_held_up_only_where_nothing_else_could_flow() {
        let (budget, (sender, _receiver)) = (Budget::new(64 << 20), mpsc::channel(1));
        let mut held = Held::default();
        (0..2).for_each(|offset| held.push(chunk(offset, 10)));
        assert!(!held.drain(&sender, &budget));
        assert_eq!(held.when_full(true, Duration::ZERO), Full::GoOn);
        assert_eq!(held.when_full(false, Duration::ZERO), Full::Wait);
        assert_eq!(held.when_full(false, PATIENCE), Full::Pause);
        (2..10).for_each(|offset| held.push(chunk(offset, 10)));
        assert!(!held.drain(&sender, &budget));
        assert_eq!(held.when_full(true, Duration::ZERO), Full::Pause);
    }
}
