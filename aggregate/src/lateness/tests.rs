use std::collections::BTreeMap;

use proptest::prelude::*;
use stillwell_source::series::Series;

use super::*;
use crate::histogram::Histogram;

/// A record: its Kafka timestamp, ms, and its readings, each a machine and a time, µs.
type Record = (i64, Vec<(u8, i64)>);

const NOW_MS: i64 = 1_800_000_000_000;
const NOW_US: i64 = NOW_MS * 1000;
const S: i64 = 1_000_000;
const DAY_US: i64 = 86_400 * S;

/// A lane and what is stored of it.
#[derive(Default)]
struct Lane {
    lateness: LaneLateness,
    table: SeriesTable,
}

impl Lane {
    fn restored(store: &BTreeMap<String, LatenessRow>) -> Self {
        let mut lane = Self::default();
        lane.lateness.restore(store.values().cloned(), &mut lane.table);
        lane
    }

    /// Folds records `first..next`.
    fn feed(&mut self, log: &[Record], first: usize, next: usize) {
        let mut columns = ReadingColumns::default();
        let mut origins = Vec::new();
        for (record, (kafka_ms, readings)) in log[first..next].iter().enumerate() {
            origins.push(Origin::new((first + record) as i64, *kafka_ms));
            for (place, (machine, time_us)) in readings.iter().enumerate() {
                // Two sensors of a machine share its times.
                let names = [format!("m{machine}"), format!("s{}", place % 2)];
                let [machine, sensor] = names.map(|name| self.table.intern_name(&name));
                columns.series.push(self.table.intern(Series { machine, sensor, kind: None, unit: None }));
                columns.time_us.push(*time_us);
                columns.record.push(record as u32);
            }
        }
        self.lateness.take(&origins, &columns, &self.table);
    }

    /// What a snapshot at `version` would store.
    fn rows(&mut self, version: i64) -> Vec<LatenessRow> {
        let dirty = self.lateness.dirty.clone();
        let mut parts = Vec::new();
        self.lateness.snapshot(&TopicPartition::new("t", 0), version, &self.table, &mut parts);
        assert_eq!(parts.iter().map(|part| part.rows).sum::<usize>(), dirty.len());
        let machines = dirty.iter().map(|&number| &self.lateness.machines[number as usize]);
        machines.map(|machine| row(machine, &self.table)).collect()
    }
}

fn row(machine: &Machine, table: &SeriesTable) -> LatenessRow {
    LatenessRow {
        machine: table.name(machine.name).to_owned(),
        version: machine.version,
        readings: machine.readings,
        late: machine.late,
        lag: buckets(&machine.lags),
        lag_max_us: machine.lag_max_us,
        skew_min_us: machine.skew_min_us,
        skew_last_us: machine.skew_last_us,
        skew: buckets(&machine.skews),
        high: machine.high_us,
    }
}

fn buckets(histogram: &Histogram) -> Vec<(i32, u64)> {
    histogram.buckets().iter().map(|&(key, count)| (key, u64::from(count))).collect()
}

/// The same by the definition, reading by reading; versions are left at 0.
fn brute(log: &[Record]) -> BTreeMap<String, LatenessRow> {
    let mut all = BTreeMap::new();
    for machine in 0..=u8::MAX {
        let mut readings = Vec::new();
        let (mut skews, mut lags) = (Vec::new(), Vec::new());
        let mut high = None::<i64>;
        for (kafka_ms, record) in log {
            let own: Vec<i64> =
                record.iter().filter(|(of, _)| *of == machine).map(|(_, time)| *time).collect();
            for &time in &own {
                lags.extend(high.map(|high| high - time).filter(|&lag| lag > 10 * S));
                let is_early = *kafka_ms > 0 && time > kafka_ms * 1000 + DAY_US;
                high = if is_early { high } else { high.max(Some(time)) };
            }
            let newest = own.iter().max().filter(|_| *kafka_ms > 0);
            skews.extend(newest.map(|newest| kafka_ms * 1000 - newest));
            readings.extend(own);
        }
        let histogram = |values: &[i64]| {
            let mut histogram = Histogram::default();
            values.iter().for_each(|&us| histogram.add(us as f64 / 1e3));
            buckets(&histogram)
        };
        if readings.is_empty() {
            continue;
        }
        let name = format!("m{machine}");
        let row = LatenessRow {
            machine: name.clone(),
            version: 0,
            readings: readings.len() as u64,
            late: lags.len() as u64,
            lag: histogram(&lags),
            lag_max_us: lags.iter().copied().max().unwrap_or(0),
            skew_min_us: skews.iter().copied().min().unwrap_or(i64::MAX),
            skew_last_us: skews.last().copied().unwrap_or(0),
            skew: histogram(&skews),
            high,
        };
        all.insert(name, row);
    }
    all
}

fn check(log: &[Record], store: BTreeMap<String, LatenessRow>) {
    let bare = store.into_iter().map(|(name, row)| (name, LatenessRow { version: 0, ..row }));
    assert_eq!(bare.collect::<BTreeMap<_, _>>(), brute(log));
}

