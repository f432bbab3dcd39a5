use std::collections::BTreeSet;

use clap::Parser;

use super::*;
use crate::load::faults::{FaultKind, FaultPlan};

const T0_US: i64 = 1_795_000_000_000_000;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    generate: GenerateArgs,
}

fn args(line: &str) -> GenerateArgs {
    Cli::parse_from(std::iter::once("generate").chain(line.split_whitespace())).generate
}

/// All records up to the count, with the step times.
fn make(args: &GenerateArgs) -> (Vec<Outgoing>, Stream) {
    let pace = args.pace(T0_US).unwrap();
    let plant = Plant::new(args.machines, args.sensors, args.seed);
    let mut stream = Stream::new(args, plant, pace.start_us, pace.start_us, pace.interval_us);
    let mut out = Vec::new();
    while !stream.is_done() {
        stream.step(&mut out);
    }
    stream.flush(&mut out);
    (out, stream)
}

#[test]
fn the_help_has_the_defaults_of_the_code() {
    assert_eq!(format!("{:?}", args("")), format!("{:?}", GenerateArgs::default()));
}

#[test]
fn the_count_is_met_to_the_reading_in_every_form() {
    for form in ["single", "array", "batch"] {
        let args = args(&format!("--count 1001 --format {form} --faults-every 10s --faults-after 0s"));
        let (out, stream) = make(&args);
        assert_eq!(out.iter().map(|r| u64::from(r.readings)).sum::<u64>(), 1001, "{form}");
        assert_eq!(stream.readings(), 1001);
        for record in &out {
            serde_json::from_slice::<serde_json::Value>(&record.value).unwrap();
        }
    }
}

#[test]
fn the_seed_and_the_time_say_it_all() {
    let args = args("--count 5000 --faults-every 20s --faults-after 0s");
    assert_eq!(make(&args).0, make(&args).0);
    let other = GenerateArgs { seed: 2, ..args.clone() };
    assert_ne!(make(&args).0, make(&other).0);
}

#[test]
fn each_machine_is_sampled_once_an_interval() {
    let args = args("--machines 4 --sensors 1 --count 40 --format single --faults-every 0s");
    let (out, _) = make(&args);
    let times: Vec<i64> = out.iter().filter(|r| &*r.machine == "motor-01").map(|r| r.time_ms).collect();
    assert_eq!(times.len(), 10);
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 1000), "{times:?}");
    assert!(out.windows(2).all(|pair| pair[0].time_ms <= pair[1].time_ms), "spread in order of time");
}

#[test]
fn a_dropout_leaves_its_cells_out() {
    let args = args("--machines 3 --count 60000 --format single --faults-every 60s --faults-after 0s");
    let pace = args.pace(T0_US).unwrap();
    let (out, stream) = make(&args);
    let plan = FaultPlan::new(1, 60_000, pace.start_us / 1000);
    let last = out.last().unwrap().time_ms;
    let faults = plan.starting_in(stream.plant(), pace.start_us / 1000, last - 60_000);
    let dropout = faults.iter().find(|f| f.kind == FaultKind::Dropout).unwrap();
    let machine = &stream.plant().machines()[dropout.machine];
    let within = |time: i64| (dropout.start_ms..dropout.end_ms).contains(&time);
    let seen: BTreeSet<String> = out
        .iter()
        .filter(|r| *r.machine == *machine.name && within(r.time_ms))
        .map(|r| serde_json::from_slice::<serde_json::Value>(&r.value).unwrap()["sensor"].to_string())
        .collect();
    for &sensor in &dropout.sensors {
        assert!(!seen.contains(&format!("{:?}", machine.sensors[sensor].name)), "{seen:?}");
    }
    assert!(!seen.is_empty());
}

#[test]
fn faults_begin_once_and_not_before_their_time() {
    let args = args("--count 100000 --faults-every 20s --faults-after 10m");
    let pace = args.pace(T0_US).unwrap();
    let (_, mut stream) = make(&args);
    let begun = stream.take_begun();
    let expected = (stream.next_us() - pace.start_us) / 1_000_000 / 20 - 30;
    assert!((begun.len() as i64 - expected).abs() <= 1, "{} of {expected}", begun.len());
    assert!(begun.iter().all(|f| f.start_ms >= pace.start_us / 1000 + 600_000));
    assert!(stream.take_begun().is_empty());
}

#[test]
fn the_pace_follows_from_the_arguments() {
    let live = args("--rate 720 --history 1h").pace(T0_US).unwrap();
    assert_eq!(live, Pace { start_us: T0_US - 3_600_000_000, interval_us: 100_000, live: true });
    let fast = args("--rate 0 --count 720").pace(T0_US).unwrap();
    assert_eq!(fast, Pace { start_us: T0_US - 10_000_000, interval_us: 1_000_000, live: false });
    for wrong in ["--rate 0", "--rate -1", "--machines 0", "--sensors 0", "--rate 1e12"] {
        let wrong: Vec<&str> = wrong.split(' ').collect();
        let line = wrong.join("=");
        assert!(args(&line).pace(T0_US).is_err(), "{line}");
    }
}

#[test]
fn the_demo_has_history_enough_for_commissioning_and_then_faults() {
    let demo = GenerateArgs::demo();
    let quiet_rows = demo.faults_after.as_secs() / demo.interval.as_secs();
    assert!(quiet_rows >= 2 * 400);
    assert!(demo.history.unwrap() > demo.faults_after);
}
