//! What is kept of machines in ClickHouse: commissioning rows, models, states and anomalies, each complete up
//! to its version. [`super::restore`] brings it back.
//!
//! A state is the length of its JSON as u32, the JSON ([`Stored`]), and the scorer's own bytes while scoring.
//! A run of commissioning rows is their width as u32, and for each row the number of its interval as i64 and
//! its cells as f32. All little-endian.

use serde::{Deserialize, Serialize};
use stillwell_schema::TopicPartition;
use stillwell_source::series::SeriesTable;

use super::commissioning::Commissioning;
use super::event::Event;
use super::machine::{Machine, Phase, Scoring};
use crate::native::Block;
use crate::snapshot::Part;

/// A machine's state but for the scorer's, as JSON. Floats are kept by their bits.
#[derive(Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) wanted: usize,
    pub(super) interval_us: i64,
    pub(super) since: Option<i64>,
    pub(super) sensors: Vec<String>,
    pub(super) bucket: i64,
    pub(super) time_us: i64,
    pub(super) values: Vec<u32>,
    pub(super) ended: Option<i64>,
    pub(super) late_records: u32,
    pub(super) effective: Option<i64>,
    pub(super) event: Option<Event>,
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
    parts.extend(states(lane, position, &dirty, table));
    for machine in &mut dirty {
        machine.is_dirty = false;
        machine.commissioning.saved = machine.commissioning.len();
        if let Phase::Scoring(scoring) = &mut machine.phase {
            scoring.is_stored = true;
        }
        if matches!(machine.phase, Phase::Scoring(_) | Phase::Off) {
            machine.commissioning = Commissioning::default();
        }
    }
}

/// Part of a table out of the rows of a block that `fill` writes.
fn part(table: &'static str, columns: usize, rows: usize, fill: impl FnOnce(&mut Block)) -> Option<Part> {
    if rows == 0 {
        return None;
    }
    let mut block = Block::new(columns, rows);
    fill(&mut block);
    Some(Part { table: table.into(), rows, bytes: block.finish() })
}

fn commissioning(lane: &TopicPartition, dirty: &[&mut Machine], table: &SeriesTable) -> Option<Part> {
    // Once its model is in force, a machine's columns are the model's; its rows were stored, or are not needed.
    let collects = |machine: &&&mut Machine| {
        matches!(machine.phase, Phase::Commissioning | Phase::Training { .. })
            && machine.commissioning.len() > machine.commissioning.saved
    };
    let some: Vec<(&str, &Commissioning)> = dirty
        .iter()
        .filter(collects)
        .map(|machine| (table.name(machine.name), &machine.commissioning))
        .collect();
    let blobs: Vec<Vec<u8>> = some.iter().map(|(_, rows)| encode_rows(rows)).collect();
    let count = |rows: usize| i64::try_from(rows).unwrap_or(i64::MAX);
    part("commissioning", 7, some.len(), |block| {
        block.strings("topic", some.iter().map(|_| &*lane.topic));
        block.i32s("partition", some.iter().map(|_| lane.partition));
        block.strings("machine", some.iter().map(|(machine, _)| *machine));
        block.i64s("since", some.iter().map(|(_, rows)| rows.since.unwrap_or_default()));
        block.i64s("first", some.iter().map(|(_, rows)| count(rows.saved)));
        block.i64s("next", some.iter().map(|(_, rows)| count(rows.len())));
        block.binaries("rows", blobs.iter().map(Vec::as_slice));
    })
}

/// The rows that are not stored yet.
fn encode_rows(rows: &Commissioning) -> Vec<u8> {
    let mut blob = u32::try_from(rows.width).unwrap_or(u32::MAX).to_le_bytes().to_vec();
    let cells = rows.cells.chunks_exact(rows.width.max(1));
    for (bucket, row) in rows.buckets.iter().zip(cells).skip(rows.saved) {
        blob.extend(bucket.to_le_bytes());
        blob.extend(row.iter().flat_map(|cell| cell.to_le_bytes()));
    }
    blob
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

/// Encodes the events that changed, and marks them clean.
pub(super) fn anomalies(
    lane: &TopicPartition,
    position: i64,
    machines: &mut [Machine],
    table: &SeriesTable,
) -> Option<Part> {
    let mut events: Vec<(&str, Event)> = Vec::new();
    for machine in machines {
        let name = table.name(machine.name);
        events.extend(machine.ended.drain(..).map(|event| (name, event)));
        if let Phase::Scoring(scoring) = &mut machine.phase
            && std::mem::take(&mut scoring.is_event_changed)
        {
            events.extend(scoring.event.iter().map(|event| (name, event.clone())));
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
    part("scorer_states", 8, dirty.len(), |block| {
        block.strings("topic", dirty.iter().map(|_| &*lane.topic));
        block.i32s("partition", dirty.iter().map(|_| lane.partition));
        block.strings("machine", dirty.iter().map(|machine| table.name(machine.name)));
        block.i64s("version", dirty.iter().map(|_| position));
        block.u64s("rows", dirty.iter().map(|machine| machine.rows));
        block.strings("phase", dirty.iter().map(|machine| machine.phase.name()));
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
        wanted: machine.wanted,
        interval_us: machine.interval_us,
        since: machine.commissioning.since,
        sensors: machine.sensors.iter().map(|&sensor| table.name(sensor).to_owned()).collect(),
        bucket: open.bucket,
        time_us: open.time_us,
        values: open.values.iter().map(|value| value.to_bits()).collect(),
        ended: machine.assembly.ended,
        late_records: machine.assembly.late_records,
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
