//! Where the archive keeps its objects. Every object path comes from here.
//!
//! ```text
//! <archive>/<topic>/manifest/<partition>/<seq, 12 digits>.json
//! <archive>/<topic>/readings/<partition>/<first>-<next>-<uuid>.parquet
//! <archive>/<topic>/records/<partition>/<first>-<next>-<uuid>.parquet
//! ```
//! Paths are relative to the archive's root and use `/`.

use std::fmt;

use crate::ids::TopicPartition;
use crate::range::OffsetRange;

/// The two files of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// Decoded columns, [`crate::columns::READINGS`].
    Readings,
    /// The original bytes, [`crate::columns::RECORDS`].
    Records,
}

impl FileKind {
    /// The folder's name, which is also the SQL table's.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Readings => "readings",
            Self::Records => "records",
        }
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The folder of a lane's manifest entries.
#[must_use]
pub fn manifest_folder(lane: &TopicPartition) -> String {
    format!("{}/manifest/{}", lane.topic, lane.partition)
}

/// The entry number `seq` of a lane's manifest, from 0.
///
/// ```
/// let lane = stillwell_schema::TopicPartition::new("readings", 3);
/// assert_eq!(stillwell_schema::paths::entry(&lane, 7), "readings/manifest/3/000000000007.json");
/// ```
#[must_use]
pub fn entry(lane: &TopicPartition, seq: u64) -> String {
    format!("{}/{seq:012}.json", manifest_folder(lane))
}

/// The folder of a lane's data files of one kind.
#[must_use]
pub fn data_folder(lane: &TopicPartition, kind: FileKind) -> String {
    format!("{}/{kind}/{}", lane.topic, lane.partition)
}

/// A data file; `unique` is a UUID, so that two writers never write the same object.
#[must_use]
pub fn data_file(lane: &TopicPartition, kind: FileKind, range: OffsetRange, unique: &str) -> String {
    format!("{}/{}-{}-{unique}.parquet", data_folder(lane, kind), range.first, range.next)
}