#[test]
fn what_is_late_and_what_is_skewed_is_counted_once() {
    let log: Vec<Record> = vec![
        (NOW_MS, vec![(0, NOW_US - S), (1, NOW_US + 3 * S), (0, NOW_US)]),
        // Not late: just 10 s behind. Late, by 11 s. Without a Kafka timestamp: no skew.
        (0, vec![(0, NOW_US - 10 * S), (0, NOW_US - 11 * S)]),
        // Early: it moves no largest time, but its clock is ahead.
        (NOW_MS, vec![(1, NOW_US + 2 * DAY_US)]),
        (NOW_MS + 500, vec![(1, NOW_US - 60 * S)]),
    ];
    let mut lane = Lane::default();
    lane.feed(&log, 0, log.len());
    let rows = lane.rows(4);
    let of = |name: &str| rows.iter().find(|row| row.machine == name).unwrap();
    let (first, second) = (of("m0"), of("m1"));
    assert_eq!((first.readings, first.late, first.lag_max_us, first.version), (4, 1, 11 * S, 4));
    assert_eq!((first.skew_min_us, first.skew_last_us, first.high), (0, 0, Some(NOW_US)));
    assert_eq!((second.late, second.lag_max_us, second.high), (1, 63 * S, Some(NOW_US + 3 * S)));
    assert_eq!((second.skew_min_us, second.skew_last_us), (-2 * DAY_US, 60 * S + 500_000));
    check(&log, rows.into_iter().map(|row| (row.machine.clone(), row)).collect());
}

#[test]
fn what_did_not_change_is_not_written_again() {
    let log: Vec<Record> = vec![(NOW_MS, vec![(0, NOW_US), (1, NOW_US)]), (NOW_MS, vec![(1, NOW_US)])];
    let mut lane = Lane::default();
    lane.feed(&log, 0, 1);
    assert_eq!(lane.rows(1).len(), 2);
    assert_eq!(lane.rows(1), []);
    lane.feed(&log, 1, 2);
    assert_eq!(lane.rows(2).iter().map(|row| &*row.machine).collect::<Vec<_>>(), ["m1"]);
}

#[test]
fn machines_beyond_the_bound_are_not_measured_and_are_the_same_ones_after_a_restart() {
    let of = |machines: &[u8]| -> Record { (NOW_MS, machines.iter().map(|&m| (m, NOW_US)).collect()) };
    let log = vec![of(&[4]), of(&[3, 1]), of(&[2, 2, 3]), of(&[1, 4])];
    let bound = |mut lane: Lane| {
        lane.lateness.machines_max = 2;
        lane
    };
    let mut lane = bound(Lane::default());
    // Series that the lane knows of, but not from the log, take no place.
    let [machine, sensor] = ["m1", "s0"].map(|name| lane.table.intern_name(name));
    lane.table.intern(Series { machine, sensor, kind: None, unit: None });
    lane.feed(&log, 0, 2);
    let rows = lane.rows(2);
    assert_eq!(rows.iter().map(|row| &*row.machine).collect::<Vec<_>>(), ["m4", "m3"]);
    let store: BTreeMap<_, _> = rows.into_iter().map(|row| (row.machine.clone(), row)).collect();
    for (mut lane, from) in [(lane, 2), (bound(Lane::restored(&store)), 0)] {
        lane.feed(&log, from, log.len());
        let mut rows: Vec<_> = lane.rows(4).into_iter().map(|row| (row.machine, row.readings)).collect();
        rows.sort();
        assert_eq!(rows, [("m3".to_owned(), 2), ("m4".to_owned(), 2)]);
    }
}

fn record() -> impl Strategy<Value = Record> {
    let kafka = prop_oneof![9 => (0..100i64).prop_map(|s| NOW_MS + s * 1000), 1 => Just(-1)];
    let time = prop_oneof![
        8 => (-30..100i64).prop_map(|s| NOW_US + s * S),
        1 => (1..4i64).prop_map(|days| NOW_US + days * DAY_US),
        1 => (-5_000_000..0i64).prop_map(|ms| NOW_US + ms * 1000),
    ];
    (kafka, proptest::collection::vec((0..3u8, time), 0..6))
}

/// A step of a lane: folds so many records, then stores so many of the rows, and is gone before the rest and the
/// position, or not; the next one starts so far back.
#[derive(Clone, Debug)]
struct Step {
    records: usize,
    stored: Option<usize>,
    back: usize,
}

fn step() -> impl Strategy<Value = Step> {
    let crash = proptest::option::of(0..4usize);
    (0..8usize, crash, 0..6usize).prop_map(|(records, stored, back)| Step { records, stored, back })
}

proptest! {
    #[test]
    fn rows_equal_the_definition_whatever_is_replayed(
        log in proptest::collection::vec(record(), 0..40),
        steps in proptest::collection::vec(step(), 0..12),
    ) {
        let (mut store, mut position) = (BTreeMap::new(), 0);
        let mut lane = Lane::default();
        let mut at = 0;
        let put = |store: &mut BTreeMap<String, LatenessRow>, rows: Vec<LatenessRow>| {
            for row in rows {
                let newer = store.get(&row.machine).is_none_or(|kept| kept.version <= row.version);
                if newer {
                    store.insert(row.machine.clone(), row);
                }
            }
        };
        for Step { records, stored, back } in steps {
            let next = (at + records).min(log.len());
            lane.feed(&log, at, next);
            at = next;
            let mut rows = lane.rows(at as i64);
            match stored {
                None => {
                    put(&mut store, rows);
                    position = at;
                }
                Some(count) => {
                    rows.truncate(count);
                    put(&mut store, rows);
                    lane = Lane::restored(&store);
                    at = position - back.min(position);
                }
            }
        }
        lane.feed(&log, at, log.len());
        let rows = lane.rows(log.len() as i64);
        put(&mut store, rows);
        check(&log, store);
    }
}
