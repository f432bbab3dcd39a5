//! Folds lanes of the archive into one table, with the live lanes' own pieces, so that what is built is what they
//! would have written.
//!
//! **Invariant:** windows are written before the series' largest times, and these before the table's position. So
//! what is read again after a crash is in the windows that hold it already, which know their version; and every
//! window that may be stored is asked for, as the table itself says how far its series go.

use std::collections::HashMap;
use std::sync::Arc;

use clickhouse::Row;
use serde::Deserialize;
use stillwell_schema::{Offset, OffsetRange, TopicPartition};
use stillwell_source::compute::compute;
use stillwell_source::series::SeriesTable;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::history::{Filter, History, Stretch};
use super::plan::Shown;
use super::{Note, Watch, blocking};
use crate::error::AggregateError;
use crate::fold::{Early, LaneFold, Latest, Level, SeriesLimits, Stored, Widths};
use crate::native::Block;
use crate::reload;
use crate::saga::StepError;
use crate::snapshot;
use crate::store::{ClickHouse, HighRow, Store, Targets, is};

/// What may wait in memory to be written, of one lane.
const DIRTY_BYTES_MAX: usize = 24 << 20;
/// Windows in memory, of one lane: beyond it those go that were not in use lately.
const WINDOWS_BYTES_MAX: usize = 256 << 20;
/// After so many readings a lane's position is kept, with the largest times of all its series.
const CHECKPOINT_READINGS: usize = 16 << 20;

/// A stretch of a lane that is folded.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    pub(super) lane: TopicPartition,
    pub(super) first: i64,
    pub(super) until: i64,
}

/// What all lanes share.
#[derive(Clone)]
pub(super) struct Folder {
    pub(super) store: ClickHouse,
    pub(super) history: Arc<dyn History>,
    /// Which windows.
    pub(super) shown: Shown,
    /// Whether series that the lanes have not taken in are left out.
    pub(super) is_of_known: bool,
    /// Their table.
    pub(super) table: String,
    pub(super) filter: Filter,
    /// Whether the table was built from the archive from its beginning, so that the largest times of its series are
    /// kept beside it; else they are taken from its windows, or for totals, which do not tell them, from the lanes' own,
    /// which tell those of series of which nothing came since: of the others, late readings are told among those that
    /// are folded.
    pub(super) is_built: bool,
    pub(super) watch: Watch,
}

/// What a lane's work needs; it moves to other threads and back.
struct Work {
    series: SeriesTable,
    fold: LaneFold,
}

/// How far the windows of a series go.
#[derive(Row, Deserialize)]
struct SpanRow {
    machine: String,
    sensor: String,
    low: i64,
    top: i64,
    last: i64,
    valued: u64,
}

