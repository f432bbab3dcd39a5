//! Scans of the archive leave out files, row groups and pages. Whatever they leave out, the answer is the one
//! that a table of the same rows in memory gives.

mod common;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use arrow::util::pretty::pretty_format_batches;
use common::{Both, Lane, Row, TOPIC};

/// Numbers that look random and are the same in every run (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        let at = usize::try_from(self.below(of.len() as u64)).unwrap();
        of[at]
    }
}

fn row(numbers: &mut Numbers, hour: i64) -> Row {
    Row {
        machine: format!("m{}", numbers.below(6)),
        sensor: numbers.pick(&["temp", "rpm", "load"]).to_owned(),
        time_us: hour * 3_600_000_000 + i64::try_from(numbers.below(3_600_000_000)).unwrap(),
        value: match numbers.below(8) {
            0 => None,
            1 => Some(f64::NAN),
            n => Some(n as f64 - 4.5),
        },
        quality: u32::try_from(numbers.below(3)).unwrap(),
    }
}

/// Two partitions of a dozen commits each, with overlapping hours; of the second, some are merged, and merged again.
fn write(folder: &std::path::Path, numbers: &mut Numbers) -> Vec<RecordBatch> {
    let mut batches = Vec::new();
    for partition in 0..2 {
        let mut lane = Lane::new(folder, partition);
        for seq in 0..12 {
            let mut rows: Vec<Row> =
                (0..1 + numbers.below(60)).map(|_| row(numbers, seq / 2 + i64::from(partition))).collect();
            rows.sort_by_key(|row| (row.machine.clone(), row.sensor.clone(), row.time_us));
            batches.push(lane.commit(&rows));
        }
        if partition == 1 {
            for (first, next) in [(2, 5), (5, 7), (0, 1), (2, 8)] {
                lane.merge(first, next);
            }
        }
    }
    batches
}

fn condition(numbers: &mut Numbers) -> String {
    let time = |numbers: &mut Numbers| format!("to_timestamp_micros({})", numbers.below(8 * 3_600_000_000));
    match numbers.below(12) {
        0 => format!("time >= {}", time(numbers)),
        1 => format!("time < {}", time(numbers)),
        2 => format!("time BETWEEN {} AND {}", time(numbers), time(numbers)),
        3 => format!("machine = 'm{}'", numbers.below(8)),
        4 => format!("machine IN ('m{}', 'm{}', 'x')", numbers.below(8), numbers.below(8)),
        5 => format!("machine NOT IN ('m{}', 'm{}')", numbers.below(8), numbers.below(8)),
        6 => format!("\"partition\" = {}", numbers.below(3)),
        7 => format!("\"offset\" >= {}", 80 + numbers.below(400)),
        8 => format!("value > {}.0", numbers.below(4)),
        9 => "value IS NULL".to_owned(),
        10 => format!("sensor LIKE '{}%'", numbers.pick(&["t", "r", "x"])),
        _ => format!("topic <> '{}'", numbers.pick(&[TOPIC, "other"])),
    }
}

fn filter(numbers: &mut Numbers) -> String {
    let mut sql = condition(numbers);
    for _ in 0..numbers.below(3) {
        let (link, not) = (numbers.pick(&["AND", "OR"]), numbers.pick(&["", "", "NOT "]));
        sql = format!("({sql}) {link} {not}({})", condition(numbers));
    }
    sql
}

#[tokio::test]
async fn what_is_left_out_could_not_have_matched() {
    let folder = tempfile::tempdir().unwrap();
    let mut numbers = Numbers(0x5EED);
    let batches = write(folder.path(), &mut numbers);
    let both = Both::new(folder.path(), "readings", batches);
    for _ in 0..150 {
        let filter = filter(&mut numbers);
        both.check(&format!(
            "SELECT machine, sensor, time, value, quality, \"partition\", \"offset\" FROM readings \
             WHERE {filter} ORDER BY \"partition\", \"offset\""
        ))
        .await;
        both.check(&format!(
            "SELECT count(*) AS n, min(time) AS a, max(time) AS b FROM readings WHERE {filter}"
        ))
        .await;
    }
}

