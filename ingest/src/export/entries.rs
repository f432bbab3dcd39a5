//! The signed objects of a pack: entries, tombstones, changes of key, the newest checkpoint.

use stillwell_schema::ledger::{Deed, SignedAct, View};
use stillwell_schema::manifest::FileRef;
use stillwell_schema::{Head, SignedEntry, TopicPartition, paths};

use super::folder::{Folder, Out};
use super::records::Evidence;
use super::{ExportError, LaneCount, Site, names};
use crate::evidence;
use crate::keys;
use crate::manifest::{ManifestError, expect_entry};
use crate::proof::key_changes;

/// The entries of a lane that go into the pack: one after the other, none left out between them.
pub(super) struct LaneEntries {
    pub(super) lane: TopicPartition,
    first: Option<u64>,
    head: Option<Head>,
}

impl LaneEntries {
    pub(super) fn new(lane: &TopicPartition) -> Self {
        Self { lane: lane.clone(), first: None, head: None }
    }

    /// Adds an entry, and those between the last one and it.
    pub(super) fn add(
        &mut self,
        site: &Site<'_>,
        signed: &SignedEntry,
        out: &mut Out,
    ) -> Result<(), ExportError> {
        let from = self.head.as_ref().map_or(signed.entry.seq, |head| head.seq);
        for seq in from..signed.entry.seq {
            let between = expect_entry(site.store, &self.lane, seq)?;
            self.push(site, &between, out)?;
        }
        self.push(site, signed, out)
    }

    fn push(&mut self, site: &Site<'_>, signed: &SignedEntry, out: &mut Out) -> Result<(), ExportError> {
        let (entry, path) = (&signed.entry, paths::entry(&self.lane, signed.entry.seq));
        if let Some(Err(source)) = self.head.as_ref().map(|head| head.check(&self.lane, entry)) {
            return Err(ManifestError::Entry { path, source: Box::new(source) }.into());
        }
        check_key(site, &path, &entry.key)?;
        self.first.get_or_insert(entry.seq);
        self.head = Some(signed.head());
        out.line(&signed.bytes)
    }

    /// Adds the tombstones of what was erased among them; none comes back where there is no entry.
    pub(super) fn finish(
        self,
        site: &Site<'_>,
        view: &View,
        records: u64,
        evidence: &mut Evidence,
    ) -> Result<Option<LaneCount>, ExportError> {
        let Some((first_seq, head)) = self.first.zip(self.head) else { return Ok(None) };
        let (next_seq, mut erasures) = (head.seq, 0);
        for seq in 0..view.head().seq {
            let path = paths::act(&self.lane, seq);
            let bytes =
                site.store.get(&path)?.ok_or_else(|| ManifestError::Missing { path: path.clone() })?;
            let act = SignedAct::parse(bytes)
                .map_err(|source| ManifestError::Act { path: path.clone(), source: Box::new(source) })?;
            let Deed::Erase(erase) = &act.act.deed else { continue };
            let span = &erase.cover.span;
            if span.first_seq < next_seq && first_seq < span.next_seq {
                check_key(site, &path, &act.act.key)?;
                evidence.erasures.line(&act.bytes)?;
                erasures += 1;
            }
        }
        let (topic, partition) = (self.lane.topic.to_string(), self.lane.partition);
        Ok(Some(LaneCount { topic, partition, first_seq, next_seq, records, erasures }))
    }
}

/// How many records an entry states.
pub(super) fn records_of(signed: &SignedEntry) -> u64 {
    signed.entry.records.as_ref().map_or(0, |file: &FileRef| file.rows)
}

fn check_key(site: &Site<'_>, object: &str, found: &str) -> Result<(), ExportError> {
    let known = site.ring.position(found).map(|_| ());
    known.ok_or_else(|| ExportError::Untrusted { object: object.to_owned(), found: found.to_owned() })
}

/// Writes what holds for the archive as a whole; `key` is its public key, hex.
pub(super) fn write_archive(site: &Site<'_>, key: &str, folder: &mut Folder) -> Result<(), ExportError> {
    let mut out = folder.create(names::KEYS)?;
    for change in key_changes(site.store)? {
        out.line(change.as_bytes())?;
    }
    folder.close(out)?;
    if let Some(checkpoint) = evidence::last_checkpoint(site.store)? {
        check_key(site, "the newest checkpoint", &checkpoint.body.key)?;
        let mut out = folder.create(names::CHECKPOINT)?;
        out.line(&checkpoint.bytes)?;
        folder.close(out)?;
    }
    let pem = keys::public_pem(key).unwrap_or_else(|| format!("{key}\n"));
    folder.write(names::PUBLIC_KEY, pem.as_bytes())
}
