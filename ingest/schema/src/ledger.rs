//! The ledger: what became of a lane's files after they were committed.
//!
//! A lane's manifest is never changed: it is the evidence. Beside it stands a second chain of signed objects of
//! the same form ([`crate::signed`]), the acts, each created put-if-absent under the next number. An act puts new
//! files in the place of those of whole entries ([`Cover`]): merged ones, or what a retention rule left. Others
//! hold machines against erasure and release them.
//!
//! What a reader sees is the lane's [`View`]: each entry's own files, or those of the newest act that covers it.
//! One creation switches it. Files that an older view names stay until they are collected by age.
//!
//! The Merkle root of every entry can be recomputed from its cover: the records that are left have their bytes,
//! and each erased one has its leaf's hash in one of the cover's leaves files.

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ids::{Offset, TopicPartition};
use crate::manifest::{FileRef, Head, SignedEntry};
use crate::range::OffsetRange;
use crate::signed::{self, Body, GENESIS, Signed, SignedError};

mod view;

pub use view::{Standing, View};

/// The version of this format.
pub const FORMAT: u32 = 1;

/// An act of a lane's ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Act {
    /// [`FORMAT`].
    pub format: u32,
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Number of this act in its lane, from 0.
    pub seq: u64,
    /// SHA-256 of the previous act's object, hex.
    pub previous: String,
    /// What is done.
    pub deed: Deed,
    /// Who wrote it: a name and a UUID made at process start.
    pub writer: String,
    /// When it was written, µs UTC, by the writer's clock.
    pub written_us: i64,
    /// The Ed25519 public key that signs it, hex.
    pub key: String,
}

/// What an act does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// Puts few large sorted files in the place of many.
    Merge(Merge),
    /// Erases what a retention rule no longer keeps.
    Erase(Erase),
    /// Holds machines against erasure.
    Hold(Hold),
    /// Ends a hold.
    Release(Release),
}

/// A merge: the same records and readings in other files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Merge {
    /// The new files.
    pub cover: Cover,
}

/// An erasure: the tombstone of what is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Erase {
    /// What remains.
    pub cover: Cover,
    /// The rules that were applied, each until its own time.
    pub rules: Vec<Rule>,
    /// Records erased by this act.
    pub records: u64,
    /// Their readings.
    pub readings: u64,
    /// Who asked for it.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// A retention rule as it was applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its class.
    pub class: String,
    /// The machines of the class (see [`crate::pattern`]); none for records without readings.
    pub machines: Option<String>,
    /// How long it keeps, days.
    pub keep_days: u32,
    /// What is older had run out, µs UTC.
    pub until_us: i64,
}

/// A legal hold: readings of these machines and times are not erased, nor the records that they came in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// Its name, by which it is released; the same in all lanes of a topic.
    pub id: String,
    /// The machines (see [`crate::pattern`]).
    pub machines: String,
    /// From this source time on, µs UTC; from the beginning where none.
    pub from_us: Option<i64>,
    /// Before this source time; without end where none.
    pub until_us: Option<i64>,
    /// Who asked for it.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// The end of a hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The hold's name.
    pub id: String,
    /// Who asked for it.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// Files that stand in the place of all data files of some entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cover {
    /// Whose place.
    pub span: Span,
    /// The readings, each file sorted by machine, sensor, time, offset and index.
    pub readings: Vec<ReadingsFile>,
    /// The records in offset order: files of ascending ranges.
    pub records: Vec<RecordsFile>,
    /// The leaves of erased records: a row of `offset` and `leaf` for each, in offset order within a file. What
    /// one cover names, every later one of the same entries names too.
    pub leaves: Vec<LeavesFile>,
}

/// A run of whole entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// The first entry's seq.
    pub first_seq: u64,
    /// The seq after the last entry's.
    pub next_seq: u64,
    /// SHA-256 of the first entry's object, hex.
    pub first_sha256: String,
    /// SHA-256 of the last entry's object, hex.
    pub last_sha256: String,
    /// The offsets of them all.
    pub range: OffsetRange,
}

