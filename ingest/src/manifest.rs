//! Reads the chain of a lane's entries: its head, or all of it in order.

use stillwell_schema::ledger::ActError;
use stillwell_schema::manifest::EntryError;
use stillwell_schema::{Head, SignedEntry, TopicPartition, paths};
use thiserror::Error;

use crate::store::{ArchiveStore, StoreError};

/// Why a chain cannot be read.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An entry is not what it should be.
    #[error(
        "manifest {path}: {source}; the archive was damaged or altered, restore this object from a backup"
    )]
    Entry {
        /// The object.
        path: String,
        /// What is wrong.
        source: Box<EntryError>,
    },
    /// An act of the lane's ledger is not what it should be.
    #[error("ledger {path}: {source}; the archive was damaged or altered, restore this object from a backup")]
    Act {
        /// The object.
        path: String,
        /// What is wrong.
        source: Box<ActError>,
    },
    /// The object before one that is there is missing.
    #[error("{path} is missing, but later objects of its chain exist; restore it from a backup")]
    Missing {
        /// The object.
        path: String,
    },
    /// A version of a topic's Delta log is no such thing.
    #[error("{path}: {reason}; remove the log's folder to have it made anew, nothing but it is lost")]
    DeltaLog {
        /// The object.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// An entry names a file that is not named after its range.
    #[error("{path} is not named after the range of its entry; no unnamed files are collected beside it")]
    Misnamed {
        /// The file.
        path: String,
    },
}

/// Reads entry `seq` of a lane: canonical, signed, and of this lane and seq; none where there is none.
///
/// # Errors
/// [`ManifestError`].
pub fn read_entry(
    store: &dyn ArchiveStore,
    lane: &TopicPartition,
    seq: u64,
) -> Result<Option<SignedEntry>, ManifestError> {
    let path = paths::entry(lane, seq);
    let Some(bytes) = store.get(&path)? else { return Ok(None) };
    let signed = SignedEntry::parse(bytes).and_then(|signed| {
        // What the entry says of its predecessor is the caller's to check.
        let (next, previous) = (Some(signed.entry.range.first), signed.entry.previous.clone());
        Head { seq, next, previous }.check(lane, &signed.entry)?;
        Ok(signed)
    });
    signed.map(Some).map_err(|source| ManifestError::Entry { path, source: Box::new(source) })
}

/// Finds the end of a lane's chain in a number of reads logarithmic in its length: seqs are dense, so it
/// doubles its stride until it falls off the end, and halves it back. Checks the last entry and its link to
/// the one before; [`Chain`] checks all. A lost entry would be taken for the end by such a search, so what it
/// finds is held against the folder's highest name.
///
/// # Errors
/// [`ManifestError`]; of the kind [`ManifestError::Missing`] where entries exist beyond the end found.
pub fn find_head(store: &dyn ArchiveStore, lane: &TopicPartition) -> Result<Head, ManifestError> {
    let head = search_head(store, lane)?;
    let listed = entries_listed(store, lane, head.seq)?;
    if head.seq >= listed {
        return Ok(head);
    }
    // Another writer may have added them meanwhile: a search that begins after the listing finds those.
    let head = search_head(store, lane)?;
    if head.seq < listed {
        return Err(ManifestError::Missing { path: paths::entry(lane, head.seq) });
    }
    Ok(head)
}

/// What follows the highest seq in the lane's folder, of those from `first` on; 0 where there is none.
fn entries_listed(store: &dyn ArchiveStore, lane: &TopicPartition, first: u64) -> Result<u64, StoreError> {
    let mut next = 0;
    let after = first.checked_sub(1).map(|seq| paths::entry(lane, seq));
    store.visit_after(
        &paths::manifest_folder(lane),
        after.as_deref().unwrap_or_default(),
        &mut |listed| {
            next = next.max(paths::entry_seq(&listed.path).map_or(0, |seq| seq + 1));
        },
    )?;
    Ok(next)
}

fn search_head(store: &dyn ArchiveStore, lane: &TopicPartition) -> Result<Head, ManifestError> {
    let exists = |seq| store.exists(&paths::entry(lane, seq));
    if !exists(0)? {
        return Ok(Head::genesis());
    }
    let mut present = 0;
    let mut stride = 1;
    while exists(present + stride)? {
        present += stride;
        stride *= 2;
    }
    let mut absent = present + stride;
    while absent - present > 1 {
        let middle = present + (absent - present) / 2;
        if exists(middle)? {
            present = middle;
        } else {
            absent = middle;
        }
    }
    let before = match present {
        0 => Head::genesis(),
        _ => expect_entry(store, lane, present - 1)?.head(),
    };
    let last = expect_entry(store, lane, present)?;
    follow(&before, lane, last).map(|signed| signed.head())
}

pub(crate) fn expect_entry(
    store: &dyn ArchiveStore,
    lane: &TopicPartition,
    seq: u64,
) -> Result<SignedEntry, ManifestError> {
    read_entry(store, lane, seq)?.ok_or_else(|| ManifestError::Missing { path: paths::entry(lane, seq) })
}

fn follow(head: &Head, lane: &TopicPartition, signed: SignedEntry) -> Result<SignedEntry, ManifestError> {
    let check = head.check(lane, &signed.entry);
    check.map_err(|e| ManifestError::Entry { path: paths::entry(lane, head.seq), source: Box::new(e) })?;
    Ok(signed)
}

/// A lane's entries in order, each checked to be canonical, signed and to follow its predecessor. Ends after
/// the last entry or the first error.
pub struct Chain<'a> {
    store: &'a dyn ArchiveStore,
    lane: TopicPartition,
    head: Head,
    ended: bool,
}

impl<'a> Chain<'a> {
    /// From the lane's first entry.
    pub fn new(store: &'a dyn ArchiveStore, lane: TopicPartition) -> Self {
        Self::after(store, lane, Head::genesis())
    }

    /// From the entry that follows `head`, which the caller has checked before.
    pub fn after(store: &'a dyn ArchiveStore, lane: TopicPartition, head: Head) -> Self {
        Self { store, lane, head, ended: false }
    }

    /// The end of what was read so far.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }
}

impl Iterator for Chain<'_> {
    type Item = Result<SignedEntry, ManifestError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let read = read_entry(self.store, &self.lane, self.head.seq).transpose();
        let read = read.map(|read| read.and_then(|signed| follow(&self.head, &self.lane, signed)));
        match &read {
            Some(Ok(signed)) => self.head = signed.head(),
            _ => self.ended = true,
        }
        read
    }
}
