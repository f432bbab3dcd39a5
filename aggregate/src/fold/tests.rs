use std::collections::BTreeMap;

use proptest::prelude::*;
use stillwell_schema::{Offset, TopicPartition, quality};
use stillwell_source::chunk::RecordChunk;
use stillwell_source::decode::decode_chunk;
use stillwell_source::decode::json::JsonDecoder;
use stillwell_source::settings::TimeUnit;

use super::*;
use crate::window::Fold;

const DAY_S: i64 = 86_400;
/// 2027-01-15, about.
const NOW_S: i64 = 1_800_000_000;

/// One reading per record.
#[derive(Clone, Copy, Debug)]
struct Reading {
    sensor: u8,
    time_s: i64,
    value: Option<i32>,
    state: Option<u8>,
    quality: u32,
    /// The record's Kafka timestamp.
    kafka_s: i64,
}

impl Reading {
    fn at(time_s: i64, value: i32) -> Self {
        Self { sensor: 0, time_s, value: Some(value), state: None, quality: 0, kafka_s: NOW_S }
    }

    fn json(&self) -> String {
        let Self { sensor, time_s, quality, .. } = self;
        let value = self.value.map_or("null".to_owned(), |value| value.to_string());
        let text = self.state.map_or("null".to_owned(), |state| format!("\"s{state}\""));
        format!(
            r#"{{"machine":"m","sensor":"s{sensor}","time":{time_s},"value":{value},"text":{text},"quality":{quality}}}"#
        )
    }
}

/// What a store holds: windows by width, series and start, each with its version, and what is kept of series.
#[derive(Default)]
struct Store {
    windows: BTreeMap<(usize, String, i64), Window>,
    series: BTreeMap<String, (i64, Stored)>,
    /// Largest times where all widths are complete, which are written last.
    highs: BTreeMap<String, (i64, Option<i64>)>,
}

/// A lane with a store in memory, which can crash between any two writes.
struct Lane {
    fold: LaneFold,
    table: SeriesTable,
    decoder: JsonDecoder,
}

/// What was sent and is not stored yet.
#[derive(Default)]
struct Flight {
    position: usize,
    windows: Vec<((usize, String, i64), Window)>,
    series: Vec<(String, (i64, Stored))>,
    highs: Vec<(String, (i64, Option<i64>))>,
}

impl Lane {
    fn new() -> Self {
        let decoder = JsonDecoder::new(TimeUnit::Seconds);
        Self { fold: LaneFold::default(), table: SeriesTable::default(), decoder }
    }

    fn name(&self, number: u32) -> String {
        self.table.name(self.fold.series(number).sensor).to_owned()
    }

    /// Folds records `first..next`; gives what it had to ask the store for.
    fn feed(&mut self, log: &[Reading], first: usize, next: usize, store: &Store) -> Vec<Missing> {
        let mut chunk = RecordChunk::new(TopicPartition::new("t", 0), Offset(first as i64));
        for (offset, reading) in log.iter().enumerate().take(next).skip(first) {
            let kafka_ms = reading.kafka_s * 1000;
            chunk.push(Offset(offset as i64), kafka_ms, None, Some(reading.json().as_bytes()), []);
        }
        let decoded = decode_chunk(&mut self.decoder, &chunk, &mut self.table).unwrap();
        assert!(decoded.failures.is_empty());
        let (groups, missing) = self.fold.gather(&decoded.columns, &self.table);
        for missing in &missing {
            let &Missing { width, series, start_us, .. } = missing;
            let window = store.windows.get(&(width, self.name(series), start_us)).cloned();
            self.fold.insert(*missing, window.unwrap_or(Window { start_us, ..Window::default() }));
        }
        self.fold.apply(&Origin::all(&chunk), &decoded.columns, &groups, &self.table);
        missing
    }

    /// Sends what changed.
    fn send(&mut self, position: usize) -> Flight {
        self.send_level(position, Level::All)
    }

