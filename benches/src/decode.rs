//! Bytes to columns on one core, for each wire format; JSON beside what others make of the same bytes.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{bail, ensure};
use clap::Args;
use serde_json::{Map, Value, json};
use stillwell_source::chunk::RecordChunk;
use stillwell_source::decode::{decode_chunk, decoder_for};
use stillwell_source::series::SeriesTable;
use stillwell_source::settings::TopicSettings;

use crate::result::{self, ResultArgs, rounded};
use peers::PEERS;
use wire::Wire;

mod binary;
mod peers;
mod wire;

const CHUNK_BYTES: usize = 8 << 20;

const EXAMPLES: &str = "\
Examples:
  stillwell-bench decode                                     every format, 1,000 readings a record and one
  stillwell-bench decode --formats json --rounds 50          JSON alone, beside serde_json, sonic-rs and others";

/// How much is decoded.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DecodeArgs {
    /// Formats
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Wire::ALL)]
    formats: Vec<Wire>,
    /// Readings per record
    #[arg(long, value_delimiter = ',', default_values_t = [1000_u64, 1])]
    per_record: Vec<u64>,
    /// Rounds over a chunk of 8 MiB; the median is kept
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    #[command(flatten)]
    result: ResultArgs,
}

/// Measures and keeps the result.
pub(crate) fn run(args: &DecodeArgs) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for &wire in &args.formats {
        for &per_record in &args.per_record {
            rows.push(measured(wire, per_record, args.rounds)?);
        }
    }
    result::keep("decode", &args.result, json!({"rows": rows}))
}

/// One format with one size of record.
fn measured(wire: Wire, per_record: u64, rounds: usize) -> anyhow::Result<Value> {
    let topic = wire.topic(per_record);
    let (chunk, readings) = wire.chunk(per_record, CHUNK_BYTES)?;
    let bytes: usize = chunk.records().filter_map(|record| record.value).map(<[u8]>::len).sum();
    let speed = |seconds: f64| {
        json!({
            "gb_per_s": rounded(bytes as f64 / seconds / 1e9),
            "million_readings_per_s": rounded(readings as f64 / seconds / 1e6),
        })
    };
    let ours = median(rounds, || ours(&topic, &chunk, readings))?;
    let mut result = json!({
        "format": wire,
        "per_record": per_record,
        "bytes_per_reading": rounded(bytes as f64 / readings as f64),
        "readings": readings,
        "stillwell": speed(ours),
    });
    if wire == Wire::Json {
        let mut peers = Map::new();
        for (name, peer) in PEERS {
            let theirs = median(rounds, || {
                let seen = peer(&chunk, per_record > 1)?;
                ensure!(seen == readings, "{name} parsed {seen} of {readings} readings");
                Ok(())
            })?;
            let mut compared = speed(theirs);
            compared["stillwell_is_faster_by"] = json!(rounded(theirs / ours));
            peers.insert(name.to_owned(), compared);
        }
        result["peers"] = Value::Object(peers);
    }
    Ok(result)
}

fn ours(topic: &TopicSettings, chunk: &RecordChunk, readings: u64) -> anyhow::Result<()> {
    let mut decoder = decoder_for(topic);
    let mut table = SeriesTable::default();
    let decoded = black_box(decode_chunk(&mut *decoder, chunk, &mut table)?);
    if decoded.columns.len() as u64 != readings || !decoded.failures.is_empty() {
        bail!("decoded {} of {readings} readings: {:?}", decoded.columns.len(), decoded.failures.first());
    }
    Ok(())
}

/// The median time of some rounds, after one that warms up.
fn median(rounds: usize, mut round: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    round()?;
    let mut seconds = Vec::new();
    for _ in 0..rounds.max(1) {
        let started = Instant::now();
        round()?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    seconds.sort_unstable_by(f64::total_cmp);
    Ok(seconds[seconds.len() / 2])
}
