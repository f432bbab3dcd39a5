//! Brings machines back from ClickHouse, as [`super::stored`] left them.
//!
//! What does not fit together stops nothing but its machine: that one is commissioned anew, and the log says
//! why.

use std::collections::HashMap;
use std::fmt;

use clickhouse::Row;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};
use stillwell_models::{Model, ScorerState};
use stillwell_schema::TopicPartition;
use stillwell_source::series::SeriesTable;

use super::commissioning::{Commissioning, widened};
use super::machine::{Machine, Phase, Scoring};
use super::rows::Open;
use super::stored::Stored;
use super::trainer::Training;
use crate::error::AggregateError;
use crate::settings::ScoringSettings;
use crate::store::{ClickHouse, is, quote};

#[derive(Clone, Debug, Row, Deserialize)]
pub(crate) struct StateRow {
    pub(super) machine: String,
    pub(super) version: i64,
    pub(super) rows: u64,
    pub(super) phase: String,
    pub(super) model: String,
    pub(super) state: Bytes,
}

#[derive(Clone, Debug, Row, Deserialize)]
pub(crate) struct ModelRow {
    pub(super) machine: String,
    pub(super) effective: i64,
    pub(super) hash: String,
    pub(super) created: i64,
    pub(super) bytes: Bytes,
}

#[derive(Clone, Debug, Row, Deserialize)]
pub(crate) struct CommissioningRow {
    pub(super) machine: String,
    pub(super) since: i64,
    pub(super) first: i64,
    pub(super) next: i64,
    pub(super) rows: Bytes,
}

/// What the tables hold of a lane's machines. Chunks of commissioning rows come in the order of their first.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(super) states: Vec<StateRow>,
    pub(super) models: Vec<ModelRow>,
    pub(super) chunks: Vec<CommissioningRow>,
}

/// Reads the rows of a lane's machines.
pub(crate) async fn rows(store: &ClickHouse, lane: &TopicPartition) -> Result<Rows, AggregateError> {
    let of = is(lane);
    let sql = format!(
        "SELECT machine, version, rows, phase, model, state FROM {{database}}.scorer_states FINAL WHERE {of}"
    );
    let states: Vec<StateRow> = store.rows(&sql).await?;
    let sql =
        format!("SELECT machine, effective, hash, created, bytes FROM {{database}}.models FINAL WHERE {of}");
    let models: Vec<ModelRow> = store.rows(&sql).await?;
    let is_young = |state: &&StateRow| matches!(&*state.phase, "commissioning" | "training");
    let young: Vec<String> = states.iter().filter(is_young).map(|state| quote(&state.machine)).collect();
    let mut chunks = Vec::new();
    if !young.is_empty() {
        let sql = format!(
            "SELECT machine, since, first, next, rows FROM {{database}}.commissioning FINAL \
             WHERE {of} AND machine IN ({}) ORDER BY first",
            young.join(", ")
        );
        chunks = store.rows(&sql).await?;
    }
    Ok(Rows { states, models, chunks })
}

/// The machines out of their rows.
pub(super) fn machines(
    rows: Rows,
    lane: &TopicPartition,
    settings: &ScoringSettings,
    table: &mut SeriesTable,
) -> Vec<Machine> {
    let mut models: HashMap<String, ModelRow> =
        rows.models.into_iter().map(|model| (model.machine.clone(), model)).collect();
    let mut chunks: HashMap<String, Vec<CommissioningRow>> = HashMap::new();
    for chunk in rows.chunks {
        chunks.entry(chunk.machine.clone()).or_default().push(chunk);
    }
    let mut all = Vec::with_capacity(rows.states.len());
    for state in rows.states {
        let model = models.remove(&state.machine);
        let chunks = chunks.remove(&state.machine).unwrap_or_default();
        all.push(restore(&state, model, &chunks, settings, table).unwrap_or_else(|reason| {
            tracing::error!(machine = state.machine, %lane, reason, "the machine is commissioned anew");
            anew(&state, settings, table)
        }));
    }
    all
}

/// A machine of which nothing can be used but how far it was.
fn anew(row: &StateRow, settings: &ScoringSettings, table: &mut SeriesTable) -> Machine {
    let mut machine = Machine::new(table.intern_name(&row.machine), settings);
    machine.version = row.version;
    if let Ok((Stored { event: Some(mut event), time_us, .. }, _)) = decode(&row.state.0) {
        // Nobody else is going to close it.
        event.until_us = Some(time_us.max(event.time_us));
        machine.ended.push(event);
        machine.is_dirty = true;
    }
    machine
}

