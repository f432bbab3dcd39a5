//! How far a plant is, kept in a small file: a plant that is started again goes on and tells nothing twice.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// Between two notes of a live plant. What is told twice after a kill is at most so much.
const EVERY_US: i64 = 1_000_000;

/// The file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    /// When the plant began, µs UTC.
    origin_us: i64,
    /// The time of its next reading, µs UTC.
    next_us: i64,
}

/// The notes of one plant.
#[derive(Debug)]
pub(super) struct Resume {
    file: PathBuf,
    state: State,
    noted_us: i64,
}

impl Resume {
    /// Reads `file`; where there is none, the plant begins at `start_us`.
    pub(super) fn open(file: &Path, start_us: i64) -> anyhow::Result<Self> {
        let state = match std::fs::read(file) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| {
                format!("{} is not what --resume writes; remove it to begin anew", file.display())
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                State { origin_us: start_us, next_us: start_us }
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
        };
        Ok(Self { file: file.to_owned(), state, noted_us: 0 })
    }

    pub(super) fn origin_us(&self) -> i64 {
        self.state.origin_us
    }

    pub(super) fn next_us(&self) -> i64 {
        self.state.next_us
    }

    /// Notes the time of the next reading, unless it was noted just before.
    pub(super) fn note(&mut self, next_us: i64, now_us: i64) -> anyhow::Result<()> {
        if now_us.saturating_sub(self.noted_us) < EVERY_US {
            return Ok(());
        }
        self.noted_us = now_us;
        self.state.next_us = next_us;
        crate::files::write_atomically(&self.file, &serde_json::to_vec(&self.state)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plant_goes_on_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("plant.json");
        let mut first = Resume::open(&file, 100).unwrap();
        first.note(7_000_000, 50_000_000).unwrap();
        first.note(8_000_000, 50_500_000).unwrap();
        let second = Resume::open(&file, 9_999).unwrap();
        assert_eq!((second.origin_us(), second.next_us()), (100, 7_000_000));
        std::fs::write(&file, "{}").unwrap();
        assert!(Resume::open(&file, 0).unwrap_err().to_string().contains("plant.json"));
    }
}
