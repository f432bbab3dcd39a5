//! Compaction: whatever runs it merges and wherever it dies, readers see the same records and readings, and every
//! root can be proven.

mod support;
#[path = "tamper/archive.rs"]
#[allow(dead_code, reason = "this file only commits")]
mod tamper;

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use stillwell_ingest::gc::{self, Scope};
use stillwell_ingest::life::LifeError;
use stillwell_ingest::life::compact::{Merged, Policy, Settings, compact, plan};
use stillwell_ingest::life::ledger::{Pen, read_view};
use stillwell_ingest::life::pieces::Pieces;
use stillwell_ingest::manifest::find_head;
use stillwell_ingest::stage::Limits;
use stillwell_ingest::store::ArchiveStore;
use stillwell_schema::{Clock, Head, Offset};
use stillwell_source::lane::Stage;
use support::{
    AWAY, FixedClock, LIMITS, LeapingClock, MemoryStore, Op, audit, expected, ingest_at, key, lane_id, see,
};

const ALL: Policy = Policy { file_bytes_target: 1 << 30, before_us: i64::MAX, pieces_min: 2, level: 3 };

fn pen(store: &Arc<MemoryStore>) -> Pen {
    Pen {
        store: Arc::clone(store) as Arc<dyn ArchiveStore>,
        key: key(),
        writer: "compactor".into(),
        clock: Arc::new(FixedClock),
    }
}

/// A lane of `entries` entries.
fn lane(random: &mut StdRng, entries: usize) -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::default());
    for _ in 0..entries {
        tamper::commit(&store, &lane_id(), &key(), random);
    }
    store
}

fn run(store: &Arc<MemoryStore>, policy: Policy) -> Result<Vec<Merged>, LifeError> {
    let mut merged = Vec::new();
    compact(&pen(store), &lane_id(), policy, &|_| (), &mut |one| {
        merged.push(one);
        true
    })?;
    Ok(merged)
}

/// What the lane holds is what was committed, and verifies to the last record.
fn sound(store: &MemoryStore) {
    let report = audit(store);
    assert_eq!(report.problems, []);
    let range = report.range.unwrap();
    let seen = see(store);
    assert_eq!(seen, expected(range.first.0, range.next.0));
    assert_eq!(report.records, seen.records.len() as u64);
}

/// Collects what is superseded before `superseded_before_us` or was never named.
fn collect(store: &MemoryStore, superseded_before_us: i64) -> u64 {
    let (from, head) = (Head::genesis(), find_head(store, &lane_id()).unwrap());
    let view = read_view(store, &lane_id()).unwrap();
    let scope = Scope { from: &from, head: &head, view: &view, before_us: 1, superseded_before_us };
    gc::collect(store, &lane_id(), scope).unwrap()
}

fn parquet_files(store: &MemoryStore) -> usize {
    store.objects.lock().unwrap().keys().filter(|path| path.ends_with(".parquet")).count()
}

/// Files that readers are shown now.
fn named(store: &MemoryStore) -> usize {
    let view = read_view(store, &lane_id()).unwrap();
    let pieces = Pieces::new(store, &lane_id(), &view).map(Result::unwrap);
    pieces.map(|piece| piece.readings.len() + piece.records.len()).sum()
}

fn seeds(count: u64) -> std::ops::Range<u64> {
    match std::env::var("STILLWELL_SEED") {
        Ok(seed) => seed.parse().map(|seed| seed..seed + 1).unwrap(),
        Err(_) => 0..count,
    }
}

