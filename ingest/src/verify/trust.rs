//! What all lanes are held against: the keys that may sign, and what checkpoints attest.

use std::collections::{BTreeMap, BTreeSet};

use stillwell_schema::checkpoint::{Checkpoint, SignedCheckpoint};
use stillwell_schema::key_change::{KeyRing, KeyUseError, KeyWatch};
use stillwell_schema::signed::GENESIS;
use stillwell_schema::{TopicPartition, paths};

use super::report::{Problem, ProblemKind};
use crate::evidence::{self, EvidenceError};
use crate::store::{ArchiveStore, StoreError};

/// What checkpoints attest of one lane: the hash of the last object of a chain of so many, and which says so.
#[derive(Debug, Default)]
pub(super) struct Attested {
    entries: BTreeMap<u64, (String, String)>,
    acts: BTreeMap<u64, (String, String)>,
}

impl Attested {
    /// What is wrong with the entry number `seq`, if anything.
    pub(super) fn differs_in_entry(&self, seq: u64, sha256: &str) -> Option<String> {
        differs(&self.entries, seq, sha256)
    }

    /// What is wrong with the act number `seq`, if anything.
    pub(super) fn differs_in_act(&self, seq: u64, sha256: &str) -> Option<String> {
        differs(&self.acts, seq, sha256)
    }

    /// What is wrong with a lane of `entries`, if anything.
    pub(super) fn more_entries_than(&self, entries: u64) -> Option<String> {
        more(&self.entries, entries)
    }

    /// What is wrong with a ledger of `acts`, if anything.
    pub(super) fn more_acts_than(&self, acts: u64) -> Option<String> {
        more(&self.acts, acts)
    }
}

fn differs(chain: &BTreeMap<u64, (String, String)>, seq: u64, sha256: &str) -> Option<String> {
    let (head, by) = chain.get(&(seq + 1))?;
    (head != sha256).then(|| format!("is not the object that {by} attests"))
}

fn more(chain: &BTreeMap<u64, (String, String)>, length: u64) -> Option<String> {
    let (attested, (_, by)) = chain.last_key_value()?;
    (*attested > length)
        .then(|| format!("the chain ends after {length} objects, where {by} attests {attested}"))
}

/// The keys and checkpoints of an archive.
pub(super) struct Trust {
    /// The keys that may sign, in the order of their use; none where the archive names none and none is given.
    pub(super) ring: Option<KeyRing>,
    /// Changes of key that were read.
    changes: u64,
    is_ring_damaged: bool,
    pub(super) lanes: BTreeMap<TopicPartition, Attested>,
    pub(super) checkpoints: u64,
    /// The keys that signed checkpoints.
    pub(super) keys: BTreeSet<String>,
    pub(super) problems: Vec<Problem>,
}

impl Trust {
    /// Reads both chains. `key` is the public key, hex, that is trusted beforehand; `copy` a checkpoint that was
    /// kept elsewhere.
    pub(super) fn read(
        store: &dyn ArchiveStore,
        key: Option<&str>,
        copy: Option<&SignedCheckpoint>,
    ) -> Result<Self, StoreError> {
        let mut trust = Self {
            ring: None,
            changes: 0,
            is_ring_damaged: false,
            lanes: BTreeMap::new(),
            checkpoints: 0,
            keys: BTreeSet::new(),
            problems: Vec::new(),
        };
        // Keys are read after what they sign, so that one which is new meanwhile is known.
        let checkpoints = trust.read_checkpoints(store)?;
        trust.read_ring(store, key)?;
        for signed in &checkpoints {
            trust.attest(&paths::evidence(paths::CHECKPOINTS, signed.body.seq), signed);
        }
        if let Some(copy) = copy {
            trust.compare(store, copy)?;
        }
        Ok(trust)
    }

    /// Holds the key of the next object of the chain that `keys` watches against those that may sign.
    pub(super) fn check_key(&self, keys: &mut KeyWatch, key: &str) -> Result<(), KeyUseError> {
        self.ring.as_ref().map_or(Ok(()), |ring| keys.check(ring, key))
    }

    /// Whether a change of key follows those that were read.
    pub(super) fn is_outdated(&self, store: &dyn ArchiveStore) -> Result<bool, StoreError> {
        // One that is there and could not be read was told of already.
        Ok(!self.is_ring_damaged && store.exists(&paths::evidence(paths::KEY_CHANGES, self.changes))?)
    }

    fn read_ring(&mut self, store: &dyn ArchiveStore, key: Option<&str>) -> Result<(), StoreError> {
        let listed = names(store, paths::KEY_CHANGES)?;
        let found = match evidence::key_ring(store) {
            Ok(found) => found,
            Err(EvidenceError::Store(error)) => return Err(error),
            Err(error) => {
                self.problem(ProblemKind::Altered, paths::KEY_CHANGES, &error.to_string());
                self.is_ring_damaged = true;
                None
            }
        };
        let changes = found.as_ref().map_or(0, |ring| ring.changes().len() as u64);
        self.changes = changes;
        self.check_names(listed, changes);
        if let (Some(ring), Some(key)) = (&found, key)
            && ring.position(key).is_none()
        {
            self.problem(
                ProblemKind::Key,
                paths::KEY_CHANGES,
                &format!("does not name the trusted key {key}"),
            );
        }
        self.ring = match (found, key) {
            (Some(ring), Some(key)) if ring.position(key).is_none() => Some(KeyRing::of(key)),
            (None, Some(key)) => Some(KeyRing::of(key)),
            (found, _) => found,
        };
        Ok(())
    }

