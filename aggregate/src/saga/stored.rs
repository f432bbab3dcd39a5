//! The log of sagas in ClickHouse.

use std::collections::BTreeMap;

use clickhouse::Row;
use serde::Deserialize;
use serde_json::Value;

use super::lease::Lease;
use super::{Event, Line, Log};
use crate::error::AggregateError;
use crate::native::Block;
use crate::settings::ClickHouseSettings;
use crate::store::{ClickHouse, Store, quote};

/// The tables `saga_log` and `saga_leases`.
#[derive(Clone)]
pub struct StoredLog {
    store: ClickHouse,
}

#[derive(Row, Deserialize)]
struct LineRow {
    saga: String,
    seq: u64,
    step: String,
    event: String,
    detail: String,
    by: String,
    why: String,
    at: i64,
}

#[derive(Row, Deserialize)]
struct LeaseRow {
    owner: String,
    beat: u64,
    at: i64,
}

const LINES: &str = "SELECT saga, seq, step, event, detail, by, why, at FROM {database}.saga_log";

impl StoredLog {
    /// In this ClickHouse.
    #[must_use]
    pub fn new(settings: &ClickHouseSettings) -> Self {
        Self { store: ClickHouse::new(settings) }
    }

    /// The lines of all sagas, by saga.
    ///
    /// # Errors
    /// [`AggregateError::ClickHouse`].
    pub async fn all(&self) -> Result<BTreeMap<String, Vec<Line>>, AggregateError> {
        let rows: Vec<LineRow> = self.store.rows(&format!("{LINES} ORDER BY saga, seq, at")).await?;
        let mut all: BTreeMap<String, Vec<Line>> = BTreeMap::new();
        for line in rows.into_iter().filter_map(line) {
            all.entry(line.saga.clone()).or_default().push(line);
        }
        Ok(all)
    }
}

/// A line out of its row; none of an event that a later version writes.
fn line(row: LineRow) -> Option<Line> {
    Some(Line {
        saga: row.saga,
        seq: row.seq,
        step: row.step,
        event: Event::named(&row.event)?,
        detail: serde_json::from_str(&row.detail).unwrap_or(Value::Null),
        by: row.by,
        why: row.why,
        at_us: row.at,
    })
}

impl Log for StoredLog {
    async fn lines(&self, saga: &str) -> Result<Vec<Line>, AggregateError> {
        let sql = format!("{LINES} WHERE saga = {} ORDER BY seq, at", quote(saga));
        Ok(self.store.rows(&sql).await?.into_iter().filter_map(line).collect())
    }

    async fn append(&self, line: Line) -> Result<(), AggregateError> {
        let mut block = Block::new(8, 1);
        block.strings("saga", [&*line.saga]);
        block.u64s("seq", [line.seq]);
        block.strings("step", [&*line.step]);
        block.strings("event", [line.event.name()]);
        block.strings("detail", [&*line.detail.to_string()]);
        block.strings("by", [&*line.by]);
        block.strings("why", [&*line.why]);
        block.times("at", [line.at_us]);
        self.store.insert("saga_log", vec![block.finish()]).await
    }

    async fn lease(&self, saga: &str) -> Result<Option<Lease>, AggregateError> {
        let sql = format!(
            "SELECT owner, beat, at FROM {{database}}.saga_leases FINAL WHERE saga = {}",
            quote(saga)
        );
        let row = self.store.rows::<LeaseRow>(&sql).await?.into_iter().next();
        Ok(row.map(|LeaseRow { owner, beat, at }| Lease { owner, beat, at_us: at }))
    }

    async fn hold(&self, saga: &str, lease: Lease) -> Result<(), AggregateError> {
        let mut block = Block::new(4, 1);
        block.strings("saga", [saga]);
        block.strings("owner", [&*lease.owner]);
        block.u64s("beat", [lease.beat]);
        block.times("at", [lease.at_us]);
        self.store.insert("saga_leases", vec![block.finish()]).await
    }
}
