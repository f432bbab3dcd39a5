//! What is kept of machines in ClickHouse: commissioning rows, models, states and anomalies, each complete up
//! to its version, and brought back.

use std::collections::HashMap;
use std::fmt;

use clickhouse::Row;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use stillwell_models::{Model, ScorerState};
use stillwell_schema::TopicPartition;
use stillwell_source::series::SeriesTable;

use super::event::Event;
use super::machine::{Machine, Phase, Scoring, widened};
use super::rows::Open;
use super::trainer::Training;
use crate::client::{Store, quote};
use crate::error::AggregateError;
use crate::native::Block;
use crate::reload::is;
use crate::settings::ScoringSettings;
use crate::snapshot::Part;

/// A machine's state but for the scorer's, as JSON. Floats are kept by their bits.
#[derive(Serialize, Deserialize)]
struct Stored {
    sensors: Vec<String>,
    bucket: i64,
    time_us: i64,
    values: Vec<u32>,
    ended: Option<i64>,
    effective: Option<i64>,
    event: Option<Event>,
}

/// Encodes what changed in the machines, and marks it clean.
pub(super) fn snapshot(
    lane: &TopicPartition,
    position: i64,
    machines: &mut [Machine],
    table: &SeriesTable,
    parts: &mut Vec<Part>,
) {
    let mut dirty: Vec<&mut Machine> = machines.iter_mut().filter(|machine| machine.is_dirty).collect();
    parts.extend(commissioning(lane, &dirty, table));
    parts.extend(models(lane, &dirty, table));
    parts.extend(anomalies(lane, position, &dirty, table));
    parts.extend(states(lane, position, &dirty, table));
    for machine in &mut dirty {
        machine.is_dirty = false;
        machine.ended.clear();
        machine.saved = commissioned(machine);
        if let Phase::Scoring(scoring) = &mut machine.phase {
            scoring.is_event_changed = false;
            scoring.is_stored = true;
            machine.commissioning = Vec::new();
            machine.saved = 0;
        }
    }
}

/// Commissioning rows at hand.
fn commissioned(machine: &Machine) -> usize {
    machine.commissioning.len().checked_div(machine.sensors.len()).unwrap_or(0)
}

/// Part of a table out of the rows of a block that `fill` writes.
fn part(table: &'static str, columns: usize, rows: usize, fill: impl FnOnce(&mut Block)) -> Option<Part> {
    if rows == 0 {
        return None;
    }
    let mut block = Block::new(columns, rows);
    fill(&mut block);
    Some(Part { table, rows, bytes: block.finish() })
}

fn commissioning(lane: &TopicPartition, dirty: &[&mut Machine], table: &SeriesTable) -> Option<Part> {
    // Once its model is in force, a machine's columns are the model's; its rows were stored, or are not needed.
    let collects = |machine: &&&mut Machine| {
        !matches!(machine.phase, Phase::Scoring(_)) && commissioned(machine) > machine.saved
    };
    let some: Vec<&&mut Machine> = dirty.iter().filter(collects).collect();
    let blobs: Vec<Vec<u8>> = some
        .iter()
        .map(|machine| {
            let width = machine.sensors.len();
            let cells = &machine.commissioning[machine.saved * width..];
            let mut blob = u32::try_from(width).unwrap_or(u32::MAX).to_le_bytes().to_vec();
            blob.extend(cells.iter().flat_map(|cell| cell.to_le_bytes()));
            blob
        })
        .collect();
    let count = |rows: usize| i64::try_from(rows).unwrap_or(i64::MAX);
    part("commissioning", 6, some.len(), |block| {
        block.strings("topic", some.iter().map(|_| &*lane.topic));
        block.i32s("partition", some.iter().map(|_| lane.partition));
        block.strings("machine", some.iter().map(|machine| table.name(machine.name)));
        block.i64s("first", some.iter().map(|machine| count(machine.saved)));
        block.i64s("next", some.iter().map(|machine| count(commissioned(machine))));
        block.binaries("rows", blobs.iter().map(Vec::as_slice));
    })
}

