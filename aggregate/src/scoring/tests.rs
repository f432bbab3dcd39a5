use std::collections::BTreeMap;

use stillwell_schema::Offset;
use stillwell_schema::clock::SystemClock;
use stillwell_source::decode::decode_chunk;
use stillwell_source::decode::json::JsonDecoder;
use stillwell_source::settings::TimeUnit;

use super::machine::Phase;
use super::*;

const RECORDS: i64 = 240;
const ROWS_PER_RECORD: i64 = 5;

/// Two machines by turns, each record a batch of some rows; the last third of `b` is broken.
fn record(offset: i64) -> String {
    let machine = if offset % 2 == 0 { "a" } else { "b" };
    let first = offset / 2 * ROWS_PER_RECORD;
    let times: Vec<i64> = (first..first + ROWS_PER_RECORD).collect();
    let sensors: Vec<String> = (0..4)
        .map(|sensor| {
            let values: Vec<String> = times.iter().map(|&time| value(machine, sensor, time)).collect();
            format!("\"s{sensor}\":[{}]", values.join(","))
        })
        .collect();
    format!(r#"{{"machine":"{machine}","time":{times:?},"sensors":{{{}}}}}"#, sensors.join(","))
}

fn value(machine: &str, sensor: i64, time: i64) -> String {
    let load = (time as f64 * 0.31).sin() + 0.4 * (time as f64 * 0.17).cos();
    let mut noise = (time * 4 + sensor) as u64 ^ 0x9e37_79b9;
    (0..3).for_each(|_| noise = (noise ^ (noise >> 15)).wrapping_mul(0x2545_f491_4f6c_dd1d));
    let noise = (noise >> 40) as f64 / 2f64.powi(24) * 0.4;
    let broken = if machine == "b" && time > 450 && sensor == 2 { 9.0 } else { 0.0 };
    if (time * 7 + sensor * 17) % 151 == 0 {
        return "null".into();
    }
    format!("{:.3}", (sensor + 1) as f64 * load + noise + broken)
}

struct Lane {
    scoring: LaneScoring,
    fold: LaneFold,
    table: SeriesTable,
    decoder: JsonDecoder,
    alerts: Vec<Alert>,
}

fn id() -> TopicPartition {
    TopicPartition::new("t", 0)
}

fn scorer() -> Scorer {
    let settings = ScoringSettings { commissioning_rows: 300, ..ScoringSettings::default() };
    Scorer::new(settings, Arc::new(SystemClock))
}

impl Lane {
    fn new() -> Self {
        let decoder = JsonDecoder::new(TimeUnit::Seconds);
        let scoring = scorer().lane(Vec::new());
        Self {
            scoring,
            fold: LaneFold::default(),
            table: SeriesTable::default(),
            decoder,
            alerts: Vec::new(),
        }
    }

    fn feed(&mut self, first: i64, next: i64) {
        let mut chunk = RecordChunk::new(id(), Offset(first));
        for offset in first..next {
            chunk.push(Offset(offset), 0, None, Some(record(offset).as_bytes()), []);
        }
        let decoded = decode_chunk(&mut self.decoder, &chunk, &mut self.table);
        assert!(decoded.failures.is_empty());
        let (groups, _) = self.fold.gather(&decoded.columns, &self.table);
        self.fold.apply(&chunk, &decoded.columns, &groups, &self.table);
        self.scoring.take(&id(), &chunk, &decoded.columns, &self.table, &mut self.fold);
        self.alerts.append(&mut self.scoring.alerts);
    }

    /// A process that finds what this one had stored at `position`.
    fn restarted(self, position: i64) -> Self {
        let mut fresh = Self { alerts: self.alerts, ..Self::new() };
        let machines = self.scoring.machines.iter().map(|machine| {
            let (hash, model) = match &machine.phase {
                Phase::Scoring(scoring) => (scoring.model.hash().to_owned(), Some(scoring)),
                _ => (String::new(), None),
            };
            let name = || self.table.name(machine.name).to_owned();
            let row = stored::StateRow {
                machine: name(),
                version: position,
                rows: machine.rows,
                model: hash.clone(),
                state: stored::Bytes(stored::encode(machine, &self.table)),
            };
            let model = model.map(|scoring| stored::ModelRow {
                machine: name(),
                effective: scoring.effective,
                hash,
                created: 0,
                bytes: stored::Bytes(scoring.model.to_bytes()),
            });
            let width = machine.sensors.len() as u32;
            let mut blob = width.to_le_bytes().to_vec();
            blob.extend(machine.commissioning.iter().flat_map(|cell| cell.to_le_bytes()));
            let next = (machine.commissioning.len() / width.max(1) as usize) as i64;
            let chunk =
                stored::CommissioningRow { machine: name(), first: 0, next, rows: stored::Bytes(blob) };
            stored::restore(row, model, &[chunk], &self.scoring.settings, &mut fresh.table).unwrap()
        });
        let machines = machines.collect();
        fresh.scoring = scorer().lane(machines);
        fresh
    }

    /// In the order of the log: within a chunk they come by machine.
    fn alerts(&self) -> Vec<Alert> {
        let mut alerts = self.alerts.clone();
        alerts.sort_by_key(|alert| alert.offset);
        alerts
    }

    fn states(&self) -> BTreeMap<String, Vec<u8>> {
        let state = |machine: &Machine| {
            (self.table.name(machine.name).to_owned(), stored::encode(machine, &self.table))
        };
        self.scoring.machines.iter().map(state).collect()
    }
}

#[test]
fn a_broken_machine_raises_one_alert_however_the_log_is_cut() {
    let mut whole = Lane::new();
    whole.feed(0, RECORDS);
    assert_eq!(whole.alerts.len(), 1, "{:?}", whole.alerts);
    assert_eq!((&*whole.alerts[0].machine, whole.alerts[0].id.len()), ("b", 32));
    for size in [1, 7, 50] {
        let mut cut = Lane::new();
        (0..RECORDS).step_by(size).for_each(|first| cut.feed(first, (first + size as i64).min(RECORDS)));
        assert_eq!(cut.alerts(), whole.alerts());
        assert_eq!(cut.states(), whole.states());
    }
}

#[test]
fn a_restart_at_any_stage_changes_nothing() {
    let mut whole = Lane::new();
    whole.feed(0, RECORDS);
    // While commissioning, while training, and before and within the event.
    for stop in [3, 60, 121, 125, 150, 200] {
        let mut lane = Lane::new();
        lane.feed(0, stop);
        let mut lane = lane.restarted(stop);
        // What was in already comes again, and is passed over.
        lane.feed((stop - 10).max(0), RECORDS);
        assert_eq!(lane.alerts(), whole.alerts(), "restarted at {stop}");
        assert_eq!(lane.states(), whole.states(), "restarted at {stop}");
    }
}
