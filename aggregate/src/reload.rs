//! What is read back of a lane: where it goes on, its series' last readings, and single windows that late data
//! touches.

use std::collections::HashMap;
use std::sync::Arc;

use stillwell_schema::TopicPartition;
use stillwell_source::series::SeriesTable;

use crate::error::AggregateError;
use crate::fold::{Early, LaneFold, Latest, Level, Missing, Refused, Stored};
use crate::histogram::Histogram;
use crate::store::{RefusedRow, SeriesRow, Store, Targets, WindowKey, WindowRow};
use crate::window::{Fold, States, Window};

/// Windows that one statement names: a server reads so many keys at once whatever its limits on a statement's
/// length, on its syntax tree (`max_ast_elements`), and on memory.
const WINDOWS_PER_STATEMENT_MAX: usize = 4096;

/// Where a lane goes on, and what it writes into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// The next offset to fold: every table is complete up to there. None where one of them has nothing of it.
    pub(crate) position: Option<i64>,
    /// The table that is least far, which may have been built from the archive up to there.
    last: Arc<str>,
    /// Where windows are written.
    pub(crate) targets: Targets,
}

/// Where a lane goes on.
pub(crate) async fn start(store: &impl Store, lane: &TopicPartition) -> Result<Start, AggregateError> {
    let targets = store.targets().await?;
    let positions = store.positions(lane).await?;
    let of = |table: &Arc<str>| {
        positions.iter().find(|stored| *stored.table_name == **table).map(|stored| stored.position)
    };
    let (position, last) = targets
        .written(Level::All.widths())
        .map(|table| (of(&table), table))
        .min_by_key(|(position, _)| *position)
        .unwrap_or_default();
    Ok(Start { position, last, targets })
}

/// Brings what is kept of every series of a lane, which says what windows there may be.
pub(crate) async fn series(
    store: &impl Store,
    lane: &TopicPartition,
    start: &Start,
    fold: &mut LaneFold,
    table: &mut SeriesTable,
) -> Result<(), AggregateError> {
    let highs = highs(store, lane, start).await?;
    for row in store.series(lane).await? {
        let high_us = highs.get(&(row.machine.clone(), row.sensor.clone())).copied();
        let (machine, sensor) = (table.intern_name(&row.machine), table.intern_name(&row.sensor));
        fold.restore(machine, sensor, stored(row, high_us, table));
    }
    fold.restored();
    Ok(())
}

/// Brings what the lane's owners before have refused: what has no window for that stays known as such.
pub(crate) async fn refused(
    store: &impl Store,
    lane: &TopicPartition,
    fold: &mut LaneFold,
    table: &mut SeriesTable,
) -> Result<(), AggregateError> {
    for RefusedRow { machine, series, readings, since } in store.refused(lane).await? {
        fold.restore_refused(table.intern_name(&machine), Refused { series, readings }, since);
    }
    Ok(())
}

/// The largest times of a lane's series where it goes on, by machine and sensor. Its own may be newer than that:
/// then windows of all widths are ahead, too, but for those of a table that was built from the archive, which has
/// times of its own until the lane has written all widths.
async fn highs(
    store: &impl Store,
    lane: &TopicPartition,
    start: &Start,
) -> Result<HashMap<(String, String), i64>, AggregateError> {
    let mut rows = store.highs(lane, &start.last).await?;
    rows.retain(|row| Some(row.version) == start.position);
    if rows.is_empty() {
        rows = store.highs(lane, "").await?;
    }
    Ok(rows.into_iter().map(|row| ((row.machine, row.sensor), row.high)).collect())
}

fn stored(row: SeriesRow, high_us: Option<i64>, table: &mut SeriesTable) -> Stored {
    let mut name = |name: &str| (!name.is_empty()).then(|| table.intern_name(name));
    #[allow(clippy::cast_possible_truncation, reason = "it was an f32")]
    let score = row.score.map(|score| score as f32);
    let early = row.early_from.zip(row.early_until);
    Stored {
        kind: name(&row.kind),
        unit: name(&row.unit),
        latest: Latest {
            time_us: row.time,
            value: row.value,
            text: row.text.map(Into::into),
            quality: row.quality,
            score,
        },
        early: early.map(|(from_us, until_us)| Early { from_us, until_us }),
        high_us,
    }
}

