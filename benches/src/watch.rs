//! How far the stages are, read where their readers read it: the manifest, and ClickHouse's positions.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use stillwell_schema::{Head, SignedEntry, TopicPartition, paths};

use crate::http;
use crate::result::rounded;

/// The database of the views.
const DATABASE: &str = "stillwell";

/// At most a minute of waiting for merges.
const SETTLE_LOOKS: u32 = 120;
const SETTLE_LOOK: Duration = Duration::from_millis(500);

/// How much is scored.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scored {
    pub(crate) machines: u64,
    pub(crate) rows: u64,
}

/// What the archive holds of a topic.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Archived {
    pub(crate) readings: u64,
    pub(crate) records: u64,
    pub(crate) undecodable: u64,
    pub(crate) commits: u64,
    pub(crate) readings_bytes: u64,
    pub(crate) records_bytes: u64,
    pub(crate) manifest_bytes: u64,
}

/// Follows the manifest of a topic, checking every signature and link.
pub(crate) struct Manifest {
    archive: PathBuf,
    lanes: Vec<(TopicPartition, Head)>,
    pub(crate) archived: Archived,
}

impl Manifest {
    pub(crate) fn new(archive: PathBuf, topic: &str, partitions: usize) -> Self {
        let lanes =
            (0..).map(|p| (TopicPartition::new(topic, p), Head::genesis())).take(partitions).collect();
        Self { archive, lanes, archived: Archived::default() }
    }

    /// Reads the entries that are new; says the next offset of each partition.
    pub(crate) fn poll(&mut self) -> anyhow::Result<Vec<i64>> {
        for (lane, head) in &mut self.lanes {
            loop {
                let path = self.archive.join(paths::entry(lane, head.seq));
                let bytes = match fs::read(&path) {
                    Ok(bytes) => bytes,
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => break,
                    Err(error) => return Err(error).context(path.display().to_string()),
                };
                let size = bytes.len() as u64;
                let signed = SignedEntry::parse(bytes).with_context(|| path.display().to_string())?;
                head.check(lane, &signed.entry)?;
                *head = signed.head();
                self.archived.add(&signed, size);
            }
        }
        Ok(self.lanes.iter().map(|(_, head)| head.next.map_or(0, |next| next.0)).collect())
    }
}

impl Archived {
    fn add(&mut self, signed: &SignedEntry, size: u64) {
        let entry = &signed.entry;
        self.commits += 1;
        self.manifest_bytes += size;
        self.undecodable += entry.undecodable;
        if let Some(file) = &entry.readings {
            self.readings += file.rows;
            self.readings_bytes += file.bytes;
        }
        if let Some(file) = &entry.records {
            self.records += file.rows;
            self.records_bytes += file.bytes;
        }
    }

    /// Bytes in the archive for each of `readings`, by kind.
    pub(crate) fn bytes_per_reading(self, readings: u64) -> Value {
        let per_reading = |bytes: u64| rounded(bytes as f64 / readings as f64);
        json!({
            "readings": per_reading(self.readings_bytes),
            "records": per_reading(self.records_bytes),
            "manifest": per_reading(self.manifest_bytes),
        })
    }

    /// What was added since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            readings: self.readings - before.readings,
            records: self.records - before.records,
            undecodable: self.undecodable - before.undecodable,
            commits: self.commits - before.commits,
            readings_bytes: self.readings_bytes - before.readings_bytes,
            records_bytes: self.records_bytes - before.records_bytes,
            manifest_bytes: self.manifest_bytes - before.manifest_bytes,
        }
    }
}

/// The views of a topic, in ClickHouse.
pub(crate) struct Views {
    pub(crate) clickhouse: String,
    pub(crate) topic: String,
    pub(crate) partitions: usize,
}

impl Views {
    /// The visible position of each partition.
    pub(crate) fn poll(&self) -> anyhow::Result<Vec<i64>> {
        let statement = format!(
            "SELECT partition, max(position) FROM {DATABASE}.pipeline_positions WHERE topic = '{}' \
             GROUP BY partition FORMAT TabSeparated",
            self.topic
        );
        let mut positions = vec![0; self.partitions];
        let answer = match http::clickhouse(&self.clickhouse, &statement) {
            Ok(answer) => answer,
            // The stage has not made its tables yet.
            Err(error) if format!("{error:#}").contains("UNKNOWN_") => return Ok(positions),
            Err(error) => return Err(error),
        };
        for line in answer.lines() {
            let (partition, position) = line.split_once('\t').context("two columns")?;
            let partition: usize = partition.parse()?;
            match positions.get_mut(partition) {
                Some(known) => *known = position.parse()?,
                None => bail!("partition {partition} of {} is unknown", self.topic),
            }
        }
        Ok(positions)
    }

    /// Readings in the views, over all series and windows.
    pub(crate) fn readings(&self) -> anyhow::Result<u64> {
        self.number(&format!("SELECT sum(count) FROM {DATABASE}.readings_10s FORMAT TabSeparated"))
    }

    /// Machines with a model in force, and rows that they have had in their life.
    pub(crate) fn scored(&self) -> anyhow::Result<Scored> {
        let machines = format!("FROM {DATABASE}.machines_scored WHERE model != '' FORMAT TabSeparated");
        Ok(Scored {
            machines: self.number(&format!("SELECT count() {machines}"))?,
            rows: self.number(&format!("SELECT sum(rows) {machines}"))?,
        })
    }

    /// Waits until the engine merges nothing, so that what is measured next pays for itself alone.
    pub(crate) fn settle(&self) -> anyhow::Result<()> {
        for _ in 0..SETTLE_LOOKS {
            if self.number("SELECT count() FROM system.merges FORMAT TabSeparated")? == 0 {
                return Ok(());
            }
            std::thread::sleep(SETTLE_LOOK);
        }
        Ok(())
    }

    /// Bytes on disk of all active parts.
    pub(crate) fn bytes(&self) -> anyhow::Result<u64> {
        self.number(&format!(
            "SELECT sum(bytes_on_disk) FROM system.parts WHERE database = '{DATABASE}' AND active \
             FORMAT TabSeparated"
        ))
    }

    fn number(&self, statement: &str) -> anyhow::Result<u64> {
        let answer = http::clickhouse(&self.clickhouse, statement)?;
        answer.trim().parse().with_context(|| format!("{answer:?} is no number"))
    }
}

/// Whether every position has reached its end.
pub(crate) fn reached(positions: &[i64], ends: &[i64]) -> bool {
    positions.iter().zip(ends).all(|(position, end)| position >= end)
}
