//! `DIR/endpoints.json`: where a running stack answers. Written when all is ready, removed at stop.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use stillwell_schema::ArchiveUrl;

use crate::engines::guard;

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
    /// Where the archive lies.
    pub archive: ArchiveUrl,
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
    /// If none runs on this folder; what a killed one left behind does not count.
    pub fn read(data: &Path) -> anyhow::Result<Self> {
        let path = Self::path(data);
        let text = fs::read(&path).with_context(|| {
            format!(
                "no stack runs on {}; start it with `stillwell up --data {}`",
                data.display(),
                data.display()
            )
        })?;
        let endpoints: Self = serde_json::from_slice(&text)
            .with_context(|| format!("{} is not what `up` writes", path.display()))?;
        if !guard::is_alive(endpoints.pid) {
            bail!(
                "the stack on {0} was killed; start it again with `stillwell up --data {0}`",
                data.display()
            );
        }
        Ok(endpoints)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(pid: u32) -> Endpoints {
        Endpoints {
            http: None,
            pg: None,
            kafka: "127.0.0.1:29092".to_owned(),
            clickhouse: "http://user:password@127.0.0.1:8123".to_owned(),
            archive: "/a".parse().unwrap(),
            pid,
        }
    }

    #[test]
    fn they_are_read_back_while_their_process_lives() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let error = format!("{:#}", Endpoints::read(folder.path()).unwrap_err());
        assert!(error.contains("stillwell up --data"), "{error}");
        let own = endpoints(std::process::id());
        own.write(folder.path()).unwrap();
        assert_eq!(Endpoints::read(folder.path()).unwrap(), own);
        let mode = fs::metadata(Endpoints::path(folder.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "it holds a password");
        Endpoints::remove(folder.path());
        assert!(Endpoints::read(folder.path()).is_err());
    }

    #[test]
    fn those_of_a_killed_stack_are_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        endpoints(pid).write(folder.path()).unwrap();
        assert!(Endpoints::read(folder.path()).unwrap_err().to_string().contains("killed"));
    }
}
