//! The audit pack: the readings of some machines and times, the records that they came from, and what proves them, in
//! one folder that is checked without the archive.
//!
//! | file | what it holds |
//! |---|---|
//! | `readings.parquet` | the readings, schema [`READINGS`](stillwell_schema::columns::READINGS), sorted by machine, sensor, time, offset, index |
//! | `readings.csv` | the same rows as text: RFC 3339 times, the shortest numbers that read back as the same bits, nothing where there is no value |
//! | `records.parquet` | each record that one of them came from, whole, schema [`RECORDS`](stillwell_schema::columns::RECORDS), by topic, partition, offset |
//! | `proofs.jsonl` | an [`Inclusion`] a line, one for each row of `records.parquet`, in the same order |
//! | `entries.jsonl` | the signed manifest entries, an object a line, byte for byte; of each lane all from the first that states such readings, be they erased since, to the last |
//! | `erasures.jsonl` | the signed tombstones of what retention erased among those entries |
//! | `keys.jsonl` | the signed changes of the archive's key, from the first on |
//! | `checkpoint.json` | the newest checkpoint; not there where the archive has none |
//! | `public-key.pem` | the archive's public key |
//! | `check.py` | checks the proofs, and that the CSV names proven records, without stillwell |
//! | `README.html` | says to people what the pack is and how it is checked |
//! | `manifest.json` | a [`Manifest`]: what was asked for, counts, and the hash of every other file |
//!
//! [`check()`] goes through all of it with a public key alone, and decodes the records where their topic's decoder can do
//! so from them alone. The manifest is not signed: its hashes find damage, and the proofs find forgery.
//!
//! Reading order: `trust` says whose word is taken; `scan` finds the readings; `runs` brings them in order, on disk; `rows` writes them as text;
//! `records` finds their records and proves them by the `entries`; `folder` keeps the pack out of sight until it is
//! whole; `page` explains it; [`check`](mod@check) takes it apart again.
//!
//! Memory: the data files of one piece of the archive, and what one entry says of its records; neither grows with the
//! pack.

use std::path::Path;

use serde::{Deserialize, Serialize};
use stillwell_schema::{Entry, TopicPartition, pattern};

use crate::evidence;
use crate::life::pieces::Pieces;
use crate::life::rewrite::Offsets;
use crate::proof::Record;
use crate::store::ArchiveStore;
use crate::verify::Tick;

pub mod check;
mod entries;
mod error;
mod folder;
mod page;
mod records;
mod rows;
mod runs;
mod scan;
mod trust;

pub use check::check;
pub use error::ExportError;

use entries::LaneEntries;
use folder::Folder;
use records::Evidence;
use runs::Runs;
use trust::{Ledger, Trust};

/// The version of this format.
pub const FORMAT: u32 = 1;

/// The names of a pack's files.
mod names {
    pub(super) const READINGS: &str = "readings.parquet";
    pub(super) const CSV: &str = "readings.csv";
    pub(super) const RECORDS: &str = "records.parquet";
    pub(super) const PROOFS: &str = "proofs.jsonl";
    pub(super) const ENTRIES: &str = "entries.jsonl";
    pub(super) const ERASURES: &str = "erasures.jsonl";
    pub(super) const KEYS: &str = "keys.jsonl";
    pub(super) const CHECKPOINT: &str = "checkpoint.json";
    pub(super) const PUBLIC_KEY: &str = "public-key.pem";
    pub(super) const SCRIPT: &str = "check.py";
    pub(super) const PAGE: &str = "README.html";
    pub(super) const MANIFEST: &str = "manifest.json";
}

/// Which readings are exported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// Only of this topic.
    pub topic: Option<String>,
    /// Of the machines that one of these patterns stands for (see [`stillwell_schema::pattern`]).
    pub machines: Vec<String>,
    /// From this source time on, µs UTC.
    pub from_us: i64,
    /// Before this source time, µs UTC.
    pub to_us: i64,
}

