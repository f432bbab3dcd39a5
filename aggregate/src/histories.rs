//! The read side under every trouble that a seed can think of, on a clock that stands still while it works.
//!
//! One or two processes, each the real stage with its real flusher and lanes, logs whose readings come late, out of
//! order and from clocks that are wrong. They crash at every step, stand still, go on beside those who took their
//! partitions over, and write into a store that does nothing, a part or all of what it is asked, and says so late or
//! never; tables are built anew under them. Each row that is written is held against the readings below its version,
//! and at the end everything against the whole log: to the last bit, but for sums, which are so to rounding, and for
//! what late readings are once a table is in use that is behind the others.
//!
//! Reading order: [`world`] is what all share, [`log`] what is to be shown, [`truth`] the same by brute force;
//! [`native`], [`tables`] and [`store`] are ClickHouse as lanes see it, [`life`] and [`process`] a process,
//! [`history`] what befalls it, [`building`] tables built anew; [`oracle`] judges, [`run`] runs it all. [`means`]
//! holds time-weighted means against a direct integration.
//!
//! `STILLWELL_SEED=7` plays history 7 alone and shows what happened (threads share the work, so now
//! and then a step comes at another moment); `STILLWELL_TEST_HISTORIES=1000000` plays so
//! many, from `STILLWELL_TEST_FIRST` on.

use std::sync::Arc;

mod building;
mod history;
mod life;
mod log;
mod means;
mod native;
mod oracle;
mod process;
mod run;
mod store;
mod tables;
mod truth;
mod world;

use run::{alone, play_all, play_seed};
use world::Counts;

/// Histories of a test run.
const HISTORIES: u64 = 10_000;

/// From here on each history's troubles are common enough for all to have been met.
const HISTORIES_TELLING: u64 = 1_000;

/// What must have happened for a run to mean anything.
const TROUBLES: [&str; 13] = [
    "crashes",
    "freezes",
    "lanes begun anew",
    "moves",
    "orderly stops",
    "questions that failed",
    "tables put in use",
    "windows asked for",
    "writes done in part",
    "writes done later",
    "writes done, answer lost",
    "writes of the dead",
    "zombies",
];

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[test]
fn whatever_happens_views_equal_the_fold_of_the_log() {
    let counts = Arc::<Counts>::default();
    if let Some(seed) = number("STILLWELL_SEED") {
        let played = alone(|| play_seed(seed, &counts));
        eprintln!("{}", played.account.join("\n"));
        assert!(played.failures.is_empty(), "{}", played.report());
        return;
    }
    let first = number("STILLWELL_TEST_FIRST").unwrap_or(0);
    let many = number("STILLWELL_TEST_HISTORIES").unwrap_or(HISTORIES);
    let done = play_all(first..first + many, &counts);
    let counts = counts.0.lock().unwrap();
    eprintln!("{counts:#?}");
    done.unwrap_or_else(|report| panic!("{report}"));
    for trouble in TROUBLES.iter().filter(|_| many >= HISTORIES_TELLING) {
        assert!(counts.contains_key(trouble), "never met: {trouble}");
    }
}
