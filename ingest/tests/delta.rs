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
use stillwell_ingest::life::compact::{Policy, compact};
use stillwell_ingest::life::ledger::{Pen, read_view};
use stillwell_ingest::life::pieces::Pieces;
use stillwell_ingest::store::ArchiveStore;
use stillwell_schema::TopicPartition;
use support::{FixedClock, MemoryStore, key};

/// The live files of the log, with their rows.
fn replay(store: &MemoryStore) -> BTreeMap<String, u64> {
    let mut live = BTreeMap::new();
    for version in 0.. {
        let path = format!("readings/readings/_delta_log/{version:020}.json");
        let Some(bytes) = store.get(&path).unwrap() else { break };
        let lines = String::from_utf8(bytes).unwrap();
        let actions: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
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
    }
    live
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
