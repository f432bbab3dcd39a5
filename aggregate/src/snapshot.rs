//! What changed in a lane, as Native blocks at one offset.

use std::borrow::Cow;

use bytes::Bytes;
use rayon::prelude::*;
use stillwell_schema::TopicPartition;
use stillwell_source::series::SeriesTable;

use crate::fold::{Early, LaneFold, Level, SeriesState};
use crate::native::Block;
use crate::store::Targets;
use crate::window::{Fold, States, Window};

/// A block for a table.
#[derive(Clone, Debug)]
pub struct Part {
    /// The table.
    pub table: Cow<'static, str>,
    /// Rows inside.
    pub rows: usize,
    /// Native bytes.
    pub bytes: Bytes,
}

/// The kind of counters: increase and resets of others say nothing, and are not kept.
const COUNTER: &str = "counter";

/// Encodes every window of a level and every last reading that changed, complete up to `version`, and hands them
/// over as on their way ([`LaneFold::sent`]). The windows come before the last readings: who finds a last reading
/// finds its windows.
pub fn take(
    lane: &TopicPartition,
    fold: &mut LaneFold,
    table: &SeriesTable,
    level: Level,
    version: i64,
    targets: &Targets,
) -> Vec<Part> {
    let dirty = fold.take_dirty(level);
    let states: Vec<&SeriesState> = dirty.iter().map(|&number| fold.series(number)).collect();
    let lane = Source { lane, table, version };
    let widths = (0..level.widths()).into_par_iter();
    let mut parts: Vec<Part> =
        widths.filter_map(|width| lane.windows(width, &states, targets.table(width))).collect();
    parts.extend(lane.latest(&states));
    if level == Level::All {
        parts.extend(lane.highs(&states));
    }
    fold.sent(dirty, level, version);
    if let Some(totals) = fold.totals_mut().filter(|_| level == Level::All) {
        parts.extend(take_totals(&lane, totals, targets));
    }
    parts
}

/// The same of totals, which are written with windows of all widths.
fn take_totals(lane: &Source<'_>, totals: &mut LaneFold, targets: &Targets) -> Vec<Part> {
    let dirty = totals.take_dirty(Level::All);
    let states: Vec<&SeriesState> = dirty.iter().map(|&number| totals.series(number)).collect();
    let of_width = |width| lane.windows(width, &states, targets.totals(width)?);
    let parts = (0..Level::All.widths()).filter_map(of_width).collect();
    totals.sent(dirty, Level::All, lane.version);
    parts
}

/// Encodes what was refused of the machines of which that has changed; none where there are none. `start` is where the
/// lane began.
pub(crate) fn refused(
    lane: &TopicPartition,
    fold: &mut LaneFold,
    table: &SeriesTable,
    version: i64,
    start: i64,
) -> Option<Part> {
    let rows = fold.take_refused(start);
    if rows.is_empty() {
        return None;
    }
    let mut block = Block::new(7, rows.len());
    block.strings("topic", rows.iter().map(|_| &*lane.topic));
    block.i32s("partition", rows.iter().map(|_| lane.partition));
    block.strings("machine", rows.iter().map(|(machine, ..)| table.name(*machine)));
    block.i64s("version", rows.iter().map(|_| version));
    block.u64s("series", rows.iter().map(|(_, refused, _)| refused.series));
    block.u64s("readings", rows.iter().map(|(_, refused, _)| refused.readings));
    block.i64s("since", rows.iter().map(|(_, _, since)| *since));
    Some(Part { table: "refused_series".into(), rows: rows.len(), bytes: block.finish() })
}

/// What all rows of a block share.
struct Source<'a> {
    lane: &'a TopicPartition,
    table: &'a SeriesTable,
    version: i64,
}

