//! Ports of the local engines: chosen once, free at that time, and kept in the data folder, so that clients
//! find them again after a restart.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// The ports of one data folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ports {
    /// Kafka's clients.
    pub kafka: u16,
    /// Kafka's controller.
    pub controller: u16,
    /// ClickHouse over HTTP.
    pub clickhouse_http: u16,
    /// ClickHouse's native protocol.
    pub clickhouse_tcp: u16,
    /// The page and SQL over HTTP, where none was asked for.
    pub http: u16,
    /// The PostgreSQL wire, where none was asked for.
    pub pg: u16,
}

impl Ports {
    /// Reads `ports.toml` of a data folder, or chooses and writes it.
    ///
    /// # Errors
    /// If the file cannot be read, written or understood.
    pub fn of(data: &Path) -> anyhow::Result<Self> {
        let path = data.join("ports.toml");
        if let Ok(text) = fs::read_to_string(&path) {
            return toml::from_str(&text).with_context(|| {
                format!("{} is not understood; remove it and ports are chosen anew", path.display())
            });
        }
        let ports = Self::choose().context("cannot find free ports")?;
        let text = toml::to_string(&ports).context("cannot write ports")?;
        super::super::files::write_atomically(&path, text.as_bytes())?;
        Ok(ports)
    }

    fn choose() -> std::io::Result<Self> {
        // The usual ports first, so that a machine with one stack has memorable ones; all are held until
        // the last is chosen, so that none is chosen twice.
        let mut held = Vec::new();
        let mut port = |usual: u16| {
            let listener =
                TcpListener::bind(("127.0.0.1", usual)).or_else(|_| TcpListener::bind(("127.0.0.1", 0)))?;
            let port = listener.local_addr()?.port();
            held.push(listener);
            Ok::<_, std::io::Error>(port)
        };
        Ok(Self {
            kafka: port(9092)?,
            controller: port(9093)?,
            clickhouse_http: port(8123)?,
            clickhouse_tcp: port(9000)?,
            http: port(8080)?,
            pg: port(5433)?,
        })
    }
}