/// Folds all of them, so many at a time as there are cores.
pub(super) async fn lanes(folder: Folder, all: Vec<Reach>) -> Result<(), StepError> {
    (folder.watch)(Note::Total(
        all.iter().map(|reach| (reach.until - reach.first).max(0).unsigned_abs()).sum(),
    ));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (folder, turns) = (Arc::new(folder), Arc::new(Semaphore::new(cores)));
    let mut tasks = JoinSet::new();
    for reach in all {
        let (folder, turns) = (Arc::clone(&folder), Arc::clone(&turns));
        tasks.spawn(async move {
            let _turn = turns.acquire_owned().await;
            folder.lane(&reach).await
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.map_err(|error| StepError::Elsewhere(Box::new(error)))??;
    }
    Ok(())
}

impl Folder {
    async fn lane(&self, Reach { lane, first, until }: &Reach) -> Result<(), StepError> {
        let stored = self.store.positions(lane).await?;
        let stored = stored.iter().find(|row| row.table_name == self.table).map(|row| row.position);
        let begin = stored.unwrap_or(*first).max(*first);
        (self.watch)(Note::Folded((begin.min(*until) - first).unsigned_abs()));
        if stored.is_some() && begin >= *until {
            return Ok(());
        }
        let targets = Targets::default().with(self.shown.base, &self.table);
        let mut work = Box::new(self.restored(lane, begin).await?);
        let mut stretch = self.open(lane, begin, *until).await?;
        let (mut at, mut readings) = (begin, 0);
        loop {
            let (next_stretch, next_work, read) = blocking(move || {
                let read = stretch.next(&mut work.series);
                let read = read.map(|batch| {
                    batch.map(|batch| {
                        let (groups, missing) = work.fold.gather(&batch.columns, &work.series);
                        (batch, groups, missing)
                    })
                });
                (stretch, work, read)
            })
            .await?;
            (stretch, work) = (next_stretch, next_work);
            let Some((batch, groups, missing)) = read.map_err(StepError::Elsewhere)? else { break };
            for some in reload::statements(&missing) {
                reload::windows(&self.store, lane, &targets, some, &mut work.fold, &work.series).await?;
            }
            let next = batch.next;
            readings += batch.columns.len();
            work = compute(move || {
                work.fold.apply(&batch.origins, &batch.columns, &groups, &work.series);
                work
            })
            .await;
            (self.watch)(Note::Folded((next - at).unsigned_abs()));
            at = next;
            let is_due = readings >= CHECKPOINT_READINGS;
            let dirty_bytes = work.fold.dirty_bytes().max(work.fold.coarse_bytes());
            if is_due || dirty_bytes >= DIRTY_BYTES_MAX {
                work = self.write(lane, work, next, &targets).await?;
            }
            if is_due {
                self.keep(lane, &work, next).await?;
                readings = 0;
            }
        }
        let work = self.write(lane, work, *until, &targets).await?;
        self.keep(lane, &work, *until).await?;
        (self.watch)(Note::Folded((until - at).max(0).unsigned_abs()));
        Ok(())
    }

    async fn open(
        &self,
        lane: &TopicPartition,
        begin: i64,
        until: i64,
    ) -> Result<Box<dyn Stretch>, StepError> {
        let (history, lane, filter) = (Arc::clone(&self.history), lane.clone(), self.filter.clone());
        let range = OffsetRange { first: Offset(begin), next: Offset(until) };
        blocking(move || history.open(&lane, range, &filter)).await?.map_err(StepError::Elsewhere)
    }

    /// Writes what changed, complete up to `version`.
    async fn write(
        &self,
        lane: &TopicPartition,
        mut work: Box<Work>,
        version: i64,
        targets: &Targets,
    ) -> Result<Box<Work>, AggregateError> {
        let (id, to) = (lane.clone(), targets.clone());
        let (mut work, parts) = compute(move || {
            let Work { series, fold } = &mut *work;
            let parts = snapshot::take(&id, fold, series, Level::All, version, &to);
            (work, parts)
        })
        .await;
        // Last readings and the like are the live lanes' own.
        for part in parts.into_iter().filter(|part| *part.table == *self.table) {
            self.store.insert(&self.table, vec![part.bytes]).await?;
        }
        Ok(compute(move || {
            work.fold.landed();
            if work.fold.memory_bytes() > WINDOWS_BYTES_MAX {
                work.fold.evict_unused();
            }
            work
        })
        .await)
    }

    /// Keeps the largest times of all series at a position, and then that the table is complete up to there.
    async fn keep(&self, lane: &TopicPartition, work: &Work, position: i64) -> Result<(), AggregateError> {
        let numbers = 0..u32::try_from(work.fold.len()).unwrap_or(u32::MAX);
        let highs: Vec<(u32, i64)> =
            numbers.filter_map(|number| Some((number, work.fold.series(number).high_us()?))).collect();
        // Of totals that were not built, those of series that were not folded are known to their lanes alone.
        if !highs.is_empty() && (self.is_built || !self.shown.is_of_totals) {
            let states = || highs.iter().map(|(number, _)| work.fold.series(*number));
            let mut block = Block::new(7, highs.len());
            block.strings("topic", highs.iter().map(|_| &*lane.topic));
            block.i32s("partition", highs.iter().map(|_| lane.partition));
            block.strings("table_name", highs.iter().map(|_| &*self.table));
            block.strings("machine", states().map(|state| work.series.name(state.machine)));
            block.strings("sensor", states().map(|state| work.series.name(state.sensor)));
            block.i64s("version", highs.iter().map(|_| position));
            block.times("high", highs.iter().map(|(_, high_us)| *high_us));
            self.store.insert("series_highs", vec![block.finish()]).await?;
        }
        let mut block = Block::new(4, 1);
        block.strings("topic", [&*lane.topic]);
        block.i32s("partition", [lane.partition]);
        block.strings("table_name", [&*self.table]);
        block.i64s("position", [position]);
        self.store.insert("lane_positions", vec![block.finish()]).await
    }

    /// A lane as it goes on at an offset: what is stored of each series.
    async fn restored(&self, lane: &TopicPartition, begin: i64) -> Result<Work, AggregateError> {
        let mut highs: HashMap<(String, String), i64> = HashMap::new();
        let named = |row: HighRow| ((row.machine, row.sensor), row.high);
        if self.is_built {
            // Times of a later position go with windows that are as far.
            let rows = self.store.highs(lane, &self.table).await?;
            highs.extend(rows.into_iter().filter(|row| row.version >= begin).map(named));
        } else if self.shown.is_of_totals {
            // Series of which nothing came since are where they were.
            let rows = self.store.highs(lane, "").await?;
            highs.extend(rows.into_iter().filter(|row| row.version <= begin).map(named));
        }
        let mut work = Work { series: SeriesTable::default(), fold: self.empty() };
        if self.is_of_known {
            for row in self.store.series(lane).await? {
                work.know(&row.machine, &row.sensor);
            }
        }
        for row in self.spans(lane).await? {
            if self.shown.is_of_totals {
                work.restore_total(&row.machine, &row.sensor, stored(Some(row.top), None));
                continue;
            }
            let kept = highs.remove(&(row.machine.clone(), row.sensor.clone()));
            let high_us = if self.is_built { kept } else { (row.valued > 0).then_some(row.last) };
            work.restore(&row.machine, &row.sensor, stored(high_us, Some((row.low, row.top))));
        }
        for ((machine, sensor), high_us) in highs {
            work.restore(&machine, &sensor, stored(Some(high_us), None));
        }
        Ok(work)
    }

    fn empty(&self) -> LaneFold {
        let width = Widths::only(self.shown.width);
        let fold = match self.shown.is_of_totals {
            true => LaneFold::new(Widths::NONE).with_totals(width),
            false => LaneFold::new(width),
        };
        if self.is_of_known { fold.within(SeriesLimits::ALL_TAKEN, Arc::default()) } else { fold }
    }

    async fn spans(&self, lane: &TopicPartition) -> Result<Vec<SpanRow>, AggregateError> {
        let sql = format!(
            "SELECT toString(machine) AS machine, toString(sensor) AS sensor, toInt64(min(toUnixTimestamp64Micro(start))) AS low, toInt64(max(toUnixTimestamp64Micro(start))) AS top, toInt64(maxIf(toUnixTimestamp64Micro(last_time), count > 0)) AS last, countIf(count > 0) AS valued FROM {} WHERE {} GROUP BY machine, sensor",
            self.store.named(&self.table),
            is(lane)
        );
        self.store.ask(&sql).await
    }
}

impl Work {
    fn restore(&mut self, machine: &str, sensor: &str, stored: Stored) {
        let names = (self.series.intern_name(machine), self.series.intern_name(sensor));
        let number = self.fold.series_of(names.0, names.1);
        self.fold.series_mut(number).restore(stored);
    }

    /// A series that is taken in whatever the bounds are.
    fn know(&mut self, machine: &str, sensor: &str) {
        let names = (self.series.intern_name(machine), self.series.intern_name(sensor));
        self.fold.series_of(names.0, names.1);
    }

    fn restore_total(&mut self, machine: &str, kind: &str, stored: Stored) {
        let machine = self.series.intern_name(machine);
        // Readings without a kind have a total of their own.
        let kind = (!kind.is_empty()).then(|| self.series.intern_name(kind));
        self.fold.restore_total(machine, kind, stored);
    }
}

/// What is known of a series by its largest time and the first and last start of its windows: those past that time
/// are of early readings, or of readings that are to come again.
fn stored(high_us: Option<i64>, span_us: Option<(i64, i64)>) -> Stored {
    let early = span_us.filter(|(_, top_us)| high_us.is_none_or(|high_us| *top_us > high_us));
    let early = early.map(|(low_us, until_us)| Early { from_us: high_us.unwrap_or(low_us), until_us });
    let time_us = high_us.or(span_us.map(|(_, top_us)| top_us)).unwrap_or(i64::MIN);
    let latest = Latest { time_us, value: None, text: None, quality: 0, score: None };
    Stored { kind: None, unit: None, latest, early, high_us }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_past_the_largest_time_are_asked_for() {
        assert_eq!(stored(Some(50), Some((10, 40))).early, None);
        assert_eq!(stored(Some(50), Some((10, 90))).early, Some(Early { from_us: 50, until_us: 90 }));
        assert_eq!(stored(None, Some((10, 90))).early, Some(Early { from_us: 10, until_us: 90 }));
        let unseen = stored(Some(50), None);
        assert_eq!((unseen.early, unseen.latest.time_us), (None, 50));
    }
}
