//! What is read back from ClickHouse: where a lane stands, its series' last readings, and single windows that
//! late data touches.
//!
//! In every statement the placeholder of the database comes before the first value ([`Store::rows`]).

use std::collections::HashMap;

use clickhouse::Row;
use serde::Deserialize;
use stillwell_schema::TopicPartition;
use stillwell_source::series::SeriesTable;

use crate::client::{Store, quote};
use crate::error::AggregateError;
use crate::fold::{Early, LaneFold, Latest, Missing};
use crate::histogram::Histogram;
use crate::window::{Fold, TABLES, Window};

/// Windows that one statement names: a server reads so many keys at once whatever its limits on a statement's
/// length, on its syntax tree (`max_ast_elements`), and on memory.
const WINDOWS_PER_STATEMENT_MAX: usize = 4096;

/// Where a lane stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Row, Deserialize)]
pub struct Position {
    /// The next offset to fold.
    pub position: i64,
    /// Readings folded so far.
    pub readings: u64,
    /// Late ones among them.
    pub late: u64,
}

#[derive(Row, Deserialize)]
struct LatestRow {
    machine: String,
    sensor: String,
    kind: String,
    unit: String,
    time: i64,
    value: Option<f64>,
    text: Option<String>,
    quality: u32,
    score: Option<f64>,
    early_from: Option<i64>,
    early_until: Option<i64>,
}

#[derive(Row, Deserialize)]
struct WindowRow {
    machine: String,
    sensor: String,
    start: i64,
    version: i64,
    count: u64,
    sum: f64,
    m2: f64,
    min: f64,
    max: f64,
    first: f64,
    first_time: i64,
    last: f64,
    last_time: i64,
    area_last: f64,
    area_linear: f64,
    disordered: u64,
    bad: u64,
    late: u64,
    score: f32,
    histogram: Vec<(i32, u64)>,
}

/// A lane's stored position; none where it has none.
pub(crate) async fn position(
    store: &Store,
    lane: &TopicPartition,
) -> Result<Option<Position>, AggregateError> {
    let sql = format!("SELECT position, readings, late FROM {{database}}.positions FINAL WHERE {}", is(lane));
    Ok(store.rows::<Position>(&sql).await?.into_iter().next())
}

/// Brings the last reading of every series of a lane, which says what windows there may be.
pub(crate) async fn series(
    store: &Store,
    lane: &TopicPartition,
    fold: &mut LaneFold,
    table: &mut SeriesTable,
) -> Result<(), AggregateError> {
    let sql = format!(
        "SELECT machine, sensor, kind, unit, time, value, text, quality, score, early_from, early_until FROM {{database}}.latest_rows FINAL WHERE {}",
        is(lane)
    );
    for row in store.rows::<LatestRow>(&sql).await? {
        let (machine, sensor) = (table.intern_name(&row.machine), table.intern_name(&row.sensor));
        let kind = (!row.kind.is_empty()).then(|| table.intern_name(&row.kind));
        let unit = (!row.unit.is_empty()).then(|| table.intern_name(&row.unit));
        let number = fold.series_of(machine, sensor);
        #[allow(clippy::cast_possible_truncation, reason = "it was an f32")]
        let score = row.score.map(|score| score as f32);
        let latest =
            Latest { time_us: row.time, value: row.value, text: row.text, quality: row.quality, score };
        let early = row.early_from.zip(row.early_until);
        let early = early.map(|(from_us, until_us)| Early { from_us, until_us });
        fold.series_mut(number).restore(kind, unit, latest, early);
    }
    Ok(())
}

/// What is missing, cut into parts that one statement can bring; it is sorted.
pub(crate) fn statements(missing: &[Missing]) -> impl Iterator<Item = &[Missing]> {
    missing.chunk_by(|a, b| a.width == b.width).flat_map(|some| some.chunks(WINDOWS_PER_STATEMENT_MAX))
}

