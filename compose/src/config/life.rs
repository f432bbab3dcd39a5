//! `[compaction]` and `[[retention]]`: what becomes of the archive's files.

use anyhow::bail;
use serde::{Deserialize, Serialize};

/// What a class may keep at most, days: a century. More is a slip; what is to be kept for ever has no class.
const KEEP_DAYS_MAX: u32 = 36_500;

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

impl RetentionClass {
    /// What no type says.
    ///
    /// # Errors
    /// Names the class and the key that is wrong.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let Self { class, keep_days, .. } = self;
        if *keep_days > KEEP_DAYS_MAX {
            bail!(
                "[[retention]] class {class:?}: keep_days is {keep_days}, but must be at most {KEEP_DAYS_MAX}; \
                 leave the class out to keep its machines for ever"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::config::Config;

    #[test]
    fn a_class_keeps_a_century_at_most() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.toml");
        let load = |keep_days: u32| {
            let text = format!("[[retention]]\nclass='presses'\nmachines='press-*'\nkeep_days={keep_days}");
            fs::write(&file, text).unwrap();
            Config::load(Some(&file), [])
        };
        assert_eq!(load(36_500).unwrap().retention[0].keep_days, 36_500);
        let error = format!("{:#}", load(36_501).unwrap_err());
        assert!(error.contains("presses") && error.contains("keep_days"), "{error}");
    }
}
