//! `stillwell-bench`: what Stillwell does per second, per core and per byte, measured on real engines.
//!
//! Reading order: [`shape`] makes the load that all measures share, and [`fill`] puts it into Kafka;
//! [`stack`] finds or starts the engines; [`watch`] reads how far the stages are and [`process`] what they
//! cost; [`stages`] (Kafka to archive, to views, both), [`latency`] and [`decode`] are the measures;
//! [`peers`] runs what a user would do without us on the same topic; [`result`] keeps what came out.

use anyhow::Context;
use clap::{Parser, Subcommand};

mod decode;
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
  stillwell-bench decode";

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
    /// JSON to columns on one core, beside serde_json
    Decode(decode::DecodeArgs),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().measure {
        Measure::Fill(args) => fill::fill(&args.kafka, &args.topic, &args.shape).map(|_| ()),
        Measure::Archive(args) => stages::run("archive", &[stages::INGEST], &args),
        Measure::Views(args) => stages::run("views", &[stages::AGGREGATE], &args),
        Measure::Both(args) => stages::run("both", &[stages::INGEST, stages::AGGREGATE], &args),
        Measure::Latency(args) => latency::run(&args),
        Measure::Decode(args) => decode::run(&args),
    }
    .context("the benchmark did not finish")
}