/// Brings windows of one width, [`statements`] cuts them, and puts an empty one where none is stored.
pub(crate) async fn windows(
    store: &Store,
    lane: &TopicPartition,
    missing: &[Missing],
    fold: &mut LaneFold,
    table: &SeriesTable,
) -> Result<(), AggregateError> {
    let Some(&Missing { width, .. }) = missing.first() else { return Ok(()) };
    let mut found = HashMap::new();
    for row in store.rows::<WindowRow>(&select(lane, missing, fold, table)).await? {
        found.insert((row.machine.clone(), row.sensor.clone(), row.start), window(row));
    }
    for &Missing { series, start_us, .. } in missing {
        let state = fold.series(series);
        let (machine, sensor) = (table.name(state.machine).to_owned(), table.name(state.sensor).to_owned());
        let stored = found.remove(&(machine, sensor, start_us));
        let window = stored.unwrap_or_else(|| Window { start_us, ..Window::default() });
        fold.insert(series, width, window);
    }
    Ok(())
}

/// These windows of one width. Each is named by its whole key, so that no others are read; the bounds of time
/// leave the other months' parts alone. The keys are literals, which the parser takes as one.
fn select(lane: &TopicPartition, wanted: &[Missing], fold: &LaneFold, table: &SeriesTable) -> String {
    let starts = || wanted.iter().map(|missing| missing.start_us);
    let (from, until) = (starts().min().unwrap_or_default(), starts().max().unwrap_or_default());
    let key = |&Missing { series, start_us, .. }: &Missing| {
        let state = fold.series(series);
        format!("({}, {}, {start_us})", quote(table.name(state.machine)), quote(table.name(state.sensor)))
    };
    let keys: Vec<String> = wanted.iter().map(key).collect();
    format!(
        "SELECT machine, sensor, start, version, count, sum, m2, min, max, first, first_time, last, last_time, area_last, area_linear, disordered, bad, late, score, histogram FROM {{database}}.{} FINAL WHERE {} AND start BETWEEN fromUnixTimestamp64Micro({from}, 'UTC') AND fromUnixTimestamp64Micro({until}, 'UTC') AND (machine, sensor, toUnixTimestamp64Micro(start)) IN ({})",
        TABLES[wanted.first().map_or(0, |missing| missing.width)],
        is(lane),
        keys.join(", ")
    )
}

fn window(row: WindowRow) -> Window {
    let mut fold = Fold {
        count: row.count,
        m2: row.m2,
        min: row.min,
        max: row.max,
        first: row.first,
        first_time: row.first_time,
        last: row.last,
        last_time: row.last_time,
        area_last: row.area_last,
        area_linear: row.area_linear,
        disordered: row.disordered,
        bad: row.bad,
        late: row.late,
        score: row.score,
        histogram: Histogram::from_buckets(row.histogram),
        ..Fold::default()
    };
    fold.set_sum(row.sum);
    if fold.count == 0 {
        let never = Fold::default();
        (fold.first_time, fold.last_time) = (never.first_time, never.last_time);
    }
    Window { start_us: row.start, version: row.version, dirty: false, fold }
}

/// The condition for a lane's rows.
pub(crate) fn is(lane: &TopicPartition) -> String {
    format!("topic = {} AND partition = {}", quote(&lane.topic), lane.partition)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_bounded_and_name_whole_keys() {
        let (mut table, mut fold) = (SeriesTable::default(), LaneFold::default());
        let (machine, sensor) = (table.intern_name("o'{database}"), table.intern_name("s"));
        let series = fold.series_of(machine, sensor);
        let missing: Vec<Missing> = (0..2)
            .flat_map(|width| (0..10_000).map(move |start_us| Missing { width, series, start_us }))
            .collect();
        let parts: Vec<&[Missing]> = statements(&missing).collect();
        assert_eq!(parts.concat(), missing);
        for part in parts {
            assert!(part.len() <= WINDOWS_PER_STATEMENT_MAX);
            assert!(part.iter().all(|one| one.width == part[0].width));
        }
        let sql = select(&TopicPartition::new("t", 3), &missing[1..2], &fold, &table);
        assert!(sql.ends_with(r"IN (('o\'{database}', 's', 1))"), "{sql}");
        assert!(sql.contains("FROM {database}.windows_10s FINAL"), "{sql}");
    }
}
