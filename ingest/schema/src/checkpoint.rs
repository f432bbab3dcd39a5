//! The checkpoint: one signed statement of where every lane of an archive ends.
//!
//! Checkpoints form a chain of their own (see [`crate::signed`]). A copy kept elsewhere is what a later truncation
//! shows against: from then on no lane may end before its mark, or have another entry there.

use serde::{Deserialize, Serialize};

use crate::ids::{Offset, TopicPartition};
use crate::signed::{Body, Signed};

/// The version of this format.
pub const FORMAT: u32 = 1;

/// Where every lane stood at one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// [`FORMAT`].
    pub format: u32,
    /// Number of this checkpoint, from 0.
    pub seq: u64,
    /// SHA-256 of the previous checkpoint's object, hex.
    pub previous: String,
    /// When it was written, µs UTC, by the writer's clock.
    pub written_us: i64,
    /// Who wrote it.
    pub writer: String,
    /// Every lane that has an entry, sorted by topic and partition.
    pub lanes: Vec<LaneMark>,
    /// Number of changes of the archive's key.
    pub key_changes: u64,
    /// SHA-256 of the last change's object, hex; [`crate::signed::GENESIS`] where there is none.
    pub key_change: String,
    /// The Ed25519 public key that signs it, hex.
    pub key: String,
}

/// The end of one lane's chains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaneMark {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Number of entries.
    pub entries: u64,
    /// The offset after the last one.
    pub next: Offset,
    /// SHA-256 of the last entry's object, hex.
    pub head: String,
    /// Number of acts in the lane's ledger.
    pub acts: u64,
    /// SHA-256 of the last act's object, hex; [`crate::signed::GENESIS`] where there is none.
    pub ledger: String,
}

/// A checkpoint as it is stored.
pub type SignedCheckpoint = Signed<Checkpoint>;

impl LaneMark {
    /// Of which lane.
    #[must_use]
    pub fn lane(&self) -> TopicPartition {
        TopicPartition::new(&*self.topic, self.partition)
    }
}

impl Body for Checkpoint {
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