#[tokio::test]
async fn sums_and_ends_come_out_right_without_a_filter() {
    let folder = tempfile::tempdir().unwrap();
    let mut numbers = Numbers(0xFEED);
    let batches = write(folder.path(), &mut numbers);
    let both = Both::new(folder.path(), "readings", batches);
    for sql in [
        "SELECT count(*) AS n FROM readings",
        "SELECT count(1) AS n, count(*) + 1 AS m FROM readings",
        "SELECT count(*) AS n FROM (SELECT 1 FROM readings LIMIT 7) t",
        "SELECT count(value) AS n FROM readings",
        "SELECT min(time) AS a, max(time) AS b, min(\"offset\") AS c, max(\"offset\") AS d FROM readings",
        "SELECT sum(x) AS n FROM (SELECT 1 AS x FROM readings) t",
        "SELECT time, machine FROM readings ORDER BY time DESC, machine LIMIT 5",
        "SELECT a.n, b.n AS m FROM (SELECT count(*) AS n FROM readings) a, (SELECT count(*) AS n FROM readings) b",
    ] {
        both.check(sql).await;
    }
}

#[tokio::test]
async fn a_count_opens_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let rows: usize = write(folder.path(), &mut Numbers(0xC0DE)).iter().map(RecordBatch::num_rows).sum();
    std::fs::remove_dir_all(folder.path().join(TOPIC).join("readings")).unwrap();
    let both = Both::new(folder.path(), "readings", vec![common::batch(0, 0, &[])]);
    let found = both.archive("SELECT count(*) FROM readings").await;
    assert_eq!(found[0].column(0).as_primitive::<Int64Type>().value(0), rows as i64);
}

#[tokio::test]
async fn a_catalogue_that_has_read_entries_follows_what_becomes_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let (mut lane, mut numbers) = (Lane::new(folder.path(), 0), Numbers(0xACED));
    let first = lane.commit(&[row(&mut numbers, 0)]);
    let both = Both::new(folder.path(), "readings", vec![first]);
    let (mut rows, mut committed, mut merged) = (1, 1, 0);
    for round in 0..40 {
        for _ in 0..numbers.below(3) {
            lane.commit(&[row(&mut numbers, round), row(&mut numbers, round)]);
            (rows, committed) = (rows + 2, committed + 1);
        }
        // A run that begins where an earlier one did, or right behind the last.
        if committed - merged > 1 {
            let from = if round % 3 == 0 { 0 } else { merged };
            lane.merge(from, committed);
            merged = committed;
        }
        if round % 2 == 0 {
            let found = both.archive("SELECT count(\"offset\"), count(*) FROM readings").await;
            let count = |column: usize| found[0].column(column).as_primitive::<Int64Type>().value(0);
            assert_eq!((count(0), count(1)), (rows, rows), "{round}");
        }
    }
}

#[tokio::test]
async fn filters_leave_files_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut lane = Lane::new(folder.path(), 0);
    let mut batches = Vec::new();
    for hour in 0..10 {
        let row = Row { machine: format!("m{hour}"), ..row(&mut Numbers(9), hour) };
        batches.push(lane.commit(&[row]));
    }
    let both = Both::new(folder.path(), "readings", batches);
    let files = async |filter: &str| {
        let plan = both.archive(&format!("EXPLAIN SELECT value FROM readings WHERE {filter}")).await;
        let plan = pretty_format_batches(&plan).unwrap().to_string();
        plan.matches(".parquet").count()
    };
    assert_eq!(files("value > -100").await, 10);
    assert_eq!(files("time < to_timestamp_micros(7200000000)").await, 2);
    // The third, sixth and ninth entry list no machines, and may hold any between their bounds, which they lack.
    assert_eq!(files("machine = 'm4'").await, 4);
    assert_eq!(files("\"offset\" = 103").await, 1);
    assert_eq!(files("\"partition\" = 1").await, 0);
}
