//! ClickHouse over HTTP: statements, typed rows and Native bytes.
//!
//! In every statement the placeholder of the database comes before the first value ([`ClickHouse::rows`]).

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use clickhouse::error::Error;
use clickhouse::{Client, Compression, RowOwned, RowRead};
use stillwell_schema::TopicPartition;
use tokio::time::timeout;

use super::{
    HighRow, MachineRows, RefusedRow, SeriesRow, Standing, Store, TablePosition, Targets, WindowKey,
    WindowRow,
};
use crate::error::AggregateError;
use crate::lateness::{self, LatenessRow};
use crate::scoring::restore;
use crate::settings::ClickHouseSettings;
use crate::window::TOTALS;

/// Statements that name windows by the thousand are long.
const QUERY_BYTES_MAX: &str = "268435456";
/// How long the server may take. What takes longer is given up and tried again; a repetition changes nothing.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);
const SEND_WITHIN: Duration = Duration::from_secs(60);
const INSERT_WITHIN: Duration = Duration::from_secs(300);
/// For statements that move a month of windows, or rewrite a table.
const WORK_WITHIN: Duration = Duration::from_secs(6 * 3600);

/// A connection pool and the database it speaks of.
#[derive(Clone)]
pub(crate) struct ClickHouse {
    client: Client,
    database: String,
    database_literal: String,
}

impl ClickHouse {
    pub(crate) fn new(settings: &ClickHouseSettings) -> Self {
        let client = Client::default()
            .with_url(&settings.url)
            .with_user(&settings.user)
            .with_password(&settings.password)
            .with_compression(Compression::None)
            .with_setting("max_query_size", QUERY_BYTES_MAX)
            // Of tables over a cluster too: what is answered is stored on its shard.
            .with_setting("distributed_foreground_insert", "1");
        let (database, database_literal) = (identifier(&settings.database), quote(&settings.database));
        Self { client, database, database_literal }
    }

    /// Runs a statement that holds no values of users; the database's name stands for each `{database}`.
    pub(crate) async fn execute(&self, sql: &str) -> Result<(), AggregateError> {
        let sql = sql.replace("{database}", &self.database);
        let done = timeout(ANSWER_WITHIN, self.client.query_raw(&sql).execute()).await;
        Ok(done.unwrap_or(Err(Error::TimedOut))?)
    }

    /// Runs a statement of a migration, which may move all that there is; the database's name stands for each
    /// `{database}`.
    pub(crate) async fn migrate(&self, sql: &str) -> Result<(), AggregateError> {
        let sql = sql.replace("{database}", &self.database);
        let query = self
            .client
            .query_raw(&sql)
            .with_setting("max_table_size_to_drop", "0")
            .with_setting("max_partitions_per_insert_block", "0");
        let done = timeout(WORK_WITHIN, query.execute()).await;
        Ok(done.unwrap_or(Err(Error::TimedOut))?)
    }

    /// The rows of a query. The database's name stands for the first `{database}`, which comes before the
    /// first value: a value may hold any text.
    pub(crate) async fn rows<T>(&self, sql: &str) -> Result<Vec<T>, AggregateError>
    where
        T: RowOwned + RowRead,
    {
        let sql = sql.replacen("{database}", &self.database, 1);
        let rows = timeout(ANSWER_WITHIN, self.client.query_raw(&sql).fetch_all()).await;
        Ok(rows.unwrap_or(Err(Error::TimedOut))?)
    }

    /// A table with its database, as statements name it that are run as they stand.
    pub(crate) fn named(&self, table: &str) -> String {
        format!("{}.{}", self.database, identifier(table))
    }

    /// The database's name as a value, for the server's own tables.
    pub(crate) fn database_literal(&self) -> &str {
        &self.database_literal
    }

    /// Runs a statement as it stands, which may work for long.
    pub(crate) async fn work(&self, sql: &str) -> Result<(), AggregateError> {
        // What is dropped was meant to be, however large.
        let query = self.client.query_raw(sql).with_setting("max_table_size_to_drop", "0");
        let done = timeout(WORK_WITHIN, query.execute()).await;
        Ok(done.unwrap_or(Err(Error::TimedOut))?)
    }

    /// The rows of a query as it stands, which may work for long.
    pub(crate) async fn ask<T>(&self, sql: &str) -> Result<Vec<T>, AggregateError>
    where
        T: RowOwned + RowRead,
    {
        let rows = timeout(WORK_WITHIN, self.client.query_raw(sql).fetch_all()).await;
        Ok(rows.unwrap_or(Err(Error::TimedOut))?)
    }
}

impl Store for ClickHouse {
    async fn targets(&self) -> Result<Targets, AggregateError> {
        let rows: Vec<(String, String)> =
            self.rows("SELECT width, table_name FROM {database}.generations FINAL").await?;
        Ok(rows.iter().fold(Targets::default(), |targets, (width, table)| targets.with(width, table)))
    }

    async fn standing(&self, lane: &TopicPartition) -> Result<Option<Standing>, AggregateError> {
        let sql =
            format!("SELECT position, readings, late FROM {{database}}.positions FINAL WHERE {}", is(lane));
        Ok(self.rows::<Standing>(&sql).await?.into_iter().next())
    }

    async fn positions(&self, lane: &TopicPartition) -> Result<Vec<TablePosition>, AggregateError> {
        let of = is(lane);
        self.rows(&format!("SELECT table_name, position FROM {{database}}.lane_positions FINAL WHERE {of}"))
            .await
    }

    async fn series(&self, lane: &TopicPartition) -> Result<Vec<SeriesRow>, AggregateError> {
        let sql = format!(
            "SELECT machine, sensor, kind, unit, time, value, text, quality, score, early_from, early_until FROM {{database}}.latest_rows FINAL WHERE {}",
            is(lane)
        );
        self.rows(&sql).await
    }

