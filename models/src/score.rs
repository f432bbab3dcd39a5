//! Scores rows of one machine by its model.
//!
//! A row's residuals, each in units of its normal size, are gathered per sensor (the largest of its
//! channels', of the distance to its frozen reference and of what standing still counts for), over the
//! sensors by the mean of fourth powers, which lies between mean and maximum, and over time by an
//! exponentially weighted mean. Residuals are taken against where they have settled, for a machine shifts
//! slowly with the day, the season and wear.
//!
//! Where this departs from the design's section 5: it would score 64 to 256 rows of several machines in one
//! batch. Here a batch is at most 32 rows of one machine, for each machine has a network of its own, and the
//! features of a row depend on the alarm up to the block before it; so the bits of a score hang on nothing
//! but its machine's rows.

use crate::alarm::{Alarm, AlarmState};
use crate::bytes::{Reader, Writer};
use crate::error::ModelError;
use crate::features::{CHANNELS, INPUT_CHANNELS, SensorState, WINDOW, is_value};
use crate::model::Model;

/// Rows whose features depend on the same alarm state; a count of rows since the model came into force cuts
/// them, so the cuts do not depend on how rows arrive.
const BLOCK: usize = 32;
/// A call of few rows is padded to so many only.
const SMALL_BATCH: usize = 8;
/// Weight of a row's own score in the smoothed one.
const SMOOTH: f32 = 0.2;
/// Weight of a row's residual in where residuals settle: a memory of about 2,000 rows. Seasons, daily cycles and
/// wear shift them slowly, faults do not; and what stays as it is for long becomes the normal, so that no alarm
/// lasts for ever.
const SETTLE: f32 = 0.0005;
/// A row counts for no more normal residuals than this in it, so that a fault moves it by little.
const SETTLE_BOUND: f32 = 3.0;
/// No sensor counts for more.
const RESIDUAL_MAX: f32 = 30.0;
/// Sensors named with an anomaly.
const CONTRIBUTORS: usize = 5;
const MAGIC: &[u8] = b"SWSTATE1";

/// The score of one row.
#[derive(Clone, Debug, PartialEq)]
pub struct RowScore {
    /// The smoothed score; compare it with the model's threshold.
    pub score: f32,
    /// What it means.
    pub alarm: Alarm,
    /// While above the threshold: the sensors that count most, largest first, with what they count for.
    pub contributors: Vec<(usize, f32)>,
}

/// What is remembered of a machine between rows.
#[derive(Clone, Debug, PartialEq)]
pub struct ScorerState {
    rows: u64,
    sensors: Vec<SensorState>,
    /// Input cells of the last `WINDOW - 1` rows, the oldest first.
    history: Vec<f32>,
    /// Where the residual of each output has settled.
    centres: Vec<f32>,
    smoothed: f32,
    alarm: AlarmState,
    /// The alarm at the last block's end.
    is_frozen: bool,
}

impl ScorerState {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(model: &Model) -> Self {
        Self {
            rows: 0,
            sensors: model.parts.references.iter().map(SensorState::new).collect(),
            history: vec![0.0; (WINDOW - 1) * INPUT_CHANNELS * model.shape.sensors],
            centres: vec![0.0; model.shape.output],
            smoothed: 0.0,
            alarm: AlarmState::default(),
            is_frozen: false,
        }
    }

    /// Rows scored.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Number of sensors.
    #[must_use]
    pub fn sensors(&self) -> usize {
        self.sensors.len()
    }

