//! `DIR/endpoints.json`: where a running stack answers. Written when all is ready, removed at stop.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// The file's content. It holds ClickHouse's password, so only the owner can read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// Base URL of the page and of SQL over HTTP; none where the query side is not part of the stack.
    pub http: Option<String>,
    /// `postgres://host:port/stillwell`; none likewise.
    pub pg: Option<String>,
    /// `host:port` of Kafka.
    pub kafka: String,
    /// URL of ClickHouse, with user and password.
    pub clickhouse: String,
    /// The archive's folder.
    pub archive: PathBuf,
    /// The process that serves all this.
    pub pid: u32,
}

impl Endpoints {
    /// The file of a data folder.
    #[must_use]
    pub fn path(data: &Path) -> PathBuf {
        data.join("endpoints.json")
    }

    /// Reads those of a running stack.
    ///
    /// # Errors
    /// If none runs on this folder.
    pub fn read(data: &Path) -> anyhow::Result<Self> {
        let path = Self::path(data);
        let text = fs::read(&path).with_context(|| {
            format!(
                "no stack runs on {}; start it with `stillwell up --data {}`",
                data.display(),
                data.display()
            )
        })?;
        serde_json::from_slice(&text).with_context(|| format!("{} is not what `up` writes", path.display()))
    }

    /// Announces them.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn write(&self, data: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        crate::files::write_secret(&Self::path(data), &text)
    }

    /// Takes them back; a file that is gone already is what is wanted.
    pub fn remove(data: &Path) {
        let _ = fs::remove_file(Self::path(data));
    }
}
