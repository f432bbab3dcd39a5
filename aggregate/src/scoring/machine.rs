//! One machine: commissioned by its first rows, trained, and scored from then on.

use std::sync::Arc;

use metrics::counter;
use stillwell_models::{Alarm, Model, ScorerState};
use stillwell_schema::{Clock, TopicPartition};
use stillwell_source::series::{NameCode, SeriesTable};

use super::event::Event;
use super::rows::{Assembly, Cell};
use super::trainer::{Lesson, Trainer, Training};
use crate::alerts::Alert;
use crate::fold::{LaneFold, Missing};
use crate::settings::ScoringSettings;
use crate::window::{WIDTHS_US, start_of};

/// Rows after commissioning during which training may take its time. A model is in force from a row on that
/// the log alone decides; in a running plant it is long done by then.
const GRACE_ROWS: u64 = 30;
/// A sensor that shows a value in less than one of so many commissioning rows is left out.
const PRESENT_SHARE: usize = 10;
/// More columns than this no machine has.
const COLUMNS_MAX: usize = 4096;

/// What a machine needs of its surroundings.
#[derive(Clone, Copy)]
pub(super) struct Surroundings<'a> {
    pub(super) lane: &'a TopicPartition,
    pub(super) settings: &'a ScoringSettings,
    pub(super) trainer: &'a Trainer,
    pub(super) clock: &'a dyn Clock,
    pub(super) table: &'a SeriesTable,
}

/// Where a series goes in its machine's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Not looked up yet.
    Unknown,
    /// Its column.
    Column(u16),
    /// The model does not know it.
    Nowhere,
}

/// How far a machine is.
pub(super) enum Phase {
    /// Its rows are collected.
    Commissioning,
    /// Its model is being trained; the record at `effective` was the last of commissioning.
    Training { training: Arc<Training>, effective: i64 },
    /// Its rows are scored.
    Scoring(Box<Scoring>),
    /// No model could be had of it.
    Off,
}

/// A model in force.
pub(super) struct Scoring {
    pub(super) model: Box<Model>,
    pub(super) state: ScorerState,
    /// The event that goes on.
    pub(super) event: Option<Event>,
    /// Whether it changed since it was last stored.
    pub(super) is_event_changed: bool,
    /// Offset of the record that ended commissioning.
    pub(super) effective: i64,
    pub(super) created_us: i64,
    pub(super) is_stored: bool,
    /// Number of each sensor's series in the lane's fold.
    series: Vec<u32>,
}

impl Scoring {
    pub(super) fn new(model: Box<Model>, effective: i64, created_us: i64) -> Self {
        let state = ScorerState::new(&model);
        Self {
            model,
            state,
            event: None,
            is_event_changed: false,
            effective,
            created_us,
            is_stored: false,
            series: Vec::new(),
        }
    }
}

/// A machine.
pub(super) struct Machine {
    pub(super) name: NameCode,
    /// Sensors by column.
    pub(super) sensors: Vec<NameCode>,
    pub(super) assembly: Assembly,
    pub(super) phase: Phase,
    /// Rows in its life.
    pub(super) rows: u64,
    /// Cells of its commissioning rows, a column a sensor.
    pub(super) commissioning: Vec<f32>,
    /// How many of these rows are stored.
    pub(super) saved: usize,
    /// Records below this are in already.
    pub(super) version: i64,
    pub(super) is_dirty: bool,
    /// Events that ended since the last snapshot.
    pub(super) ended: Vec<Event>,
}

impl Machine {
    pub(super) fn new(name: NameCode) -> Self {
        Self {
            name,
            sensors: Vec::new(),
            assembly: Assembly::default(),
            phase: Phase::Commissioning,
            rows: 0,
            commissioning: Vec::new(),
            saved: 0,
            version: 0,
            is_dirty: false,
            ended: Vec::new(),
        }
    }

    /// The place of a sensor; while commissioning, a new sensor makes its own.
    pub(super) fn place(&mut self, sensor: NameCode) -> Place {
        let width = self.sensors.len();
        let known = self.sensors.iter().position(|&known| known == sensor);
        let is_new = known.is_none() && matches!(self.phase, Phase::Commissioning) && width < COLUMNS_MAX;
        if is_new {
            self.commissioning = widened(&self.commissioning, width, width + 1);
            self.sensors.push(sensor);
        }
        match known.or(is_new.then_some(width)).map(u16::try_from) {
            Some(Ok(column)) => Place::Column(column),
            _ => Place::Nowhere,
        }
    }

    /// Takes a record's readings; whether its columns are others from now on.
    pub(super) fn record(&mut self, offset: i64, cells: &mut [Cell], around: &Surroundings<'_>) -> bool {
        if offset < self.version || matches!(self.phase, Phase::Off) {
            return false;
        }
        self.is_dirty = true;
        let is_scored = matches!(self.phase, Phase::Scoring(_));
        self.assembly.take(cells, self.sensors.len(), offset, is_scored);
        if is_scored {
            return false;
        }
        self.rows += self.assembly.rows.len() as u64;
        let commissioning_rows = around.settings.commissioning_rows;
        if matches!(self.phase, Phase::Commissioning) {
            self.commissioning.append(&mut self.assembly.cells);
            self.commissioning.truncate(commissioning_rows * self.sensors.len());
            if self.rows >= commissioning_rows as u64 {
                let training = around.trainer.queue(self.lesson(around.table));
                self.phase = Phase::Training { training, effective: offset };
            }
        }
        self.assembly.clear();
        match &self.phase {
            Phase::Training { training, effective }
                if self.rows >= commissioning_rows as u64 + GRACE_ROWS =>
            {
                let (training, effective) = (Arc::clone(training), *effective);
                self.put_in_force(&training, effective, around);
                true
            }
            _ => false,
        }
    }

