//! Packs of archives whose records were erased, and whose key is changed meanwhile.

use std::sync::{Arc, Once};

use stillwell_ingest::life::ledger::Pen;
use stillwell_ingest::life::retain::{Class, Retention, retain};
use stillwell_schema::TopicPartition;

use super::*;
use crate::support::{SetClock, key};
use crate::tamper::commit;

/// How long the tests' class keeps.
const KEEP_US: i64 = 10 * 86_400_000_000;

fn lane() -> TopicPartition {
    TopicPartition::new("readings", 0)
}

/// A lane of five entries, from which the readings of press-0 before offset `cut` were erased.
fn archive(cut: i64) -> Arc<MemoryStore> {
    let (store, mut random) = (Arc::new(MemoryStore::default()), StdRng::seed_from_u64(3));
    for _ in 0..5 {
        commit(&store, &lane(), &key(), &mut random);
    }
    let clock = SetClock::default();
    clock.pass(KEEP_US + cut * 10_000);
    let pen = Pen {
        store: Arc::clone(&store) as Arc<dyn ArchiveStore>,
        key: key(),
        writer: "w".into(),
        clock: Arc::new(clock),
    };
    let retention = Retention {
        classes: vec![Class { name: "short".into(), machines: Some("press-0".into()), keep_days: 10 }],
        by: "test".into(),
        reason: "retention".into(),
        file_bytes_target: 1,
        level: 1,
    };
    retain(&pen, &lane(), &retention, &|_| (), &mut |_| ()).unwrap();
    store
}

#[test]
fn what_retention_erased_at_an_edge_is_stated() {
    let folder = tempfile::tempdir().unwrap();
    let mut packs = 0;
    for cut in 1..40 {
        let (store, pack) = (archive(cut), folder.path().join(format!("pack-{cut}")));
        match export(&*store, &options(query(&["press-0"], 0, 60)), &pack, &|_| ()) {
            Ok(manifest) => {
                let [lane] = &manifest.lanes[..] else { panic!("{manifest:?}") };
                assert!(lane.first_seq == 0 && lane.erasures > 0, "cut {cut}: {lane:?}");
                let report = checked(&pack, &public_key());
                assert!(report.sound && report.erasures == lane.erasures, "cut {cut}: {report:?}");
                packs += 1;
            }
            Err(ExportError::NotFound { tombstones }) => {
                assert!(tombstones > 0, "cut {cut}");
                let planned = plan(&*store, &options(query(&["press-0"], 0, 60)), &|_| ());
                assert!(
                    matches!(planned, Err(ExportError::NotFound { tombstones: same }) if same == tombstones)
                );
            }
            Err(error) => panic!("cut {cut}: {error}"),
        }
    }
    assert!(packs > 5, "{packs}");
    let never =
        export(&*archive(20), &options(query(&["press-9"], 0, 60)), &folder.path().join("none"), &|_| ());
    assert!(matches!(never, Err(ExportError::NotFound { tombstones: 0 })), "{never:?}");
}

#[test]
fn a_change_of_key_meanwhile_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (store, pack, once) = (MemoryStore::default(), folder.path().join("pack"), Once::new());
    let (mut random, next) = (StdRng::seed_from_u64(3), SigningKey::from_bytes(&[9; 32]));
    let lanes = [0, 7].map(|partition| TopicPartition::new("readings", partition));
    for lane in &lanes {
        commit(&store, lane, &key(), &mut random);
    }
    let meanwhile = |_: u64| {
        once.call_once(|| {
            evidence::change_key(&store, &key(), &next, 1, "planned").unwrap();
            commit(&store, &lanes[1], &next, &mut StdRng::seed_from_u64(4));
            evidence::checkpoint(&store, &next, "w", 2).unwrap();
        });
    };
    let manifest = export(&store, &options(query(&["press-*"], 0, 60)), &pack, &meanwhile).unwrap();
    assert!(once.is_completed() && manifest.key != public_key());
    assert_eq!(checked(&pack, &public_key()).problems, []);
}
