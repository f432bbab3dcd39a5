//! The local engines of `stillwell up`: a real Kafka and a real ClickHouse, fetched, checked, and run as
//! children.
//!
//! [`fetch`] brings them into the cache by the clients that [`registry`] runs; [`guard`] ties a child's life to
//! ours; [`kafka`] and [`clickhouse`] know how each is configured, started and found ready; [`ports`] keeps
//! their ports in the data folder; [`supervise`] keeps them running.

use std::fs::File;
use std::path::Path;

use anyhow::Context;

pub mod clickhouse;
pub mod fetch;
pub mod guard;
pub mod kafka;
pub mod ports;
mod registry;
pub mod supervise;
pub mod unpack;

/// The file that takes an engine's standard output and error.
fn log_file(data: &Path, name: &str) -> anyhow::Result<File> {
    let path = data.join("logs").join(name);
    File::options()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("cannot write {}", path.display()))
}
