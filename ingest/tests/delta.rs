//! The Delta log: replayed as its protocol says, it names exactly the files of the lanes' views.

mod support;
#[path = "tamper/archive.rs"]
#[allow(dead_code, reason = "this file only commits")]
mod tamper;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use stillwell_ingest::delta::update;
use stillwell_ingest::gc::{self, Scope};
use stillwell_ingest::life::compact::{Policy, compact};
use stillwell_ingest::life::ledger::{Pen, read_view};
use stillwell_ingest::life::pieces::Pieces;
use stillwell_ingest::manifest::find_head;
use stillwell_ingest::store::ArchiveStore;
use stillwell_schema::{Clock, Head, SignedEntry, TopicPartition};
use support::{FixedClock, MemoryStore, key};

/// The live files of the log, with their rows.
fn replay(store: &MemoryStore) -> BTreeMap<String, u64> {
    let mut live = BTreeMap::<String, u64>::new();
    for version in 0.. {
        let path = format!("readings/readings/_delta_log/{version:020}.json");
        let Some(bytes) = store.get(&path).unwrap() else { break };
        let lines = String::from_utf8(bytes).unwrap();
        let actions: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(changes_data(&actions).len() <= 1, "a version mixes merges and changes: {actions:?}");
        let rows_before: u64 = live.values().sum();
        let only_merges = changes_data(&actions).contains(&false);
        assert_eq!(version == 0, actions.iter().any(|action| action["metaData"].is_object()));
        for action in actions {
            if let Some(removed) = action["remove"]["path"].as_str() {
                assert!(live.remove(removed).is_some(), "{removed} was not there");
            }
            if let Some(added) = action["add"]["path"].as_str() {
                let stats: Value = serde_json::from_str(action["add"]["stats"].as_str().unwrap()).unwrap();
                let before = live.insert(added.to_owned(), stats["numRecords"].as_u64().unwrap());
                assert_eq!(before, None, "{added} was there");
            }
        }
        if only_merges {
            assert_eq!(live.values().sum::<u64>(), rows_before, "a merge brings no row and takes none");
        }
    }
    live
}

/// What a version's actions say of `dataChange`.
fn changes_data(actions: &[Value]) -> BTreeSet<bool> {
    let files = actions.iter().flat_map(|action| [&action["add"], &action["remove"]]);
    files.filter_map(|file| file["dataChange"].as_bool()).collect()
}

fn actions_of(store: &MemoryStore, version: u64) -> Vec<Value> {
    let path = format!("readings/readings/_delta_log/{version:020}.json");
    let lines = String::from_utf8(store.get(&path).unwrap().unwrap()).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of_views(store: &MemoryStore, lanes: &[TopicPartition]) -> BTreeMap<String, u64> {
    let mut files = BTreeMap::new();
    for lane in lanes {
        let view = read_view(store, lane).unwrap();
        for piece in Pieces::new(store, lane, &view) {
            let readings = piece.unwrap().readings;
            let named = readings
                .iter()
                .map(|file| (file.path.strip_prefix("readings/readings/").unwrap().to_owned(), file.rows));
            files.extend(named);
        }
    }
    files
}

#[test]
fn the_log_names_exactly_the_files_that_our_own_readers_see() {
    for seed in 0..10 {
        let mut random = StdRng::seed_from_u64(seed);
        let store = Arc::new(MemoryStore::default());
        let lanes = [0, 4].map(|partition| TopicPartition::new("readings", partition));
        let pen = Pen {
            store: Arc::clone(&store) as Arc<dyn ArchiveStore>,
            key: key(),
            writer: "w".into(),
            clock: Arc::new(FixedClock),
        };
        for _ in 0..6 {
            for lane in &lanes {
                for _ in 0..random.random_range(0..5) {
                    tamper::commit(&store, lane, &key(), &mut random);
                }
                if random.random_bool(0.5) {
                    let policy =
                        Policy { file_bytes_target: 40_000, before_us: i64::MAX, pieces_min: 2, level: 1 };
                    compact(&pen, lane, policy, &|_| (), &mut |_| true).unwrap();
                }
            }
            let updated = update(&*store, "readings", &FixedClock).unwrap();
            let live = replay(&store);
            assert_eq!(live, of_views(&store, &lanes));
            assert_eq!((updated.files, updated.rows), (live.len(), live.values().sum()));
            let again = update(&*store, "readings", &FixedClock).unwrap();
            assert_eq!((again.version, again.added, again.removed), (updated.version, 0, 0));
        }
        let paths: BTreeSet<String> = replay(&store).into_keys().collect();
        assert!(paths.iter().all(|path| store.exists(&format!("readings/readings/{path}")).unwrap()));
    }
}

/// Appends entries to a lane up to one that has readings.
fn commit_readings(store: &MemoryStore, lane: &TopicPartition, random: &mut StdRng) {
    loop {
        let path = tamper::commit(store, lane, &key(), random);
        let signed = SignedEntry::parse(store.get(&path).unwrap().unwrap()).unwrap();
        if signed.entry.readings.is_some() {
            return;
        }
    }
}

/// So many µs after [`FixedClock`].
struct Later(i64);

impl Clock for Later {
    fn now_us(&self) -> i64 {
        FixedClock.now_us() + self.0
    }
}

const SECOND_US: i64 = 1_000_000;

#[test]
fn a_merge_is_no_change_of_data_and_its_sources_stay_until_the_log_has_let_go_of_them() {
    let mut random = StdRng::seed_from_u64(1);
    let (store, lane) = (Arc::new(MemoryStore::default()), TopicPartition::new("readings", 0));
    let pen = Pen {
        store: Arc::clone(&store) as Arc<dyn ArchiveStore>,
        key: key(),
        writer: "w".into(),
        clock: Arc::new(FixedClock),
    };
    (0..8).for_each(|_| commit_readings(&store, &lane, &mut random));
    let before = update(&*store, "readings", &FixedClock).unwrap();
    assert_eq!(changes_data(&actions_of(&store, before.version)), [true].into());
    let sources: Vec<String> = replay(&store).into_keys().collect();
    let policy = Policy { file_bytes_target: 1 << 30, before_us: i64::MAX, pieces_min: 2, level: 1 };
    compact(&pen, &lane, policy, &|_| (), &mut |_| true).unwrap();

    let collect = |superseded_before_us: i64| {
        let (from, head) = (Head::genesis(), find_head(&*store, &lane).unwrap());
        let view = read_view(&*store, &lane).unwrap();
        let scope = Scope { from: &from, head: &head, view: &view, before_us: 1, superseded_before_us };
        gc::collect(&*store, &lane, scope).unwrap();
        sources.iter().filter(|path| store.exists(&format!("readings/readings/{path}")).unwrap()).count()
    };
    assert_eq!(collect(i64::MAX), sources.len(), "the log names them");
    commit_readings(&store, &lane, &mut random);
    let after = update(&*store, "readings", &Later(10 * SECOND_US)).unwrap();
    assert_eq!(after.version, before.version + 2, "the merge and what was committed since");
    assert_eq!(changes_data(&actions_of(&store, before.version + 1)), [false].into());
    assert_eq!(changes_data(&actions_of(&store, after.version)), [true].into());
    assert_eq!(replay(&store), of_views(&store, std::slice::from_ref(&lane)));
    assert_eq!(collect(Later(5 * SECOND_US).now_us()), sources.len(), "the log has let go of them just now");
    assert_eq!(collect(Later(20 * SECOND_US).now_us()), 0);
}
