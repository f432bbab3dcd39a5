use std::collections::BTreeMap;

use proptest::prelude::*;
use stillwell_schema::{Offset, TopicPartition};
use stillwell_source::decode::decode_chunk;
use stillwell_source::decode::json::JsonDecoder;
use stillwell_source::settings::TimeUnit;

use super::*;
use crate::window::Fold;

/// What a store holds: rows by width, series and start, each with its version.
type Stored = BTreeMap<(usize, String, i64), Window>;

/// A lane with a store in memory, which can crash between any two writes.
struct Lane {
    fold: LaneFold,
    table: SeriesTable,
    decoder: JsonDecoder,
}

/// One reading per record: sensor, time in s, value.
type Log = [(u8, i64, i32)];

impl Lane {
    fn new() -> Self {
        let decoder = JsonDecoder::new(TimeUnit::Seconds);
        Self { fold: LaneFold::default(), table: SeriesTable::default(), decoder }
    }

    fn name(&self, number: u32) -> String {
        self.table.name(self.fold.series(number).sensor).to_owned()
    }

    fn feed(&mut self, log: &Log, first: usize, next: usize, stored: &Stored) {
        let mut chunk = RecordChunk::new(TopicPartition::new("t", 0), Offset(first as i64));
        for (offset, (sensor, time, value)) in log.iter().enumerate().take(next).skip(first) {
            let value = format!(r#"{{"machine":"m","sensor":"s{sensor}","time":{time},"value":{value}}}"#);
            chunk.push(Offset(offset as i64), 0, None, Some(value.as_bytes()), []);
        }
        let decoded = decode_chunk(&mut self.decoder, &chunk, &mut self.table);
        assert!(decoded.failures.is_empty());
        let (groups, missing) = self.fold.gather(&decoded.columns, &self.table);
        for Missing { width, series, start_us } in missing {
            let key = (width, self.name(series), start_us);
            let window = stored.get(&key).cloned();
            self.fold.insert(series, width, window.unwrap_or(Window { start_us, ..Window::default() }));
        }
        self.fold.apply(&chunk, &decoded.columns, &groups, &self.table);
    }

    /// Writes what changed; a crash leaves only the first `rows` of it.
    fn flush(&mut self, position: usize, stored: &mut Stored, rows: usize) {
        let dirty = self.fold.take_dirty();
        let mut out = Vec::new();
        for &number in &dirty {
            for width in 0..4 {
                for window in self.fold.series(number).windows(width).iter().filter(|window| window.dirty) {
                    let mut window = window.clone();
                    (window.version, window.dirty) = (position as i64, false);
                    out.push(((width, self.name(number), window.start_us), window));
                }
            }
        }
        for (key, window) in out.into_iter().take(rows) {
            let newer = stored.get(&key).is_none_or(|old| old.version <= window.version);
            if newer {
                stored.insert(key, window);
            }
        }
        self.fold.written(&dirty, position as i64);
    }

    /// What a lane knows of its series at the start: their last readings below the position.
    fn restore(&mut self, log: &Log, position: usize) {
        let mut latest = BTreeMap::new();
        for (sensor, time, value) in &log[..position] {
            let entry = latest.entry(*sensor).or_insert((*time, *value));
            if *time >= entry.0 {
                *entry = (*time, *value);
            }
        }
        for (sensor, (time, value)) in latest {
            let machine = self.table.intern_name("m");
            let sensor = self.table.intern_name(&format!("s{sensor}"));
            let number = self.fold.series_of(machine, sensor);
            let latest = Latest {
                time_us: time * 1_000_000,
                value: Some(f64::from(value)),
                text: None,
                quality: 0,
                score: None,
            };
            self.fold.series_mut(number).restore(None, None, latest);
        }
    }
}

/// The same windows by brute force.
fn by_hand(log: &Log) -> BTreeMap<(usize, String, i64), Fold> {
    let mut windows: BTreeMap<_, Fold> = BTreeMap::new();
    let mut high = BTreeMap::new();
    for (sensor, time, value) in log {
        let time_us = time * 1_000_000;
        let high = high.entry(*sensor).or_insert(i64::MIN);
        for (width, start) in starts(time_us).into_iter().enumerate() {
            let fold = windows.entry((width, format!("s{sensor}"), start)).or_default();
            fold.add(time_us, f64::from(*value), false);
            fold.late += u64::from(start + WIDTHS_US[width] <= *high);
        }
        *high = time_us.max(*high);
    }
    windows
}

fn check(log: &Log, stored: &Stored) {
    let expected = by_hand(log);
    assert_eq!(stored.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (key, fold) in &expected {
        let found = &stored[key].fold;
        assert_eq!(
            (found.count, found.min, found.max, found.late, &found.histogram),
            (fold.count, fold.min, fold.max, fold.late, &fold.histogram),
            "{key:?}"
        );
        assert_eq!(
            (found.first, found.first_time, found.last, found.last_time),
            (fold.first, fold.first_time, fold.last, fold.last_time),
            "{key:?}"
        );
        assert!((found.sum() - fold.sum()).abs() < 1e-6, "{key:?}");
        assert_eq!(found.sum_squares, fold.sum_squares, "{key:?}");
    }
}

fn log() -> impl Strategy<Value = Vec<(u8, i64, i32)>> {
    // Mostly forward in time, now and then far back.
    proptest::collection::vec(
        (0u8..4, 0i64..12, prop_oneof![9 => Just(0i64), 1 => 0i64..200_000], -1000..1000i32),
        1..150,
    )
    .prop_map(|steps| {
        let mut now = 1_000_000;
        let reading = |(sensor, step, back, value): (u8, i64, i64, i32)| {
            now += step;
            (sensor, now - back, value)
        };
        steps.into_iter().map(reading).collect()
    })
}

proptest! {
    #[test]
    fn views_equal_the_fold_of_the_log_whatever_crashes(
        log in log(),
        steps in proptest::collection::vec((1usize..40, 0u8..10, 0usize..60), 1..20),
    ) {
        let mut stored = Stored::new();
        let (mut lane, mut at, mut position) = (Lane::new(), 0, 0);
        let mut steps = steps.into_iter().chain(std::iter::repeat((40, 0, usize::MAX)));
        while position < log.len() {
            let (records, fate, rows) = steps.next().unwrap();
            let next = (at + records).min(log.len());
            lane.feed(&log, at, next, &stored);
            at = next;
            match fate {
                // Nothing is written yet.
                1..4 if at < log.len() => {}
                // The process dies half way through a flush: some rows are written, the position is not.
                4..6 => {
                    lane.flush(at, &mut stored, rows);
                    lane = Lane::new();
                    lane.restore(&log, position);
                    at = position;
                }
                _ => {
                    lane.flush(at, &mut stored, usize::MAX);
                    position = at;
                }
            }
        }
        check(&log, &stored);
    }
}
