//! Where the archive keeps its objects. Every object path comes from here.
//!
//! ```text
//! <archive>/<topic>/manifest/<partition>/<seq, 12 digits>.json
//! <archive>/<topic>/readings/<partition>/<first>-<next>-<uuid>.parquet
//! <archive>/<topic>/records/<partition>/<first>-<next>-<uuid>.parquet
//! <archive>/<topic>/ledger/<partition>/<seq, 12 digits>.json
//! <archive>/<topic>/leaves/<partition>/<first>-<next>-act<seq, 12 digits>-<uuid>.parquet
//! <archive>/@evidence/checkpoints/<seq, 12 digits>.json
//! <archive>/@evidence/keys/<seq, 12 digits>.json
//! ```
//! A data file that an act puts in place is named as a leaves file is. Paths are relative to the archive's root and use `/`.

use std::fmt;

use crate::ids::{Offset, TopicPartition};
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

/// The folder of the archive's checkpoints.
pub const CHECKPOINTS: &str = "@evidence/checkpoints";

/// The folder of the changes of the archive's key.
pub const KEY_CHANGES: &str = "@evidence/keys";

/// The object number `seq` of one of the archive's own chains, [`CHECKPOINTS`] or [`KEY_CHANGES`].
#[must_use]
pub fn evidence(folder: &str, seq: u64) -> String {
    format!("{folder}/{seq:012}.json")
}

/// The folder of a lane's acts.
#[must_use]
pub fn ledger_folder(lane: &TopicPartition) -> String {
    format!("{}/ledger/{}", lane.topic, lane.partition)
}

/// The act number `seq` of a lane's ledger, from 0.
#[must_use]
pub fn act(lane: &TopicPartition, seq: u64) -> String {
    format!("{}/{seq:012}.json", ledger_folder(lane))
}

/// The seq of the entry or act at `path`; none where it is not a path of [`entry`] or [`act`].
///
/// ```
/// use stillwell_schema::paths::entry_seq;
/// assert_eq!(entry_seq("readings/manifest/3/000000000007.json"), Some(7));
/// assert_eq!(entry_seq("readings/manifest/3/000000000007.json.bak"), None);
/// ```
#[must_use]
pub fn entry_seq(path: &str) -> Option<u64> {
    let digits = path.rsplit('/').next()?.strip_suffix(".json")?;
    // `entry` pads to 12 digits, and a sign parses too.
    let plain = digits.len() >= 12 && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// The folder of a lane's data files of one kind.
#[must_use]
pub fn data_folder(lane: &TopicPartition, kind: FileKind) -> String {
    format!("{}/{kind}/{}", lane.topic, lane.partition)
}

/// The folder of the leaves of a lane's erased records.
#[must_use]
pub fn leaves_folder(lane: &TopicPartition) -> String {
    format!("{}/leaves/{}", lane.topic, lane.partition)
}

/// The folders of a lane's files, other than its chains'.
#[must_use]
pub fn data_folders(lane: &TopicPartition) -> [String; 3] {
    let [readings, records] = [FileKind::Readings, FileKind::Records].map(|kind| data_folder(lane, kind));
    [readings, records, leaves_folder(lane)]
}

/// Whether a folder of the archive's root is a topic's. What belongs to the whole archive stands under names that
/// no topic can have: `@` is no character of theirs.
#[must_use]
pub fn is_topic(folder: &str) -> bool {
    !folder.starts_with('@')
}

/// A data file; `unique` is a UUID, so that two writers never write the same object.
#[must_use]
pub fn data_file(lane: &TopicPartition, kind: FileKind, range: OffsetRange, unique: &str) -> String {
    format!("{}/{}-{}-{unique}.parquet", data_folder(lane, kind), range.first, range.next)
}

/// A file of the leaves of erased records.
#[must_use]
pub fn leaves_file(lane: &TopicPartition, range: OffsetRange, unique: &str) -> String {
    format!("{}/{}-{}-{unique}.parquet", leaves_folder(lane), range.first, range.next)
}

/// What makes the name of a file unique that act number `seq` is to put in place: once there is an act of that
/// number which does not name it, none ever will.
#[must_use]
pub fn unique_of_act(seq: u64, uuid: &str) -> String {
    format!("act{seq:012}-{uuid}")
}

/// The number of the act that was to put the file at `path` in place; none for a file of a commit.
///
/// ```
/// use stillwell_schema::paths::act_of;
/// assert_eq!(act_of("readings/records/3/40-50-act000000000007-6f1c.parquet"), Some(7));
/// assert_eq!(act_of("readings/records/3/40-50-6f1c.parquet"), None);
/// ```
#[must_use]
pub fn act_of(path: &str) -> Option<u64> {
    let mut parts = path.rsplit('/').next()?.splitn(4, '-').skip(2);
    parts.next()?.strip_prefix("act")?.parse().ok()
}

/// The first offset of the data or leaves file at `path`; none where it is not a path of [`data_file`] or
/// [`leaves_file`].
///
/// ```
/// use stillwell_schema::Offset;
/// use stillwell_schema::paths::data_first;
/// assert_eq!(data_first("readings/records/3/40-50-6f1c.parquet"), Some(Offset(40)));
/// assert_eq!(data_first("readings/records/3/notes.txt"), None);
/// ```
#[must_use]
pub fn data_first(path: &str) -> Option<Offset> {
    data_range(path).map(|range| range.first)
}

/// The offsets that the data or leaves file at `path` is named after; none where [`data_first`] has none.
#[must_use]
pub fn data_range(path: &str) -> Option<OffsetRange> {
    let name = path.rsplit('/').next()?.strip_suffix(".parquet")?;
    let mut parts = name.splitn(3, '-');
    let (first, next) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next()?;
    OffsetRange::new(Offset(first), Offset(next)).ok()
}
