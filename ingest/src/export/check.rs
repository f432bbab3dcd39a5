//! Takes a pack apart, with nothing but a public key that is trusted, and says everything that is wrong.
//!
//! | step | what holds then |
//! |---|---|
//! | files | each file has the size and hash that `manifest.json` states, so nothing was damaged on the way |
//! | entries | each is signed by the trusted key or one that changes of key connect with it, and by none that a later one had replaced in its lane; lanes stand in order, each lane's entries one after the other without a hole; checkpoints, the pack's own and one that was kept elsewhere, say the same where they say something of them |
//! | records | each row of `records.parquet` is, byte for byte, the record that its proof leads to the Merkle root of a signed entry; none is there twice |
//! | readings | each row of `readings.parquet` is of such a record and of the machines and times asked for; and together they are exactly what these records decode to. Where that cannot be said here, as a topic has no decoder, its registry is away, or its format is read by records that are not here, that part is left open, and is named. A record that its decoder refuses is wrong |
//! | manifest | what it counts and names is what is there, and nothing else is |
//!
//! What no pack can show is that the readings are all that there are: for that the entries state their records, times
//! and machines, and the archive itself is verified.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use serde::Serialize;
use sha2::{Digest, Sha256};
use stillwell_schema::TopicPartition;
use stillwell_schema::checkpoint::SignedCheckpoint;
use stillwell_schema::key_change::KeyRing;
use stillwell_source::decode::Decoder;
use thiserror::Error;

use super::{FORMAT, Manifest, names};
use crate::life::rewrite::Offsets;
use crate::proof::{self, ProofError};
use crate::reader::each_batch_of;
use crate::verify::{Problem, ProblemKind, Tick};

mod entries;
mod lines;
mod manifest;
mod marks;
mod readings;
mod records;

use lines::Lines;

/// Problems listed; beyond, they are only counted.
pub const PROBLEMS_MAX: usize = 1000;

/// Bytes hashed at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Gives the decoder of a topic, or why there is none.
pub type DecoderOf<'a> = dyn Fn(&str) -> Result<Box<dyn Decoder>, String> + 'a;

/// What a pack is held against.
pub struct Audit<'a> {
    /// The trusted public key, hex.
    pub key: &'a str,
    /// A checkpoint that was kept elsewhere.
    pub checkpoint: Option<&'a SignedCheckpoint>,
    /// Sixteen random bytes, so that nobody can have made a pack for them.
    pub salt: [u8; 16],
    /// What reads the records of a topic.
    pub decoder_of: &'a DecoderOf<'a>,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether nothing is wrong.
    pub sound: bool,
    /// What the pack says of itself.
    pub manifest: Manifest,
    /// The trusted key, hex.
    pub key: String,
    /// Entries whose signatures hold.
    pub entries: u64,
    /// Records that are proven.
    pub records: u64,
    /// Readings of them.
    pub readings: u64,
    /// Readings among them that were not held against their record's bytes, as it cannot be decoded here.
    pub readings_open: u64,
    /// Tombstones whose signatures hold.
    pub erasures: u64,
    /// What is left open, and why.
    pub notes: Vec<String>,
    /// What is wrong, the first [`PROBLEMS_MAX`] of it.
    pub problems: Vec<Problem>,
    /// How much is wrong.
    pub problems_total: u64,
}

/// Why a folder is not checked.
#[derive(Debug, Error)]
pub enum CheckError {
    /// It cannot be read.
    #[error("cannot read {}: {source}; is it whole, as `stillwell export` wrote it?", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Its manifest is none.
    #[error("{} is no manifest of a pack, as `stillwell export` writes it: {source}", path.display())]
    Manifest {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// Written by another version.
    #[error("pack format {0} is unknown to this version; upgrade stillwell to check it")]
    Format(u32),
    /// Its changes of key are damaged.
    #[error("keys.jsonl: {0}")]
    Keys(#[from] ProofError),
}

/// A count of rows and the sum of their fingerprints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    rows: u64,
    sum: u128,
}

/// What is known of a lane's records, and of what they decode to.
#[derive(Default)]
struct Lane {
    /// The numbers of its entries.
    seqs: Option<Range<u64>>,
    /// Its tombstones.
    erasures: u64,
    decoder: Option<Box<dyn Decoder>>,
    /// Records that are proven.
    proven: Offsets,
    /// Those of them that were not decoded.
    open: Offsets,
    /// Why the first of them was not.
    reason: Option<String>,
    /// Readings that the others decode to.
    decoded: Sum,
    /// Readings of theirs in `readings.parquet`.
    found: Sum,
}

/// A check under way.
struct Check<'a> {
    folder: &'a Path,
    audit: &'a Audit<'a>,
    ring: KeyRing,
    lanes: BTreeMap<TopicPartition, Lane>,
    report: Report,
}

impl Sum {
    fn add(&mut self, fingerprint: u128) {
        self.rows += 1;
        self.sum = self.sum.wrapping_add(fingerprint);
    }
}