fn models(lane: &TopicPartition, dirty: &[&mut Machine], table: &SeriesTable) -> Option<Part> {
    let new: Vec<(&str, &Scoring)> = dirty
        .iter()
        .filter_map(|machine| match &machine.phase {
            Phase::Scoring(scoring) if !scoring.is_stored => Some((table.name(machine.name), &**scoring)),
            _ => None,
        })
        .collect();
    let bytes: Vec<Vec<u8>> = new.iter().map(|(_, scoring)| scoring.model.to_bytes()).collect();
    part("models", 9, new.len(), |block| {
        block.strings("topic", new.iter().map(|_| &*lane.topic));
        block.i32s("partition", new.iter().map(|_| lane.partition));
        block.strings("machine", new.iter().map(|(machine, _)| *machine));
        block.i64s("effective", new.iter().map(|(_, scoring)| scoring.effective));
        block.strings("hash", new.iter().map(|(_, scoring)| scoring.model.hash()));
        block.f64s("threshold", new.iter().map(|(_, scoring)| f64::from(scoring.model.threshold())));
        block.u64s("rows", new.iter().map(|(_, scoring)| u64::from(scoring.model.rows())));
        block.times("created", new.iter().map(|(_, scoring)| scoring.created_us));
        block.binaries("bytes", bytes.iter().map(Vec::as_slice));
    })
}

fn anomalies(
    lane: &TopicPartition,
    position: i64,
    dirty: &[&mut Machine],
    table: &SeriesTable,
) -> Option<Part> {
    let mut events: Vec<(&str, &Event)> = Vec::new();
    for machine in dirty {
        let name = table.name(machine.name);
        events.extend(machine.ended.iter().map(|event| (name, event)));
        if let Phase::Scoring(scoring) = &machine.phase
            && scoring.is_event_changed
        {
            events.extend(scoring.event.iter().map(|event| (name, event)));
        }
    }
    let until: Vec<Option<i64>> = events.iter().map(|(_, event)| event.until_us).collect();
    let sensors: Vec<Vec<String>> = events.iter().map(|(_, event)| event.sensors.clone()).collect();
    part("anomaly_rows", 13, events.len(), |block| {
        block.strings("id", events.iter().map(|(_, event)| &*event.id));
        block.i64s("version", events.iter().map(|_| position));
        block.times("time", events.iter().map(|(_, event)| event.time_us));
        block.maybe_times("until", &until);
        block.strings("machine", events.iter().map(|(machine, _)| *machine));
        block.string_lists("sensors", &sensors);
        block.f64s("score", events.iter().map(|(_, event)| f64::from(event.score)));
        block.f64s("peak_score", events.iter().map(|(_, event)| f64::from(event.peak)));
        block.f64s("threshold", events.iter().map(|(_, event)| f64::from(event.threshold)));
        block.strings("model", events.iter().map(|(_, event)| &*event.model));
        block.strings("topic", events.iter().map(|_| &*lane.topic));
        block.i32s("partition", events.iter().map(|_| lane.partition));
        block.i64s("offset", events.iter().map(|(_, event)| event.offset));
    })
}

fn states(lane: &TopicPartition, position: i64, dirty: &[&mut Machine], table: &SeriesTable) -> Option<Part> {
    let blobs: Vec<Vec<u8>> = dirty.iter().map(|machine| encode(machine, table)).collect();
    let model = |machine: &Machine| match &machine.phase {
        Phase::Scoring(scoring) => scoring.model.hash().to_owned(),
        _ => String::new(),
    };
    let hashes: Vec<String> = dirty.iter().map(|machine| model(machine)).collect();
    part("scorer_states", 7, dirty.len(), |block| {
        block.strings("topic", dirty.iter().map(|_| &*lane.topic));
        block.i32s("partition", dirty.iter().map(|_| lane.partition));
        block.strings("machine", dirty.iter().map(|machine| table.name(machine.name)));
        block.i64s("version", dirty.iter().map(|_| position));
        block.u64s("rows", dirty.iter().map(|machine| machine.rows));
        block.strings("model", hashes.iter().map(String::as_str));
        block.binaries("state", blobs.iter().map(Vec::as_slice));
    })
}

