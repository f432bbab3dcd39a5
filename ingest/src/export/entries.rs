//! The signed objects of a pack: entries, tombstones, changes of key, the newest checkpoint.

use stillwell_schema::key_change::KeyWatch;
use stillwell_schema::manifest::FileRef;
use stillwell_schema::{Head, SignedEntry, TopicPartition, paths};

use super::folder::{Folder, Out};
use super::records::Evidence;
use super::trust::Ledger;
use super::{ExportError, LaneCount, Site, names};
use crate::evidence;
use crate::keys;
use crate::manifest::{ManifestError, expect_entry};

/// The entries of a lane that go into the pack: one after the other, none left out between them.
pub(super) struct LaneEntries {
    pub(super) lane: TopicPartition,
    first: Option<u64>,
    head: Option<Head>,
    keys: KeyWatch,
}

impl LaneEntries {
    pub(super) fn new(lane: &TopicPartition) -> Self {
        Self { lane: lane.clone(), first: None, head: None, keys: KeyWatch::default() }
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
        site.trust.check(&mut self.keys, &path, &entry.key)?;
        self.first.get_or_insert(entry.seq);
        self.head = Some(signed.head());
        out.line(&signed.bytes)
    }

    /// Adds the tombstones of what was erased among them; none comes back where there is no entry.
    pub(super) fn finish(
        self,
        ledger: &Ledger,
        records: u64,
        evidence: &mut Evidence,
    ) -> Result<Option<LaneCount>, ExportError> {
        let Some((first_seq, head)) = self.first.zip(self.head) else { return Ok(None) };
        let (next_seq, mut erasures) = (head.seq, 0);
        for (signed, erase) in ledger.tombstones() {
            let span = &erase.cover.span;
            if span.first_seq < next_seq && first_seq < span.next_seq {
                evidence.erasures.line(&signed.bytes)?;
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

/// Writes what holds for the archive as a whole; returns its public key, hex.
pub(super) fn write_archive(site: &Site<'_>, folder: &mut Folder) -> Result<String, ExportError> {
    // Keys are read after what they sign, so that one which is new meanwhile is among them.
    let checkpoint = evidence::last_checkpoint(site.store)?;
    if let Some(checkpoint) = &checkpoint {
        site.trust.check(&mut KeyWatch::default(), "the newest checkpoint", &checkpoint.body.key)?;
    }
    let (changes, key) = site.trust.changes()?;
    let mut out = folder.create(names::KEYS)?;
    for change in changes {
        out.line(change.as_bytes())?;
    }
    folder.close(out)?;
    if let Some(checkpoint) = checkpoint {
        let mut out = folder.create(names::CHECKPOINT)?;
        out.line(&checkpoint.bytes)?;
        folder.close(out)?;
    }
    let pem = keys::public_pem(&key).unwrap_or_else(|| format!("{key}\n"));
    folder.write(names::PUBLIC_KEY, pem.as_bytes())?;
    Ok(key)
}