impl Source<'_> {
    fn windows(&self, width: usize, states: &[&SeriesState], target: &str) -> Option<Part> {
        let rows: Vec<(&SeriesState, &Window)> = states
            .iter()
            .flat_map(|state| {
                let windows = state.windows(width).iter();
                windows
                    .filter(|window| window.dirty && !window.fold.is_empty())
                    .map(move |window| (*state, window))
            })
            .collect();
        if rows.is_empty() {
            return None;
        }
        let mut block = Block::new(34, rows.len());
        self.names(&mut block, rows.iter().map(|(state, _)| *state));
        block.times("start", rows.iter().map(|(_, window)| window.start_us));
        statistics(&mut block, &rows, self.table);
        string_states(&mut block, &rows);
        Some(Part { table: target.to_owned().into(), rows: rows.len(), bytes: block.finish() })
    }

    fn latest(&self, states: &[&SeriesState]) -> Option<Part> {
        let rows: Vec<_> =
            states.iter().filter_map(|state| state.latest.as_ref().map(|latest| (*state, latest))).collect();
        if rows.is_empty() {
            return None;
        }
        let mut block = Block::new(14, rows.len());
        self.names(&mut block, rows.iter().map(|(state, _)| *state));
        block.times("time", rows.iter().map(|(_, latest)| latest.time_us));
        block.maybe_f64s("value", &rows.iter().map(|(_, latest)| latest.value).collect::<Vec<_>>());
        block.maybe_strings(
            "text",
            &rows.iter().map(|(_, latest)| latest.text.as_deref()).collect::<Vec<_>>(),
        );
        block.u32s("quality", rows.iter().map(|(_, latest)| latest.quality));
        let scores: Vec<_> = rows.iter().map(|(_, latest)| latest.score.map(f64::from)).collect();
        block.maybe_f64s("score", &scores);
        let early = |end: fn(Early) -> i64| -> Vec<Option<i64>> {
            rows.iter().map(|(state, _)| state.early().map(end)).collect()
        };
        block.maybe_times("early_from", &early(|early| early.from_us));
        block.maybe_times("early_until", &early(|early| early.until_us));
        Some(Part { table: "latest_rows".into(), rows: rows.len(), bytes: block.finish() })
    }

    /// Their largest times, at which windows of all widths are complete.
    fn highs(&self, states: &[&SeriesState]) -> Option<Part> {
        let rows: Vec<(&SeriesState, i64)> =
            states.iter().filter_map(|state| state.high_us().map(|high_us| (*state, high_us))).collect();
        if rows.is_empty() {
            return None;
        }
        let mut block = Block::new(7, rows.len());
        block.strings("topic", rows.iter().map(|_| &*self.lane.topic));
        block.i32s("partition", rows.iter().map(|_| self.lane.partition));
        block.strings("table_name", rows.iter().map(|_| ""));
        block.strings("machine", rows.iter().map(|(state, _)| self.table.name(state.machine)));
        block.strings("sensor", rows.iter().map(|(state, _)| self.table.name(state.sensor)));
        block.i64s("version", rows.iter().map(|_| self.version));
        block.times("high", rows.iter().map(|(_, high_us)| *high_us));
        Some(Part { table: "series_highs".into(), rows: rows.len(), bytes: block.finish() })
    }

    /// Seven columns: whose rows they are, and up to where they are complete.
    fn names<'a>(&self, block: &mut Block, rows: impl Iterator<Item = &'a SeriesState> + Clone) {
        let maybe = |code: Option<u32>| code.map_or("", |code| self.table.name(code));
        block.strings("topic", rows.clone().map(|_| &*self.lane.topic));
        block.i32s("partition", rows.clone().map(|_| self.lane.partition));
        block.strings("machine", rows.clone().map(|state| self.table.name(state.machine)));
        block.strings("sensor", rows.clone().map(|state| state.name_in(self.table)));
        block.i64s("version", rows.clone().map(|_| self.version));
        block.strings("kind", rows.clone().map(|state| maybe(state.kind)));
        block.strings("unit", rows.map(|state| maybe(state.unit)));
    }
}

/// Eighteen columns of the numbers.
fn statistics(block: &mut Block, rows: &[(&SeriesState, &Window)], table: &SeriesTable) {
    let folds = || rows.iter().map(|(_, window)| &window.fold);
    // Without a value, and of totals, there is no time, and what stands for none is past what the column can show.
    let time = |fold: &Fold, time_us: i64| if fold.first_time > fold.last_time { 0 } else { time_us };
    let counters = || {
        rows.iter().map(|(state, window)| {
            let is_counter = state.kind.is_some_and(|kind| table.name(kind) == COUNTER);
            if is_counter { (window.fold.increase, u64::from(window.fold.resets)) } else { (0.0, 0) }
        })
    };
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
    block.f64s("increase", counters().map(|(increase, _)| increase));
    block.u64s("resets", counters().map(|(_, resets)| resets));
    block.u64s("disordered", folds().map(|fold| fold.disordered.into()));
    block.u64s("bad", folds().map(|fold| fold.bad.into()));
    block.u64s("late", folds().map(|fold| fold.late.into()));
    block.f32s("score", folds().map(|fold| fold.score));
    block.histograms("histogram", folds().map(|fold| fold.histogram.buckets()));
}

/// Eight columns of the string states.
fn string_states(block: &mut Block, rows: &[(&SeriesState, &Window)]) {
    static NONE: States = States::NONE;
    let states = || rows.iter().map(|(_, window)| window.fold.states.as_deref().unwrap_or(&NONE));
    block.u64s("state_count", states().map(|states| states.count));
    block.strings("state_first", states().map(States::first));
    block.times("state_first_time", states().map(|states| states.first_time));
    block.strings("state_last", states().map(States::last));
    block.times("state_last_time", states().map(|states| states.last_time));
    block.u64s("transitions", states().map(|states| states.transitions));
    block.u64s("state_disordered", states().map(|states| states.disordered));
    block.spans("held", states().map(|states| &*states.held));
}