/// A file of readings, and what readers prune by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadingsFile {
    /// The file.
    pub file: FileRef,
    /// The offsets that its rows come from lie in here.
    pub range: OffsetRange,
    /// Smallest source time, µs UTC.
    pub time_min_us: i64,
    /// Largest source time, µs UTC.
    pub time_max_us: i64,
    /// The machines inside, sorted; none where there are more than [`crate::manifest::MACHINES_MAX`].
    pub machines: Option<Vec<String>>,
}

/// A file of records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordsFile {
    /// The file.
    pub file: FileRef,
    /// Its offsets lie in here.
    pub range: OffsetRange,
    /// Records inside that could not be decoded.
    pub undecodable: u64,
}

/// A file of the leaves of erased records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeavesFile {
    /// The file.
    pub file: FileRef,
    /// Its offsets lie in here.
    pub range: OffsetRange,
}

/// An act as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedAct {
    /// What was done.
    pub act: Act,
    /// The object's exact bytes.
    pub bytes: Vec<u8>,
    /// SHA-256 of `bytes`, hex: the next act's `previous`.
    pub sha256: String,
}

/// The end of a lane's ledger: what the next act must follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerHead {
    /// The seq of the next act.
    pub seq: u64,
    /// What its `previous` must be.
    pub previous: String,
}

/// Why an object is not the act it should be.
#[derive(Debug, Error)]
pub enum ActError {
    /// It is no such object, or not as it was signed.
    #[error("not an act of a ledger: {0}")]
    Signed(#[from] SignedError),
    /// It covers what it cannot.
    #[error("act {seq} is inconsistent: {reason}")]
    Cover {
        /// The act's seq.
        seq: u64,
        /// What is wrong.
        reason: String,
    },
    /// It does not follow its predecessor.
    #[error("act {seq} of {lane} does not follow its predecessor: {field} is {found}, expected {expected}")]
    Chain {
        /// Of which lane.
        lane: TopicPartition,
        /// The act's seq.
        seq: u64,
        /// The field that differs.
        field: &'static str,
        /// What it says.
        found: String,
        /// What it had to say.
        expected: String,
    },
}

impl Deed {
    /// The files that it puts in place, if any.
    #[must_use]
    pub fn cover(&self) -> Option<&Cover> {
        match self {
            Self::Merge(merge) => Some(&merge.cover),
            Self::Erase(erase) => Some(&erase.cover),
            Self::Hold(_) | Self::Release(_) => None,
        }
    }
}

impl Body for Act {
    const FORMAT: u32 = FORMAT;

    fn format(&self) -> u32 {
        self.format
    }

    fn key(&self) -> &str {
        &self.key
    }

    fn set_key(&mut self, key: String) {
        self.key = key;
    }
}

impl SignedAct {
    /// Parses and checks an object: canonical, signed by the key it names, its files inside what it covers. Whether
    /// that key is trusted is the caller's question.
    ///
    /// # Errors
    /// [`ActError`] says what is wrong.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, ActError> {
        Self::checked(Signed::parse(bytes)?)
    }

    fn checked(signed: Signed<Act>) -> Result<Self, ActError> {
        let Signed { body: act, bytes, sha256 } = signed;
        let check = act.deed.cover().map_or(Ok(()), Cover::check);
        check.map_err(|reason| ActError::Cover { seq: act.seq, reason })?;
        Ok(Self { act, bytes, sha256 })
    }

    /// The head after this act.
    #[must_use]
    pub fn head(&self) -> LedgerHead {
        LedgerHead { seq: self.act.seq + 1, previous: self.sha256.clone() }
    }
}

impl LedgerHead {
    /// The head of a ledger without acts.
    #[must_use]
    pub fn genesis() -> Self {
        Self { seq: 0, previous: GENESIS.to_owned() }
    }

