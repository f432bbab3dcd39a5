//! Scores rows of machines, in the order of the log.
//!
//! Readings become [`rows`]. A [`machine`]'s first rows are its [`commissioning`] and train its model
//! ([`trainer`]); from then on each row is scored, and scores above the threshold become an [`event`].
//! [`stored`] keeps all of it at the lane's position, and [`restore`] brings it back.
//!
//! **Invariant:** what a machine does with a record depends on the records before it and on nothing else: not
//! on how they come in chunks, not on how long training takes, not on restarts. So the same log gives the
//! same scores, and an anomaly the same id.

use std::sync::Arc;

use metrics::counter;
use rustc_hash::FxHashMap;
use stillwell_models::features::is_value;
use stillwell_schema::{Clock, TopicPartition, quality};
use stillwell_source::columns::ReadingColumns;
use stillwell_source::series::{NameCode, SeriesTable};

use crate::alerts::Alert;
use crate::error::AggregateError;
use crate::fold::{LaneFold, Level, Missing, Origin};
use crate::settings::ScoringSettings;
use crate::snapshot::Part;
use crate::store::Store;

mod commissioning;
mod event;
mod machine;
pub(crate) mod restore;
mod rows;
mod stored;
mod trainer;

use machine::{Machine, Place, Surroundings};
use rows::Cell;
use trainer::Trainer;

/// What all lanes share.
pub(crate) struct Scorer {
    settings: ScoringSettings,
    trainer: Arc<Trainer>,
    clock: Arc<dyn Clock>,
}

impl Scorer {
    pub(crate) fn new(settings: ScoringSettings, clock: Arc<dyn Clock>) -> Self {
        Self { settings, trainer: Trainer::start(), clock }
    }

    /// Brings back what is stored of a lane's machines.
    pub(crate) async fn open(
        &self,
        store: &impl Store,
        lane: &TopicPartition,
        table: &mut SeriesTable,
    ) -> Result<LaneScoring, AggregateError> {
        let stored = if self.settings.enabled {
            restore::machines(store.machines(lane).await?, lane, &self.settings, table)
        } else {
            Vec::new()
        };
        Ok(self.lane(stored))
    }

    /// A lane with these machines.
    fn lane(&self, machines: Vec<Machine>) -> LaneScoring {
        LaneScoring {
            settings: self.settings,
            trainer: Arc::clone(&self.trainer),
            clock: Arc::clone(&self.clock),
            by_name: machines.iter().enumerate().map(|(at, machine)| (machine.name, at)).collect(),
            machines,
            places: Vec::new(),
            cells: Vec::new(),
            touched: Vec::new(),
            alerts: Vec::new(),
        }
    }
}

/// The machines of a lane.
pub(crate) struct LaneScoring {
    settings: ScoringSettings,
    trainer: Arc<Trainer>,
    clock: Arc<dyn Clock>,
    machines: Vec<Machine>,
    by_name: FxHashMap<NameCode, usize>,
    /// By series code: its machine, and its place in the machine's rows.
    places: Vec<(u32, Place)>,
    /// Of the record at hand, by machine.
    cells: Vec<Vec<Cell>>,
    /// Machines of the record at hand.
    touched: Vec<u32>,
    alerts: Vec<Alert>,
}

impl LaneScoring {
    /// Stored windows that rows not yet complete belong to: a score may still go into them.
    pub(crate) fn wanted(&self, fold: &LaneFold) -> Vec<Missing> {
        Missing::in_order(self.machines.iter().flat_map(|machine| machine.wanted(fold)).collect())
    }

    /// Takes a chunk whose readings are folded in already.
    pub(crate) fn take(
        &mut self,
        lane: &TopicPartition,
        origins: &[Origin],
        columns: &ReadingColumns,
        table: &SeriesTable,
        fold: &mut LaneFold,
    ) {
        if !self.settings.enabled {
            return;
        }
        self.know(table, fold);
        let mut row = 0;
        while row < columns.len() {
            let record = columns.record[row];
            let count = columns.record[row..].iter().take_while(|&&other| other == record).count();
            let origin = origins[record as usize];
            self.sort(row..row + count, columns, origin, table);
            self.record(lane, origin.offset, table);
            row += count;
        }
        let (mut scored, mut too_late) = (0, 0);
        for machine in &mut self.machines {
            too_late += std::mem::take(&mut machine.assembly.too_late);
            scored += machine.score(lane, table, fold, &mut self.alerts);
        }
        counter!("stillwell_scored_rows_total").increment(scored);
        counter!("stillwell_unscored_readings_total", "why" => "late").increment(too_late);
    }

