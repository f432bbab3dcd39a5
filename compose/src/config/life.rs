//! `[compaction]` and `[[retention]]`: what becomes of the archive's files.

use serde::{Deserialize, Serialize};

/// `[compaction]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Compaction {
    /// Whether the write side merges small files in the background.
    pub enabled: bool,
    /// How often a lane is looked at.
    pub interval_s: u64,
    /// Files younger than this are left alone.
    pub after_s: u64,
    /// Bytes of merged readings and records together.
    pub file_bytes_target: u64,
    /// Of zstd, 1 to 22.
    pub level: i32,
}

impl Default for Compaction {
    fn default() -> Self {
        Self { enabled: true, interval_s: 600, after_s: 900, file_bytes_target: 128 << 20, level: 6 }
    }
}

/// One `[[retention]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionClass {
    /// Its name, as the tombstones state it.
    pub class: String,
    /// The machines, such as `press-*`; records without readings where it is left out.
    pub machines: Option<String>,
    /// How long it keeps, days.
    pub keep_days: u32,
}
