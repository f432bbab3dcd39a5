//! What someone with write access to the archive may do to it.

use ed25519_dalek::SigningKey;
use rand::RngExt;
use rand::rngs::StdRng;
use stillwell_schema::{SignedEntry, TopicPartition, paths};

use super::archive::{Archive, Objects, commit};
use crate::support::MemoryStore;

/// One way of tampering, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Attack {
    /// One bit of an object.
    Flip { path: String, bit: usize },
    /// An object is gone.
    Delete { path: String },
    /// An object ends early.
    Cut { path: String, bytes: usize },
    /// An object has bytes too many.
    Grow { path: String },
    /// Two objects have changed places.
    Swap { paths: [String; 2] },
    /// The last entries of a lane are gone, with their files.
    Truncate { lane: TopicPartition, from: u64 },
    /// One entry is left out, and those behind it have moved up.
    LeaveOut { lane: TopicPartition, seq: u64 },
    /// Entries are written anew by a key of the attacker's own.
    Fork { lane: TopicPartition, from: u64 },
    /// Entries are written anew by the archive's own key, which was stolen.
    StolenKey { lane: TopicPartition, from: u64 },
    /// A lane is gone altogether.
    LoseLane { lane: TopicPartition },
    /// A lane's objects stand in another lane.
    MoveLane { lane: TopicPartition },
    /// All checkpoints are gone.
    LoseCheckpoints,
    /// An entry is signed anew by another key, with nothing else changed.
    Resign { path: String },
}

impl Attack {
    /// How many kinds there are.
    pub(crate) const KINDS: usize = 13;

    /// Tampers with `archive` in a way of the seed's choice.
    pub(crate) fn on(archive: &Archive, random: &mut StdRng) -> (Self, MemoryStore) {
        loop {
            let attack = Self::choose(archive, random);
            let store = archive.store();
            attack.apply(archive, &store, random);
            if *store.objects.lock().unwrap() != archive.objects {
                return (attack, store);
            }
        }
    }

    /// The kind's name.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Flip { .. } => "flip",
            Self::Delete { .. } => "delete",
            Self::Cut { .. } => "cut",
            Self::Grow { .. } => "grow",
            Self::Swap { .. } => "swap",
            Self::Truncate { .. } => "truncate",
            Self::LeaveOut { .. } => "leave out",
            Self::Fork { .. } => "fork",
            Self::StolenKey { .. } => "stolen key",
            Self::LoseLane { .. } => "lose lane",
            Self::MoveLane { .. } => "move lane",
            Self::LoseCheckpoints => "lose checkpoints",
            Self::Resign { .. } => "resign",
        }
    }

    fn choose(archive: &Archive, random: &mut StdRng) -> Self {
        let object = |random: &mut StdRng| {
            let at = random.random_range(0..archive.objects.len());
            archive.objects.keys().nth(at).unwrap().clone()
        };
        let lane = archive.lanes[random.random_range(0..archive.lanes.len())].clone();
        let entries = archive.objects.keys().filter(|path| path.starts_with(&paths::manifest_folder(&lane)));
        let seq = random.random_range(0..entries.count() as u64);
        let path = object(random);
        let bytes = archive.objects[&path].len();
        // Most damage is of single bits and objects, at any place.
        match random.random_range(0..20) {
            0..=5 => Self::Flip { path, bit: random.random_range(0..bytes * 8) },
            6 | 7 => Self::Delete { path },
            8 => Self::Cut { path, bytes: random.random_range(0..bytes) },
            9 => Self::Grow { path },
            10 => Self::Swap { paths: [path, object(random)] },
            11 => Self::Truncate { lane, from: seq },
            12 => Self::LeaveOut { lane, seq },
            13 | 14 => Self::Fork { lane, from: seq },
            15 => Self::StolenKey { lane, from: seq },
            16 => Self::LoseLane { lane },
            17 => Self::MoveLane { lane },
            18 => Self::LoseCheckpoints,
            _ => Self::Resign { path: paths::entry(&lane, seq) },
        }
    }

    fn apply(&self, archive: &Archive, store: &MemoryStore, random: &mut StdRng) {
        let objects = &mut *store.objects.lock().unwrap();
        match self {
            Self::Flip { path, bit } => objects.get_mut(path).unwrap()[bit / 8] ^= 1 << (bit % 8),
            Self::Delete { path } => drop(objects.remove(path)),
            Self::Cut { path, bytes } => objects.get_mut(path).unwrap().truncate(*bytes),
            Self::Grow { path } => objects.get_mut(path).unwrap().push(b'\n'),
            Self::Swap { paths: [a, b] } => {
                let (one, other) = (objects[a].clone(), objects[b].clone());
                objects.insert(a.clone(), other);
                objects.insert(b.clone(), one);
            }
            Self::Truncate { lane, from } => truncate(objects, lane, *from),
            Self::LeaveOut { lane, seq } => leave_out(objects, lane, *seq),
            Self::LoseLane { lane } => objects.retain(|path, _| !is_of(path, lane)),
            Self::MoveLane { lane } => move_lane(objects, lane),
            Self::LoseCheckpoints => objects.retain(|path, _| !path.starts_with(paths::CHECKPOINTS)),
            Self::Resign { path } => {
                let entry = SignedEntry::parse(objects[path].clone()).unwrap().entry;
                objects.insert(path.clone(), entry.sign(&stranger()).unwrap().bytes);
            }
            Self::Fork { .. } | Self::StolenKey { .. } => {}
        }
        let (lane, from, key) = match self {
            Self::Fork { lane, from } => (lane, *from, stranger()),
            Self::StolenKey { lane, from } => (lane, *from, archive.key.clone()),
            _ => return,
        };
        rewrite(objects, lane, from, &key, random);
    }
}

