//! Real recordings through the whole system: source files, archive and views agree to the reading.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use crate::stack::Stack;

/// What is compared per machine and sensor.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Facts {
    count: i64,
    sum: f64,
    min: f64,
    max: f64,
}

type PerSeries = BTreeMap<(String, String), Facts>;

#[test]
fn archive_views_and_source_files_agree_to_the_reading() {
    let made = tempfile::tempdir().unwrap();
    let folders = folders(made.path());
    let stack = Stack::start(&[]);
    let mut expected = PerSeries::new();
    for (folder, format) in folders.iter().zip(["array", "batch"].into_iter().cycle()) {
        expected.extend(source(folder));
        let out = stack.run(&["replay", "--quiet", "--format", format, folder.to_str().unwrap()]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
    let total: i64 = expected.values().map(|facts| facts.count).sum();
    stack.wait_number("select count(*) from readings", "archived", |n| n >= total);
    stack.wait_views();

    // No row stands for a missing cell: there are exactly as many as cells with a value.
    assert_eq!(stack.number("select count(*) from readings"), total);
    assert_eq!(stack.number("select count(value) from readings"), total);
    assert_eq!(stack.number("select count(*) from dead_letters"), 0);
    let archive = answer(&stack, "count(*)", "sum(value)", "min(value)", "max(value)", "readings");
    compare("readings", &expected, &archive);
    for view in ["readings_10s", "readings_1m", "readings_1h", "readings_1d"] {
        compare(view, &expected, &answer(&stack, "sum(count)", "sum(sum)", "min(min)", "max(max)", view));
    }
}

fn answer(stack: &Stack, count: &str, sum: &str, min: &str, max: &str, table: &str) -> PerSeries {
    let sql = format!(
        "select machine, sensor, cast({count} as bigint), {sum}, {min}, {max} from {table} group by machine, sensor"
    );
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let row = |row: Vec<serde_json::Value>| {
        let number = |i: usize| row[i].as_f64().unwrap();
        let facts = Facts { count: row[2].as_i64().unwrap(), sum: number(3), min: number(4), max: number(5) };
        ((text(&row[0]), text(&row[1])), facts)
    };
    stack.rows(&sql).into_iter().map(row).collect()
}

fn compare(what: &str, expected: &PerSeries, found: &PerSeries) {
    assert_eq!(expected.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>(), "{what}");
    for (series, expected) in expected {
        let found = found[series];
        assert_eq!(
            (expected.count, expected.min, expected.max),
            (found.count, found.min, found.max),
            "{what} {series:?}"
        );
        // Sums differ by the order of addition only.
        let scale = expected.count as f64 * expected.min.abs().max(expected.max.abs());
        assert!(
            (expected.sum - found.sum).abs() <= 1e-12 * scale,
            "{what} {series:?}: {expected:?} {found:?}"
        );
    }
}

/// Every SKAB run and GECCO, or where they are not at hand, recordings of the same layout made here; `.ci/run`
/// says whether they must be at hand.
fn folders(made: &Path) -> Vec<PathBuf> {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/anomaly");
    if shared.join("skab").is_dir() {
        return vec![shared.join("skab"), shared.join("gecco")];
    }
    assert!(std::env::var_os("STILLWELL_TEST_ALL").is_none(), "no recordings at {}", shared.display());
    eprintln!("no recordings at {}; two made here serve instead", shared.display());
    let folder = made.join("made");
    fs::create_dir(&folder).unwrap();
    for run in 0..2 {
        let mut file = File::create(folder.join(format!("run-{run}.csv"))).unwrap();
        writeln!(file, "time,phase,flow,pressure,label").unwrap();
        for i in 0..5000 {
            let (minute, second) = (i / 60, i % 60);
            let time = format!("2024-03-01 {:02}:{:02}:{second:02}", minute / 60, minute % 60);
            let flow = if i % 7 == 0 { String::new() } else { format!("{}", f64::from(i) * 0.37) };
            writeln!(file, "{time},train,{flow},{},0", f64::from(i % 11) - 5.5).unwrap();
        }
    }
    vec![folder]
}

/// The same facts straight from the files.
fn source(folder: &Path) -> PerSeries {
    let mut all = PerSeries::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let Some(run) = name.strip_suffix(".csv.gz").or_else(|| name.strip_suffix(".csv")) else { continue };
        let machine = format!("{}-{run}", folder.file_name().unwrap().to_str().unwrap());
        let file = File::open(&path).unwrap();
        let text: Box<dyn Read> =
            if name.ends_with(".gz") { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
        let mut reader = csv::Reader::from_reader(text);
        let header = reader.headers().unwrap().clone();
        for row in reader.records() {
            let row = row.unwrap();
            for (sensor, field) in header.iter().zip(&row) {
                if ["time", "phase", "label"].contains(&sensor) || field.is_empty() {
                    continue;
                }
                let value: f64 = field.parse().unwrap();
                let facts = all.entry((machine.clone(), sensor.to_owned())).or_insert(Facts {
                    count: 0,
                    sum: 0.0,
                    min: f64::INFINITY,
                    max: f64::NEG_INFINITY,
                });
                facts.count += 1;
                facts.sum += value;
                facts.min = facts.min.min(value);
                facts.max = facts.max.max(value);
            }
        }
    }
    assert!(!all.is_empty(), "{} holds no recording", folder.display());
    all
}
