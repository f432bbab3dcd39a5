//! One machine: commissioned by its first rows, trained, and scored from then on.

use std::sync::Arc;

use metrics::counter;
use stillwell_models::{Alarm, Model, RowScore, ScorerState};
use stillwell_schema::{Clock, TopicPartition};
use stillwell_source::series::{NameCode, SeriesTable};

use super::commissioning::Commissioning;
use super::event::Event;
use super::rows::{Assembly, Cell, Ended};
use super::trainer::{Lesson, Trainer, Training};
use crate::alerts::Alert;
use crate::fold::{LaneFold, Missing, Scored};
use crate::settings::ScoringSettings;
use crate::window::{WIDTHS_US, start_of};

/// Rows after commissioning during which training may take its time. A model is in force from a row on that
/// the log alone decides; in a running plant it is long done by then.
const GRACE_ROWS: u64 = 30;
/// More columns than this no machine has: training takes time and memory by the product of rows and columns.
const COLUMNS_MAX: usize = 512;

/// What a machine needs of its surroundings.
#[derive(Clone, Copy)]
pub(super) struct Surroundings<'a> {
    pub(super) lane: &'a TopicPartition,
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

impl Phase {
    /// As it is stored.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Commissioning => "commissioning",
            Self::Training { .. } => "training",
            Self::Scoring(_) => "scoring",
            Self::Off => "off",
        }
    }
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

    /// Puts scores into the windows of the sensors, each window the highest of its rows.
    fn fold_in(&self, rows: &[Ended], scores: &[RowScore], fold: &mut LaneFold) {
        let window = |row: usize| start_of(rows[row].time_us, WIDTHS_US[0]);
        let mut row = 0;
        while row < rows.len() {
            let count = (row..rows.len()).take_while(|&other| window(other) == window(row)).count();
            let last = rows[row + count - 1];
            let highest = scores[row..row + count].iter().map(|scored| scored.score).fold(0.0, f32::max);
            for &series in &self.series {
                fold.score(Scored { series, time_us: last.time_us, offset: last.offset, score: highest });
            }
            row += count;
        }
        if let Some(last) = scores.last() {
            self.series.iter().for_each(|&series| fold.score_latest(series, last.score));
        }
    }

    /// What a row's score means for the event; gives the event that it ends.
    fn follow(
        &mut self,
        lane: &TopicPartition,
        machine: &str,
        row: &Ended,
        scored: &RowScore,
        alerts: &mut Vec<Alert>,
    ) -> Option<Event> {
        match (scored.alarm, &mut self.event) {
            (Alarm::Raised, event) => {
                let new = Event::new(lane, machine, &self.model, row, scored);
                alerts.push(new.alert(lane, machine));
                counter!("stillwell_anomalies_total").increment(1);
                *event = Some(new);
                self.is_event_changed = true;
            }
            (Alarm::On, Some(event)) => self.is_event_changed |= event.rise(&self.model, scored),
            (Alarm::Cleared, event) => {
                return event.take().map(|event| Event { until_us: Some(row.time_us), ..event });
            }
            (Alarm::Off | Alarm::On, _) => {}
        }
        None
    }
}

/// A machine.
pub(super) struct Machine {
    pub(super) name: NameCode,
    /// Sensors by column.
    pub(super) sensors: Vec<NameCode>,
    /// Readings whose times fall into the same interval of so many µs form a row.
    pub(super) interval_us: i64,
    /// Rows that its model is trained on.
    pub(super) wanted: usize,
    pub(super) assembly: Assembly,
    pub(super) phase: Phase,
    /// Rows in its life; while commissioning, of its present interval.
    pub(super) rows: u64,
    pub(super) commissioning: Commissioning,
    /// Records below this are in already.
    pub(super) version: i64,
    pub(super) is_dirty: bool,
    /// Events that ended since the last snapshot.
    pub(super) ended: Vec<Event>,
    /// Whether it was told that there are too many sensors.
    is_full_told: bool,
}

impl Machine {
    /// A machine of which nothing is known yet.
    pub(super) fn new(name: NameCode, settings: &ScoringSettings) -> Self {
        Self {
            name,
            sensors: Vec::new(),
            interval_us: i64::try_from(settings.row_interval.as_micros()).unwrap_or(i64::MAX).max(1),
            wanted: settings.commissioning_rows,
            assembly: Assembly::default(),
            phase: Phase::Commissioning,
            rows: 0,
            commissioning: Commissioning::default(),
            version: 0,
            is_dirty: false,
            ended: Vec::new(),
            is_full_told: false,
        }
    }

