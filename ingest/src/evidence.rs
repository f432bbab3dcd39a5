//! What holds for the archive as a whole: the chain of its keys and the chain of its checkpoints.

use std::collections::BTreeSet;

use ed25519_dalek::SigningKey;
use stillwell_schema::checkpoint::{self, Checkpoint, LaneMark, SignedCheckpoint};
use stillwell_schema::key_change::{KeyChange, KeyRing, KeyRingError, SignedKeyChange};
use stillwell_schema::ledger::{Act, LedgerHead};
use stillwell_schema::signed::{Body, GENESIS, Signed, SignedError};
use stillwell_schema::{Head, TopicPartition, paths};
use thiserror::Error;

use crate::keys::rotation;
use crate::manifest::{ManifestError, find_head, read_entry};
use crate::store::{self, ArchiveStore, StoreError};

/// Why one of the archive's own chains cannot be read or go on.
#[derive(Debug, Error)]
pub enum EvidenceError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A lane's end cannot be found.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// An object is not what it should be.
    #[error("{path}: {source}; the archive was damaged or altered, restore this object from a backup")]
    Object {
        /// The object.
        path: String,
        /// What is wrong.
        source: SignedError,
    },
    /// An object does not follow its predecessor.
    #[error("{path} does not follow its predecessor; the archive was damaged or altered")]
    Chain {
        /// The object.
        path: String,
    },
    /// A key change does not fit.
    #[error("{path}: {source}")]
    Ring {
        /// The object.
        path: String,
        /// Why.
        source: KeyRingError,
    },
    /// The key at hand is not the one that signs this archive.
    #[error(
        "this archive is signed with key {expected}, and the key file holds {found}; give it the archive's key file, or, \
         where that is lost, begin a new archive"
    )]
    ForeignKey {
        /// The archive's key, hex.
        expected: String,
        /// The key at hand, hex.
        found: String,
    },
    /// Another process wrote the object first.
    #[error("{path} was written by another process meanwhile; run it again")]
    Raced {
        /// The object.
        path: String,
    },
}

/// Reads object `seq` of one of the archive's own chains; none where there is none.
///
/// # Errors
/// [`EvidenceError`].
pub fn read<T: Body>(
    store: &dyn ArchiveStore,
    folder: &str,
    seq: u64,
) -> Result<Option<Signed<T>>, EvidenceError> {
    let path = paths::evidence(folder, seq);
    let Some(bytes) = store.get(&path)? else { return Ok(None) };
    Signed::parse(bytes).map(Some).map_err(|source| EvidenceError::Object { path, source })
}

/// The keys of an archive in the order of their use; none where no key was changed yet.
///
/// # Errors
/// [`EvidenceError`] where a change is damaged or does not fit.
pub fn key_ring(store: &dyn ArchiveStore) -> Result<Option<KeyRing>, EvidenceError> {
    let mut ring: Option<KeyRing> = None;
    for seq in 0.. {
        let Some(change) = read::<KeyChange>(store, paths::KEY_CHANGES, seq)? else { break };
        let added = ring.get_or_insert_with(|| KeyRing::of(&*change.body.key)).add(&change);
        let path = paths::evidence(paths::KEY_CHANGES, seq);
        added.map_err(|source| EvidenceError::Ring { path, source })?;
    }
    Ok(ring)
}

/// The public key, hex, that signs this archive now; none where it holds nothing yet.
///
/// # Errors
/// [`EvidenceError`].
pub fn current_key(store: &dyn ArchiveStore) -> Result<Option<String>, EvidenceError> {
    if let Some(ring) = key_ring(store)? {
        return Ok(ring.keys().last().cloned());
    }
    if let Some(last) = last_checkpoint(store)? {
        return Ok(Some(last.body.key));
    }
    for lane in lanes(store, None)? {
        if let Some(first) = read_entry(store, &lane, 0)? {
            return Ok(Some(first.entry.key));
        }
    }
    Ok(None)
}

/// Makes sure that `key` is the one that signs this archive: what another signed would not verify.
///
/// # Errors
/// [`EvidenceError::ForeignKey`] where it is not.
pub fn check_key(store: &dyn ArchiveStore, key: &SigningKey) -> Result<(), EvidenceError> {
    let found = rotation::public(key);
    match current_key(store)? {
        Some(expected) if expected != found => Err(EvidenceError::ForeignKey { expected, found }),
        _ => Ok(()),
    }
}

/// Makes `new` the archive's key in place of `old`.
///
/// # Errors
/// [`EvidenceError`]; of the kind [`EvidenceError::Ring`] where `old` is not the key in use.
pub fn change_key(
    store: &dyn ArchiveStore,
    old: &SigningKey,
    new: &SigningKey,
    now_us: i64,
    reason: &str,
) -> Result<SignedKeyChange, EvidenceError> {
    check_key(store, old)?;
    let ring = key_ring(store)?.unwrap_or_else(|| KeyRing::of(rotation::public(old)));
    let seq = ring.changes().len() as u64;
    let path = paths::evidence(paths::KEY_CHANGES, seq);
    let change = ring.change(old, new, now_us, reason);
    let change = change.map_err(|source| EvidenceError::Ring { path: path.clone(), source })?;
    create(store, path, &change)?;
    Ok(change)
}

