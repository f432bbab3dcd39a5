//! What all lanes are held against: the keys that may sign, and what checkpoints attest.

use std::collections::BTreeMap;

use stillwell_schema::checkpoint::{Checkpoint, SignedCheckpoint};
use stillwell_schema::key_change::KeyRing;
use stillwell_schema::signed::GENESIS;
use stillwell_schema::{TopicPartition, paths};

use super::report::{Problem, ProblemKind};
use crate::evidence::{self, EvidenceError};
use crate::store::{ArchiveStore, StoreError};

/// The head that a lane must have after so many entries, and the checkpoint that says so.
pub(super) type Attested = BTreeMap<u64, (String, String)>;

/// The keys and checkpoints of an archive.
pub(super) struct Trust {
    /// The keys that may sign, in the order of their use; none where the archive names none and none is given.
    pub(super) ring: Option<KeyRing>,
    pub(super) lanes: BTreeMap<TopicPartition, Attested>,
    pub(super) checkpoints: u64,
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
        let mut trust = Self { ring: None, lanes: BTreeMap::new(), checkpoints: 0, problems: Vec::new() };
        trust.read_ring(store, key)?;
        trust.read_checkpoints(store)?;
        if let Some(copy) = copy {
            trust.compare(store, copy)?;
        }
        Ok(trust)
    }

    fn read_ring(&mut self, store: &dyn ArchiveStore, key: Option<&str>) -> Result<(), StoreError> {
        let found = match evidence::key_ring(store) {
            Ok(found) => found,
            Err(EvidenceError::Store(error)) => return Err(error),
            Err(error) => {
                self.problem(ProblemKind::Altered, paths::KEY_CHANGES, &error.to_string());
                None
            }
        };
        let changes = found.as_ref().map_or(0, |ring| ring.changes().len() as u64);
        self.check_names(store, paths::KEY_CHANGES, changes)?;
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

    fn read_checkpoints(&mut self, store: &dyn ArchiveStore) -> Result<(), StoreError> {
        let mut previous = GENESIS.to_owned();
        for seq in 0.. {
            let path = paths::evidence(paths::CHECKPOINTS, seq);
            match evidence::read::<Checkpoint>(store, paths::CHECKPOINTS, seq) {
                Ok(None) => break,
                Ok(Some(signed)) => {
                    if (signed.body.seq, &signed.body.previous) != (seq, &previous) {
                        self.problem(ProblemKind::Chain, &path, "does not follow its predecessor");
                    }
                    previous.clone_from(&signed.sha256);
                    self.attest(&path, &signed);
                }
                Err(EvidenceError::Store(error)) => return Err(error),
                Err(error) => self.problem(ProblemKind::Altered, &path, &error.to_string()),
            }
            self.checkpoints += 1;
        }
        let read = self.checkpoints;
        self.check_names(store, paths::CHECKPOINTS, read)
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
            let (head, _) =
                attested.entry(mark.entries).or_insert_with(|| (mark.head.clone(), path.to_owned()));
            if *head != mark.head {
                let message =
                    format!("attests another entry {} of {} than one before", mark.entries, mark.lane());
                self.problems.push(Problem::new(ProblemKind::Chain, path, message));
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
    fn check_names(
        &mut self,
        store: &dyn ArchiveStore,
        folder: &str,
        reached: u64,
    ) -> Result<(), StoreError> {
        let mut strays = Vec::new();
        store.visit(folder, &mut |listed| match paths::entry_seq(&listed.path) {
            Some(seq) if seq < reached => {}
            _ => strays.push(listed.path),
        })?;
        for path in strays {
            self.problem(ProblemKind::Missing, &path, "cannot be reached: an object before it is missing");
        }
        Ok(())
    }

    fn problem(&mut self, kind: ProblemKind, object: &str, message: &str) {
        self.problems.push(Problem::new(kind, object, message));
    }
}