/// What a pack says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The version of stillwell that made it.
    pub stillwell: String,
    /// When it was made, µs UTC.
    pub made_us: i64,
    /// Of which archive.
    pub archive: String,
    /// The archive's public key, hex.
    pub key: String,
    /// What was asked for.
    pub query: Query,
    /// Readings inside.
    pub readings: u64,
    /// Records inside.
    pub records: u64,
    /// The machines that have readings inside, sorted.
    pub machines: Vec<MachineCount>,
    /// The lanes that have entries inside.
    pub lanes: Vec<LaneCount>,
    /// Every other file.
    pub files: Vec<PackFile>,
}

/// A machine and what it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineCount {
    /// The machine.
    pub machine: String,
    /// Its readings.
    pub readings: u64,
}

/// A lane and what of it is inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaneCount {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// The first entry.
    pub first_seq: u64,
    /// The entry after the last.
    pub next_seq: u64,
    /// Records inside.
    pub records: u64,
    /// Tombstones inside.
    pub erasures: u64,
}

/// A file of a pack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackFile {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, hex.
    pub sha256: String,
}

/// A record and its way to the Merkle root of its entry: a line of `proofs.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inclusion {
    /// [`FORMAT`].
    pub format: u32,
    /// Number of the entry in the record's lane.
    pub seq: u64,
    /// Number of the record among the entry's records.
    pub leaf: u64,
    /// How many records the entry has.
    pub leaves: u64,
    /// The siblings on the way to the root, lowest first, hex.
    pub path: Vec<String>,
    /// The record, whole.
    pub record: Record,
}

/// What an export would hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Readings.
    pub readings: u64,
    /// Records that they came from.
    pub records: u64,
    /// Lanes that have them.
    pub lanes: u64,
}

/// How a pack is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// What it holds.
    pub query: Query,
    /// The archive, as the pack names it.
    pub archive: String,
    /// A public key of the archive, hex, that is trusted beforehand; none where the archive's own word is taken.
    pub trusted: Option<String>,
    /// When it is made, µs UTC.
    pub made_us: i64,
}

/// What is exported from where.
struct Site<'a> {
    store: &'a dyn ArchiveStore,
    query: &'a Query,
    trust: Trust<'a>,
    tick: Tick<'a>,
}

impl Query {
    /// Whether a reading is asked for.
    #[must_use]
    pub fn wants(&self, machine: &str, time_us: i64) -> bool {
        (self.from_us..self.to_us).contains(&time_us) && self.names(machine)
    }

    fn names(&self, machine: &str) -> bool {
        self.machines.iter().any(|wanted| pattern::matches(wanted, machine))
    }

    /// Whether such readings can be among those of these times and machines; machines that are not listed may be any.
    fn may_be_in(&self, times_us: Option<(i64, i64)>, machines: Option<&[String]>) -> bool {
        let in_time = times_us.is_some_and(|(min, max)| min < self.to_us && self.from_us <= max);
        in_time && machines.is_none_or(|machines| machines.iter().any(|machine| self.names(machine)))
    }

    /// Whether an entry may have committed such readings, by what it states.
    fn concerns(&self, entry: &Entry) -> bool {
        self.may_be_in(entry.time_min_us.zip(entry.time_max_us), entry.machines.as_deref())
    }
}

/// Says what [`export`] would hold, and writes nothing. `tick` hears of bytes read from the archive. Blocks.
///
/// # Errors
/// [`ExportError`].
pub fn plan(store: &dyn ArchiveStore, options: &Options, tick: Tick<'_>) -> Result<Plan, ExportError> {
    let site = site(store, options, tick)?;
    let mut plan = Plan::default();
    for lane in evidence::lanes(store, site.query.topic.as_deref())? {
        let (ledger, before) = (Ledger::read(&site, &lane)?, plan.readings);
        for piece in Pieces::new(store, &lane, &ledger.view) {
            let piece = piece?;
            if scan::may_hold(&site, &lane, &ledger.view, &piece)? {
                let found = scan::readings(&site, &piece, &mut |_| Ok(()))?;
                plan.readings += found.readings;
                plan.records += found.offsets.len();
            }
        }
        plan.lanes += u64::from(plan.readings > before);
    }
    if plan.readings == 0 { Err(not_found(&site)?) } else { Ok(plan) }
}

