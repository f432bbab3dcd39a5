//! `stillwell-bench`: what Stillwell does per second, per core and per byte, measured on real engines.
//!
//! Reading order: [`shape`] makes the load that all measures share, and [`fill`] puts it into Kafka;
//! [`stack`] finds or starts the engines; [`watch`] reads how far the stages are and [`process`] what they
//! cost; [`stages`] (Kafka to archive, to views, both), [`write_side`], [`latency`], [`dashboards`], [`decode`],
//! [`files`] and [`aggregate`] are the measures; [`peers`] runs what a user would do without us on the same topic and
//! [`consume`] what Kafka itself gives; [`result`] keeps what came out.

use anyhow::Context;
use clap::{Parser, Subcommand};

mod aggregate;
mod consume;
mod dashboards;
mod decode;
mod files;
mod fill;
mod http;
mod latency;
mod peers;
mod process;
mod result;
mod shape;
mod stack;
mod stages;
mod watch;
mod write_side;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Benchmarks of Stillwell on real engines. Each appends a line to benches/results.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    /// Which measure.
    #[command(subcommand)]
    measure: Measure,
}

const EXAMPLES: &str = "\
Examples (after `cargo build --release -p stillwell -p stillwell-benches`):
  stillwell-bench both                                   10 M readings that wait in Kafka, 1,000 a record
  stillwell-bench both --one-process --peers             the same in one process, beside the yardsticks
  stillwell-bench archive --readings 2000000 --per-record 1
  stillwell-bench latency --rate 20000 --seconds 60
  stillwell-bench write-side --peers                     Kafka to archive by partitions and by readings a record
  stillwell-bench decode                                 each wire format on one core
  stillwell-bench files                                  a commit's files beside bare arrow-rs
  stillwell-bench aggregate                              decoded readings into windows, by number of series
  stillwell-bench dashboards --gib-max 40                questions over a year of 10,000 series";

#[derive(Subcommand)]
enum Measure {
    /// Only put the load of the other measures into a topic that exists
    Fill(fill::FillArgs),
    /// Kafka to archive
    Archive(stages::StageArgs),
    /// Kafka to views with scores
    Views(stages::StageArgs),
    /// Both at once
    Both(stages::StageArgs),
    /// From produced to visible and to durable, at a given rate
    Latency(latency::LatencyArgs),
    /// Kafka to archive, by partitions and by readings a record
    WriteSide(Box<write_side::WriteSideArgs>),
    /// Bytes to columns on one core, for each wire format; JSON beside serde_json, sonic-rs, simd-json and arrow-json
    Decode(decode::DecodeArgs),
    /// The files of a commit beside bare arrow-rs on the same rows
    Files(files::FilesArgs),
    /// Decoded readings into windows and their rows, by number of series
    Aggregate(aggregate::AggregateArgs),
    /// The questions of dashboards over a year of 10,000 series, beside ClickHouse's own aggregating views
    Dashboards(Box<dashboards::DashboardsArgs>),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().measure {
        Measure::Fill(args) => fill::fill(&args.kafka, &args.topic, &args.shape).map(|_| ()),
        Measure::Archive(args) => stages::run("archive", &[stages::INGEST], &args),
        Measure::Views(args) => stages::run("views", &[stages::AGGREGATE], &args),
        Measure::Both(args) => stages::run("both", &[stages::INGEST, stages::AGGREGATE], &args),
        Measure::Latency(args) => latency::run(&args),
        Measure::WriteSide(args) => write_side::run(&args),
        Measure::Decode(args) => decode::run(&args),
        Measure::Files(args) => files::run(&args),
        Measure::Aggregate(args) => aggregate::run(&args),
        Measure::Dashboards(args) => dashboards::run(&args),
    }
    .context("the benchmark did not finish")
}
