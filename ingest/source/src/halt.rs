//! Whether what a lane has read may be written at all.
//!
//! Where most of a batch cannot be decoded, the decoder or its mapping is more likely wrong than the senders. The
//! lane stands still before anything of the batch is written, so that a mended config reads the same records as if
//! nothing had been. Every stage does so by itself: a view that passed over what the archive will still read
//! would lack it for good.
//!
//! A slow stream of garbage fills no batch with enough to be judged, so a batch of which most cannot be decoded is
//! judged with all such before it, back to the last that was mostly good ([`Streak`]). Those before it are committed:
//! what they hold stays in the dead letters, to be sent again once it can be read. A lane that begins anew, after a
//! restart or a rebalance, counts anew.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use metrics::gauge;
use stillwell_schema::{Offset, TopicPartition};
use thiserror::Error;

use crate::chunk::RecordChunk;
use crate::decode::{DecodeError, remedy};
use crate::settings::Share;

/// Fewer undecodable records than this, since the last batch that was mostly good, halt no lane: one sender's bad
/// minute is what dead letters are for, and in a small batch a few poison records alone are soon more than half.
pub const FAILURES_MIN: usize = 100;

/// Classes that tell nothing of decoder and mapping. What a birth of Sparkplug said before a lane's first offset is
/// not known after a start or a rebalance, so until nodes are born again, most of a batch may fail by these.
const EXCUSED: [&str; 2] = ["unresolved_alias", "unknown_datatype"];

/// Classes that are named, the most frequent first.
const CLASSES_SHOWN: usize = 3;

/// Bytes of the example's value that are shown.
const EXCERPT_BYTES: usize = 80;

/// Why a lane stands still.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{failures} of {records} records from offset {from} on cannot be decoded ({classes}), such as offset {example}: {error} in `{excerpt}`; nothing from offset {unwritten} on is written; {remedy}; mend the [[topic]]'s format, time_unit or mapping and restart, or set its dead_letter_share_max = 1.0 to have such records as dead letters"
)]
pub struct Halted {
    /// The lane.
    pub lane: TopicPartition,
    /// The first offset of the batches that are judged,
    pub from: Offset,
    /// and that of the last of them, of which nothing is written.
    pub unwritten: Offset,
    /// Records of the batches that are judged,
    pub records: usize,
    /// and how many of them cannot be decoded.
    pub failures: usize,
    /// The most frequent classes with their counts.
    pub classes: String,
    /// The offset of the first record of the most frequent class.
    pub example: Offset,
    /// Its error.
    pub error: String,
    /// The beginning of its value.
    pub excerpt: String,
    /// What mends that class.
    pub remedy: &'static str,
}

/// Counts what could be decoded of a batch and what not.
#[derive(Debug, Default)]
pub struct Tally {
    first: Option<(TopicPartition, Offset)>,
    records: usize,
    failures: usize,
    /// Failures that count for nothing.
    excused: usize,
    classes: BTreeMap<&'static str, Class>,
}

#[derive(Clone, Debug)]
struct Class {
    count: usize,
    offset: Offset,
    error: String,
    excerpt: String,
}

impl Tally {
    /// Takes a chunk and the records of it that cannot be decoded, by their numbers.
    pub fn take(&mut self, chunk: &RecordChunk, failures: &[(u32, DecodeError)]) {
        self.first.get_or_insert_with(|| (chunk.lane().clone(), chunk.range().first));
        self.records += chunk.len();
        self.failures += failures.len();
        for (number, error) in failures {
            if EXCUSED.contains(&error.class) {
                self.excused += 1;
                continue;
            }
            let class = self.classes.entry(error.class).or_insert_with(|| {
                let record = chunk.record(*number as usize);
                let (offset, error) = (record.offset, error.to_string());
                Class { count: 0, offset, error, excerpt: excerpt(record.bytes()) }
            });
            class.count += 1;
        }
    }

    /// Number of records.
    #[must_use]
    pub fn records(&self) -> usize {
        self.records
    }

    /// Number of those that cannot be decoded.
    #[must_use]
    pub fn failures(&self) -> usize {
        self.failures
    }

    /// Takes a batch that follows.
    fn append(&mut self, later: &Self) {
        let Self { first, records, failures, excused, classes } = later;
        if self.first.is_none() {
            self.first.clone_from(first);
        }
        self.records += records;
        self.failures += failures;
        self.excused += excused;
        for (&name, class) in classes {
            let known = self.classes.entry(name).or_insert_with(|| Class { count: 0, ..class.clone() });
            known.count += class.count;
        }
    }

