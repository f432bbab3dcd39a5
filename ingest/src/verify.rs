//! Checks an archive from its objects alone, trusting nobody: chains, signatures, files and records.
//!
//! | level | what is read | what it proves |
//! |---|---|---|
//! | chain | entries | no entry altered, missing, forked or out of order; offsets without hole or overlap |
//! | files | and the data files | each file has the hash and size that its entry states |
//! | records | and what is in them | each record is under its entry's Merkle root, and every count is right |
//! | kafka | and the topics again ([`kafka`]) | each record that a topic still has is the archived one |
//!
//! Every lane is held against the archive's keys and checkpoints ([`crate::evidence`]); a checkpoint that was kept
//! elsewhere shows a truncation that nothing inside could.
//!
//! Reading order: `trust` reads the keys and checkpoints, `ledger` what became of a lane's files; `lane` walks the
//! lane's chain and goes on behind what is damaged, so that one report names all of it; a `unit` is entries with the
//! files that stand for them, whose `files`, `records`, `leaves` and `readings` are checked; `orphans` finds files that
//! nothing names, which are left by crashes and are no damage; [`report`] is what comes out.

use std::collections::BTreeSet;

use rayon::prelude::*;
use stillwell_schema::checkpoint::SignedCheckpoint;
use stillwell_schema::{TopicPartition, paths};

use crate::evidence;
use crate::store::{ArchiveStore, StoreError};

pub(crate) mod files;
pub mod kafka;
mod lane;
mod leaves;
mod ledger;
mod orphans;
mod readings;
mod records;
pub mod report;
mod trust;
mod unit;

use trust::Trust;

pub use report::{LaneReport, Problem, ProblemKind, Report};

/// How deep a verification goes; each level includes those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Entries.
    Chain,
    /// And the hash of every file.
    Files,
    /// And every record inside.
    Records,
}

/// What is verified, and against what.
#[derive(Clone, Debug)]
pub struct Options {
    /// How deep.
    pub level: Level,
    /// A public key of the archive, hex, that is trusted beforehand; none where signatures are taken as they are.
    pub key: Option<String>,
    /// A checkpoint that was kept elsewhere.
    pub checkpoint: Option<SignedCheckpoint>,
    /// Only this topic.
    pub topic: Option<String>,
}

/// Hears how many bytes of data files were checked, from many threads.
pub type Tick<'a> = &'a (dyn Fn(u64) + Sync);

/// Bytes of the data files of `lanes`, as listed: what a verification of files will read, orphans aside.
///
/// # Errors
/// [`StoreError`].
pub fn data_bytes(store: &dyn ArchiveStore, lanes: &[TopicPartition]) -> Result<u64, StoreError> {
    let mut bytes = 0;
    for lane in lanes {
        for folder in paths::data_folders(lane) {
            store.visit(&folder, &mut |listed| bytes += listed.bytes)?;
        }
    }
    Ok(bytes)
}

/// Verifies a whole archive, its lanes side by side on the rayon pool. Blocks.
///
/// # Errors
/// [`StoreError`] where the store does not answer: what was then left unchecked is neither good nor bad.
pub fn verify(store: &dyn ArchiveStore, options: &Options, tick: Tick<'_>) -> Result<Report, StoreError> {
    let mut trust = Trust::read(store, options.key.as_deref(), options.checkpoint.as_ref())?;
    loop {
        let reports = verify_lanes(store, options, &trust, tick)?;
        // A key that came into use meanwhile was not trusted yet; then all is looked at anew.
        if !trust.is_outdated(store)? {
            return Ok(Report::new(options, trust, reports));
        }
        trust = Trust::read(store, options.key.as_deref(), options.checkpoint.as_ref())?;
    }
}

fn verify_lanes(
    store: &dyn ArchiveStore,
    options: &Options,
    trust: &Trust,
    tick: Tick<'_>,
) -> Result<Vec<LaneReport>, StoreError> {
    let mut lanes: BTreeSet<TopicPartition> =
        evidence::lanes(store, options.topic.as_deref())?.into_iter().collect();
    let wanted = |lane: &&TopicPartition| options.topic.as_ref().is_none_or(|topic| *topic == *lane.topic);
    lanes.extend(trust.lanes.keys().filter(wanted).cloned());
    let lanes: Vec<_> = lanes.into_iter().collect();
    lanes.par_iter().map(|lane| lane::verify(store, lane, trust, options.level, tick)).collect()
}

/// Verifies one lane by itself, all that is of its signatures trusted with `key`, hex. Blocks.
///
/// # Errors
/// As [`verify`].
pub fn verify_lane(
    store: &dyn ArchiveStore,
    id: &TopicPartition,
    level: Level,
    key: Option<&str>,
) -> Result<LaneReport, StoreError> {
    lane::verify(store, id, &Trust::read(store, key, None)?, level, &|_| {})
}

/// What follows the highest seq in the folder of a chain; names that are none of it are noted.
fn chain_end(store: &dyn ArchiveStore, folder: &str, report: &mut LaneReport) -> Result<u64, StoreError> {
    let mut end = 0;
    store.visit(folder, &mut |listed| match paths::entry_seq(&listed.path) {
        Some(seq) => end = end.max(seq + 1),
        None => report.problem(Problem::new(ProblemKind::Altered, listed.path, "is no name of this chain")),
    })?;
    Ok(end)
}
