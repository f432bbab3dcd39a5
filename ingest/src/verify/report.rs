//! What a verification found, for people and for programs (its JSON is stable: fields are only added).

use std::collections::BTreeSet;

use serde::Serialize;
use stillwell_schema::{GapReason, Offset, OffsetRange, TopicPartition, paths};

use super::kafka::Compared;
use super::{Level, Options, Trust};

/// Problems listed of one lane; beyond, they are only counted.
pub const PROBLEMS_MAX: usize = 1000;

/// Orphans and losses listed of one lane; beyond, they are only counted.
pub const LISTED_MAX: usize = 100;

/// An archive's verification.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// How deep it went.
    pub level: Level,
    /// The key, hex, that was trusted beforehand; none where signatures were taken as they are.
    pub key: Option<String>,
    /// Checkpoints found and held against the lanes.
    pub checkpoints: u64,
    /// Whether nothing is wrong.
    pub sound: bool,
    /// Lane by lane.
    pub lanes: Vec<LaneReport>,
    /// What is wrong beside the lanes.
    pub problems: Vec<Problem>,
}

/// One lane's verification.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LaneReport {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Entries that are sound by themselves.
    pub entries: u64,
    /// The offsets that they cover; none where there is no entry.
    pub range: Option<OffsetRange>,
    /// Records inside, as the entries state.
    pub records: u64,
    /// Readings inside, as the entries state.
    pub readings: u64,
    /// Records that could not be decoded.
    pub undecodable: u64,
    /// Bytes of the files checked.
    pub bytes: u64,
    /// Offsets that carry no record by the log's own doing: transaction markers and the like.
    pub not_delivered: u64,
    /// Records that fell to the topic's retention before they were read.
    pub lost: u64,
    /// Where they were, the first [`LISTED_MAX`] of them.
    pub losses: Vec<OffsetRange>,
    /// Acts of the lane's ledger.
    pub acts: u64,
    /// Whether the ledger ends in damage, so that what readers see is not known.
    pub ledger_damaged: bool,
    /// Erasures among them.
    pub erasures: u64,
    /// Records erased by retention rules.
    pub erased_records: u64,
    /// Their readings.
    pub erased_readings: u64,
    /// The public keys that signed, hex, in order of first use.
    pub keys: Vec<String>,
    /// Files that no entry names: left by crashes and fenced writers, collected by age.
    pub orphans: u64,
    /// Their paths, the first [`LISTED_MAX`] of them.
    pub orphan_files: Vec<String>,
    /// What was held against Kafka; none where that was not asked for.
    pub kafka: Option<Compared>,
    /// Everything that is wrong, the first [`PROBLEMS_MAX`] of it.
    pub problems: Vec<Problem>,
    /// How much is wrong.
    pub problems_total: u64,
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What kind.
    pub kind: ProblemKind,
    /// The seq of the entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The object's path.
    pub object: String,
    /// The first offset concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<Offset>,
    /// In words.
    pub message: String,
}

/// Kinds of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// An entry, a checkpoint or a key is not canonical, or its signature does not match.
    Altered,
    /// It does not follow its predecessor: reordered, forked, or of another lane.
    Chain,
    /// It is signed by a key that is not trusted.
    Key,
    /// An object that must be there is not.
    Missing,
    /// A file's bytes do not have the hash that its entry states.
    File,
    /// A file cannot be read as what it should be.
    Unreadable,
    /// Records are not under the Merkle root, or not those of the range.
    Records,
    /// Counts or bounds that an entry states are not those of its files.
    Counts,
    /// The archive ends before what a checkpoint attests.
    Truncated,
    /// A record differs from the one in Kafka.
    Kafka,
}

impl serde::Serialize for Level {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl Level {
    /// As the command line names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::Files => "files",
            Self::Records => "records",
        }
    }
}

impl Report {
    pub(super) fn new(options: &Options, trust: Trust, lanes: Vec<LaneReport>) -> Self {
        let mut problems = trust.problems;
        let keys: BTreeSet<&String> = lanes.iter().flat_map(|lane| &lane.keys).chain(&trust.keys).collect();
        if trust.ring.is_none() && keys.len() > 1 {
            let message = format!("names no change of key, but {} keys have signed", keys.len());
            problems.push(Problem::new(ProblemKind::Key, paths::KEY_CHANGES, message));
        }
        let (level, key, checkpoints) = (options.level, options.key.clone(), trust.checkpoints);
        let mut report = Self { level, key, checkpoints, sound: true, lanes, problems };
        report.judge();
        report
    }

    /// Adds what was found beside the lanes.
    pub fn add(&mut self, problems: impl IntoIterator<Item = Problem>) {
        self.problems.extend(problems);
        self.judge();
    }

    pub(super) fn judge(&mut self) {
        self.sound = self.problems.is_empty() && self.lanes.iter().all(|lane| lane.problems_total == 0);
    }

    /// A total over all lanes.
    #[must_use]
    pub fn total(&self, of: impl Fn(&LaneReport) -> u64) -> u64 {
        self.lanes.iter().map(of).sum()
    }
}

impl LaneReport {
    pub(super) fn new(id: &TopicPartition) -> Self {
        Self { topic: id.topic.to_string(), partition: id.partition, ..Self::default() }
    }

    /// Notes a problem.
    pub fn problem(&mut self, problem: Problem) {
        self.problems_total += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        }
    }

    pub(super) fn gap(&mut self, gap: &stillwell_schema::Gap) {
        let missing = (gap.next.0 - gap.first.0).unsigned_abs();
        match gap.reason {
            GapReason::NotDelivered => self.not_delivered += missing,
            GapReason::RetentionLoss => {
                self.lost += missing;
                if self.losses.len() < LISTED_MAX {
                    self.losses.push(OffsetRange { first: gap.first, next: gap.next });
                }
            }
        }
    }
}

impl Problem {
    pub(crate) fn new(kind: ProblemKind, object: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind, seq: None, object: object.into(), offset: None, message: message.into() }
    }

    pub(super) fn of_entry(self, seq: u64) -> Self {
        Self { seq: Some(seq), ..self }
    }

    pub(crate) fn at(self, offset: Offset) -> Self {
        Self { offset: Some(offset), ..self }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.object)?;
        if let Some(seq) = self.seq {
            write!(f, ", entry {seq}")?;
        }
        if let Some(offset) = self.offset {
            write!(f, ", offset {offset}")?;
        }
        write!(f, ": {}", self.message)
    }
}