    /// Failures and records that are judged.
    fn judged(&self) -> (usize, usize) {
        (self.failures - self.excused, self.records - self.excused)
    }

    /// Whether more than `share_max` of it cannot be decoded so far, be it ever so little.
    #[must_use]
    pub fn is_suspect(&self, share_max: Share) -> bool {
        let (failures, records) = self.judged();
        share_max.is_exceeded_by(failures, records)
    }

    /// Why the batch is not to be written, if more than `share_max` of it cannot be decoded.
    #[must_use]
    pub fn judge(&self, share_max: Share) -> Option<Halted> {
        let (failures, records) = self.judged();
        if failures < FAILURES_MIN || !self.is_suspect(share_max) {
            return None;
        }
        let (lane, from) = self.first.clone()?;
        let mut classes: Vec<_> = self.classes.iter().collect();
        classes.sort_by_key(|(_, class)| std::cmp::Reverse(class.count));
        let (name, class) = classes.first()?;
        let named = classes.iter().take(CLASSES_SHOWN).map(|(name, class)| format!("{} {name}", class.count));
        Some(Halted {
            lane,
            from,
            unwritten: from,
            records,
            failures,
            classes: named.collect::<Vec<_>>().join(", "),
            example: class.offset,
            error: class.error.clone(),
            excerpt: class.excerpt.clone(),
            remedy: remedy(name),
        })
    }
}

/// The batches of a lane since the last that was mostly good.
#[derive(Debug, Default)]
pub struct Streak(Tally);

impl Streak {
    /// Why the next batch is not to be written, if it and those before it, each mostly undecodable, hold too much
    /// that cannot be decoded. A batch without anything to judge neither counts nor ends them.
    pub fn judge(&mut self, batch: &Tally, share_max: Share) -> Option<Halted> {
        if batch.judged().1 == 0 {
            return None;
        }
        if !batch.is_suspect(share_max) {
            self.0 = Tally::default();
            return None;
        }
        self.0.append(batch);
        let unwritten = batch.first.as_ref().map(|(_, offset)| *offset);
        self.0.judge(share_max).map(|halted| Halted { unwritten: unwritten.unwrap_or(halted.from), ..halted })
    }
}

fn excerpt(value: &[u8]) -> String {
    let cut = if value.len() > EXCERPT_BYTES { "…" } else { "" };
    let shown = String::from_utf8_lossy(&value[..value.len().min(EXCERPT_BYTES)]);
    format!("{}{cut}", shown.escape_debug())
}

/// The lanes of a stage that stand still. They do so for the life of the process: what would make them decode
/// comes with the next one, and reading the same records again and again until then would help nobody.
#[derive(Debug)]
pub struct Halts {
    stage: &'static str,
    lanes: Mutex<BTreeMap<TopicPartition, Box<Halted>>>,
}

impl Halts {
    /// None yet, of the stage with this name.
    #[must_use]
    pub fn new(stage: &'static str) -> Self {
        Self { stage, lanes: Mutex::default() }
    }

    /// Lets a lane begin.
    ///
    /// # Errors
    /// Where it stands still.
    pub fn check(&self, lane: &TopicPartition) -> Result<(), Box<Halted>> {
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        match lanes.get(lane) {
            Some(halted) => Err(halted.clone()),
            None => {
                self.measure(lane, false);
                Ok(())
            }
        }
    }

    /// Takes note that a lane stands still.
    pub fn add(&self, halted: Box<Halted>) {
        self.measure(&halted.lane, true);
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.insert(halted.lane.clone(), halted);
    }