    fn send_level(&mut self, position: usize, level: Level) -> Flight {
        let dirty = self.fold.take_dirty(level);
        let mut flight = Flight { position, ..Flight::default() };
        for &number in &dirty {
            let (name, state) = (self.name(number), self.fold.series(number));
            for width in 0..level.widths() {
                for window in state.windows(width).iter().filter(|window| window.dirty) {
                    let window = Window { version: position as i64, dirty: false, ..window.clone() };
                    flight.windows.push(((width, name.clone(), window.start_us), window));
                }
            }
            let latest = state.latest.clone().unwrap();
            let stored = Stored { kind: None, unit: None, latest, early: state.early(), high_us: None };
            if level == Level::All {
                flight.highs.push((name.clone(), (position as i64, state.high_us())));
            }
            flight.series.push((name, (position as i64, stored)));
        }
        self.fold.sent(dirty, level, position as i64);
        flight
    }

    /// All of it is stored.
    fn land(&mut self, flight: Flight, store: &mut Store) -> usize {
        let position = flight.position;
        flight.store(usize::MAX, store);
        self.fold.landed();
        position
    }

    /// A lane as it starts over, with what is stored of its series.
    fn restored(store: &Store) -> Self {
        let mut lane = Self::new();
        for (name, (_, stored)) in &store.series {
            let high_us = store.highs.get(name).and_then(|(_, high_us)| *high_us);
            let stored = Stored { high_us, ..stored.clone() };
            let (machine, sensor) = (lane.table.intern_name("m"), lane.table.intern_name(name));
            let number = lane.fold.series_of(machine, sensor);
            lane.fold.series_mut(number).restore(stored);
        }
        lane
    }
}

impl Flight {
    /// Stores its first `rows`, windows before series before largest times.
    fn store(self, rows: usize, store: &mut Store) {
        let windows = self.windows.len();
        for (key, window) in self.windows.into_iter().take(rows) {
            if store.windows.get(&key).is_none_or(|old| old.version <= window.version) {
                store.windows.insert(key, window);
            }
        }
        let series = self.series.len();
        for (name, row) in self.series.into_iter().take(rows.saturating_sub(windows)) {
            if store.series.get(&name).is_none_or(|old| old.0 <= row.0) {
                store.series.insert(name, row);
            }
        }
        for (name, row) in self.highs.into_iter().take(rows.saturating_sub(windows + series)) {
            if store.highs.get(&name).is_none_or(|old| old.0 <= row.0) {
                store.highs.insert(name, row);
            }
        }
    }
}

/// The same windows by brute force.
fn by_hand(log: &[Reading]) -> BTreeMap<(usize, String, i64), Fold> {
    let mut windows: BTreeMap<_, Fold> = BTreeMap::new();
    let mut high = BTreeMap::new();
    for reading in log {
        let time_us = reading.time_s * 1_000_000;
        let high = high.entry(reading.sensor).or_insert(i64::MIN);
        let is_bad = quality::is_bad(reading.quality);
        for (width, start) in starts(time_us).into_iter().enumerate() {
            let fold = windows.entry((width, format!("s{}", reading.sensor), start)).or_default();
            match reading.value {
                Some(value) => fold.add(time_us, f64::from(value), is_bad),
                None => fold.add_valueless(is_bad),
            }
            if let Some(state) = reading.state {
                fold.add_state(time_us, &format!("s{state}"));
            }
            let counts = reading.value.is_some() || is_bad || reading.state.is_some();
            fold.late += u32::from(start + WIDTHS_US[width] <= *high && counts);
        }
        if reading.time_s <= reading.kafka_s + DAY_S {
            *high = time_us.max(*high);
        }
    }
    windows.retain(|_, fold| !fold.is_empty());
    windows
}

