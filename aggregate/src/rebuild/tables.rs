//! What a rebuild does to tables. Every statement can be repeated: rows are absolute, and the last of one key and
//! version is read.

use std::collections::BTreeMap;
use std::time::Duration;

use clickhouse::Row;
use serde::Deserialize;
use stillwell_schema::TopicPartition;

use super::plan::Plan;
use super::{Note, Watch, scope};
use crate::error::AggregateError;
use crate::native::Block;
use crate::store::{ClickHouse, Store, quote};

/// Between two looks at how far lanes are.
const LOOK: Duration = Duration::from_millis(500);
/// Looks in a row at which every lane must have reached the other table, and none have written to that: lanes that
/// had nothing to write have then seen where windows go now, and what was on its way has arrived.
const LOOKS: u32 = 8;

/// The table that lanes write.
#[derive(Clone, Debug, Default, PartialEq, Eq, Row, Deserialize)]
pub(super) struct Generation {
    pub(super) generation: u64,
    pub(super) table_name: String,
    pub(super) saga: String,
}

#[derive(Row, Deserialize)]
struct Month {
    month: u32,
}

#[derive(Row, Deserialize)]
struct PositionRow {
    topic: String,
    partition: i32,
    position: i64,
}

#[derive(Row, Deserialize)]
pub(super) struct Text {
    pub(super) text: String,
}

/// Tables of one database.
#[derive(Clone)]
pub(super) struct Tables {
    pub(super) store: ClickHouse,
}

impl Tables {
    /// The table in use for a width, by the name of its first one.
    pub(super) async fn generation(&self, base: &str) -> Result<Generation, AggregateError> {
        let sql = format!(
            "SELECT generation, table_name, saga FROM {} FINAL WHERE width = {}",
            self.store.named("generations"),
            quote(base)
        );
        let stored = self.store.ask::<Generation>(&sql).await?.into_iter().next();
        Ok(stored.unwrap_or_else(|| Generation { table_name: base.to_owned(), ..Generation::default() }))
    }

    /// Lanes write to `table` from now on, if they do not yet.
    pub(super) async fn turn(&self, base: &str, table: &str, saga: &str) -> Result<(), AggregateError> {
        let now = self.generation(base).await?;
        if now.table_name == table {
            return Ok(());
        }
        let sql = format!(
            "INSERT INTO {} (width, generation, table_name, saga) VALUES ({}, {}, {}, {})",
            self.store.named("generations"),
            quote(base),
            now.generation + 1,
            quote(table),
            quote(saga)
        );
        self.store.work(&sql).await
    }

    pub(super) async fn exists(&self, table: &str) -> Result<bool, AggregateError> {
        let sql = format!(
            "SELECT name AS text FROM system.tables WHERE database = {} AND name = {}",
            self.store.database_literal(),
            quote(table)
        );
        Ok(!self.store.ask::<Text>(&sql).await?.is_empty())
    }

    /// An empty table like another.
    pub(super) async fn create(&self, table: &str, like: &str) -> Result<(), AggregateError> {
        let (table, like) = (self.store.named(table), self.store.named(like));
        self.store.work(&format!("CREATE TABLE IF NOT EXISTS {table} AS {like}")).await
    }

    /// Removes a table that lanes do not write, and what is kept of how far it is. The first one of a width is only
    /// emptied: later versions of the tables are made from it.
    pub(super) async fn remove(&self, table: &str, base: &str) -> Result<(), AggregateError> {
        let verb = if table == base { "TRUNCATE TABLE IF EXISTS" } else { "DROP TABLE IF EXISTS" };
        self.store.work(&format!("{verb} {}", self.store.named(table))).await?;
        for kept in ["lane_positions", "series_highs"] {
            let sql = format!("DELETE FROM {} WHERE table_name = {}", self.store.named(kept), quote(table));
            self.store.work(&sql).await?;
        }
        Ok(())
    }

    /// Windows that were folded past the last one that is meant go.
    pub(super) async fn trim(&self, plan: &Plan) -> Result<(), AggregateError> {
        let Some(to_us) = plan.to_us else { return Ok(()) };
        let sql = format!(
            "ALTER TABLE {} DELETE WHERE start >= fromUnixTimestamp64Micro({to_us}, 'UTC') SETTINGS mutations_sync = 2",
            self.store.named(&plan.table)
        );
        self.store.work(&sql).await
    }

    /// Takes over what is not built: first the largest times of series, then their windows, which are then as far at
    /// least. Of series that are built those times count that were reached before.
    pub(super) async fn copy(&self, plan: &Plan) -> Result<(), AggregateError> {
        let until = scope::until(plan);
        let outside = scope::machines(plan).map_or_else(String::new, |inside| format!(" OR NOT {inside}"));
        let copied = scope::lanes(plan.copied());
        let highs = self.store.named("series_highs");
        let sql = format!(
            "INSERT INTO {highs} (topic, partition, table_name, machine, sensor, version, high) SELECT topic, partition, {}, machine, sensor, {until}, high FROM {highs} FINAL WHERE table_name = '' AND {until} >= 0 AND (version <= {until} OR {copied}{outside})",
            quote(&plan.table)
        );
        self.store.work(&sql).await?;
        if !plan.is_whole() || plan.copied().next().is_some() {
            let (table, old) = (self.store.named(&plan.table), self.store.named(&plan.old));
            for month in self.months(&[&plan.old]).await? {
                let outside = format!("toYYYYMM(start) = {month} AND NOT ({})", scope::inside(plan));
                self.store
                    .work(&format!("INSERT INTO {table} SELECT * FROM {old} FINAL WHERE {outside}"))
                    .await?;
            }
        }
        if !plan.is_of_totals() {
            self.introduce(plan).await?;
        }
        self.place(plan).await
    }