/// What is missing, cut into parts that one statement can bring; it is sorted.
pub(crate) fn statements(missing: &[Missing]) -> impl Iterator<Item = &[Missing]> {
    let is_of_one_table = |a: &Missing, b: &Missing| (a.is_total, a.width) == (b.is_total, b.width);
    missing.chunk_by(is_of_one_table).flat_map(|some| some.chunks(WINDOWS_PER_STATEMENT_MAX))
}

/// Brings windows of one table, as [`statements`] cuts them, and puts an empty one where none is stored.
pub(crate) async fn windows(
    store: &impl Store,
    lane: &TopicPartition,
    targets: &Targets,
    missing: &[Missing],
    fold: &mut LaneFold,
    table: &SeriesTable,
) -> Result<(), AggregateError> {
    let Some(&Missing { width, is_total, .. }) = missing.first() else { return Ok(()) };
    let of_totals = targets.totals(width).filter(|_| is_total);
    let target = of_totals.unwrap_or_else(|| targets.table(width));
    let key = |missing: &Missing| {
        let state = fold.of(*missing);
        let machine = table.name(state.machine);
        WindowKey { machine, sensor: state.name_in(table), start_us: missing.start_us }
    };
    let keys: Vec<WindowKey<'_>> = missing.iter().map(key).collect();
    let rows = store.windows(lane, width, target, &keys).await?;
    let mut found: HashMap<WindowKey<'_>, &WindowRow> = HashMap::with_capacity(rows.len());
    for row in &rows {
        let WindowRow { machine, sensor, start, .. } = row;
        found.insert(WindowKey { machine, sensor, start_us: *start }, row);
    }
    let windows: Vec<Window> = keys
        .iter()
        .map(|key| match found.get(key) {
            Some(row) => window(row),
            None => Window { start_us: key.start_us, ..Window::default() },
        })
        .collect();
    for (missing, window) in missing.iter().zip(windows) {
        fold.insert(*missing, window);
    }
    Ok(())
}

/// A window out of its row.
pub(crate) fn window(row: &WindowRow) -> Window {
    let narrow = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
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
        increase: row.increase,
        resets: narrow(row.resets),
        disordered: narrow(row.disordered),
        bad: narrow(row.bad),
        late: narrow(row.late),
        score: row.score,
        histogram: Histogram::from_buckets(row.histogram.iter().copied()),
        states: states(row),
        ..Fold::default()
    };
    fold.set_sum(row.sum);
    if fold.count == 0 {
        let never = Fold::default();
        (fold.first_time, fold.last_time) = (never.first_time, never.last_time);
    }
    Window { start_us: row.start, version: row.version, dirty: false, fold }
}

fn states(row: &WindowRow) -> Option<Box<States>> {
    (row.state_count > 0).then(|| {
        Box::new(States {
            count: row.state_count,
            first: Some(row.state_first.as_str().into()),
            first_time: row.state_first_time,
            last: Some(row.state_last.as_str().into()),
            last_time: row.state_last_time,
            transitions: row.transitions,
            disordered: row.state_disordered,
            held: row.held.iter().map(|(state, span)| (state.as_str().into(), *span)).collect(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_bounded_and_of_one_width() {
        let missing: Vec<Missing> = (0..2)
            .flat_map(|width| {
                (0..10_000).map(move |start_us| Missing { is_total: false, width, series: 0, start_us })
            })
            .collect();
        let parts: Vec<&[Missing]> = statements(&missing).collect();
        assert_eq!(parts.concat(), missing);
        for part in parts {
            assert!(part.len() <= WINDOWS_PER_STATEMENT_MAX);
            assert!(part.iter().all(|one| one.width == part[0].width));
        }
    }
}
