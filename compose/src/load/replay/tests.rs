use std::cell::RefCell;
use std::io::Write;
use std::sync::atomic::AtomicI64;

use clap::Parser;
use serde_json::Value;

use super::*;

/// A clock that moves a millisecond each time it is read.
struct Ticking(AtomicI64);

impl Clock for Ticking {
    fn now_us(&self) -> i64 {
        self.0.fetch_add(1000, Ordering::Relaxed)
    }
}

const NOW_US: i64 = 1_795_000_000_000_000;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    replay: ReplayArgs,
}

fn args(files: &[&Path], line: &str) -> ReplayArgs {
    let files = files.iter().map(|f| f.to_str().unwrap());
    Cli::parse_from(std::iter::once("replay").chain(files).chain(line.split_whitespace()).chain(["--quiet"]))
        .replay
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
    path
}

fn replay(args: &ReplayArgs) -> (Vec<(String, Value)>, ReplayReport) {
    let sent = RefCell::new(Vec::new());
    let clock = Ticking(AtomicI64::new(NOW_US));
    let send = |record: &Outgoing| {
        let value = serde_json::from_slice(&record.value).unwrap();
        sent.borrow_mut().push((record.machine.to_string(), value));
        Ok(true)
    };
    let finish = || Ok(sent.borrow().len() as u64);
    let report = play(args, runs(args).unwrap(), &clock, &CancellationToken::new(), send, finish).unwrap();
    assert_eq!(report.records, sent.borrow().len() as u64);
    (sent.into_inner(), report)
}

const RUN: &str = "time,phase,a,b,label\n\
    2020-01-01 00:00:00,train,1.10,2,0\n\
    2020-01-01 00:00:01,train,,2.74e-19,0\n\
    2020-01-01 00:00:02,test,3,worn,1\n";

#[test]
fn folders_become_machines_and_cells_readings() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "skab/valve1-0.csv", RUN);
    write(folder.path(), "gecco/deep/water-a.csv", RUN);
    write(folder.path(), "gecco/readme.txt", "not a recording");
    for form in ["single", "array", "batch"] {
        let (sent, report) = replay(&args(&[folder.path()], &format!("--format {form}")));
        assert_eq!((report.files, report.rows, report.readings), (2, 6, 10), "{form}");
        let machines: std::collections::BTreeSet<&str> = sent.iter().map(|(m, _)| m.as_str()).collect();
        assert_eq!(machines.into_iter().collect::<Vec<_>>(), ["deep-water-a", "skab-valve1-0"]);
    }
}

#[test]
fn the_batch_keeps_missing_cells_as_null_and_numbers_as_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "run.csv", RUN);
    let (sent, _) = replay(&args(&[&file], "--format batch --machine press-07"));
    assert_eq!(sent[0].0, "press-07");
    assert_eq!(sent[0].1["time"][0], 1_577_836_800_000_i64);
    assert_eq!(sent[0].1["sensors"]["a"], serde_json::json!([1.1, null, 3]));
    assert_eq!(sent[0].1["sensors"]["b"], serde_json::json!([2, 2.74e-19, null]));
    assert_eq!(sent[1].1[0]["text"], "worn");
}

#[test]
fn the_limit_counts_rows_of_each_file() {
    let folder = tempfile::tempdir().unwrap();
    let files = [write(folder.path(), "x/a.csv", RUN), write(folder.path(), "x/b.csv", RUN)];
    let (_, report) = replay(&args(&[&files[0], &files[1]], "--limit 2"));
    assert_eq!((report.rows, report.readings), (4, 6));
    let (sent, report) = replay(&args(&[&files[0]], "--limit 0"));
    assert_eq!((sent.len(), report.rows), (0, 0));
}

#[test]
fn times_move_to_now() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "run.csv", RUN);
    let times = |line: &str| -> Vec<i64> {
        let (sent, _) = replay(&args(&[&file], line));
        sent.iter().map(|(_, v)| v["time"].as_i64().unwrap() - NOW_US / 1000).collect()
    };
    let ends_now = times("--start now --format single");
    assert_eq!((ends_now[0], *ends_now.last().unwrap()), (-2000, 0));
    let starts_now = times("--start now --format single --pace 100x");
    assert_eq!((starts_now[0], *starts_now.last().unwrap()), (0, 2000));
}

#[test]
fn at_a_pace_all_runs_start_together() {
    let folder = tempfile::tempdir().unwrap();
    let later = RUN.replace("2020-01-01", "2021-06-06");
    write(folder.path(), "x/a.csv", RUN);
    write(folder.path(), "x/b.csv", &later);
    let (sent, report) = replay(&args(&[folder.path()], "--pace 100x --per-record 1000"));
    assert_eq!((report.files, report.readings), (2, 10));
    let order: Vec<&str> = sent.iter().map(|(m, _)| m.as_str()).collect();
    assert_eq!(order, ["x-a", "x-b", "x-a", "x-b", "x-a", "x-b"], "rows go when they are due");
}

#[test]
fn wrong_words_are_refused_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let a = write(folder.path(), "x/a.csv", RUN);
    let b = write(folder.path(), "y/x/a.csv", RUN);
    let error = runs(&args(&[&a, &b], "")).unwrap_err().to_string();
    assert!(error.contains("--machine"), "{error}");
    assert!(runs(&args(&[&a, &b], "--machine m")).is_err());
    for (text, pace) in [("max", Pace::Max), ("1x", Pace::Times(1.0)), ("60", Pace::Times(60.0))] {
        assert_eq!(text.parse(), Ok(pace));
    }
    for text in ["0x", "-1x", "fast", "infx"] {
        assert!(text.parse::<Pace>().is_err(), "{text}");
    }
}