impl Report {
    /// Whether something could not be checked, which [`Report::notes`] name.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.notes.is_empty()
    }

    fn problem(&mut self, kind: ProblemKind, object: impl Into<String>, message: impl Into<String>) {
        self.sound = false;
        self.problems_total += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Problem::new(kind, object, message));
        }
    }
}

/// Checks the pack in `folder`. `tick` hears of bytes read. Blocks, and computes.
///
/// # Errors
/// [`CheckError`] where it is no pack: what is in it is then neither good nor bad.
pub fn check(folder: &Path, audit: &Audit<'_>, tick: Tick<'_>) -> Result<Report, CheckError> {
    let path = folder.join(names::MANIFEST);
    let bytes = fs::read(&path).map_err(|source| CheckError::Io { path: path.clone(), source })?;
    let manifest: Manifest =
        serde_json::from_slice(&bytes).map_err(|source| CheckError::Manifest { path, source })?;
    if manifest.format != FORMAT {
        return Err(CheckError::Format(manifest.format));
    }
    let mut report = Report {
        sound: true,
        manifest,
        key: audit.key.to_owned(),
        entries: 0,
        records: 0,
        readings: 0,
        readings_open: 0,
        erasures: 0,
        notes: Vec::new(),
        problems: Vec::new(),
        problems_total: 0,
    };
    check_files(folder, &mut report, tick);
    if !report.sound {
        // What is in an altered file would only repeat it.
        return Ok(report);
    }
    let ring = proof::key_ring(&key_changes(folder)?, audit.key)?;
    let mut check = Check { folder, audit, ring, lanes: BTreeMap::new(), report };
    check.records()?;
    check.erasures()?;
    check.readings()?;
    check.manifest()?;
    Ok(check.report)
}

/// The lines of `keys.jsonl`.
fn key_changes(folder: &Path) -> Result<Vec<String>, CheckError> {
    let mut lines = Lines::open(&folder.join(names::KEYS))?;
    let mut changes = Vec::new();
    while let Some((_, line)) = lines.next()? {
        changes.push(String::from_utf8_lossy(&line).into_owned());
    }
    Ok(changes)
}

/// Holds every file against its hash, and the manifest against what must be there.
fn check_files(folder: &Path, report: &mut Report, tick: Tick<'_>) {
    let stated = report.manifest.files.clone();
    let needed = [
        names::READINGS,
        names::CSV,
        names::RECORDS,
        names::PROOFS,
        names::ENTRIES,
        names::ERASURES,
        names::KEYS,
        names::PUBLIC_KEY,
        names::SCRIPT,
        names::PAGE,
    ];
    for name in needed.iter().filter(|name| !stated.iter().any(|file| file.name == **name)) {
        report.problem(ProblemKind::Missing, *name, "manifest.json does not name it");
    }
    for file in stated {
        // A name is of this folder, whatever the manifest says.
        let name = Path::new(&file.name).file_name().unwrap_or_default();
        match hash(&folder.join(name), tick) {
            Ok((bytes, sha256)) if bytes == file.bytes && sha256 == file.sha256 => {}
            Ok((bytes, sha256)) => {
                let message = format!(
                    "was altered: {bytes} bytes with SHA-256 {sha256}, where {} with {} are stated",
                    file.bytes, file.sha256
                );
                report.problem(ProblemKind::File, file.name, message);
            }
            Err(error) => report.problem(ProblemKind::Missing, file.name, error.to_string()),
        }
    }
}

impl Check<'_> {
    /// Opens a file of the pack.
    fn open(&self, name: &str) -> Result<File, CheckError> {
        let path = self.folder.join(name);
        File::open(&path).map_err(|source| CheckError::Io { path, source })
    }

    /// Shows the rows of a Parquet file of the pack. One that is none, or has other columns than those of `schema`, is
    /// noted, and false comes back.
    fn each_batch(
        &mut self,
        name: &str,
        schema: &Schema,
        each: &mut dyn FnMut(&mut Self, &RecordBatch) -> Result<(), CheckError>,
    ) -> Result<bool, CheckError> {
        let file = self.open(name)?;
        let (mut done, mut is_alike) = (Ok(()), true);
        let read = each_batch_of(file, None, &mut |batch| {
            is_alike &= batch.schema_ref().fields() == schema.fields();
            if is_alike && done.is_ok() {
                done = each(self, batch);
            }
        });
        done?;
        let wrong = match read {
            Err(error) => Some(error.to_string()),
            Ok(()) => (!is_alike).then(|| "its columns are not those of this format".to_owned()),
        };
        let is_read = wrong.is_none();
        if let Some(message) = wrong {
            self.report.problem(ProblemKind::Unreadable, name, message);
        }
        Ok(is_read)
    }
}

/// Size and SHA-256 of a file.
fn hash(path: &Path, tick: Tick<'_>) -> io::Result<(u64, String)> {
    let (mut file, mut sha256, mut bytes) = (File::open(path)?, Sha256::new(), 0);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok((bytes, hex::encode(sha256.finalize())));
        }
        sha256.update(&chunk[..read]);
        bytes += read as u64;
        tick(read as u64);
    }
}
