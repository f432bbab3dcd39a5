//! Erases what no retention class keeps any more, under a signed tombstone.
//!
//! A class says which machines it is about and how many days their readings are kept; of several that match a machine
//! the longest counts, and a machine that none matches is kept for ever. A record is erased when all its readings have
//! run out and none is held; its leaf stays, so that its entry's Merkle root can still be recomputed. A record without
//! readings (it could not be decoded, or held none) has a class of its own. A reading runs out by the later of its
//! source time and its Kafka time, so that a sensor with a wrong clock loses nothing.

use stillwell_schema::TopicPartition;
use stillwell_schema::ledger::{Deed, Erase, Hold, Rule, View};

use super::LifeError;
use super::hold;
use super::ledger::{Pen, follow, read_view};
use super::pieces::{Piece, Pieces};
use super::rewrite::Rewrite;
use crate::verify::Tick;

mod expired;

use expired::{Expired, Keeping};

const DAY_US: i64 = 86_400 * 1_000_000;

/// A retention class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// Its name.
    pub name: String,
    /// The machines (see [`stillwell_schema::pattern`]); none for records without readings.
    pub machines: Option<String>,
    /// How long it keeps, days.
    pub keep_days: u32,
}

/// What is erased, and how.
#[derive(Clone, Debug)]
pub struct Retention {
    /// The classes.
    pub classes: Vec<Class>,
    /// Who asked for it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Bytes of one act's files at most, as in [`super::compact::Policy`].
    pub file_bytes_target: u64,
    /// Of zstd.
    pub level: i32,
}

/// What one act erased, or would.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Erased {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// The first entry.
    pub first_seq: u64,
    /// The entry after the last.
    pub next_seq: u64,
    /// Records erased.
    pub records: u64,
    /// Their readings.
    pub readings: u64,
    /// Records that ran out and are kept by a hold.
    pub held: u64,
    /// The tombstone; none in a dry run.
    pub act: Option<u64>,
}

impl Retention {
    fn rules(&self, now_us: i64) -> Vec<Rule> {
        let rule = |class: &Class| Rule {
            class: class.name.clone(),
            machines: class.machines.clone(),
            keep_days: class.keep_days,
            // Beyond the reach of time everything is kept, as nothing is that old.
            until_us: now_us.saturating_sub(i64::from(class.keep_days).saturating_mul(DAY_US)),
        };
        self.classes.iter().map(rule).collect()
    }
}

/// Says what [`retain`] would erase, and changes nothing. Blocks.
///
/// # Errors
/// [`LifeError`].
pub fn plan(
    pen: &Pen,
    lane: &TopicPartition,
    retention: &Retention,
    tick: Tick<'_>,
) -> Result<Vec<Erased>, LifeError> {
    let view = read_view(&*pen.store, lane)?;
    let (rules, holds) = (retention.rules(pen.clock.now_us()), hold::of(pen, lane)?);
    let keeping = Keeping { store: &*pen.store, lane, rules: &rules, holds: &holds, tick };
    let mut planned = Vec::new();
    let mut pieces = Pieces::new(&*pen.store, lane, &view);
    while let Some(run) = next_run(&mut pieces, &keeping, retention.file_bytes_target)? {
        planned.push(run.report(lane));
    }
    Ok(planned)
}

/// Erases what ran out in a lane, act by act; `erased` hears of each. Blocks, and computes.
///
/// # Errors
/// [`LifeError`]; what was erased before is.
pub fn retain(
    pen: &Pen,
    lane: &TopicPartition,
    retention: &Retention,
    tick: Tick<'_>,
    erased: &mut dyn FnMut(Erased),
) -> Result<(), LifeError> {
    let mut view = read_view(&*pen.store, lane)?;
    let rules = retention.rules(pen.clock.now_us());
    let mut from = 0;
    loop {
        let holds = hold::of(pen, lane)?;
        let keeping = Keeping { store: &*pen.store, lane, rules: &rules, holds: &holds, tick };
        let seen = view.clone();
        let mut pieces = Pieces::new(&*pen.store, lane, &seen).skip_to(from)?;
        let Some(run) = next_run(&mut pieces, &keeping, retention.file_bytes_target)? else { return Ok(()) };
        from = run.pieces.last().map_or(from, |piece| piece.span.next_seq);
        erased(run.apply(pen, lane, &mut view, retention, &keeping)?);
    }
}