/// Length of the JSON, the JSON, the scorer's state.
pub(super) fn encode(machine: &Machine, table: &SeriesTable) -> Vec<u8> {
    let open = &machine.assembly.open;
    let (effective, scoring) = match &machine.phase {
        Phase::Training { effective, .. } => (Some(*effective), None),
        Phase::Scoring(scoring) => (Some(scoring.effective), Some(scoring)),
        Phase::Commissioning | Phase::Off => (None, None),
    };
    let stored = Stored {
        sensors: machine.sensors.iter().map(|&sensor| table.name(sensor).to_owned()).collect(),
        bucket: open.bucket,
        time_us: open.time_us,
        values: open.values.iter().map(|value| value.to_bits()).collect(),
        ended: machine.assembly.ended,
        effective,
        event: scoring.and_then(|scoring| scoring.event.clone()),
    };
    // Plain fields always serialise.
    let json = serde_json::to_vec(&stored).unwrap_or_default();
    let mut blob = u32::try_from(json.len()).unwrap_or(u32::MAX).to_le_bytes().to_vec();
    blob.extend_from_slice(&json);
    blob.extend(scoring.into_iter().flat_map(|scoring| scoring.state.to_bytes()));
    blob
}

#[derive(Row, Deserialize)]
pub(super) struct StateRow {
    pub(super) machine: String,
    pub(super) version: i64,
    pub(super) rows: u64,
    pub(super) model: String,
    pub(super) state: Bytes,
}

#[derive(Row, Deserialize)]
pub(super) struct ModelRow {
    pub(super) machine: String,
    pub(super) effective: i64,
    pub(super) hash: String,
    pub(super) created: i64,
    pub(super) bytes: Bytes,
}

#[derive(Row, Deserialize)]
pub(super) struct CommissioningRow {
    pub(super) machine: String,
    pub(super) first: i64,
    pub(super) next: i64,
    pub(super) rows: Bytes,
}

/// Brings back a lane's machines.
pub(super) async fn load(
    store: &Store,
    lane: &TopicPartition,
    settings: &ScoringSettings,
    table: &mut SeriesTable,
) -> Result<Vec<Machine>, AggregateError> {
    let of = is(lane);
    let sql = format!(
        "SELECT machine, version, rows, model, state FROM {{database}}.scorer_states FINAL WHERE {of}"
    );
    let states: Vec<StateRow> = store.rows(&sql).await?;
    let sql =
        format!("SELECT machine, effective, hash, created, bytes FROM {{database}}.models FINAL WHERE {of}");
    let models = store.rows::<ModelRow>(&sql).await?;
    let mut models: HashMap<String, ModelRow> =
        models.into_iter().map(|model| (model.machine.clone(), model)).collect();
    let young: Vec<String> =
        states.iter().filter(|state| state.model.is_empty()).map(|state| quote(&state.machine)).collect();
    let mut chunks: HashMap<String, Vec<CommissioningRow>> = HashMap::new();
    if !young.is_empty() {
        let sql = format!(
            "SELECT machine, first, next, rows FROM {{database}}.commissioning FINAL WHERE {of} AND machine IN ({}) ORDER BY first",
            young.join(", ")
        );
        for chunk in store.rows::<CommissioningRow>(&sql).await? {
            chunks.entry(chunk.machine.clone()).or_default().push(chunk);
        }
    }
    let mut machines = Vec::with_capacity(states.len());
    for state in states {
        let model = models.remove(&state.machine);
        let chunks = chunks.remove(&state.machine).unwrap_or_default();
        let name = state.machine.clone();
        machines.push(
            restore(state, model, &chunks, settings, table).map_err(|reason| AggregateError::Stored {
                lane: lane.clone(),
                machine: name,
                reason,
            })?,
        );
    }
    Ok(machines)
}

