//! The aggregator alone: decoded readings folded into the windows of their series, and what changed encoded for its
//! tables, in CPU time of all threads; nothing is sent anywhere.
//!
//! Readings come at one a second from each series, with values that wander as a sensor's do: series after series, so
//! that each reading meets another series than the one before, and in runs of 20, as machines send them that gather.

use clap::Args;
use serde_json::{Value, json};
use stillwell_aggregate::fold::{LaneFold, Level, Origin, Widths};
use stillwell_aggregate::snapshot;
use stillwell_aggregate::store::Targets;
use stillwell_schema::TopicPartition;
use stillwell_source::columns::ReadingColumns;
use stillwell_source::series::{Series, SeriesTable};

use crate::process::own_cpu_s;
use crate::result::{self, ResultArgs, rounded};

/// Readings of a batch, about what a chunk of the consumer holds.
const BATCH: usize = 16_384;
/// Sensors of a machine.
const SENSORS: usize = 50;
/// Readings of a series at once.
const RUNS: [usize; 2] = [1, 20];
/// 2027-01-15, about; the first second of a minute.
const START_S: i64 = 1_799_999_940;

const EXAMPLES: &str = "\
Examples:
  stillwell-bench aggregate                             10,000, 100,000 and 1 million series
  stillwell-bench aggregate --series 100000 --seconds 120";

/// How many series.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AggregateArgs {
    /// Series
    #[arg(long, value_delimiter = ',', default_values_t = [10_000_usize, 100_000, 1_000_000])]
    series: Vec<usize>,
    /// Readings of each series, one a second, after as many that warm up
    #[arg(long, default_value_t = 40)]
    seconds: usize,
    #[command(flatten)]
    result: ResultArgs,
}

/// Measures and keeps the result.
pub(crate) fn run(args: &AggregateArgs) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for &series in &args.series {
        for run in RUNS {
            eprintln!("{series} series, {run} at once");
            rows.push(measured(series, run, args.seconds));
        }
    }
    result::keep("aggregate", &args.result, json!({"rows": rows}))
}

/// CPU seconds of one kind of work, and what it gave.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    seconds: f64,
    rows: usize,
    bytes: usize,
}

impl Spent {
    fn to_json(self) -> Value {
        let per_row = |of: f64| rounded(of / self.rows.max(1) as f64);
        json!({
            "rows": self.rows,
            "cpu_us_per_row": per_row(self.seconds * 1e6),
            "bytes_per_row": per_row(self.bytes as f64),
        })
    }
}

/// Folds twice `seconds` readings of each series, the second half of them timed, with a flush in between and after.
fn measured(series: usize, run: usize, seconds: usize) -> Value {
    let mut plant = Plant::new(series, run);
    let mut fold = LaneFold::default().with_totals(Widths::TOTALS);
    let total = series * seconds;
    plant.fold(&mut fold, total);
    plant.flush(&mut fold, Level::All);
    let (mut spent, mut readings) = (0.0, 0);
    while readings < total {
        let (columns, origins) = plant.batch();
        readings += columns.len();
        let began = own_cpu_s();
        let (groups, missing) = fold.gather(&columns, &plant.table);
        assert!(missing.is_empty(), "a series that goes forward needs nothing of the store");
        fold.apply(&origins, &columns, &groups, &plant.table);
        spent += own_cpu_s() - began;
    }
    let memory = fold.memory_bytes();
    let fine = plant.flush(&mut fold, Level::Fine);
    plant.fold(&mut fold, series * run);
    let all = plant.flush(&mut fold, Level::All);
    json!({
        "series": series,
        "at_once": run,
        "readings": readings,
        "million_readings_per_core_s": rounded(readings as f64 / spent / 1e6),
        "cpu_ns_per_reading": rounded(spent * 1e9 / readings as f64),
        "bytes_per_series": memory / series,
        "fine_flush": fine.to_json(),
        "whole_flush": all.to_json(),
    })
}

/// Makes readings.
struct Plant {
    table: SeriesTable,
    series: usize,
    run: usize,
    /// Readings made.
    made: usize,
    offset: i64,
    noise: u64,
    values: Vec<f64>,
}

impl Plant {
    fn new(series: usize, run: usize) -> Self {
        let mut table = SeriesTable::default();
        for number in 0..series {
            let machine = table.intern_name(&format!("machine-{:05}", number / SENSORS));
            let sensor = table.intern_name(&format!("s{:02}", number % SENSORS));
            let kind = Some(table.intern_name("temperature"));
            table.intern(Series { machine, sensor, kind, unit: None });
        }
        let values = (0..series).map(|number| 20.0 + (number % 100) as f64).collect();
        Self { table, series, run, made: 0, offset: 0, noise: 1, values }
    }

    /// A record of each machine's turn.
    fn batch(&mut self) -> (ReadingColumns, Vec<Origin>) {
        let (mut columns, mut origins) = (ReadingColumns::default(), Vec::new());
        while columns.len() < BATCH {
            let round = self.made / (self.series * self.run);
            let series = self.made / self.run % self.series;
            if columns.is_empty() || series.is_multiple_of(SENSORS) {
                origins.push(Origin::new(self.offset, (START_S + (round * self.run) as i64) * 1000));
                self.offset += 1;
            }
            for place in 0..self.run {
                // A linear congruential generator (Knuth).
                self.noise = self.noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let step = (self.noise >> 40) as f64 / f64::from(1 << 24) - 0.5;
                self.values[series] += (step * 100.0).round() / 1000.0;
                columns.series.push(u32::try_from(series).unwrap_or(u32::MAX));
                columns.time_us.push((START_S + (round * self.run + place) as i64) * 1_000_000);
                columns.value.push(self.values[series]);
                columns.has_value.push(true);
                columns.quality.push(0);
                columns.record.push(u32::try_from(origins.len() - 1).unwrap_or(u32::MAX));
                columns.index.push(0);
            }
            self.made += self.run;
        }
        (columns, origins)
    }

    fn fold(&mut self, fold: &mut LaneFold, readings: usize) {
        let mut done = 0;
        while done < readings {
            let (columns, origins) = self.batch();
            done += columns.len();
            let (groups, _) = fold.gather(&columns, &self.table);
            fold.apply(&origins, &columns, &groups, &self.table);
        }
    }

    fn flush(&self, fold: &mut LaneFold, level: Level) -> Spent {
        let lane = TopicPartition::new("readings", 0);
        let began = own_cpu_s();
        let parts = snapshot::take(&lane, fold, &self.table, level, self.offset, &Targets::default());
        let seconds = own_cpu_s() - began;
        fold.landed();
        let rows = parts.iter().map(|part| part.rows).sum();
        Spent { seconds, rows, bytes: parts.iter().map(|part| part.bytes.len()).sum() }
    }
}