/// Adjacent pieces in which something ran out.
struct Run {
    pieces: Vec<Piece>,
    expired: Expired,
}

/// The next run, as many pieces as one act's files may hold.
fn next_run(
    pieces: &mut Pieces<'_>,
    keeping: &Keeping<'_>,
    file_bytes_target: u64,
) -> Result<Option<Run>, LifeError> {
    let mut run: Option<Run> = None;
    while let Some(piece) = pieces.peek()? {
        let bytes: u64 = run.iter().flat_map(|run| &run.pieces).map(Piece::bytes).sum();
        if run.is_some() && bytes + piece.bytes() > file_bytes_target {
            break;
        }
        let expired = keeping.expired(&piece)?;
        let found = expired.records() > 0;
        if !found && run.is_some() {
            break;
        }
        pieces.pass();
        if found {
            match &mut run {
                Some(run) => {
                    run.pieces.push(piece);
                    run.expired.append(expired);
                }
                None => run = Some(Run { pieces: vec![piece], expired }),
            }
        }
    }
    Ok(run)
}

impl Run {
    fn report(&self, lane: &TopicPartition) -> Erased {
        Erased {
            topic: lane.topic.to_string(),
            partition: lane.partition,
            first_seq: self.pieces.first().map_or(0, |piece| piece.span.first_seq),
            next_seq: self.pieces.last().map_or(0, |piece| piece.span.next_seq),
            records: self.expired.records(),
            readings: self.expired.readings,
            held: self.expired.held,
            act: None,
        }
    }

    fn apply(
        self,
        pen: &Pen,
        lane: &TopicPartition,
        view: &mut View,
        retention: &Retention,
        keeping: &Keeping<'_>,
    ) -> Result<Erased, LifeError> {
        let rewrite = Rewrite {
            store: &*pen.store,
            lane,
            pieces: &self.pieces,
            act: view.head().seq,
            level: retention.level,
            erased: Some(&self.expired.offsets),
            tick: keeping.tick,
        };
        let rewritten = rewrite.run()?;
        // A hold that was added meanwhile in another lane of the topic counts here too.
        let holds: Vec<Hold> = hold::of(pen, lane)?;
        if holds != keeping.holds {
            return Err(LifeError::Raced(lane.clone()));
        }
        let mut done = self.report(lane);
        (done.records, done.readings) = (rewritten.records_erased, rewritten.readings_erased);
        done.act = Some(view.head().seq);
        let erase = Erase {
            cover: rewritten.cover,
            rules: keeping.rules.to_vec(),
            records: done.records,
            readings: done.readings,
            by: retention.by.clone(),
            reason: retention.reason.clone(),
        };
        pen.add(lane, view, Deed::Erase(erase))?;
        follow(&*pen.store, lane, view)?;
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_that_keeps_longer_than_times_reach_keeps_all() {
        let class = |keep_days| Class { name: "all".into(), machines: Some("*".into()), keep_days };
        let retention = Retention {
            classes: [10, 200_000_000, u32::MAX].map(class).to_vec(),
            by: "anna".into(),
            reason: "test".into(),
            file_bytes_target: 1,
            level: 1,
        };
        let now_us = 1_795_000_000_000_000;
        let until: Vec<i64> = retention.rules(now_us).iter().map(|rule| rule.until_us).collect();
        assert_eq!(until, [now_us - 10 * DAY_US, now_us - i64::MAX, now_us - i64::MAX]);
    }
}
