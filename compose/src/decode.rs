//! `stillwell decode`: what a topic's decoder makes of some bytes, with where each field came from, and why not
//! where it cannot.
//!
//! It needs nothing that runs but the schema registry, where the config names one. The decoder is the one that the stages use, made from the same config.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use stillwell_source::chunk::RecordRef;
use stillwell_source::columns::ReadingColumns;
use stillwell_source::decode::{DecodeFault, Decoder, Origin, decoder_for};
use stillwell_source::series::SeriesTable;
use stillwell_source::settings::{Format, TopicSettings};

use crate::config::{Config, Topic};
use crate::stages;

mod print;

pub(crate) use print::excerpt;

const EXAMPLES: &str = "\
Examples:
  stillwell decode --explain sample.json                   with the format and mapping of the config's first topic
  stillwell decode --lines --json captured.ndjson          one record a line, readings as JSON
  telegraf --test | sed 's/^> //' | stillwell decode --format line -
  stillwell decode --config plant.toml --topic mes --key press-7 batch.arrow
  stillwell decode --format sparkplug --key spBv1.0/plant/DBIRTH/edge-1/press-7 birth.bin

Exits with 1 where a record cannot be read.";

/// How long a schema may take to come from its registry, and how often that is looked after.
const PATIENCE: Duration = Duration::from_secs(15);
const AGAIN: Duration = Duration::from_millis(20);

/// How bytes are decoded.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct DecodeArgs {
    /// File with the bytes of one record's value; - for standard input
    #[arg(default_value = "-", value_name = "FILE")]
    file: PathBuf,
    /// Say where each field came from, and show the place of an error
    #[arg(long)]
    explain: bool,
    /// Topic of the config whose format and mapping are used; without it, its first
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,
    /// Format, in the place of the topic's: json, line, arrow, avro, protobuf or sparkplug; the topic's mapping
    /// is used where it is the topic's own format
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Each line is a record
    #[arg(long)]
    lines: bool,
    /// Print JSON, one object a record
    #[arg(long)]
    json: bool,
    /// The record's key
    #[arg(long, value_name = "TEXT")]
    key: Option<String>,
    /// The record's Kafka timestamp, in ms since 1970; without it, the record has none
    #[arg(long, value_name = "MS", default_value_t = -1, hide_default_value = true)]
    timestamp: i64,
}

/// What one record was found to be.
struct Outcome<'a> {
    number: usize,
    bytes: &'a [u8],
    table: SeriesTable,
    columns: ReadingColumns,
    origins: Vec<Origin>,
    result: Result<(), DecodeFault>,
}

/// Decodes and prints; the exit code is 1 where a record could not be read.
///
/// # Errors
/// Where there are no bytes, or the topic or format is not known.
pub fn run(args: &DecodeArgs, config: &Config) -> anyhow::Result<u8> {
    let topic = topic(args, config)?;
    let bytes = read(&args.file)?;
    let mut decoder = decoder_for(&topic);
    let mut out = std::io::stdout().lock();
    let mut failed = false;
    for (number, record) in records(&bytes, args.lines).enumerate() {
        let outcome = decode(args, &mut *decoder, number, record);
        failed |= outcome.result.is_err();
        let text =
            if args.json { print::json(&outcome) } else { print::text(&outcome, args.explain, args.lines) };
        match out.write_all(text.as_bytes()) {
            // Whoever read the output has seen enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => break,
            written => written.context("cannot write the answer")?,
        }
    }
    Ok(u8::from(failed))
}

fn decode<'a>(args: &DecodeArgs, decoder: &mut dyn Decoder, number: usize, bytes: &'a [u8]) -> Outcome<'a> {
    let record = RecordRef::new(args.timestamp, args.key.as_deref().map(str::as_bytes), bytes);
    let (mut table, mut columns, mut origins) =
        (SeriesTable::default(), ReadingColumns::default(), Vec::new());
    decoder.new_table();
    let result = patiently(|| {
        if args.explain {
            decoder.explain(&record, &mut table, &mut columns, &mut origins)
        } else {
            decoder.decode(&record, 0, &mut table, &mut columns)
        }
    });
    Outcome { number, bytes, table, columns, origins, result }
}

/// Decodes again and again while a schema is on its way: whoever decodes a few records by hand has none yet.
pub(crate) fn patiently(mut decode: impl FnMut() -> Result<(), DecodeFault>) -> Result<(), DecodeFault> {
    let until = Instant::now() + PATIENCE;
    loop {
        match decode() {
            Err(DecodeFault::Transient(_)) if Instant::now() < until => std::thread::sleep(AGAIN),
            result => return result,
        }
    }
}

/// What a decoder makes of one record, for people: its readings with where their fields came from, or its error
/// with the place of it.
pub(crate) fn explained(decoder: &mut dyn Decoder, record: &RecordRef<'_>) -> String {
    let (mut table, mut columns, mut origins) =
        (SeriesTable::default(), ReadingColumns::default(), Vec::new());
    decoder.new_table();
    let result = patiently(|| decoder.explain(record, &mut table, &mut columns, &mut origins));
    print::text(&Outcome { number: 0, bytes: record.bytes(), table, columns, origins, result }, true, false)
}

fn topic(args: &DecodeArgs, config: &Config) -> anyhow::Result<TopicSettings> {
    let named = |name: &String| config.topic.iter().find(|topic| topic.name == *name);
    let topic: &Topic = match &args.topic {
        None => config.topic.first().context("the config names no [[topic]]")?,
        Some(name) => named(name).with_context(|| {
            let names: Vec<&str> = config.topic.iter().map(|topic| topic.name.as_str()).collect();
            format!("the config has no topic {name:?}; it has {}", names.join(", "))
        })?,
    };
    let schemas = stages::registry(config)?;
    let Some(format) = args.format.as_deref() else { return stages::topic(topic, schemas) };
    if Format::named(format).is_none() {
        bail!("--format {format:?} is none of {}", Format::ALL.map(Format::name).join(", "));
    }
    if format == topic.format {
        return stages::topic(topic, schemas);
    }
    // As with a record whose content type says so: the mapping and the unit are for the topic's own format.
    let other = Topic { format: format.to_owned(), time_unit: String::new(), mapping: None, ..topic.clone() };
    stages::topic(&other, schemas)
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    if file != Path::new("-") {
        return std::fs::read(file).with_context(|| format!("cannot read {}", file.display()));
    }
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes).context("cannot read standard input")?;
    Ok(bytes)
}

/// The records: all bytes, or each line that is not empty.
fn records(bytes: &[u8], lines: bool) -> impl Iterator<Item = &[u8]> {
    let whole = (!lines).then_some(bytes);
    let of_lines = bytes.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    whole.into_iter().chain(of_lines.filter(move |line| lines && !line.is_empty()))
}

#[cfg(test)]
mod tests;