    /// Checks that `act` is the next one of `lane` after this head.
    ///
    /// # Errors
    /// [`ActError::Chain`] names the first field that does not fit.
    pub fn check(&self, lane: &TopicPartition, act: &Act) -> Result<(), ActError> {
        let differs = signed::first_difference([
            ("topic", act.topic.clone(), lane.topic.to_string()),
            ("partition", act.partition.to_string(), lane.partition.to_string()),
            ("seq", act.seq.to_string(), self.seq.to_string()),
            ("previous", act.previous.clone(), self.previous.clone()),
        ]);
        differs.map_or(Ok(()), |(field, found, expected)| {
            let (lane, seq) = (TopicPartition::new(&*act.topic, act.partition), act.seq);
            Err(ActError::Chain { lane, seq, field, found, expected })
        })
    }

    /// The signed act that follows this head.
    ///
    /// # Errors
    /// [`ActError`] where it cannot be true.
    pub fn sign(
        &self,
        lane: &TopicPartition,
        deed: Deed,
        writer: &str,
        written_us: i64,
        key: &SigningKey,
    ) -> Result<SignedAct, ActError> {
        let act = Act {
            format: FORMAT,
            topic: lane.topic.to_string(),
            partition: lane.partition,
            seq: self.seq,
            previous: self.previous.clone(),
            deed,
            writer: writer.to_owned(),
            written_us,
            key: String::new(),
        };
        SignedAct::checked(Signed::sign(act, key)?)
    }
}

impl Span {
    /// The span of these entries, which follow each other; none where there are none.
    #[must_use]
    pub fn of(entries: &[SignedEntry]) -> Option<Self> {
        let (first, last) = (entries.first()?, entries.last()?);
        Some(Self {
            first_seq: first.entry.seq,
            next_seq: last.entry.seq + 1,
            first_sha256: first.sha256.clone(),
            last_sha256: last.sha256.clone(),
            range: OffsetRange { first: first.entry.range.first, next: last.entry.range.next },
        })
    }

    /// The head of the lane's chain after the last of them.
    #[must_use]
    pub fn head(&self) -> Head {
        Head { seq: self.next_seq, next: Some(self.range.next), previous: self.last_sha256.clone() }
    }

    /// Whether the entry number `seq` is one of them.
    #[must_use]
    pub fn contains(&self, seq: u64) -> bool {
        (self.first_seq..self.next_seq).contains(&seq)
    }

    /// Whether what this says of `entry` is so; entries inside say nothing of themselves here.
    #[must_use]
    pub fn fits(&self, entry: &SignedEntry) -> bool {
        let SignedEntry { entry, sha256, .. } = entry;
        let starts = entry.seq != self.first_seq
            || (*sha256 == self.first_sha256 && entry.range.first == self.range.first);
        let ends = entry.seq + 1 != self.next_seq
            || (*sha256 == self.last_sha256 && entry.range.next == self.range.next);
        starts && ends
    }
}

impl Cover {
    /// All files, readings first.
    pub fn files(&self) -> impl Iterator<Item = &FileRef> {
        let readings = self.readings.iter().map(|one| &one.file);
        let records = self.records.iter().map(|one| &one.file);
        readings.chain(records).chain(self.leaves.iter().map(|one| &one.file))
    }

    fn check(&self) -> Result<(), String> {
        let Span { first_seq, next_seq, range, .. } = self.span;
        if next_seq <= first_seq || OffsetRange::new(range.first, range.next).is_err() {
            return Err(format!("entries {first_seq} to {next_seq}, offsets {range:?} are no span"));
        }
        let inside =
            |one: &OffsetRange| range.first <= one.first && one.first <= one.next && one.next <= range.next;
        let mut ranges =
            self.readings.iter().map(|one| &one.range).chain(self.leaves.iter().map(|one| &one.range));
        if let Some(outside) = ranges.find(|one| !inside(one)) {
            return Err(format!("a file of {outside:?} lies outside {range:?}"));
        }
        let mut at: Offset = range.first;
        for RecordsFile { range: one, .. } in &self.records {
            if one.first < at || !inside(one) {
                return Err(format!("records of {one:?} do not follow {at}"));
            }
            at = one.next;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
