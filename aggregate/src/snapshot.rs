//! What changed in a lane, as Native blocks at one offset.

use bytes::Bytes;
use stillwell_schema::TopicPartition;
use stillwell_source::series::SeriesTable;

use crate::fold::{Early, LaneFold, SeriesState};
use crate::native::Block;
use crate::window::{Fold, TABLES, Window};

/// A block for a table.
#[derive(Clone, Debug)]
pub struct Part {
    /// The table.
    pub table: &'static str,
    /// Rows inside.
    pub rows: usize,
    /// Native bytes.
    pub bytes: Bytes,
}

/// Encodes every window and last reading that changed, complete up to `version`, and hands them over as on
/// their way ([`LaneFold::sent`]). The windows come before the last readings: who finds a last reading finds
/// its windows.
pub fn take(lane: &TopicPartition, fold: &mut LaneFold, table: &SeriesTable, version: i64) -> Vec<Part> {
    let dirty = fold.take_dirty();
    let states: Vec<&SeriesState> = dirty.iter().map(|&number| fold.series(number)).collect();
    let mut parts: Vec<Part> =
        (0..TABLES.len()).filter_map(|width| windows(lane, width, &states, table, version)).collect();
    parts.extend(latest(lane, &states, table, version));
    fold.sent(dirty, version);
    parts
}

fn windows(
    lane: &TopicPartition,
    width: usize,
    states: &[&SeriesState],
    table: &SeriesTable,
    version: i64,
) -> Option<Part> {
    let rows: Vec<(&SeriesState, &Window)> = states
        .iter()
        .flat_map(|state| {
            state
                .windows(width)
                .iter()
                .filter(|window| window.dirty && !window.fold.is_empty())
                .map(move |window| (*state, window))
        })
        .collect();
    if rows.is_empty() {
        return None;
    }
    let name = |code| table.name(code);
    let maybe = |code: Option<u32>| code.map_or("", |code| table.name(code));
    let folds = || rows.iter().map(|(_, window)| &window.fold);
    // Without a value there is no time, and what stands for none is past what the column can show.
    let time = |fold: &Fold, time_us: i64| if fold.count == 0 { 0 } else { time_us };
    let mut block = Block::new(24, rows.len());
    block.strings("topic", rows.iter().map(|_| &*lane.topic));
    block.i32s("partition", rows.iter().map(|_| lane.partition));
    block.strings("machine", rows.iter().map(|(state, _)| name(state.machine)));
    block.strings("sensor", rows.iter().map(|(state, _)| name(state.sensor)));
    block.times("start", rows.iter().map(|(_, window)| window.start_us));
    block.i64s("version", rows.iter().map(|_| version));
    block.strings("kind", rows.iter().map(|(state, _)| maybe(state.kind)));
    block.strings("unit", rows.iter().map(|(state, _)| maybe(state.unit)));
    block.u64s("count", folds().map(|fold| fold.count));
    block.f64s("sum", folds().map(Fold::sum));
    block.f64s("m2", folds().map(|fold| fold.m2));
    block.f64s("min", folds().map(|fold| fold.min));
    block.f64s("max", folds().map(|fold| fold.max));
    block.f64s("first", folds().map(|fold| fold.first));
    block.times("first_time", folds().map(|fold| time(fold, fold.first_time)));
    block.f64s("last", folds().map(|fold| fold.last));
    block.times("last_time", folds().map(|fold| time(fold, fold.last_time)));
    block.f64s("area_last", folds().map(|fold| fold.area_last));
    block.f64s("area_linear", folds().map(|fold| fold.area_linear));
    block.u64s("disordered", folds().map(|fold| fold.disordered));
    block.u64s("bad", folds().map(|fold| fold.bad));
    block.u64s("late", folds().map(|fold| fold.late));
    block.f32s("score", folds().map(|fold| fold.score));
    block.histograms("histogram", folds().map(|fold| fold.histogram.buckets()));
    Some(Part { table: TABLES[width], rows: rows.len(), bytes: block.finish() })
}

fn latest(lane: &TopicPartition, states: &[&SeriesState], table: &SeriesTable, version: i64) -> Option<Part> {
    let rows: Vec<_> =
        states.iter().filter_map(|state| state.latest.as_ref().map(|latest| (*state, latest))).collect();
    if rows.is_empty() {
        return None;
    }
    let maybe = |code: Option<u32>| code.map_or("", |code| table.name(code));
    let mut block = Block::new(14, rows.len());
    block.strings("topic", rows.iter().map(|_| &*lane.topic));
    block.i32s("partition", rows.iter().map(|_| lane.partition));
    block.strings("machine", rows.iter().map(|(state, _)| table.name(state.machine)));
    block.strings("sensor", rows.iter().map(|(state, _)| table.name(state.sensor)));
    block.i64s("version", rows.iter().map(|_| version));
    block.strings("kind", rows.iter().map(|(state, _)| maybe(state.kind)));
    block.strings("unit", rows.iter().map(|(state, _)| maybe(state.unit)));
    block.times("time", rows.iter().map(|(_, latest)| latest.time_us));
    block.maybe_f64s("value", &rows.iter().map(|(_, latest)| latest.value).collect::<Vec<_>>());
    block.maybe_strings("text", &rows.iter().map(|(_, latest)| latest.text.as_deref()).collect::<Vec<_>>());
    block.u32s("quality", rows.iter().map(|(_, latest)| latest.quality));
    let scores: Vec<_> = rows.iter().map(|(_, latest)| latest.score.map(f64::from)).collect();
    block.maybe_f64s("score", &scores);
    let early = |end: fn(Early) -> i64| -> Vec<Option<i64>> {
        rows.iter().map(|(state, _)| state.early().map(end)).collect()
    };
    block.maybe_times("early_from", &early(|early| early.from_us));
    block.maybe_times("early_until", &early(|early| early.until_us));
    Some(Part { table: "latest_rows", rows: rows.len(), bytes: block.finish() })
}