    /// Makes series known to their lanes that have none of their readings yet, as they were more than the lanes took
    /// in: a lane asks for stored windows of series that it knows.
    async fn introduce(&self, plan: &Plan) -> Result<(), AggregateError> {
        let key = "topic, partition, machine, sensor";
        let (latest, table) = (self.store.named("latest_rows"), self.store.named(&plan.table));
        self.store
            .work(&format!(
                "INSERT INTO {latest} ({key}, version, kind, unit, time, value, quality) SELECT {key}, max(version), argMax(kind, start), argMax(unit, start), max(greatest(start, last_time, state_last_time)), if(countIf(count > 0) > 0, argMaxIf(last, last_time, count > 0), NULL), toUInt32(0) FROM {table} FINAL WHERE ({key}) NOT IN (SELECT {key} FROM {latest}) GROUP BY {key}"
            ))
            .await
    }

    /// Lanes whose windows were copied are as far as they were when it was planned, and may be more.
    async fn place(&self, plan: &Plan) -> Result<(), AggregateError> {
        let lanes = || plan.copied();
        if lanes().next().is_none() {
            return Ok(());
        }
        let mut block = Block::new(4, lanes().count());
        block.strings("topic", lanes().map(|lane| &*lane.topic));
        block.i32s("partition", lanes().map(|lane| lane.partition));
        block.strings("table_name", lanes().map(|_| &*plan.table));
        block.i64s("position", lanes().map(|lane| lane.until));
        self.store.insert("lane_positions", vec![block.finish()]).await
    }

    /// Takes over scores, which nobody can build from the archive: the highest of both holds. Where a window is not
    /// there yet, as it began after what was built, one waits for its readings that holds the score alone.
    pub(super) async fn score(&self, from: &str, to: &str) -> Result<(), AggregateError> {
        let key = "topic, partition, machine, sensor, start";
        let (source, target) = (self.store.named(from), self.store.named(to));
        for month in self.months(&[from]).await? {
            let slice = format!("toYYYYMM(start) = {month}");
            let scored = format!(
                "(SELECT {key}, kind, unit, score AS higher FROM {source} FINAL WHERE {slice} AND score >= 0)"
            );
            let known = format!("(SELECT * FROM {target} FINAL WHERE {slice})");
            self.store
                .work(&format!(
                    "INSERT INTO {target} SELECT b.* REPLACE (s.higher AS score) FROM {known} AS b INNER JOIN (SELECT {key}, higher FROM {scored}) AS s USING ({key}) WHERE s.higher > b.score"
                ))
                .await?;
            self.store
                .work(&format!(
                    "INSERT INTO {target} ({key}, version, kind, unit, min, max, score) SELECT {key}, toInt64(0), kind, unit, inf, -inf, higher FROM {scored} AS s LEFT ANTI JOIN (SELECT {key} FROM {known}) AS b USING ({key})"
                ))
                .await?;
        }
        Ok(())
    }

    /// The months that any of these tables holds.
    pub(super) async fn months(&self, tables: &[&str]) -> Result<Vec<u32>, AggregateError> {
        let of = |table: &&str| format!("SELECT toYYYYMM(start) AS month FROM {}", self.store.named(table));
        let all: Vec<String> = tables.iter().map(of).collect();
        let sql = format!("SELECT DISTINCT month FROM ({}) ORDER BY month", all.join(" UNION ALL "));
        Ok(self.store.ask::<Month>(&sql).await?.into_iter().map(|row| row.month).collect())
    }

    /// How far a table is, by lane.
    pub(super) async fn positions(
        &self,
        table: &str,
    ) -> Result<BTreeMap<TopicPartition, i64>, AggregateError> {
        let sql = format!(
            "SELECT toString(topic) AS topic, partition, position FROM {} FINAL WHERE table_name = {}",
            self.store.named("lane_positions"),
            quote(table)
        );
        let rows = self.store.ask::<PositionRow>(&sql).await?;
        Ok(rows
            .into_iter()
            .map(|row| (TopicPartition::new(row.topic, row.partition), row.position))
            .collect())
    }

    /// Waits until every lane is as far in `new` as in `old`, and stays so while nothing is written to `old`.
    ///
    /// A lane that had nothing to write and takes longer to see where windows go now may write a last time to `old`
    /// after that; readers then see those readings when it has moved, a moment later.
    pub(super) async fn reached(&self, new: &str, old: &str, watch: &Watch) -> Result<(), AggregateError> {
        let (mut before, mut looks) = (BTreeMap::new(), 0);
        while looks < LOOKS {
            tokio::time::sleep(LOOK).await;
            let (at, due) = (self.positions(new).await?, self.positions(old).await?);
            let behind = due.iter().find(|(lane, due)| at.get(*lane).is_none_or(|at| at < *due));
            if let Some((lane, due)) = behind {
                let at = at.get(lane).map_or_else(|| "nowhere".to_owned(), ToString::to_string);
                let why =
                    format!("lane {lane} is at {at} of {due}; the aggregator brings it there while it runs");
                watch(Note::Waiting(&why));
            }
            looks = if behind.is_none() && due == before { looks + 1 } else { 0 };
            before = due;
        }
        Ok(())
    }
}