    /// Its bytes, which [`ScorerState::from_bytes`] reads.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer { bytes: MAGIC.to_vec() };
        out.u32(u32::try_from(self.sensors.len()).unwrap_or(u32::MAX));
        out.u64(self.rows);
        for sensor in &self.sensors {
            out.f32s(&[sensor.slow, sensor.last]);
            out.u32s(&[sensor.still, sensor.gap]);
        }
        out.f32s(&self.history);
        out.f32s(&self.centres);
        out.f32s(&[self.smoothed]);
        out.u32s(&[u32::from(self.alarm.is_on), self.alarm.quiet_rows, u32::from(self.is_frozen)]);
        out.bytes
    }

    /// Reads what [`ScorerState::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`ModelError::Bytes`] where it is something else, or has numbers that are not finite.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ModelError> {
        let mut from = Reader::new(bytes, "scorer state");
        from.magic(MAGIC)?;
        let count = from.count(16)?;
        let rows = from.u64()?;
        let mut sensors = Vec::with_capacity(count);
        for _ in 0..count {
            let floats = from.f32s(2)?;
            let counts = from.u32s(2)?;
            sensors.push(SensorState { slow: floats[0], last: floats[1], still: counts[0], gap: counts[1] });
        }
        let history = from.f32s((WINDOW - 1) * INPUT_CHANNELS * count)?;
        let centres = from.f32s(CHANNELS * count)?;
        let smoothed = from.f32s(1)?[0];
        let flags = from.u32s(3)?;
        from.end()?;
        // Once in the state, what is not finite would stay for good.
        let mut means = sensors
            .iter()
            .map(|sensor| sensor.slow)
            .chain([smoothed])
            .chain(history.iter().copied())
            .chain(centres.iter().copied());
        if !means.all(f32::is_finite) {
            return Err(from.wrong("some numbers are not finite"));
        }
        let alarm = AlarmState { is_on: flags[0] != 0, quiet_rows: flags[1] };
        Ok(Self { rows, sensors, history, centres, smoothed, alarm, is_frozen: flags[2] != 0 })
    }
}

impl Model {
    /// Scores rows in order: `rows` has one cell a sensor of [`Model::sensors`], NaN where missing.
    pub fn score(&self, state: &mut ScorerState, rows: &[f32]) -> Vec<RowScore> {
        let sensors = self.shape.sensors;
        let mut scores = Vec::with_capacity(rows.len() / sensors);
        let mut rest = rows;
        while rest.len() >= sensors {
            #[allow(clippy::cast_possible_truncation, reason = "below BLOCK")]
            let place = (state.rows % BLOCK as u64) as usize;
            let count = (rest.len() / sensors).min(BLOCK - place);
            let (block, tail) = rest.split_at(count * sensors);
            self.score_block(state, block, &mut scores);
            rest = tail;
        }
        scores
    }

    /// Scores rows of one block.
    fn score_block(&self, state: &mut ScorerState, rows: &[f32], scores: &mut Vec<RowScore>) {
        let examined = self.examine(state, rows);
        let count = rows.len() / self.shape.sensors;
        let batch = if count <= SMALL_BATCH { SMALL_BATCH } else { BLOCK };
        let mut inputs = examined.inputs;
        inputs.resize(batch * self.shape.input, 0.0);
        let outputs = self.reconstruct(inputs, batch);
        for row in 0..count {
            let cells = row * self.shape.sensors..(row + 1) * self.shape.sensors;
            let width = self.shape.output;
            let seen = &examined.targets[row * width..(row + 1) * width];
            let given = &outputs[row * width..(row + 1) * width];
            let by_sensor = self.by_sensor(state, seen, given, &examined.stalled[cells]);
            self.settle(state, seen, given);
            state.smoothed += SMOOTH * (gather(&by_sensor) - state.smoothed);
            let alarm = state.alarm.take(state.smoothed, self.parts.threshold);
            let is_above = state.smoothed > self.parts.threshold;
            let contributors = if is_above { largest(&by_sensor) } else { Vec::new() };
            scores.push(RowScore { score: state.smoothed, alarm, contributors });
        }
        state.rows += count as u64;
        if state.rows.is_multiple_of(BLOCK as u64) {
            state.is_frozen = state.alarm.is_on;
        }
    }