fn restore(
    row: &StateRow,
    model: Option<ModelRow>,
    chunks: &[CommissioningRow],
    settings: &ScoringSettings,
    table: &mut SeriesTable,
) -> Result<Machine, String> {
    let (stored, scorer) = decode(&row.state.0)?;
    if row.phase == "off" && stored.wanted != settings.commissioning_rows {
        // No model was to be had of as many rows as were wanted then.
        return Ok(anew(row, settings, table));
    }
    let mut machine = Machine::new(table.intern_name(&row.machine), settings);
    machine.sensors = stored.sensors.iter().map(|sensor| table.intern_name(sensor)).collect();
    (machine.wanted, machine.interval_us) = (stored.wanted, stored.interval_us.max(1));
    (machine.rows, machine.version) = (row.rows, row.version);
    if stored.values.len() > machine.sensors.len() {
        return Err("its open row has more cells than there are sensors".into());
    }
    let values = stored.values.iter().map(|&bits| f32::from_bits(bits)).collect();
    machine.assembly.open = Open { bucket: stored.bucket, time_us: stored.time_us, values };
    machine.assembly.ended = stored.ended;
    machine.assembly.late_records = stored.late_records;
    machine.phase = match &*row.phase {
        "off" => Phase::Off,
        "scoring" => Phase::Scoring(Box::new(scoring(row, model, stored, scorer)?)),
        "commissioning" | "training" => {
            let wanted = usize::try_from(row.rows).unwrap_or(usize::MAX).min(stored.wanted);
            machine.commissioning = collect(chunks, stored.since, machine.sensors.len(), wanted)?;
            match (&*row.phase, stored.effective) {
                ("training", Some(effective)) => {
                    let training = training(model, effective, &machine, table);
                    Phase::Training { training, effective }
                }
                ("training", None) => return Err("it does not know when commissioning ended".into()),
                _ => Phase::Commissioning,
            }
        }
        other => return Err(format!("a phase called {other}")),
    };
    Ok(machine)
}

/// A model in force, if model and state belong to each other.
fn scoring(
    row: &StateRow,
    model: Option<ModelRow>,
    stored: Stored,
    scorer: &[u8],
) -> Result<Scoring, String> {
    let model_row = model
        .filter(|model| model.hash == row.model)
        .ok_or_else(|| format!("its model {} is not in the table models", row.model))?;
    let model = Model::from_bytes(&model_row.bytes.0).map_err(|error| error.to_string())?;
    if model.hash() != row.model {
        return Err(format!("the bytes of its model {} are those of {}", row.model, model.hash()));
    }
    let state = ScorerState::from_bytes(scorer).map_err(|error| error.to_string())?;
    if model.sensors() != stored.sensors || state.sensors() != model.sensors().len() {
        return Err(format!("its state has other sensors than its model {}", row.model));
    }
    let mut scoring = Scoring::new(Box::new(model), model_row.effective, model_row.created);
    scoring.state = state;
    scoring.event = stored.event;
    scoring.is_stored = true;
    Ok(scoring)
}

/// The training of a machine: done, where the model was stored and then the process died before what depends
/// on it was.
fn training(
    model: Option<ModelRow>,
    effective: i64,
    machine: &Machine,
    table: &SeriesTable,
) -> std::sync::Arc<Training> {
    let done = model
        .filter(|row| row.effective == effective)
        .and_then(|row| Model::from_bytes(&row.bytes.0).ok().filter(|model| model.hash() == row.hash));
    done.map_or_else(|| Training::new(machine.lesson(table)), Training::done)
}

fn decode(blob: &[u8]) -> Result<(Stored, &[u8]), String> {
    let short = || "it ends too early".to_owned();
    let (length, rest) = blob.split_first_chunk::<4>().ok_or_else(short)?;
    let (json, scorer) = rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(short)?;
    Ok((serde_json::from_slice(json).map_err(|error| error.to_string())?, scorer))
}

/// The first `wanted` commissioning rows out of their chunks, as rows of `width` cells. Chunks may overlap
/// and go beyond, with columns of sensors that were new then: they are written before the state that counts
/// them.
fn collect(
    chunks: &[CommissioningRow],
    since: Option<i64>,
    width: usize,
    wanted: usize,
) -> Result<Commissioning, String> {
    let mut rows = Commissioning::new(width, since);
    for chunk in chunks.iter().filter(|chunk| Some(chunk.since) == since) {
        let have = rows.len();
        let bounds = (usize::try_from(chunk.first), usize::try_from(chunk.next));
        let (Ok(first), Ok(next)) = bounds else { return Err("a chunk of rows before the first".into()) };
        if have >= wanted || first > have {
            break;
        }
        let (length, bytes) = chunk.rows.0.split_first_chunk::<4>().ok_or("a chunk of rows is cut")?;
        let of = u32::from_le_bytes(*length) as usize;
        let size = 8 + 4 * of;
        if of == 0 || next < first || bytes.len() != (next - first) * size {
            return Err("a chunk of rows is cut".into());
        }
        for row in bytes.chunks_exact(size).take(wanted.saturating_sub(first)).skip(have - first) {
            let (bucket, cells) = row.split_first_chunk::<8>().ok_or("a row is cut")?;
            let cells: Vec<f32> =
                cells.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap_or_default())).collect();
            let shared = of.min(width);
            rows.buckets.push(i64::from_le_bytes(*bucket));
            rows.cells.extend(widened(&cells[..shared], shared, width));
        }
    }
    if rows.len() < wanted {
        return Err(format!("{} of {wanted} commissioning rows are stored", rows.len()));
    }
    rows.saved = rows.len();
    Ok(rows)
}

/// A String column that holds bytes.
#[derive(Clone, Debug)]
pub(super) struct Bytes(pub(super) Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Into;
        impl Visitor<'_> for Into {
            type Value = Bytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
            fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
                Ok(Bytes(bytes))
            }
        }
        from.deserialize_byte_buf(Into)
    }
}