    /// Gives every series of the table a place; those that were not taken in have none.
    fn know(&mut self, table: &SeriesTable, fold: &LaneFold) {
        let known = self.places.len();
        for (code, series) in (0..).zip(table.all()).skip(known) {
            if fold.is_refused(code) {
                self.places.push((u32::MAX, Place::Nowhere));
                continue;
            }
            let machines = &mut self.machines;
            let settings = &self.settings;
            let number = *self.by_name.entry(series.machine).or_insert_with(|| {
                machines.push(Machine::new(series.machine, settings));
                machines.len() - 1
            });
            self.places.push((u32::try_from(number).unwrap_or(u32::MAX), Place::Unknown));
        }
        self.cells.resize_with(self.machines.len(), Vec::new);
    }

    /// Sorts a record's readings by machine; early ones have no part in rows.
    fn sort(
        &mut self,
        rows: std::ops::Range<usize>,
        columns: &ReadingColumns,
        origin: Origin,
        table: &SeriesTable,
    ) {
        let mut future = 0;
        for row in rows {
            if !columns.has_value[row] || quality::is_bad(columns.quality[row]) {
                continue;
            }
            #[allow(clippy::cast_possible_truncation, reason = "networks compute in f32")]
            let value = columns.value[row] as f32;
            let time_us = columns.time_us[row];
            if !is_value(value) {
                continue;
            }
            if origin.is_early(time_us) {
                future += 1;
                continue;
            }
            let code = columns.series[row] as usize;
            let (number, place) = &mut self.places[code];
            if *place == Place::Nowhere {
                continue;
            }
            let machine = &mut self.machines[*number as usize];
            if *place == Place::Unknown {
                *place = machine.place(table.all()[code].sensor, table);
            }
            let Place::Column(column) = *place else { continue };
            let cells = &mut self.cells[*number as usize];
            if cells.is_empty() {
                self.touched.push(*number);
            }
            cells.push(Cell { bucket: time_us.div_euclid(machine.interval_us), column, value, time_us });
        }
        if future > 0 {
            counter!("stillwell_unscored_readings_total", "why" => "future").increment(future);
        }
    }

    /// Gives the machines of a record their readings of it.
    fn record(&mut self, lane: &TopicPartition, offset: i64, table: &SeriesTable) {
        let Self { trainer, clock, .. } = &*self;
        let (trainer, clock) = (Arc::clone(trainer), Arc::clone(clock));
        let around = Surroundings { lane, trainer: &trainer, clock: &*clock, table };
        for number in std::mem::take(&mut self.touched) {
            let mut cells = std::mem::take(&mut self.cells[number as usize]);
            if self.machines[number as usize].record(offset, &mut cells, &around) {
                // Its rows have other columns from now on.
                self.places
                    .iter_mut()
                    .filter(|place| place.0 == number)
                    .for_each(|place| place.1 = Place::Unknown);
            }
            cells.clear();
            self.cells[number as usize] = cells;
        }
    }

    /// Whether any machine has a model, and thus may raise alerts.
    pub(crate) fn may_alert(&self) -> bool {
        self.machines.iter().any(Machine::is_scored)
    }

    /// The alerts that were raised since the last time.
    pub(crate) fn take_alerts(&mut self) -> Vec<Alert> {
        std::mem::take(&mut self.alerts)
    }

    /// What changed, complete up to `position`. At the fine level that is the anomalies alone: a lane goes on from where all is stored, and scores the same rows again.
    pub(crate) fn snapshot(
        &mut self,
        lane: &TopicPartition,
        position: i64,
        level: Level,
        table: &SeriesTable,
        parts: &mut Vec<Part>,
    ) {
        parts.extend(stored::anomalies(lane, position, &mut self.machines, table));
        if level == Level::All {
            stored::snapshot(lane, position, &mut self.machines, table, parts);
        }
    }
}

#[cfg(test)]
mod tests;
