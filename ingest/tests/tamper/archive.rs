//! A small archive of several lanes, with checkpoints and changes of key, made by the real writer's parts.

use std::collections::BTreeMap;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use stillwell_ingest::evidence;
use stillwell_ingest::gc::{self, Scope};
use stillwell_ingest::life::compact::{Policy, compact};
use stillwell_ingest::life::ledger::{Pen, read_view};
use stillwell_ingest::life::retain::{Class, Retention, retain};
use stillwell_ingest::manifest::find_head;
use stillwell_ingest::store::ArchiveStore;
use stillwell_ingest::writer::{Batch, encode};
use stillwell_schema::checkpoint::SignedCheckpoint;
use stillwell_schema::{Clock, Head, Offset, TopicPartition, paths};
use stillwell_source::decode::decoder_for;
use stillwell_source::settings::TopicSettings;

use crate::support::{self, MemoryStore};

const DAY_US: i64 = 86_400_000_000;

/// Objects by path.
pub(crate) type Objects = BTreeMap<String, Vec<u8>>;

/// An archive as it was written.
pub(crate) struct Archive {
    /// All of it.
    pub(crate) objects: Objects,
    /// Its lanes.
    pub(crate) lanes: Vec<TopicPartition>,
    /// The last checkpoint, as an auditor keeps it.
    pub(crate) copy: SignedCheckpoint,
    /// The key in use at the end.
    pub(crate) key: SigningKey,
}

impl Archive {
    /// The archive of `seed`: one to three lanes of two to four entries each, some of them merged or expired.
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let store = Arc::new(MemoryStore::default());
        let lanes: Vec<_> =
            (0..random.random_range(1..4)).map(|i| TopicPartition::new("readings", 7 * i)).collect();
        let mut key = support::key();
        for round in 0..random.random_range(2..5u8) {
            for lane in &lanes {
                commit(&store, lane, &key, &mut random);
            }
            for lane in &lanes {
                age(&store, lane, &key, &mut random);
            }
            if random.random_bool(0.6) {
                evidence::checkpoint(&*store, &key, "w", i64::from(round)).unwrap();
            }
            if random.random_bool(0.3) {
                let next = SigningKey::from_bytes(&[100 + round; 32]);
                evidence::change_key(&*store, &key, &next, 1, "planned").unwrap();
                key = next;
            }
        }
        let copy = evidence::checkpoint(&*store, &key, "w", 9).unwrap().unwrap();
        let objects = store.objects.lock().unwrap().clone();
        Self { objects, lanes, copy, key }
    }

    /// A store that holds it.
    pub(crate) fn store(&self) -> MemoryStore {
        let store = MemoryStore::default();
        store.objects.lock().unwrap().clone_from(&self.objects);
        store
    }
}

/// Merges a lane's files, or lets some of its records run out; then collects what no reader is shown.
fn age(store: &Arc<MemoryStore>, lane: &TopicPartition, key: &SigningKey, random: &mut StdRng) {
    let begin_us = support::FixedClock.now_us();
    let cut = random.random_range(0..30);
    let pen = Pen {
        store: Arc::clone(store) as Arc<dyn ArchiveStore>,
        key: key.clone(),
        writer: "w".into(),
        clock: Arc::new(At(begin_us + 10 * DAY_US + cut * 10_000)),
    };
    if random.random_bool(0.3) {
        let policy = Policy { file_bytes_target: 1 << 30, before_us: i64::MAX, pieces_min: 2, level: 1 };
        compact(&pen, lane, policy, &|_| (), &mut |_| true).unwrap();
    }
    if random.random_bool(0.2) {
        let machines = Some("press-0".to_owned());
        let retention = Retention {
            classes: vec![Class { name: "short".into(), machines, keep_days: 10 }],
            by: "test".into(),
            reason: "retention".into(),
            file_bytes_target: 1 << 30,
            level: 1,
        };
        retain(&pen, lane, &retention, &|_| (), &mut |_| ()).unwrap();
    }
    let (from, head) = (Head::genesis(), find_head(&**store, lane).unwrap());
    let view = read_view(&**store, lane).unwrap();
    let scope = Scope { from: &from, head: &head, view: &view, before_us: 1, superseded_before_us: i64::MAX };
    gc::collect(&**store, lane, scope).unwrap();
}

/// A clock that stands.
struct At(i64);

impl Clock for At {
    fn now_us(&self) -> i64 {
        self.0
    }
}

/// Appends an entry of some records to a lane.
pub(crate) fn commit(
    store: &MemoryStore,
    lane: &TopicPartition,
    key: &SigningKey,
    random: &mut StdRng,
) -> String {
    let head = find_head(store, lane).unwrap();
    let first = head.next.map_or(0, |next| next.0);
    let next = first + random.random_range(1..12);
    let mut batch = Batch::new(lane.clone(), Offset(first));
    batch
        .push(&mut *decoder_for(&TopicSettings::new("readings")), support::chunk_of(lane, first, next))
        .unwrap();
    let unique = format!("{:016x}", random.random::<u64>());
    let mut encoded = encode(&batch, &unique).unwrap();
    for file in std::mem::take(&mut encoded.files) {
        store.put(&file.file.path, &file.bytes).unwrap();
    }
    let entry = encoded.entry(&head, "w", 1, key).unwrap();
    let path = paths::entry(lane, head.seq);
    store.put_if_absent(&path, &entry.bytes).unwrap();
    path
}