/// The newest checkpoint; none where there is none.
///
/// # Errors
/// [`EvidenceError`].
pub fn last_checkpoint(store: &dyn ArchiveStore) -> Result<Option<SignedCheckpoint>, EvidenceError> {
    let mut last = None;
    store.visit(paths::CHECKPOINTS, &mut |listed| last = last.max(paths::entry_seq(&listed.path)))?;
    last.map_or(Ok(None), |seq| read(store, paths::CHECKPOINTS, seq))
}

/// Writes a checkpoint over every lane, unless nothing was added since the last one; returns the newest.
///
/// # Errors
/// [`EvidenceError`]; of the kind [`EvidenceError::Raced`] where another process wrote one at the same time.
pub fn checkpoint(
    store: &dyn ArchiveStore,
    key: &SigningKey,
    writer: &str,
    now_us: i64,
) -> Result<Option<SignedCheckpoint>, EvidenceError> {
    check_key(store, key)?;
    let last = last_checkpoint(store)?;
    let lanes = marks(store)?;
    let ring = key_ring(store)?;
    let key_changes = ring.as_ref().map_or(0, |ring| ring.changes().len() as u64);
    let key_change = ring.as_ref().map_or(GENESIS, KeyRing::head).to_owned();
    let known = last.as_ref().map_or((&[][..], 0), |last| (&last.body.lanes, last.body.key_changes));
    if known == (&lanes, key_changes) {
        return Ok(last);
    }
    let (seq, previous) =
        last.map_or((0, GENESIS.to_owned()), |last| (last.body.seq + 1, last.sha256.clone()));
    let path = paths::evidence(paths::CHECKPOINTS, seq);
    let format = checkpoint::FORMAT;
    let (writer, written_us) = (writer.to_owned(), now_us);
    let body = Checkpoint {
        format,
        seq,
        previous,
        written_us,
        writer,
        lanes,
        key_changes,
        key_change,
        key: String::new(),
    };
    let signed = Signed::sign(body, key);
    let signed = signed.map_err(|source| EvidenceError::Object { path: path.clone(), source })?;
    create(store, path, &signed)?;
    Ok(Some(signed))
}

/// Where each lane with an entry ends.
fn marks(store: &dyn ArchiveStore) -> Result<Vec<LaneMark>, EvidenceError> {
    let mut marks = Vec::new();
    for lane in lanes(store, None)? {
        let Head { seq: entries, next, previous: head } = find_head(store, &lane)?;
        let (topic, partition) = (lane.topic.to_string(), lane.partition);
        let LedgerHead { seq: acts, previous: ledger } = ledger_head(store, &lane)?;
        marks.extend(next.map(|next| LaneMark { topic, partition, entries, next, head, acts, ledger }));
    }
    Ok(marks)
}

/// The end of a lane's ledger. Acts are few, so the highest name is looked for.
fn ledger_head(store: &dyn ArchiveStore, lane: &TopicPartition) -> Result<LedgerHead, EvidenceError> {
    let mut last = None;
    store
        .visit(&paths::ledger_folder(lane), &mut |listed| last = last.max(paths::entry_seq(&listed.path)))?;
    let Some(seq) = last else { return Ok(LedgerHead::genesis()) };
    let path = paths::act(lane, seq);
    let Some(bytes) = store.get(&path)? else { return Err(EvidenceError::Chain { path }) };
    let act: Signed<Act> = Signed::parse(bytes).map_err(|source| EvidenceError::Object { path, source })?;
    Ok(LedgerHead { seq: seq + 1, previous: act.sha256 })
}

/// The lanes of an archive, as its folders say, sorted; of one topic where it is named.
///
/// # Errors
/// [`StoreError`].
pub fn lanes(store: &dyn ArchiveStore, topic: Option<&str>) -> Result<Vec<TopicPartition>, StoreError> {
    let topics = match topic {
        Some(topic) => vec![topic.to_owned()],
        None => store.folders("")?.into_iter().filter(|name| paths::is_topic(name)).collect(),
    };
    let mut lanes = Vec::new();
    for topic in topics {
        let mut partitions = BTreeSet::new();
        for folder in ["manifest", "ledger", "readings", "records", "leaves"] {
            let names = store.folders(&format!("{topic}/{folder}"))?;
            partitions.extend(names.iter().filter_map(|name| name.parse::<i32>().ok()));
        }
        lanes.extend(partitions.into_iter().map(|partition| TopicPartition::new(&*topic, partition)));
    }
    Ok(lanes)
}

fn create<T>(store: &dyn ArchiveStore, path: String, signed: &Signed<T>) -> Result<(), EvidenceError> {
    if store::create(store, &path, &signed.bytes)? { Ok(()) } else { Err(EvidenceError::Raced { path }) }
}
