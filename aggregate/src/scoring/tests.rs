use std::collections::BTreeMap;

use stillwell_schema::Offset;
use stillwell_schema::clock::SystemClock;
use stillwell_source::chunk::RecordChunk;
use stillwell_source::decode::decode_chunk;
use stillwell_source::decode::json::JsonDecoder;
use stillwell_source::settings::TimeUnit;

use super::machine::Phase;
use super::*;

mod tables;

use tables::Tables;

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

/// One machine whose four sensors report one after another, one reading a second; the last of them are
/// broken.
fn apart(offset: i64) -> String {
    let sensor = offset % 4;
    let broken = if sensor == 1 && offset > 2400 { 30.0 } else { 0.0 };
    let value = (sensor + 1) as f64 * (offset as f64 * 0.011).sin() + (offset % 7) as f64 * 0.05 + broken;
    format!(r#"{{"machine":"c","time":[{offset}],"sensors":{{"s{sensor}":[{value:.3}]}}}}"#)
}

struct Lane {
    scoring: LaneScoring,
    fold: LaneFold,
    table: SeriesTable,
    decoder: JsonDecoder,
    alerts: Vec<Alert>,
    log: fn(i64) -> String,
}

fn id() -> TopicPartition {
    TopicPartition::new("t", 0)
}

fn scorer(commissioning_rows: usize) -> Scorer {
    let settings = ScoringSettings { commissioning_rows, ..ScoringSettings::default() };
    Scorer::new(settings, Arc::new(SystemClock))
}

impl Lane {
    fn new(log: fn(i64) -> String) -> Self {
        Self::of(&scorer(300), &Tables::default(), log)
    }

    /// What a process makes of the tables.
    fn of(scorer: &Scorer, tables: &Tables, log: fn(i64) -> String) -> Self {
        let mut table = SeriesTable::default();
        let machines = restore::machines(tables.rows(), &id(), &scorer.settings, &mut table);
        Self {
            scoring: scorer.lane(machines),
            fold: LaneFold::default(),
            table,
            decoder: JsonDecoder::new(TimeUnit::Seconds),
            alerts: Vec::new(),
            log,
        }
    }

    fn feed(&mut self, first: i64, next: i64) {
        let mut chunk = RecordChunk::new(id(), Offset(first));
        for offset in first..next {
            chunk.push(Offset(offset), 1, None, Some((self.log)(offset).as_bytes()), []);
        }
        let decoded = decode_chunk(&mut self.decoder, &chunk, &mut self.table).unwrap();
        assert!(decoded.failures.is_empty());
        let (groups, _) = self.fold.gather(&decoded.columns, &self.table);
        let origins = Origin::all(&chunk);
        self.fold.apply(&origins, &decoded.columns, &groups, &self.table);
        self.scoring.take(&id(), &origins, &decoded.columns, &self.table, &mut self.fold);
        self.alerts.append(&mut self.scoring.alerts);
    }

    /// Stores what changed; all but the states, where the process dies before.
    fn store(&mut self, position: i64, tables: &mut Tables, is_whole: bool) {
        let mut parts = Vec::new();
        self.scoring.snapshot(&id(), position, Level::All, &self.table, &mut parts);
        tables.write(&parts, is_whole);
    }

    /// A process that finds what this one had stored at `position`.
    fn restarted(self, tables: &Tables) -> Self {
        Self { alerts: self.alerts, ..Self::of(&scorer(300), tables, self.log) }
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

    fn phases(&self) -> Vec<&'static str> {
        self.scoring.machines.iter().map(|machine| machine.phase.name()).collect()
    }
}

/// A whole run, stored at its end.
fn whole(log: fn(i64) -> String, records: i64) -> (Lane, Tables) {
    let (mut lane, mut tables) = (Lane::new(log), Tables::default());
    lane.feed(0, records);
    lane.store(records, &mut tables, true);
    (lane, tables)
}

#[test]
fn a_broken_machine_raises_one_alert_however_the_log_is_cut() {
    let (whole, tables) = whole(record, RECORDS);
    assert_eq!(whole.alerts.len(), 1, "{:?}", whole.alerts);
    assert_eq!((&*whole.alerts[0].machine, whole.alerts[0].id.len()), ("b", 32));
    assert_eq!(tables.until[&whole.alerts[0].id], None);
    for size in [1, 7, 50] {
        let mut cut = Lane::new(record);
        (0..RECORDS).step_by(size).for_each(|first| cut.feed(first, (first + size as i64).min(RECORDS)));
        cut.store(RECORDS, &mut Tables::default(), true);
        assert_eq!(cut.alerts(), whole.alerts());
        assert_eq!(cut.states(), whole.states());
    }
}

#[test]
fn a_restart_at_any_stage_changes_nothing() {
    let (whole, _) = whole(record, RECORDS);
    // While commissioning, while training, and before and within the event.
    for stop in [3, 60, 121, 125, 150, 200] {
        let (mut lane, mut tables) = (Lane::new(record), Tables::default());
        for (first, next) in [(0, stop / 2), (stop / 2, stop)] {
            lane.feed(first, next);
            lane.store(next, &mut tables, true);
        }
        let mut lane = lane.restarted(&tables);
        // What was in already comes again, and is passed over.
        lane.feed((stop - 10).max(0), RECORDS);
        lane.store(RECORDS, &mut tables, true);
        assert_eq!(lane.alerts(), whole.alerts(), "restarted at {stop}");
        assert_eq!(lane.states(), whole.states(), "restarted at {stop}");
    }
}

#[test]
fn what_was_stored_beyond_the_states_changes_nothing() {
    let (whole, _) = whole(record, RECORDS);
    // The second snapshot dies before its states; of commissioning rows, of a model, of an event.
    for stop in [40, 110, 130, 200] {
        let (mut lane, mut tables) = (Lane::new(record), Tables::default());
        lane.feed(0, stop);
        lane.store(stop, &mut tables, true);
        let alerts = lane.alerts.clone();
        lane.feed(stop, stop + 20);
        lane.store(stop + 20, &mut tables, false);
        lane.alerts = alerts;
        let mut lane = lane.restarted(&tables);
        lane.feed(stop, RECORDS);
        lane.store(RECORDS, &mut tables, true);
        assert_eq!(lane.alerts(), whole.alerts(), "died after {stop}");
        assert_eq!(lane.states(), whole.states(), "died after {stop}");
    }
}

/// A sensor that is new from record 20 on.
fn growing(offset: i64) -> String {
    let more = if offset < 20 { String::new() } else { format!(r#","late":[{}]"#, offset % 9) };
    format!(r#"{{"machine":"d","time":[{offset}],"sensors":{{"s":[{}]{more}}}}}"#, offset % 5)
}

#[test]
fn rows_stored_with_a_sensor_more_than_the_state_knows_are_read() {
    let (mut lane, mut tables) = (Lane::new(growing), Tables::default());
    lane.feed(0, 15);
    lane.store(15, &mut tables, true);
    lane.feed(15, 30);
    lane.store(30, &mut tables, false);
    let mut lane = lane.restarted(&tables);
    assert_eq!(lane.phases(), ["commissioning"]);
    lane.feed(15, 100);
    // A chunk begins where an older and wider one does.
    lane.store(100, &mut tables, true);
    let states = lane.states();
    assert_eq!(lane.restarted(&tables).states(), states);
}

#[test]
fn sensors_that_report_apart_are_scored_in_longer_rows() {
    const RECORDS: i64 = 2600;
    let (whole, _) = whole(apart, RECORDS);
    let machine = &whole.scoring.machines[0];
    assert_eq!((machine.interval_us, machine.sensors.len()), (4_000_000, 4));
    assert!(matches!(machine.phase, Phase::Scoring(_)));
    assert_eq!(whole.alerts.len(), 1, "{:?}", whole.alerts);
    // In the rows of a second, just after they were merged, and in the longer ones.
    for stop in [200, 301, 700, 1250, 2000] {
        let (mut lane, mut tables) = (Lane::new(apart), Tables::default());
        for (first, next) in [(0, stop - 90), (stop - 90, stop)] {
            lane.feed(first, next);
            lane.store(next, &mut tables, true);
        }
        let mut lane = lane.restarted(&tables);
        lane.feed(stop, RECORDS);
        lane.store(RECORDS, &mut tables, true);
        assert_eq!(lane.alerts(), whole.alerts(), "restarted at {stop}");
        assert_eq!(lane.states(), whole.states(), "restarted at {stop}");
    }
}

#[test]
fn a_machine_whose_state_is_broken_begins_anew_and_the_others_go_on() {
    type Break = fn(&mut Tables);
    let breaks: [(&str, Break); 5] = [
        ("state", |tables| tables.states.get_mut("b").unwrap().state.0.truncate(10)),
        ("scorer", |tables| tables.states.get_mut("b").unwrap().state.0.push(0)),
        ("model's bytes", |tables| tables.models.get_mut("b").unwrap().bytes.0[40] ^= 1),
        ("another's model", |tables| {
            let (_, other) = whole(apart, 2000);
            tables.models.get_mut("b").unwrap().bytes = other.models["c"].bytes.clone();
        }),
        ("no model", |tables| drop(tables.models.remove("b"))),
    ];
    for (what, harm) in breaks {
        let (lane, mut tables) = whole(record, RECORDS);
        harm(&mut tables);
        let mut lane = lane.restarted(&tables);
        assert_eq!(lane.phases(), ["scoring", "commissioning"], "{what}");
        let event = lane.alerts[0].id.clone();
        lane.feed(RECORDS - 5, RECORDS + 20);
        lane.store(RECORDS + 20, &mut tables, true);
        if what != "state" {
            assert!(tables.until[&event].is_some(), "{what}: the event is closed");
        }
        assert_eq!(lane.scoring.machines[1].rows, 49, "{what}: records that were in are passed over");
        let states = lane.states();
        assert_eq!(lane.restarted(&tables).states(), states, "{what}");
    }
}

#[test]
fn more_commissioning_rows_are_for_those_who_have_no_model_yet() {
    for stop in [60, 125, 150] {
        let (mut lane, mut tables) = (Lane::new(record), Tables::default());
        lane.feed(0, stop);
        lane.store(stop, &mut tables, true);
        let states = lane.states();
        assert_eq!(Lane::of(&scorer(500), &tables, record).states(), states, "at {stop}");
    }
    let mut tables = Tables::default();
    let mut lane = Lane::of(&scorer(20), &tables, record);
    lane.feed(0, 100);
    lane.store(100, &mut tables, true);
    assert_eq!(lane.phases(), ["off", "off"], "too few rows for a model");
    assert_eq!(Lane::of(&scorer(20), &tables, record).phases(), ["off", "off"]);
    assert_eq!(Lane::of(&scorer(300), &tables, record).phases(), ["commissioning", "commissioning"]);
}

/// A machine one of whose readings is 30 years ahead of its record, and one a number beyond f32.
fn odd(offset: i64) -> String {
    let time = if offset == 10 { 1_000_000_000 } else { offset };
    let value = if offset == 20 { 1.797e308 } else { (offset as f64 * 0.3).sin() };
    format!(r#"{{"machine":"e","time":[{time}],"sensors":{{"s":[{value:?}],"t":[{}]}}}}"#, offset % 4)
}

#[test]
fn a_reading_from_the_future_or_beyond_all_bounds_has_no_part() {
    let (lane, _) = whole(odd, 400);
    let machine = &lane.scoring.machines[0];
    assert_eq!(machine.assembly.ended, Some(399));
    let Phase::Scoring(scoring) = &machine.phase else { panic!("{:?}", lane.phases()) };
    assert!(scoring.model.threshold().is_finite());
}