fn stranger() -> SigningKey {
    SigningKey::from_bytes(&[66; 32])
}

fn is_of(path: &str, lane: &TopicPartition) -> bool {
    paths::data_folders(lane)
        .into_iter()
        .chain([paths::manifest_folder(lane), paths::ledger_folder(lane)])
        .any(|folder| path.strip_prefix(&folder).is_some_and(|rest| rest.starts_with('/')))
}

/// Takes the entries of a lane from `from` on away, with their files.
fn truncate(objects: &mut Objects, lane: &TopicPartition, from: u64) {
    for seq in from.. {
        let Some(bytes) = objects.remove(&paths::entry(lane, seq)) else { return };
        let entry = SignedEntry::parse(bytes).unwrap().entry;
        for file in [entry.readings, entry.records].into_iter().flatten() {
            objects.remove(&file.path);
        }
    }
}

fn leave_out(objects: &mut Objects, lane: &TopicPartition, seq: u64) {
    objects.remove(&paths::entry(lane, seq));
    for seq in seq.. {
        let Some(next) = objects.remove(&paths::entry(lane, seq + 1)) else { return };
        objects.insert(paths::entry(lane, seq), next);
    }
}

fn move_lane(objects: &mut Objects, lane: &TopicPartition) {
    let other = TopicPartition::new(&*lane.topic, lane.partition + 1);
    let moved: Vec<_> = objects.keys().filter(|path| is_of(path, lane)).cloned().collect();
    for path in moved {
        let bytes = objects.remove(&path).unwrap();
        let folder = format!("/{}/", lane.partition);
        objects.insert(path.replacen(&folder, &format!("/{}/", other.partition), 1), bytes);
    }
}

/// Takes the entries from `from` on away and writes others in their place, as whole as the first ones.
fn rewrite(objects: &mut Objects, lane: &TopicPartition, from: u64, key: &SigningKey, random: &mut StdRng) {
    let mut entries = 0;
    while objects.contains_key(&paths::entry(lane, entries)) {
        entries += 1;
    }
    truncate(objects, lane, from);
    let store = MemoryStore::default();
    store.objects.lock().unwrap().clone_from(objects);
    for _ in from..entries {
        commit(&store, lane, key, random);
    }
    *objects = store.objects.into_inner().unwrap();
}