    async fn highs(&self, lane: &TopicPartition, table: &str) -> Result<Vec<HighRow>, AggregateError> {
        let sql = format!(
            "SELECT machine, sensor, version, high FROM {{database}}.series_highs FINAL WHERE {} AND table_name = {}",
            is(lane),
            quote(table)
        );
        self.rows(&sql).await
    }

    async fn windows(
        &self,
        lane: &TopicPartition,
        width: usize,
        table: &str,
        keys: &[WindowKey<'_>],
    ) -> Result<Vec<WindowRow>, AggregateError> {
        self.rows(&select(lane, width, table, keys)).await
    }

    async fn machines(&self, lane: &TopicPartition) -> Result<MachineRows, AggregateError> {
        restore::rows(self, lane).await
    }

    async fn lateness(&self, lane: &TopicPartition) -> Result<Vec<LatenessRow>, AggregateError> {
        self.rows(&lateness::select(lane)).await
    }

    async fn refused(&self, lane: &TopicPartition) -> Result<Vec<RefusedRow>, AggregateError> {
        let of = is(lane);
        self.rows(&format!(
            "SELECT machine, series, readings, since FROM {{database}}.refused_series FINAL WHERE {of}"
        ))
        .await
    }

    /// Whole or not at all as far as ClickHouse promises it for one statement; the rows are absolute, so a
    /// repetition changes nothing.
    async fn insert(&self, table: &str, blocks: Vec<Bytes>) -> Result<(), AggregateError> {
        let sql = format!("INSERT INTO {}.{} FORMAT Native", self.database, identifier(table));
        let mut insert = self
            .client
            .insert_formatted_with(sql)
            // Late data and replays may touch any number of months.
            .with_setting("max_partitions_per_insert_block", "0")
            // What is answered is stored, whatever the server's default.
            .with_setting("async_insert", "0")
            .with_timeouts(Some(SEND_WITHIN), Some(INSERT_WITHIN));
        for block in blocks {
            insert.send(block).await?;
        }
        Ok(insert.end().await?)
    }
}

const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;

/// The spans, µs, whose number since 1970 the key of a table begins with: of a width's windows, and of its totals.
const SPANS_US: [Option<i64>; 4] = [Some(HOUR_US), Some(DAY_US), Some(30 * DAY_US), None];
const SPANS_OF_TOTALS_US: [Option<i64>; 4] = [None, Some(HOUR_US / 2), Some(DAY_US), Some(30 * DAY_US)];

/// These windows. Each is named by its whole key and by the coarse time before it, so that no others are read; the
/// bounds of time leave the other months' parts alone. The keys are literals, which the parser takes as one.
fn select(lane: &TopicPartition, width: usize, table: &str, keys: &[WindowKey<'_>]) -> String {
    let is_of_totals = TOTALS[width].is_some_and(|first| table.starts_with(first));
    let span_us = if is_of_totals { SPANS_OF_TOTALS_US[width] } else { SPANS_US[width] };
    let coarse = span_us.map_or_else(String::new, |span_us| within(span_us, keys));
    // In the words of the key, which the server looks up as they are.
    let (start, sign) = match span_us {
        Some(_) => ("negate(toUnixTimestamp64Micro(start))", -1),
        None => ("toUnixTimestamp64Micro(start)", 1),
    };
    let starts = || keys.iter().map(|key| key.start_us);
    let (from, until) = (starts().min().unwrap_or_default(), starts().max().unwrap_or_default());
    let literal = |key: &WindowKey<'_>| {
        format!("({}, {}, {})", quote(key.machine), quote(key.sensor), sign * key.start_us)
    };
    format!(
        "SELECT machine, sensor, start, version, count, sum, m2, min, max, first, first_time, last, last_time, area_last, area_linear, increase, resets, disordered, bad, late, score, histogram, state_count, state_first, state_first_time, state_last, state_last_time, transitions, state_disordered, held FROM {{database}}.{} FINAL WHERE {} AND start BETWEEN fromUnixTimestamp64Micro({from}, 'UTC') AND fromUnixTimestamp64Micro({until}, 'UTC'){coarse} AND (machine, sensor, {start}) IN ({})",
        identifier(table),
        is(lane),
        keys.iter().map(literal).collect::<Vec<_>>().join(", ")
    )
}

/// The condition for rows within the spans of the keys, which are rounded towards 1970.
fn within(span_us: i64, keys: &[WindowKey<'_>]) -> String {
    let spans: BTreeSet<i64> = keys.iter().map(|key| key.start_us / span_us).collect();
    let spans: Vec<String> = spans.iter().map(i64::to_string).collect();
    format!(" AND intDiv(toUnixTimestamp64Micro(start), {span_us}) IN ({})", spans.join(", "))
}

/// The condition for a lane's rows.
pub(crate) fn is(lane: &TopicPartition) -> String {
    format!("topic = {} AND partition = {}", quote(&lane.topic), lane.partition)
}

/// A name of SQL.
pub(crate) fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

/// A string literal of SQL.
pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_are_quoted() {
        assert_eq!(identifier("a`b\\"), r"`a\`b\\`");
        assert_eq!(quote("a'b\\"), r"'a\'b\\'");
    }

    #[test]
    fn a_statement_names_whole_keys() {
        let keys = [WindowKey { machine: "o'{database}", sensor: "s", start_us: 1 }];
        let sql = select(&TopicPartition::new("t", 3), 0, "windows_10s", &keys);
        assert!(sql.ends_with(r"IN (('o\'{database}', 's', -1))"), "{sql}");
        assert!(sql.contains("FROM {database}.`windows_10s` FINAL"), "{sql}");
    }
}