    /// The place of a sensor; while commissioning, a new sensor makes its own.
    pub(super) fn place(&mut self, sensor: NameCode, table: &SeriesTable) -> Place {
        let width = self.sensors.len();
        let known = self.sensors.iter().position(|&known| known == sensor);
        let mut is_new = known.is_none() && matches!(self.phase, Phase::Commissioning);
        if is_new && width >= COLUMNS_MAX {
            is_new = false;
            if !std::mem::replace(&mut self.is_full_told, true) {
                let (machine, first) = (table.name(self.name), table.name(sensor));
                tracing::warn!(
                    machine,
                    first,
                    columns = COLUMNS_MAX,
                    "sensors beyond these columns are not scored; split the machine"
                );
            }
        }
        if is_new {
            self.commissioning.widen();
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
        self.commissioning.since.get_or_insert(offset);
        self.rows += self.assembly.rows.len() as u64;
        if matches!(self.phase, Phase::Commissioning) {
            self.commissioning.append(&mut self.assembly);
            self.commission(offset, around);
        }
        self.assembly.clear();
        match &self.phase {
            Phase::Training { training, effective } if self.rows >= self.wanted as u64 + GRACE_ROWS => {
                let (training, effective) = (Arc::clone(training), *effective);
                self.put_in_force(&training, effective, around);
                true
            }
            _ => false,
        }
    }

    /// Has its model trained once there are rows enough, of an interval that suits its sensors.
    fn commission(&mut self, offset: i64, around: &Surroundings<'_>) {
        while self.commissioning.len() >= self.wanted {
            let Some(factor) = self.commissioning.factor(self.interval_us) else {
                self.commissioning.truncate(self.wanted);
                let training = around.trainer.queue(self.lesson(around.table));
                self.phase = Phase::Training { training, effective: offset };
                return;
            };
            self.interval_us *= factor;
            self.commissioning.merge(factor, offset);
            self.assembly.lengthen(factor);
            self.rows = self.commissioning.len() as u64;
            let (machine, seconds) = (around.table.name(self.name), self.interval_us / 1_000_000);
            tracing::info!(machine, lane = %around.lane, seconds, rows = self.rows, wanted = self.wanted, "sensors report apart: rows become longer, commissioning goes on");
        }
    }

    fn put_in_force(&mut self, training: &Training, effective: i64, around: &Surroundings<'_>) {
        self.assembly.restart();
        let machine = around.table.name(self.name);
        let Some(model) = training.wait() else {
            tracing::error!(machine, lane = %around.lane, rows = self.wanted, "the machine is not scored: no model; another commissioning_rows lets it begin anew at the next start");
            self.phase = Phase::Off;
            return;
        };
        let kept = self.commissioning.kept();
        let left_out: Vec<&str> = (0..self.sensors.len())
            .filter(|column| !kept.contains(column))
            .map(|column| around.table.name(self.sensors[column]))
            .collect();
        if !left_out.is_empty() {
            tracing::warn!(machine, lane = %around.lane, ?left_out, "sensors that report too seldom are not scored");
        }
        self.sensors = kept.into_iter().map(|column| self.sensors[column]).collect();
        tracing::info!(machine, lane = %around.lane, model = model.hash(), threshold = model.threshold(), "model in force");
        self.phase = Phase::Scoring(Box::new(Scoring::new(model, effective, around.clock.now_us())));
    }

    /// What its model is trained on.
    pub(super) fn lesson(&self, table: &SeriesTable) -> Lesson {
        let kept = self.commissioning.kept();
        Lesson {
            machine: table.name(self.name).to_owned(),
            sensors: kept.iter().map(|&column| table.name(self.sensors[column]).to_owned()).collect(),
            rows: self.commissioning.columns(&kept),
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
        if scoring.series.len() != self.sensors.len() {
            scoring.series =
                self.sensors.iter().filter_map(|&sensor| fold.number_of(self.name, sensor)).collect();
        }
        let rows = &self.assembly.rows;
        scoring.fold_in(rows, &scores, fold);
        let machine = table.name(self.name);
        for (row, scored) in rows.iter().zip(&scores) {
            self.ended.extend(scoring.follow(lane, machine, row, scored, alerts));
        }
        let count = rows.len() as u64;
        self.rows += count;
        self.assembly.clear();
        count
    }

    /// Whether it has a model.
    pub(super) fn is_scored(&self) -> bool {
        matches!(self.phase, Phase::Scoring(_))
    }

    /// Stored windows that the row under way belongs to.
    pub(super) fn wanted(&self, fold: &LaneFold) -> Vec<Missing> {
        if self.assembly.open.values.is_empty() || !self.is_scored() {
            return Vec::new();
        }
        let series: Vec<u32> =
            self.sensors.iter().filter_map(|&sensor| fold.number_of(self.name, sensor)).collect();
        series.into_iter().flat_map(|series| fold.missing(series, self.assembly.open.time_us)).collect()
    }
}
