//! JSON to columns on one core, beside serde_json into structs.

use std::borrow::Cow;
use std::hint::black_box;
use std::time::Instant;

use anyhow::bail;
use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};
use stillwell_schema::{Offset, TopicPartition};
use stillwell_source::chunk::RecordChunk;
use stillwell_source::decode::{decode_chunk, decoder_for};
use stillwell_source::series::SeriesTable;
use stillwell_source::settings::TopicSettings;

use crate::result::{self, ResultArgs, rounded};
use crate::shape::Shape;

const CHUNK_BYTES: usize = 8 << 20;

/// How much is decoded.
#[derive(Args, Clone, Debug)]
pub(crate) struct DecodeArgs {
    /// Readings per record
    #[arg(long, default_value_t = 1000)]
    per_record: u64,
    /// Rounds over a chunk of 8 MiB; the median is kept
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    #[command(flatten)]
    result: ResultArgs,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "a reader would use them")]
struct Reading<'a> {
    #[serde(borrow)]
    machine: Cow<'a, str>,
    #[serde(borrow)]
    sensor: Cow<'a, str>,
    #[serde(borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    unit: Option<Cow<'a, str>>,
    time: i64,
    value: Option<f64>,
}

/// Measures and keeps the result.
pub(crate) fn run(args: &DecodeArgs) -> anyhow::Result<()> {
    let chunk = chunk(args.per_record);
    let readings = chunk.len() as u64 * args.per_record;
    let bytes: usize = chunk.records().filter_map(|record| record.value).map(<[u8]>::len).sum();
    let ours = median(args.rounds, || ours(&chunk, readings))?;
    let structs = median(args.rounds, || structs(&chunk, args.per_record > 1, readings))?;
    let speed = |seconds: f64| {
        json!({
            "gb_per_s": rounded(bytes as f64 / seconds / 1e9),
            "million_readings_per_s": rounded(readings as f64 / seconds / 1e6),
        })
    };
    let result: Value = json!({
        "per_record": args.per_record,
        "bytes": bytes,
        "readings": readings,
        "stillwell": speed(ours),
        "serde_json_structs": speed(structs),
        "ratio": rounded(structs / ours),
    });
    result::keep("decode", &args.result, result)
}

fn chunk(per_record: u64) -> RecordChunk {
    let mut chunk = RecordChunk::new(TopicPartition::new("bench", 0), Offset(0));
    let mut shape = Shape::new(per_record, 1_795_000_000_000, 1000);
    let mut value = Vec::new();
    let mut offset = 0;
    while chunk.payload_bytes() < CHUNK_BYTES {
        let key = shape.key();
        shape.value(&mut value);
        chunk.push(Offset(offset), 0, Some(key.as_bytes()), Some(&value), []);
        offset += 1;
    }
    chunk
}

fn ours(chunk: &RecordChunk, readings: u64) -> anyhow::Result<()> {
    let mut decoder = decoder_for(&TopicSettings::new("bench"));
    let mut table = SeriesTable::default();
    let decoded = black_box(decode_chunk(&mut *decoder, chunk, &mut table)?);
    if decoded.columns.len() as u64 != readings || !decoded.failures.is_empty() {
        bail!("decoded {} of {readings} readings: {:?}", decoded.columns.len(), decoded.failures.first());
    }
    Ok(())
}

fn structs(chunk: &RecordChunk, arrays: bool, readings: u64) -> anyhow::Result<()> {
    let mut seen = 0;
    for value in chunk.records().filter_map(|record| record.value) {
        if arrays {
            seen += black_box(serde_json::from_slice::<Vec<Reading<'_>>>(value)?).len() as u64;
        } else {
            black_box(serde_json::from_slice::<Reading<'_>>(value)?);
            seen += 1;
        }
    }
    if seen != readings {
        bail!("parsed {seen} of {readings} readings");
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