    fn read_checkpoints(&mut self, store: &dyn ArchiveStore) -> Result<Vec<SignedCheckpoint>, StoreError> {
        // Listed first: one that is added meanwhile is then found by the reading alone.
        let listed = names(store, paths::CHECKPOINTS)?;
        let (mut read, mut previous) = (Vec::new(), GENESIS.to_owned());
        for seq in 0.. {
            let path = paths::evidence(paths::CHECKPOINTS, seq);
            match evidence::read::<Checkpoint>(store, paths::CHECKPOINTS, seq) {
                Ok(None) => break,
                Ok(Some(signed)) => {
                    if (signed.body.seq, &signed.body.previous) != (seq, &previous) {
                        self.problem(ProblemKind::Chain, &path, "does not follow its predecessor");
                    }
                    previous.clone_from(&signed.sha256);
                    self.keys.insert(signed.body.key.clone());
                    read.push(signed);
                }
                Err(EvidenceError::Store(error)) => return Err(error),
                Err(error) => self.problem(ProblemKind::Altered, &path, &error.to_string()),
            }
            self.checkpoints += 1;
        }
        self.check_names(listed, self.checkpoints);
        Ok(read)
    }

    /// Takes what a checkpoint says, if its key may say so.
    fn attest(&mut self, path: &str, signed: &SignedCheckpoint) {
        self.compare_keys(path, signed);
        let key = &signed.body.key;
        if self.ring.as_ref().is_some_and(|ring| ring.position(key).is_none()) {
            self.problem(ProblemKind::Key, path, &format!("is signed by {key}, which is not trusted"));
            return;
        }
        for mark in &signed.body.lanes {
            let attested = self.lanes.entry(mark.lane()).or_default();
            let chains = [
                (&mut attested.entries, mark.entries, &mark.head),
                (&mut attested.acts, mark.acts, &mark.ledger),
            ];
            for (chain, length, head) in chains {
                let (known, _) = chain.entry(length).or_insert_with(|| (head.clone(), path.to_owned()));
                if known != head {
                    let message =
                        format!("attests another object {length} of {} than one before", mark.lane());
                    self.problems.push(Problem::new(ProblemKind::Chain, path, message));
                }
            }
        }
    }

    /// The changes of key that a checkpoint attests must still be there.
    fn compare_keys(&mut self, path: &str, signed: &SignedCheckpoint) {
        let (count, head) = (signed.body.key_changes, &signed.body.key_change);
        let Some(last) = count.checked_sub(1) else { return };
        let changes = self.ring.as_ref().map_or(&[][..], KeyRing::changes);
        if changes.get(usize::try_from(last).unwrap_or(usize::MAX)) != Some(head) {
            let message = format!("is not the change of key that {path} attests, or is missing");
            self.problem(ProblemKind::Truncated, &paths::evidence(paths::KEY_CHANGES, last), &message);
        }
    }

    /// Holds a copy that was kept elsewhere against the archive's own chain of checkpoints.
    fn compare(&mut self, store: &dyn ArchiveStore, copy: &SignedCheckpoint) -> Result<(), StoreError> {
        let path = paths::evidence(paths::CHECKPOINTS, copy.body.seq);
        let wrong = match store.get(&path)? {
            Some(bytes) if bytes == copy.bytes => None,
            Some(_) => Some((ProblemKind::Chain, "is not the checkpoint that was kept elsewhere")),
            None => Some((ProblemKind::Truncated, "is missing, but a copy was kept elsewhere")),
        };
        if let Some((kind, message)) = wrong {
            self.problem(kind, &path, message);
        }
        self.attest("the checkpoint that was kept elsewhere", copy);
        Ok(())
    }

    /// Objects of a chain that its walk did not reach.
    fn check_names(&mut self, listed: Vec<String>, reached: u64) {
        for path in listed {
            if paths::entry_seq(&path).is_none_or(|seq| seq >= reached) {
                self.problem(
                    ProblemKind::Missing,
                    &path,
                    "cannot be reached: an object before it is missing",
                );
            }
        }
    }

    fn problem(&mut self, kind: ProblemKind, object: &str, message: &str) {
        self.problems.push(Problem::new(kind, object, message));
    }
}

/// The objects of a chain.
fn names(store: &dyn ArchiveStore, folder: &str) -> Result<Vec<String>, StoreError> {
    let mut names = Vec::new();
    store.visit(folder, &mut |listed| names.push(listed.path))?;
    Ok(names)
}