fn check(log: &[Reading], store: &Store) {
    let expected = by_hand(log);
    assert_eq!(store.windows.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (key, fold) in &expected {
        let found = &store.windows[key].fold;
        assert_eq!(
            (found.count, found.min, found.max, found.bad, found.late, &found.histogram),
            (fold.count, fold.min, fold.max, fold.bad, fold.late, &fold.histogram),
            "{key:?}"
        );
        assert_eq!(
            (found.first, found.first_time, found.last, found.last_time),
            (fold.first, fold.first_time, fold.last, fold.last_time),
            "{key:?}"
        );
        assert!((found.sum() - fold.sum()).abs() < 1e-6, "{key:?}");
        assert!((found.m2 - fold.m2).abs() < 1e-9 * fold.m2.max(1.0), "{key:?}");
        assert_eq!(found.disordered == 0, fold.disordered == 0, "{key:?}");
        if fold.disordered == 0 {
            let near = |a: f64, b: f64| (a - b).abs() < 1e-9 * a.abs().max(1.0);
            assert!(near(found.area_last, fold.area_last), "{key:?}");
            assert!(near(found.area_linear, fold.area_linear), "{key:?}");
            assert!(near(found.increase, fold.increase), "{key:?}");
            assert_eq!(found.resets, fold.resets, "{key:?}");
        }
        let is_ordered = |fold: &Fold| fold.states.as_ref().is_none_or(|states| states.disordered == 0);
        assert_eq!(is_ordered(found), is_ordered(fold), "{key:?}");
        if is_ordered(fold) {
            assert_eq!(found.states, fold.states, "{key:?}");
        }
    }
}

fn log() -> impl Strategy<Value = Vec<Reading>> {
    // Mostly forward in time, now and then far back, or far ahead by a clock that is wrong.
    let back = prop_oneof![
        17 => Just(0i64),
        2 => 0i64..200_000,
        1 => -3 * DAY_S..-DAY_S,
    ];
    let value = prop_oneof![9 => (-1000..1000i32).prop_map(Some), 1 => Just(None)];
    let quality = prop_oneof![4 => Just(quality::GOOD), 1 => Just(quality::BAD)];
    let state = prop_oneof![4 => Just(None), 1 => (0u8..3).prop_map(Some)];
    proptest::collection::vec((0u8..4, 0i64..12, back, value, state, quality), 1..150).prop_map(|steps| {
        let mut kafka_s = NOW_S;
        let reading = |(sensor, step, back, value, state, quality)| {
            kafka_s += step;
            Reading { sensor, time_s: kafka_s - back, value, state, quality, kafka_s }
        };
        steps.into_iter().map(reading).collect()
    })
}

proptest! {
    #[test]
    fn views_equal_the_fold_of_the_log_whatever_crashes(
        log in log(),
        steps in proptest::collection::vec((1usize..40, 0u8..10, 0usize..90), 1..20),
    ) {
        let mut store = Store::default();
        let (mut lane, mut at, mut position) = (Lane::new(), 0, 0);
        let mut flight: Option<(Flight, Level)> = None;
        let mut steps = steps.into_iter().chain(std::iter::repeat((40, 9, 0)));
        while position < log.len() {
            let (records, fate, rows) = steps.next().unwrap();
            let next = (at + records).min(log.len());
            lane.feed(&log, at, next, &store);
            at = next;
            match fate {
                0..2 => {}
                // The process dies half way through a flush: some rows are written, the position is not.
                2..4 => {
                    let flown = flight.take().map_or_else(|| lane.send(at), |(flown, _)| flown);
                    flown.store(rows, &mut store);
                    lane = Lane::restored(&store);
                    at = position;
                }
                // Windows that are not in use leave memory.
                4 if flight.is_none() => {
                    lane.fold.evict_unused();
                }
                // A snapshot starts on its way, or arrives; between the two the lane goes on. The lane goes on from
                // where windows of all widths are stored.
                _ => match flight.take() {
                    None => {
                        let level = if fate < 8 { Level::Fine } else { Level::All };
                        flight = Some((lane.send_level(at, level), level));
                    }
                    Some((flown, level)) => {
                        let landed = lane.land(flown, &mut store);
                        if level == Level::All {
                            position = landed;
                        }
                    }
                },
            }
        }
        check(&log, &store);
    }
}

#[test]
fn late_data_finds_what_is_on_its_way() {
    let log = [Reading::at(NOW_S, 1), Reading::at(NOW_S + 3600, 2), Reading::at(NOW_S, 3)];
    let (mut lane, mut store) = (Lane::new(), Store::default());
    lane.feed(&log, 0, 2, &store);
    let first = lane.send(2);
    // The store holds nothing of it yet; asking it would start the window anew.
    assert_eq!(lane.feed(&log, 2, 3, &store), []);
    lane.land(first, &mut store);
    let second = lane.send(3);
    lane.land(second, &mut store);
    check(&log, &store);
    assert_eq!(lane.feed(&[log[2]; 4], 3, 4, &store).len(), 3, "it has left memory, all but the day");
}

#[test]
fn a_reading_from_the_future_makes_nothing_late() {
    let far_s = NOW_S + 3000 * DAY_S;
    let log = [
        Reading::at(NOW_S, 1),
        Reading::at(far_s, 2),
        Reading::at(NOW_S + 1, 3),
        Reading::at(far_s, 4),
        Reading { kafka_s: far_s, ..Reading::at(far_s + 1, 5) },
    ];
    let (mut lane, mut store) = (Lane::new(), Store::default());
    lane.feed(&log, 0, 2, &store);
    let flight = lane.send(2);
    lane.land(flight, &mut store);
    assert_eq!(lane.feed(&log, 2, 3, &store), [], "the current windows stay");
    assert_eq!((lane.fold.late, lane.fold.series(0).latest.as_ref().unwrap().value), (0, Some(3.0)));
    let flight = lane.send(3);
    lane.land(flight, &mut store);
    let mut lane = Lane::restored(&store);
    assert_eq!(lane.feed(&log, 3, 4, &store).len(), 4, "its windows are known to be stored");
    // Time catches up with it.
    assert_eq!(lane.feed(&log, 4, 5, &store), []);
    assert_eq!((lane.fold.series(0).early(), lane.fold.late), (None, 0));
    let flight = lane.send(5);
    lane.land(flight, &mut store);
    check(&log, &store);
}

#[test]
fn a_kafka_timestamp_that_is_not_known_bounds_nothing() {
    for kafka_s in [-1, 0] {
        let mut lane = Lane::new();
        lane.feed(&[Reading { kafka_s, ..Reading::at(NOW_S, 1) }], 0, 1, &Store::default());
        assert_eq!(lane.fold.series(0).early(), None);
    }
}

#[test]
fn what_is_to_be_written_is_measured() {
    let log: Vec<Reading> = (0..100).map(|day| Reading::at(NOW_S - day * DAY_S, 1)).collect();
    let (mut lane, mut store) = (Lane::new(), Store::default());
    lane.feed(&log, 0, 100, &store);
    let bytes = lane.fold.dirty_bytes();
    assert!((396 * size_of::<Window>()..400 * 1024).contains(&bytes), "{bytes}");
    let flight = lane.send(100);
    assert_eq!(lane.fold.dirty_bytes(), 0);
    lane.land(flight, &mut store);
    let kept: usize = (0..4).map(|width| lane.fold.series(0).windows(width).len()).sum();
    assert!(kept <= 8, "{kept}");
}

#[test]
fn series_beyond_their_bounds_are_counted_and_leave_nothing() {
    let limits = SeriesLimits { per_machine: 2, total: 100 };
    let mut lane = Lane::new();
    lane.fold = LaneFold::default().within(limits, Arc::default());
    let log: Vec<Reading> = (0..8).map(|n| Reading { sensor: n % 4, ..Reading::at(NOW_S, 1) }).collect();
    lane.feed(&log, 0, 8, &Store::default());
    assert_eq!((lane.fold.len(), lane.fold.refused_series()), (2, 2));
    let refused = lane.fold.take_refused(0);
    assert_eq!(
        refused.iter().map(|(_, refused, _)| *refused).collect::<Vec<_>>(),
        [Refused { series: 2, readings: 4 }]
    );
    let mut store = Store::default();
    let flight = lane.send(8);
    lane.land(flight, &mut store);
    let taken: Vec<Reading> = log.into_iter().filter(|reading| reading.sensor < 2).collect();
    check(&taken, &store);
}