    /// Features of rows within one block, as the network takes them.
    pub(crate) fn examine(&self, state: &mut ScorerState, rows: &[f32]) -> Examined {
        let (sensors, width) = (self.shape.sensors, self.shape.output);
        let count = rows.len() / sensors;
        let mut examined = Examined {
            inputs: Vec::with_capacity(BLOCK * self.shape.input),
            targets: Vec::with_capacity(count * width),
            stalled: Vec::with_capacity(rows.len()),
        };
        let mut window = std::mem::take(&mut state.history);
        for row in rows.chunks_exact(sensors) {
            for ((&value, sensor), reference) in
                row.iter().zip(&mut state.sensors).zip(&self.parts.references)
            {
                let features = sensor.take(reference, value, !state.is_frozen);
                examined.targets.extend(features);
                examined.stalled.push(sensor.stalled(reference));
                let is_there = is_value(value);
                window.extend(features.map(|feature| if is_there { feature } else { 0.0 }));
                window.push(f32::from(u8::from(is_there)));
            }
            examined.inputs.extend_from_slice(&window[window.len() - self.shape.input..]);
        }
        window.drain(..count * INPUT_CHANNELS * sensors);
        state.history = window;
        examined
    }

    /// What each sensor of a row counts for; not a number where it is missing and may be.
    pub(crate) fn by_sensor(
        &self,
        state: &ScorerState,
        seen: &[f32],
        given: &[f32],
        stalled: &[f32],
    ) -> Vec<f32> {
        let mut all = Vec::with_capacity(stalled.len());
        for (sensor, &stalled) in stalled.iter().enumerate() {
            // Far out counts also where the network has learnt to give it back.
            let mut most = seen[sensor * CHANNELS].abs();
            if stalled > 0.0 {
                most = most.max(stalled);
            }
            for channel in sensor * CHANNELS..(sensor + 1) * CHANNELS {
                let off = seen[channel] - given[channel] - state.centres[channel];
                // The maximum of a number and none is the number.
                most = most.max(off.abs() / self.parts.residuals[channel]);
            }
            // `min` of a missing value would be the bound.
            all.push(if most.is_nan() { most } else { most.min(RESIDUAL_MAX) });
        }
        all
    }

    /// Lets the centres follow a row's residuals; no row moves them by more than a few normal residuals do.
    pub(crate) fn settle(&self, state: &mut ScorerState, seen: &[f32], given: &[f32]) {
        for (channel, centre) in state.centres.iter_mut().enumerate() {
            let off = seen[channel] - given[channel] - *centre;
            if !off.is_nan() {
                let bound = SETTLE_BOUND * self.parts.residuals[channel];
                *centre += SETTLE * off.clamp(-bound, bound);
            }
        }
    }
}

/// What a network takes of some rows, and what it is to give back.
pub(crate) struct Examined {
    pub(crate) inputs: Vec<f32>,
    /// NaN where missing.
    pub(crate) targets: Vec<f32>,
    pub(crate) stalled: Vec<f32>,
}

/// The mean of fourth powers, of what is there.
pub(crate) fn gather(by_sensor: &[f32]) -> f32 {
    let (mut sum, mut count) = (0.0f32, 0.0f32);
    for count_for in by_sensor.iter().filter(|count_for| !count_for.is_nan()) {
        let square = count_for * count_for;
        sum += square * square;
        count += 1.0;
    }
    if count == 0.0 { 0.0 } else { (sum / count).sqrt().sqrt() }
}

/// Smoothed scores of raw ones, from 0 on.
pub(crate) fn smooth(raw: impl Iterator<Item = f32>) -> impl Iterator<Item = f32> {
    raw.scan(0.0, |smoothed, raw| {
        *smoothed += SMOOTH * (raw - *smoothed);
        Some(*smoothed)
    })
}

fn largest(by_sensor: &[f32]) -> Vec<(usize, f32)> {
    let mut all: Vec<(usize, f32)> =
        by_sensor.iter().copied().enumerate().filter(|(_, count_for)| !count_for.is_nan()).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    all.truncate(CONTRIBUTORS);
    all
}