/// Writes a pack as the folder `out`, which must not be there, or be empty; it appears whole or not at all. `tick`
/// hears of bytes read from the archive. Blocks, and computes.
///
/// # Errors
/// [`ExportError`]; nothing is left then.
pub fn export(
    store: &dyn ArchiveStore,
    options: &Options,
    out: &Path,
    tick: Tick<'_>,
) -> Result<Manifest, ExportError> {
    let mut folder = Folder::begin(out)?;
    let site = site(store, options, tick)?;
    let mut runs = Runs::begin(folder.scratch()?);
    let mut proofs = Evidence::begin(&folder)?;
    let mut lanes = Vec::new();
    for lane in evidence::lanes(store, options.query.topic.as_deref())? {
        lanes.extend(export_lane(&site, &lane, &mut runs, &mut proofs)?);
    }
    proofs.finish(&mut folder)?;
    let (readings, machines) = runs.finish(&mut folder)?;
    if readings == 0 {
        return Err(not_found(&site)?);
    }
    let key = entries::write_archive(&site, &mut folder)?;
    let mut manifest = Manifest {
        format: FORMAT,
        stillwell: env!("CARGO_PKG_VERSION").to_owned(),
        made_us: options.made_us,
        archive: options.archive.clone(),
        key,
        query: options.query.clone(),
        readings,
        records: lanes.iter().map(|lane| lane.records).sum(),
        machines,
        lanes,
        files: Vec::new(),
    };
    folder.write(names::SCRIPT, page::SCRIPT.as_bytes())?;
    manifest.files = folder.files().to_vec();
    folder.write(names::PAGE, page::page(&manifest).as_bytes())?;
    manifest.files = folder.files().to_vec();
    folder.write(names::MANIFEST, &serde_json::to_vec_pretty(&manifest)?)?;
    folder.keep()?;
    Ok(manifest)
}

fn site<'a>(
    store: &'a dyn ArchiveStore,
    options: &'a Options,
    tick: Tick<'a>,
) -> Result<Site<'a>, ExportError> {
    let trust = Trust::read(store, options.trusted.as_deref())?;
    let trust = trust.ok_or(ExportError::NotFound { tombstones: 0 })?;
    Ok(Site { store, query: &options.query, trust, tick })
}

/// Says that nothing was found, and whether it may have been erased.
fn not_found(site: &Site<'_>) -> Result<ExportError, ExportError> {
    Ok(ExportError::NotFound { tombstones: trust::tombstones(site)? })
}

/// Takes what is asked for of one lane; none where no entry of it is concerned.
fn export_lane(
    site: &Site<'_>,
    lane: &TopicPartition,
    runs: &mut Runs,
    proofs: &mut Evidence,
) -> Result<Option<LaneCount>, ExportError> {
    let ledger = Ledger::read(site, lane)?;
    let mut entries = LaneEntries::new(lane);
    let mut records = 0;
    for piece in Pieces::new(site.store, lane, &ledger.view) {
        let piece = piece?;
        if scan::may_hold(site, lane, &ledger.view, &piece)? {
            let found = scan::readings(site, &piece, &mut |batch| runs.push(batch))?;
            records += found.offsets.len();
            proofs.piece(site, &piece, &found.offsets, &mut entries)?;
        } else if ledger.may_have_erased(site.query, &piece.span) {
            // What was erased may have been asked for: its entries and tombstones say so.
            proofs.piece(site, &piece, &Offsets::default(), &mut entries)?;
        }
    }
    entries.finish(&ledger, records, proofs)
}