pub(super) fn restore(
    row: StateRow,
    model: Option<ModelRow>,
    chunks: &[CommissioningRow],
    settings: &ScoringSettings,
    table: &mut SeriesTable,
) -> Result<Machine, String> {
    let (stored, scorer) = decode(&row.state.0)?;
    let mut machine = Machine::new(table.intern_name(&row.machine));
    machine.sensors = stored.sensors.iter().map(|sensor| table.intern_name(sensor)).collect();
    machine.rows = row.rows;
    machine.version = row.version;
    let values = stored.values.iter().map(|&bits| f32::from_bits(bits)).collect();
    machine.assembly.open = Open { bucket: stored.bucket, time_us: stored.time_us, values };
    machine.assembly.ended = stored.ended;
    let model = model
        .map(|row| {
            Model::from_bytes(&row.bytes.0).map(|model| (row, model)).map_err(|error| error.to_string())
        })
        .transpose()?;
    if !row.model.is_empty() {
        let (model_row, model) = model
            .filter(|(model_row, _)| model_row.hash == row.model)
            .ok_or_else(|| format!("its model {} is not in the table models", row.model))?;
        let mut scoring = Scoring::new(Box::new(model), model_row.effective, model_row.created);
        scoring.state = ScorerState::from_bytes(scorer).map_err(|error| error.to_string())?;
        scoring.event = stored.event;
        scoring.is_stored = true;
        machine.phase = Phase::Scoring(Box::new(scoring));
        return Ok(machine);
    }
    let wanted = usize::try_from(row.rows).unwrap_or(usize::MAX).min(settings.commissioning_rows);
    machine.commissioning = collect(chunks, machine.sensors.len(), wanted)?;
    machine.saved = wanted;
    if let Some(effective) = stored.effective {
        let training = match model {
            // It was stored, and then the process died before what depends on it was.
            Some((model_row, model)) if model_row.effective == effective => Training::done(model),
            _ => Training::new(machine.lesson(table)),
        };
        machine.phase = Phase::Training { training, effective };
    }
    Ok(machine)
}

fn decode(blob: &[u8]) -> Result<(Stored, &[u8]), String> {
    let short = || "it ends too early".to_owned();
    let (length, rest) = blob.split_first_chunk::<4>().ok_or_else(short)?;
    let (json, scorer) = rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(short)?;
    Ok((serde_json::from_slice(json).map_err(|error| error.to_string())?, scorer))
}

/// The first `wanted` commissioning rows out of their chunks, which may overlap, as rows of `width` cells.
fn collect(chunks: &[CommissioningRow], width: usize, wanted: usize) -> Result<Vec<f32>, String> {
    let mut cells = Vec::with_capacity(wanted * width);
    let mut have = 0;
    for chunk in chunks {
        let (first, next) = (usize::try_from(chunk.first), usize::try_from(chunk.next));
        let (Ok(first), Ok(next)) = (first, next) else {
            return Err("a chunk of rows before the first".into());
        };
        if first > have {
            break;
        }
        let (length, bytes) = chunk.rows.0.split_first_chunk::<4>().ok_or("a chunk of rows is cut")?;
        let of = u32::from_le_bytes(*length) as usize;
        if of == 0 || of > width || bytes.len() != (next - first) * of * 4 {
            return Err("a chunk of rows has other columns".into());
        }
        let floats: Vec<f32> =
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap_or_default())).collect();
        let next = next.min(wanted);
        if next > have {
            let rows = &floats[(have - first) * of..(next - first) * of];
            cells.extend(widened(rows, of, width));
            have = next;
        }
    }
    if have < wanted {
        return Err(format!("{have} of {wanted} commissioning rows are stored"));
    }
    Ok(cells)
}

/// A String column that holds bytes.
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