    fn measure(&self, lane: &TopicPartition, is_halted: bool) {
        gauge!("stillwell_lane_halted", "stage" => self.stage, "topic" => lane.topic.to_string(),
            "partition" => lane.partition.to_string())
        .set(f64::from(u8::from(is_halted)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(good: usize, bad: usize) -> Tally {
        tally_from(40, good, bad)
    }

    fn tally_from(mut offset: i64, good: usize, bad: usize) -> Tally {
        let mut tally = Tally::default();
        for _ in 0..2 {
            let mut chunk = RecordChunk::new(TopicPartition::new("t", 0), Offset(offset));
            let mut failures = Vec::new();
            for n in 0..good / 2 + bad / 2 {
                chunk.push(Offset(offset), 0, None, Some(b"not \xff json"), []);
                offset += 1;
                if n >= good / 2 {
                    let class = if n == good / 2 { "bad_time" } else { "syntax" };
                    failures.push((n as u32, DecodeError::new(class, 4, "no")));
                }
            }
            tally.take(&chunk, &failures);
        }
        tally
    }

    #[test]
    fn only_many_failures_that_are_most_of_a_batch_halt_a_lane() {
        let half = Share::HALF;
        for (good, bad, share_max, is_halted) in [
            (0, 2, half, false),
            (0, FAILURES_MIN - 2, half, false),
            (0, FAILURES_MIN, half, true),
            (FAILURES_MIN, FAILURES_MIN, half, false),
            (FAILURES_MIN - 2, FAILURES_MIN, half, true),
            (0, 1000, Share::WHOLE, false),
            (900, 102, Share::new(0.1).unwrap(), true),
            (1000, 0, Share::new(0.0).unwrap(), false),
        ] {
            let tally = tally(good, bad);
            assert_eq!((tally.records(), tally.failures()), (good + bad, bad));
            assert_eq!(tally.judge(share_max).is_some(), is_halted, "{good} {bad} {share_max:?}");
            assert!(tally.is_suspect(share_max) || !is_halted);
        }
    }

    #[test]
    fn what_only_a_birth_before_the_start_could_tell_halts_no_lane() {
        let take = |tally: &mut Tally, class: &'static str| {
            let mut chunk = RecordChunk::new(TopicPartition::new("t", 0), Offset(0));
            let mut failures = Vec::new();
            for n in 0..FAILURES_MIN {
                chunk.push(Offset(n as i64), 0, None, Some(b"x"), []);
                failures.push((n as u32, DecodeError::new(class, 0, "no")));
            }
            tally.take(&chunk, &failures);
        };
        let mut tally = Tally::default();
        take(&mut tally, "unresolved_alias");
        take(&mut tally, "unknown_datatype");
        assert_eq!((tally.records(), tally.failures()), (2 * FAILURES_MIN, 2 * FAILURES_MIN));
        assert!(!tally.is_suspect(Share::HALF) && tally.judge(Share::new(0.0).unwrap()).is_none());
        // They excuse no others.
        take(&mut tally, "syntax");
        let halted = tally.judge(Share::HALF).unwrap();
        assert_eq!((halted.failures, halted.records), (FAILURES_MIN, FAILURES_MIN));
        assert_eq!(halted.classes, format!("{FAILURES_MIN} syntax"));
    }

    #[test]
    fn a_slow_stream_of_garbage_halts_a_lane_and_what_is_good_in_between_does_not() {
        let few = FAILURES_MIN / 5 * 2;
        let mut streak = Streak::default();
        let empty = Tally::default();
        assert!(streak.judge(&tally_from(0, 2, few), Share::HALF).is_none());
        assert!(streak.judge(&empty, Share::HALF).is_none());
        assert!(streak.judge(&tally_from(100, 2, few), Share::HALF).is_none());
        let halted = streak.judge(&tally_from(200, 2, few), Share::HALF).unwrap();
        assert_eq!((halted.from, halted.unwritten), (Offset(0), Offset(200)));
        assert_eq!((halted.failures, halted.records), (3 * few, 3 * (few + 2)));
        assert_eq!(halted.classes, format!("{} syntax, 6 bad_time", 3 * few - 6));
        assert!(halted.to_string().contains("nothing from offset 200 on"), "{halted}");
        let mut streak = Streak::default();
        for offset in [0, 100, 200, 300, 400] {
            assert!(streak.judge(&tally_from(offset, 2, few), Share::HALF).is_none());
            assert!(streak.judge(&tally_from(offset + 50, few, 2), Share::HALF).is_none());
        }
        // One that is large enough is judged by itself.
        assert!(streak.judge(&tally_from(500, 0, FAILURES_MIN), Share::HALF).is_some());
        let mut streak = Streak::default();
        for offset in [0, 100, 200, 300] {
            assert!(streak.judge(&tally_from(offset, 0, few), Share::WHOLE).is_none());
        }
    }

    #[test]
    fn a_halt_names_the_cause_an_example_and_the_remedy() {
        let text = tally(4, 200).judge(Share::HALF).unwrap().to_string();
        for part in [
            "200 of 204 records from offset 40",
            "(198 syntax, 2 bad_time)",
            "offset 43: syntax: no at byte 4",
            "`not \u{fffd} json`",
            "dead_letter_share_max = 1.0",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
    }

    #[test]
    fn a_lane_that_stands_still_does_not_begin_again() {
        let (halts, lane) = (Halts::new("ingest"), TopicPartition::new("t", 0));
        halts.check(&lane).unwrap();
        let halted = tally(0, 200).judge(Share::HALF).unwrap();
        halts.add(Box::new(halted.clone()));
        assert_eq!(*halts.check(&lane).unwrap_err(), halted);
        halts.check(&TopicPartition::new("t", 1)).unwrap();
    }
}
