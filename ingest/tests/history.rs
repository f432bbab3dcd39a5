//! The past in the order of its log: whatever became of the files, a lane's readings come as their records came.

mod support;
#[path = "tamper/archive.rs"]
#[allow(dead_code, reason = "this file only commits")]
mod tamper;

use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;
use stillwell_ingest::history::{Filter, Stretch, extents};
use stillwell_ingest::life::compact::{Policy, compact};
use stillwell_ingest::life::ledger::Pen;
use stillwell_ingest::manifest::read_entry;
use stillwell_ingest::store::ArchiveStore;
use stillwell_schema::{Offset, OffsetRange};
use stillwell_source::series::SeriesTable;
use support::{FixedClock, MemoryStore, expected, key, lane_id};

const ENTRIES: u64 = 6;

fn archive(seed: u64, is_merged: bool) -> Arc<MemoryStore> {
    let (store, mut random) = (Arc::new(MemoryStore::default()), StdRng::seed_from_u64(seed));
    for _ in 0..ENTRIES {
        tamper::commit(&store, &lane_id(), &key(), &mut random);
    }
    if is_merged {
        let pen = Pen {
            store: Arc::clone(&store) as Arc<dyn ArchiveStore>,
            key: key(),
            writer: "compactor".into(),
            clock: Arc::new(FixedClock),
        };
        let policy = Policy { file_bytes_target: 1 << 30, before_us: i64::MAX, pieces_min: 2, level: 1 };
        compact(&pen, &lane_id(), policy, &|_| (), &mut |_| true).unwrap();
    }
    store
}

/// Offset and machine of each reading, as they are shown.
fn shown(store: &Arc<MemoryStore>, range: OffsetRange, filter: Filter) -> Vec<(i64, String)> {
    let store = Arc::clone(store) as Arc<dyn ArchiveStore>;
    let mut stretch = Stretch::open(store, lane_id(), range, filter).unwrap();
    let (mut table, mut all, mut next) = (SeriesTable::default(), Vec::new(), range.first.0);
    while let Some(batch) = stretch.next(&mut table).unwrap() {
        for (row, code) in batch.columns.series.iter().enumerate() {
            let (offset, kafka_time_ms) = batch.records[batch.columns.record[row] as usize];
            assert_eq!(kafka_time_ms, offset * 10);
            assert!((next..batch.next).contains(&offset), "{offset} is not in [{next}, {})", batch.next);
            all.push((offset, table.name(table.series(*code).machine).to_owned()));
        }
        next = batch.next;
    }
    all
}

fn wanted(range: OffsetRange, is_meant: impl Fn(i64) -> bool) -> Vec<(i64, String)> {
    let readings = expected(range.first.0, range.next.0).readings.into_iter();
    readings
        .filter(|offset| is_meant(*offset))
        .map(|offset| (offset, format!("press-{}", offset % 3)))
        .collect()
}

#[test]
fn readings_come_in_the_order_of_the_log_from_any_offset_to_any_other() {
    for (seed, is_merged) in (0..4).flat_map(|seed| [(seed, false), (seed, true)]) {
        let store = archive(seed, is_merged);
        let whole = extents(&*store, None, &Filter::default()).unwrap().remove(0).range;
        assert_eq!(shown(&store, whole, Filter::default()), wanted(whole, |_| true));
        let third = i64::try_from(whole.len()).unwrap() / 3;
        let part = OffsetRange { first: Offset(whole.first.0 + third), next: Offset(whole.next.0 - third) };
        assert_eq!(shown(&store, part, Filter::default()), wanted(part, |_| true));
        let one = Filter { machines: vec!["press-1".into()], from_us: None };
        assert_eq!(shown(&store, whole, one), wanted(whole, |offset| offset % 3 == 1));
        let from = whole.first.0 + third;
        let late = Filter { machines: Vec::new(), from_us: Some((1_795_000_000_000 + from * 10) * 1000) };
        assert_eq!(shown(&store, whole, late), wanted(whole, |offset| offset >= from));
    }
}

#[test]
fn a_moment_ends_with_the_last_entry_that_was_written_by_then() {
    let store = archive(7, true);
    let last = read_entry(&*store, &lane_id(), ENTRIES - 1).unwrap().unwrap().entry;
    let at = |us| extents(&*store, Some(us), &Filter::default()).unwrap();
    assert_eq!(at(last.written_us)[0].range.next, last.range.next);
    let first = read_entry(&*store, &lane_id(), 0).unwrap().unwrap().entry;
    assert_eq!(at(first.written_us - 1), []);
}
