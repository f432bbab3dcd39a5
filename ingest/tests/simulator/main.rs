//! The write side under every trouble that a seed can think of, on a clock that stands still while it works.
//!
//! One to three processes, each the real stage with its real lanes, archive logs that grow, lose records to
//! retention and have offsets without one. They crash at every step, freeze, go on as zombies after a
//! rebalance, get the same records twice, and stand on a store that fails before or after the fact and whose
//! answers come late or never. Reading order: [`world`] is what all share, [`log`] and [`records`] what is to be
//! archived, [`store`] the archive, [`workers`] who does the calls, [`process`] and [`consumer`] a writer,
//! [`schedule`] what befalls it; [`oracle`] judges the archive's bytes, [`rows`] reads them, [`run`] runs it all.
//!
//! `STILLWELL_SEED=7` plays schedule 7 alone and shows what happened; `STILLWELL_TEST_SCHEDULES=1000000` plays so
//! many, from `STILLWELL_TEST_FIRST` on.

mod consumer;
mod log;
mod oracle;
mod process;
mod records;
mod rows;
mod run;
mod schedule;
mod store;
mod workers;
mod world;

use std::sync::Arc;

use run::{on_a_core, play_all, play_seed};
use store::Defect;
use world::Counts;

/// Schedules of a test run.
const SCHEDULES: u64 = 10_000;

/// From here on each schedule's troubles are common enough for all to have been met.
const SCHEDULES_TELLING: u64 = 1_000;

/// What must have happened for a run to mean anything.
const TROUBLES: [&str; 16] = [
    "calls within calls",
    "chunks that wait for memory",
    "crashes",
    "created, answer lost",
    "creations lost",
    "dead letters",
    "entries",
    "files collected",
    "freezes",
    "gaps: not delivered",
    "gaps: retention loss",
    "lanes fenced",
    "lanes overtaken by retention",
    "not created, unknown",
    "repeated deliveries",
    "zombies",
];

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[test]
fn whatever_happens_each_offset_is_archived_once() {
    let counts = Arc::<Counts>::default();
    if let Some(seed) = number("STILLWELL_SEED") {
        let played = on_a_core(|| play_seed(seed, Defect::None, &counts));
        eprintln!("{}", played.account.join("\n"));
        assert!(played.failures.is_empty() && played.problems.is_empty(), "{}", played.report());
        return;
    }
    let first = number("STILLWELL_TEST_FIRST").unwrap_or(0);
    let many = number("STILLWELL_TEST_SCHEDULES").unwrap_or(SCHEDULES);
    let done = play_all(first..first + many, &counts);
    let counts = counts.0.lock().unwrap();
    eprintln!("{counts:#?}");
    done.unwrap_or_else(|report| panic!("{report}"));
    for trouble in TROUBLES.iter().filter(|_| many >= SCHEDULES_TELLING) {
        assert!(counts.contains_key(trouble), "never met: {trouble}");
    }
}

#[test]
fn a_seed_plays_the_same_schedule_each_time() {
    on_a_core(|| {
        let mut hashes = std::collections::BTreeSet::new();
        for seed in 0..100 {
            let [first, again] = [(); 2].map(|()| play_seed(seed, Defect::None, &Arc::default()));
            let differs = first.account.iter().zip(&again.account).find(|(a, b)| a != b);
            assert_eq!(first.hash, again.hash, "seed {seed}: {differs:?}");
            hashes.insert(first.hash);
        }
        assert_eq!(hashes.len(), 100, "seeds play different schedules");
    });
}

/// The oracle sees through a store that breaks what the protocol stands on.
#[test]
fn a_broken_store_is_found_out() {
    on_a_core(|| {
        for defect in [Defect::Overwrites, Defect::Loses, Defect::Lies] {
            let seen = (0..200).find(|seed| !play_seed(*seed, defect, &Arc::default()).problems.is_empty());
            let seen = seen.unwrap_or_else(|| panic!("{defect:?} goes unseen"));
            eprintln!("{defect:?} is found out by seed {seen}");
        }
    });
}
