//! What can be set: where to listen, where to read, and the caps on one statement.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use stillwell_schema::{ArchiveUrl, StoreOptions};

/// Where the read side listens and reads.
#[derive(Clone, Debug)]
pub struct QuerySettings {
    /// HTTP address; port 0 takes any free one.
    pub http: SocketAddr,
    /// PostgreSQL wire address; port 0 takes any free one.
    pub pg: SocketAddr,
    /// Where the archive lies.
    pub archive: ArchiveUrl,
    /// What its object store needs to know.
    pub archive_options: StoreOptions,
    /// The topics whose archives are read.
    pub topics: Vec<String>,
    /// The server of the views.
    pub clickhouse: ClickHouseSettings,
    /// Whether there is a machine registry; where there is none, its tables are empty and nobody is asked for it.
    pub has_machines: bool,
    /// Where the copy of the machine registry is kept over a restart; in memory alone where none.
    pub machines_file: Option<PathBuf>,
    /// Names under which HTTP clients may reach this server, beside IP addresses and `localhost`.
    pub hosts: Vec<String>,
    /// Caps on one statement.
    pub limits: Limits,
    /// How views and archive are compared.
    pub reconcile: ReconcileSettings,
}

/// How views and archive are compared while the read side runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReconcileSettings {
    /// Between two rounds; none: they are compared on demand alone.
    pub interval: Option<Duration>,
    /// Hours that ended longer ago are compared on demand alone.
    pub look_back: Duration,
    /// Where what was found is kept over a restart, a JSON object a line; none: nowhere.
    pub file: Option<PathBuf>,
}

/// A ClickHouse server, by its HTTP interface.
#[derive(Clone)]
pub struct ClickHouseSettings {
    /// `http://host:port`.
    pub url: String,
    /// User.
    pub user: String,
    /// Password; empty for none.
    pub password: String,
    /// The database of the views.
    pub database: String,
}

impl std::fmt::Debug for ClickHouseSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { url, user, database, .. } = self;
        f.debug_struct("ClickHouseSettings")
            .field("url", url)
            .field("user", user)
            .field("database", database)
            .finish_non_exhaustive()
    }
}

/// Caps, so that no statement starves the others.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a statement may take, waiting and planning included.
    pub time: Duration,
    /// Rows of an HTTP answer where the request does not say, at most [`rows_max`](Self::rows_max); more are cut
    /// off and the answer says so.
    pub rows: usize,
    /// The most rows of an HTTP answer, whatever the request asks for.
    pub rows_max: usize,
    /// Bytes of an HTTP answer, its columns in memory and its body each; larger answers are refused.
    pub bytes: usize,
    /// Memory of all running statements together, beyond which they spill to disk or fail.
    pub memory_bytes: usize,
    /// Statements that run at once, whichever way they came; more wait for their turn.
    pub statements: usize,
    /// Connections on the PostgreSQL wire.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(30),
            rows: 100_000,
            rows_max: 1_000_000,
            bytes: 64 << 20,
            memory_bytes: 256 << 20,
            statements: 8,
            connections: 64,
        }
    }
}

/// Where a server listens, real ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// HTTP.
    pub http: SocketAddr,
    /// PostgreSQL wire.
    pub pg: SocketAddr,
}
