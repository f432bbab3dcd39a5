//! What is read back from ClickHouse: where a lane stands, its series' last readings, and single windows that
//! late data touches.

use std::collections::HashMap;

use clickhouse::Row;
use serde::Deserialize;
use stillwell_schema::TopicPartition;
use stillwell_source::series::SeriesTable;

use crate::client::{Store, quote};
use crate::error::AggregateError;
use crate::fold::{LaneFold, Latest, Missing};
use crate::histogram::Histogram;
use crate::window::{Fold, TABLES, Window};

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
}

#[derive(Row, Deserialize)]
struct WindowRow {
    machine: String,
    sensor: String,
    start: i64,
    version: i64,
    count: u64,
    sum: f64,
    sum_squares: f64,
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
        "SELECT machine, sensor, kind, unit, time, value, text, quality, score FROM {{database}}.latest_rows FINAL WHERE {}",
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
        fold.series_mut(number).restore(kind, unit, latest);
    }
    Ok(())
}

/// Brings the windows that a chunk touches, one statement for each width, and puts an empty one where none is
/// stored.
pub(crate) async fn windows(
    store: &Store,
    lane: &TopicPartition,
    missing: &[Missing],
    fold: &mut LaneFold,
    table: &SeriesTable,
) -> Result<(), AggregateError> {
    for some in missing.chunk_by(|a, b| a.width == b.width) {
        let width = some[0].width;
        let mut found = HashMap::new();
        for row in store.rows::<WindowRow>(&select(width, lane, some, fold, table)).await? {
            found.insert((row.machine.clone(), row.sensor.clone(), row.start), window(row));
        }
        for wanted in some {
            let state = fold.series(wanted.series);
            let (machine, sensor) =
                (table.name(state.machine).to_owned(), table.name(state.sensor).to_owned());
            let stored = found.remove(&(machine, sensor, wanted.start_us));
            let empty = || Window { start_us: wanted.start_us, ..Window::default() };
            fold.insert(wanted.series, width, stored.unwrap_or_else(empty));
        }
    }
    Ok(())
}

/// All windows of the wanted machines and starts: a little more than what is wanted, by a short statement.
fn select(
    width: usize,
    lane: &TopicPartition,
    wanted: &[Missing],
    fold: &LaneFold,
    table: &SeriesTable,
) -> String {
    let mut starts: Vec<i64> = wanted.iter().map(|missing| missing.start_us).collect();
    let mut machines: Vec<u32> = wanted.iter().map(|missing| fold.series(missing.series).machine).collect();
    starts.sort_unstable();
    starts.dedup();
    machines.sort_unstable();
    machines.dedup();
    let machines: Vec<String> = machines.into_iter().map(|machine| quote(table.name(machine))).collect();
    let starts: Vec<String> =
        starts.into_iter().map(|start| format!("fromUnixTimestamp64Micro({start}, 'UTC')")).collect();
    format!(
        "SELECT machine, sensor, start, version, count, sum, sum_squares, min, max, first, first_time, last, last_time, area_last, area_linear, disordered, bad, late, score, histogram FROM {{database}}.{} FINAL WHERE {} AND machine IN ({}) AND start IN ({})",
        TABLES[width],
        is(lane),
        machines.join(", "),
        starts.join(", ")
    )
}

fn window(row: WindowRow) -> Window {
    let mut fold = Fold {
        count: row.count,
        sum_squares: row.sum_squares,
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
    Window { start_us: row.start, version: row.version, dirty: false, fold }
}

/// The condition for a lane's rows.
pub(crate) fn is(lane: &TopicPartition) -> String {
    format!("topic = {} AND partition = {}", quote(&lane.topic), lane.partition)
}