#[test]
fn a_merged_lane_reads_and_verifies_as_before_whatever_is_merged_with_what() {
    for seed in seeds(30) {
        eprintln!("replay with STILLWELL_SEED={seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let entries = random.random_range(2..30);
        let store = lane(&mut random, entries);
        for _ in 0..random.random_range(1..6) {
            let policy = Policy {
                file_bytes_target: random.random_range(8_000..120_000),
                pieces_min: random.random_range(2..6),
                ..ALL
            };
            let planned = plan(&pen(&store), &lane_id(), policy).unwrap();
            let merged = run(&store, policy).unwrap();
            assert_eq!(planned.is_empty(), merged.is_empty());
            for (planned, merged) in planned.iter().zip(&merged).take(1) {
                assert_eq!((planned.first_seq, planned.next_seq), (merged.first_seq, merged.next_seq));
            }
            assert!(merged.iter().all(|one| one.files_after.unwrap() < one.files_before));
            sound(&store);
            if random.random_bool(0.5) {
                collect(&store, i64::MAX);
                sound(&store);
                assert_eq!(audit(&*store).orphans, 0);
            }
            for _ in 0..random.random_range(0..8) {
                tamper::commit(&store, &lane_id(), &key(), &mut random);
            }
        }
        let last = run(&store, ALL).unwrap();
        sound(&store);
        let view = read_view(&*store, &lane_id()).unwrap();
        assert!(view.covers().count() <= 1, "one file in the end");
        assert_eq!(run(&store, ALL).unwrap(), [], "and nothing left to do");
        let merged_us = FixedClock.now_us();
        collect(&store, merged_us);
        sound(&store);
        assert!(last.is_empty() || parquet_files(&store) > named(&store), "an older view may still be read");
        collect(&store, merged_us + 1);
        sound(&store);
        assert_eq!(parquet_files(&store), named(&store));
    }
}

#[test]
fn a_compactor_that_dies_anywhere_leaves_the_lane_as_it_was_and_the_next_goes_on() {
    for (op, count) in [(Op::Put, 2), (Op::Create, 1), (Op::ReadBack, 1), (Op::Read, 25)] {
        for (skip, after) in (0..count).flat_map(|skip| [(skip, false), (skip, true)]) {
            let store = lane(&mut StdRng::seed_from_u64(9), 5);
            if op == Op::ReadBack {
                store.fail(Op::Create, after, AWAY);
            }
            store.fail_after(skip, op, after, AWAY);
            let failed = run(&store, ALL);
            store.faults.lock().unwrap().clear();
            // A creation whose answer was lost is read back and found; one that was not made, not.
            let made = read_view(&*store, &lane_id()).unwrap().head().seq;
            assert!(failed.is_err() || made == 1, "{op:?} {skip} {after}");
            sound(&store);
            collect(&store, i64::MAX);
            sound(&store);
            run(&store, ALL).unwrap();
            assert_eq!(read_view(&*store, &lane_id()).unwrap().covers().count(), 1);
            collect(&store, i64::MAX);
            assert_eq!(parquet_files(&store), 2, "nothing is left behind for ever");
            sound(&store);
        }
    }
}

#[test]
fn of_two_compactors_one_loses_and_drops_its_work() {
    let store = lane(&mut StdRng::seed_from_u64(3), 6);
    // The other one merges all while this one reads back what it wrote.
    let other = Arc::clone(&store);
    let raced = std::sync::Once::new();
    let tick = |_| raced.call_once(|| drop(run(&other, ALL).unwrap()));
    let before = parquet_files(&store);
    let lost = compact(&pen(&store), &lane_id(), ALL, &tick, &mut |_| true);
    assert!(matches!(lost, Err(LifeError::Raced(_))), "{lost:?}");
    assert_eq!(read_view(&*store, &lane_id()).unwrap().head().seq, 1);
    sound(&store);
    collect(&store, 0);
    assert_eq!(parquet_files(&store), before + 4, "both wrote their files");
    collect(&store, i64::MAX);
    assert_eq!(parquet_files(&store), named(&store), "the loser's go as those that were superseded do");
}

#[test]
fn a_damaged_file_is_never_merged() {
    let store = lane(&mut StdRng::seed_from_u64(4), 4);
    let files: Vec<String> =
        store.objects.lock().unwrap().keys().filter(|path| path.ends_with(".parquet")).cloned().collect();
    for path in files {
        let at = store.objects.lock().unwrap()[&path].len() / 2;
        let flip = || store.objects.lock().unwrap().get_mut(&path).unwrap()[at] ^= 1;
        flip();
        let error = run(&store, ALL).unwrap_err();
        assert!(matches!(&error, LifeError::Damaged { path: named, .. } if *named == path), "{error}");
        assert_eq!(read_view(&*store, &lane_id()).unwrap().head().seq, 0);
        flip();
    }
    run(&store, ALL).unwrap();
    sound(&store);
}

#[tokio::test]
async fn a_lane_that_runs_merges_its_small_files_by_itself() {
    let store = Arc::new(MemoryStore::default());
    let limits = Limits { file_bytes: 1, ..LIMITS };
    let (stage, ..) = ingest_at(Arc::new(LeapingClock::default()), Arc::clone(&store) as _, "a", limits);
    let stage = Arc::into_inner(stage).unwrap().compacting(Settings {
        interval: Duration::from_secs(3_600),
        after: Duration::from_secs(1),
        file_bytes_target: 1 << 20,
        level: 3,
    });
    let (lane, mut feed) = support::lane(0);
    let running = tokio::spawn(async move { stage.run(lane).await });
    let mut next = 0;
    while read_view(&*store, &lane_id()).unwrap().covers().count() == 0 {
        feed.chunks.send(support::chunk(next, next + 20)).await.unwrap();
        next += 20;
        assert_eq!(feed.durable.recv().await.unwrap().1, Offset(next));
        assert!(next < 100_000, "nothing is ever merged");
    }
    drop(feed);
    running.await.unwrap().unwrap();
    sound(&store);
}