    fn put_in_force(&mut self, training: &Training, effective: i64, around: &Surroundings<'_>) {
        self.assembly.restart();
        let Some(model) = training.wait() else {
            self.phase = Phase::Off;
            return;
        };
        let kept: Vec<usize> = self.kept();
        self.sensors = kept.into_iter().map(|column| self.sensors[column]).collect();
        let machine = around.table.name(self.name);
        tracing::info!(machine, lane = %around.lane, model = model.hash(), threshold = model.threshold(), "model in force");
        self.phase = Phase::Scoring(Box::new(Scoring::new(model, effective, around.clock.now_us())));
    }

    /// Columns that are there often enough to learn from.
    fn kept(&self) -> Vec<usize> {
        let width = self.sensors.len();
        let least = (self.commissioning.len() / width.max(1)).div_ceil(PRESENT_SHARE);
        let present = |column: &usize| {
            self.commissioning.iter().skip(*column).step_by(width).filter(|value| !value.is_nan()).count()
        };
        (0..width).filter(|column| present(column) >= least).collect()
    }

    /// What its model is trained on.
    pub(super) fn lesson(&self, table: &SeriesTable) -> Lesson {
        let kept = self.kept();
        let rows = self.commissioning.chunks_exact(self.sensors.len().max(1));
        Lesson {
            sensors: kept.iter().map(|&column| table.name(self.sensors[column]).to_owned()).collect(),
            rows: rows.flat_map(|row| kept.iter().map(|&column| row[column])).collect(),
        }
    }

    /// Scores the rows that ended; gives their number.
    pub(super) fn score(
        &mut self,
        lane: &TopicPartition,
        table: &SeriesTable,
        fold: &mut LaneFold,
        alerts: &mut Vec<Alert>,
    ) -> u64 {
        let Phase::Scoring(scoring) = &mut self.phase else { return 0 };
        if self.assembly.rows.is_empty() {
            return 0;
        }
        let scores = scoring.model.score(&mut scoring.state, &self.assembly.cells);
        let rows = &self.assembly.rows;
        self.rows += rows.len() as u64;
        if scoring.series.len() != self.sensors.len() {
            scoring.series = self.sensors.iter().map(|&sensor| fold.series_of(self.name, sensor)).collect();
        }
        let window = |row: usize| start_of(rows[row].time_us, WIDTHS_US[0]);
        let mut row = 0;
        while row < rows.len() {
            let count = (row..rows.len()).take_while(|&other| window(other) == window(row)).count();
            let last = rows[row + count - 1];
            let highest = scores[row..row + count].iter().map(|scored| scored.score).fold(0.0, f32::max);
            for &series in &scoring.series {
                fold.score(series, last.time_us, last.offset, highest);
            }
            row += count;
        }
        if let Some(last) = scores.last() {
            scoring.series.iter().for_each(|&series| fold.score_latest(series, last.score));
        }
        for (row, scored) in rows.iter().zip(&scores) {
            match (scored.alarm, &mut scoring.event) {
                (Alarm::Raised, _) => {
                    let event = Event::new(lane, table.name(self.name), &scoring.model, row, scored);
                    alerts.push(event.alert(lane, table.name(self.name)));
                    counter!("stillwell_anomalies_total").increment(1);
                    scoring.event = Some(event);
                    scoring.is_event_changed = true;
                }
                (Alarm::On, Some(event)) => scoring.is_event_changed |= event.rise(&scoring.model, scored),
                (Alarm::Cleared, event) => self
                    .ended
                    .extend(event.take().map(|event| Event { until_us: Some(row.time_us), ..event })),
                (Alarm::Off | Alarm::On, _) => {}
            }
        }
        let count = rows.len() as u64;
        self.assembly.clear();
        count
    }

    /// Stored windows that the row under way belongs to.
    pub(super) fn wanted(&self, fold: &mut LaneFold) -> Vec<Missing> {
        if self.assembly.open.values.is_empty() || !matches!(self.phase, Phase::Scoring(_)) {
            return Vec::new();
        }
        let series: Vec<u32> = self.sensors.iter().map(|&sensor| fold.series_of(self.name, sensor)).collect();
        series.into_iter().flat_map(|series| fold.missing(series, self.assembly.open.time_us)).collect()
    }
}

/// Rows of `width` cells as rows of `to`, the new cells missing.
pub(super) fn widened(cells: &[f32], width: usize, to: usize) -> Vec<f32> {
    if width == 0 {
        return Vec::new();
    }
    let missing = || std::iter::repeat_n(f32::NAN, to - width);
    cells.chunks_exact(width).flat_map(|row| row.iter().copied().chain(missing())).collect()
}
