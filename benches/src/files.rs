//! The files of a commit beside bare arrow-rs on the same rows, in CPU time of all threads.
//!
//! Ours is everything between decoded readings and the bytes that are stored: the Merkle leaves of the records (what
//! [`Batch::push`] takes beyond decoding), the order of the readings, both files with their hashes, and the signed
//! entry. arrow-rs writes the readings alone, which it is given in our order and in arrays, with its defaults and
//! zstd(1): once with names as text, as a reader of JSON has them, and once as dictionaries, as we feed it.

use std::sync::Arc;

use anyhow::Context;
use arrow::array::ArrayRef;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use clap::Args;
use ed25519_dalek::SigningKey;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::{Value, json};
use stillwell_ingest::writer::{Batch, Encoded, encode};
use stillwell_schema::paths::FileKind;
use stillwell_schema::{Head, Offset, SignedEntry, TopicPartition};
use stillwell_source::chunk::RecordChunk;
use stillwell_source::decode::{decode_chunk, decoder_for};
use stillwell_source::series::SeriesTable;
use stillwell_source::settings::TopicSettings;

use crate::process::own_cpu_s;
use crate::result::{self, ResultArgs, rounded};
use crate::shape::Shape;

/// Of a chunk as the consumer cuts it.
const CHUNK_BYTES: usize = 1 << 20;
/// Rows of a batch that arrow-rs is given.
const BATCH_ROWS: usize = 1 << 15;

const EXAMPLES: &str = "\
Examples:
  stillwell-bench files                                      a full commit, at 1,000 readings a record and at one
  stillwell-bench files --batch-bytes 2097152 --rounds 50    the small commits of a lane among 64";

/// How large a commit.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct FilesArgs {
    /// Readings per record
    #[arg(long, value_delimiter = ',', default_values_t = [1000_u64, 1])]
    per_record: Vec<u64>,
    /// Bytes of records in the commit
    #[arg(long, default_value_t = 64 << 20)]
    batch_bytes: usize,
    /// Commits that are measured, after one that warms up
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    #[command(flatten)]
    result: ResultArgs,
}

/// CPU seconds of all rounds.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    decode: f64,
    push: f64,
    encode: f64,
    bare_text: f64,
    bare_dictionaries: f64,
}

/// What a round wrote.
struct Written {
    readings: u64,
    records: usize,
    payload_bytes: usize,
    encoded: Encoded,
    entry: SignedEntry,
    bare_bytes: usize,
}

/// Measures and keeps the result.
pub(crate) fn run(args: &FilesArgs) -> anyhow::Result<()> {
    let rows: Vec<Value> =
        args.per_record.iter().map(|&per_record| measured(args, per_record)).collect::<Result<_, _>>()?;
    result::keep("files", &args.result, json!({"rows": rows}))
}

fn measured(args: &FilesArgs, per_record: u64) -> anyhow::Result<Value> {
    round(chunks(per_record, args.batch_bytes), &mut Spent::default())?;
    let mut spent = Spent::default();
    let mut written = None;
    for _ in 0..args.rounds.max(1) {
        written = Some(round(chunks(per_record, args.batch_bytes), &mut spent)?);
    }
    let written = written.context("no round")?;
    Ok(describe(per_record, args.rounds.max(1), spent, &written))
}

/// The records of one commit.
fn chunks(per_record: u64, bytes: usize) -> Vec<RecordChunk> {
    let mut shape = Shape::yardstick(per_record);
    let mut value = Vec::new();
    let (mut chunks, mut offset, mut filled) = (Vec::new(), 0, 0);
    while filled < bytes {
        let mut chunk = RecordChunk::new(TopicPartition::new("readings", 0), Offset(offset));
        while chunk.payload_bytes() < CHUNK_BYTES {
            let key = shape.key();
            shape.value(&mut value);
            let kafka_ms = offset;
            chunk.push(Offset(offset), kafka_ms, Some(key.as_bytes()), Some(&value), []);
            offset += 1;
        }
        filled += chunk.payload_bytes();
        chunks.push(chunk);
    }
    chunks
}

/// One commit, ours and theirs.
fn round(chunks: Vec<RecordChunk>, spent: &mut Spent) -> anyhow::Result<Written> {
    let topic = TopicSettings::new("readings");
    let (mut decoder, mut table) = (decoder_for(&topic), SeriesTable::default());
    // Kept until all are decoded, as a batch keeps them.
    let decoded = spend(&mut spent.decode, || {
        chunks
            .iter()
            .map(|chunk| decode_chunk(&mut *decoder, chunk, &mut table))
            .collect::<Result<Vec<_>, _>>()
    })?;
    drop(decoded);
    let records = chunks.iter().map(RecordChunk::len).sum();
    let mut batch = Batch::new(TopicPartition::new("readings", 0), Offset(0));
    let mut decoder = decoder_for(&topic);
    spend(&mut spent.push, || chunks.into_iter().try_for_each(|chunk| batch.push(&mut *decoder, chunk)))?;
    let key = SigningKey::from_bytes(&[7; 32]);
    let (encoded, entry) = spend(&mut spent.encode, || -> anyhow::Result<_> {
        let encoded = encode(&batch, "00000000")?;
        let entry = encoded.entry(&Head::genesis(), "bench", 1, &key)?;
        Ok((encoded, entry))
    })?;
    let text = rows(&encoded)?;
    let dictionaries = text.iter().map(with_dictionaries).collect::<anyhow::Result<Vec<_>>>()?;
    let bare_bytes = spend(&mut spent.bare_text, || bare(&text))?;
    spend(&mut spent.bare_dictionaries, || bare(&dictionaries))?;
    Ok(Written {
        readings: encoded.readings(),
        records,
        payload_bytes: batch.payload_bytes(),
        encoded,
        entry,
        bare_bytes,
    })
}

/// Does the work and adds what CPU time it took.
fn spend<T>(spent: &mut f64, work: impl FnOnce() -> T) -> T {
    let before = own_cpu_s();
    let done = work();
    *spent += own_cpu_s() - before;
    done
}

/// The readings as they lie in our file.
fn rows(encoded: &Encoded) -> anyhow::Result<Vec<RecordBatch>> {
    let file = encoded.files.iter().find(|file| file.kind == FileKind::Readings).context("no readings")?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file.bytes.clone()))?;
    Ok(reader.with_batch_size(BATCH_ROWS).build()?.collect::<Result<_, _>>()?)
}

/// The same rows, with names as dictionaries.
fn with_dictionaries(rows: &RecordBatch) -> anyhow::Result<RecordBatch> {
    let dictionary = DataType::Dictionary(Box::new(DataType::UInt32), Box::new(DataType::Utf8));
    let (mut fields, mut columns) = (Vec::new(), Vec::<ArrayRef>::new());
    for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
        let is_name = ["machine", "sensor", "kind", "unit", "topic"].contains(&field.name().as_str());
        let column = if is_name { cast(column, &dictionary)? } else { Arc::clone(column) };
        fields.push(Field::new(field.name(), column.data_type().clone(), field.is_nullable()));
        columns.push(column);
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// Writes rows as arrow-rs does by itself; says how many bytes.
fn bare(rows: &[RecordBatch]) -> anyhow::Result<usize> {
    let schema = rows.first().context("no rows")?.schema();
    let compression = Compression::ZSTD(ZstdLevel::try_new(1)?);
    let properties = WriterProperties::builder().set_compression(compression).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties))?;
    for batch in rows {
        writer.write(batch)?;
    }
    Ok(writer.into_inner()?.len())
}

fn describe(per_record: u64, rounds: u32, spent: Spent, written: &Written) -> Value {
    let readings = written.readings as f64;
    let per_million = |seconds: f64| rounded(seconds / f64::from(rounds) / (readings / 1e6));
    let per_reading = |bytes: usize| rounded(bytes as f64 / readings);
    let file = |kind: FileKind| {
        written
            .encoded
            .files
            .iter()
            .filter(|file| file.kind == kind)
            .map(|file| file.bytes.len())
            .sum::<usize>()
    };
    let (readings_bytes, records_bytes) = (file(FileKind::Readings), file(FileKind::Records));
    let leaves = spent.push - spent.decode;
    let ours = leaves + spent.encode;
    json!({
        "per_record": per_record,
        "readings": written.readings,
        "records": written.records,
        "payload_bytes_per_reading": per_reading(written.payload_bytes),
        "cpu_s_per_million": {
            "decode": per_million(spent.decode),
            "leaves": per_million(leaves),
            "encode_and_sign": per_million(spent.encode),
            "archive": per_million(ours),
            "arrow_rs_text": per_million(spent.bare_text),
            "arrow_rs_dictionaries": per_million(spent.bare_dictionaries),
        },
        "times_arrow_rs_text": rounded(ours / spent.bare_text),
        "times_arrow_rs_dictionaries": rounded(ours / spent.bare_dictionaries),
        "bytes_per_reading": {
            "readings": per_reading(readings_bytes),
            "records": per_reading(records_bytes),
            "entry": per_reading(written.entry.bytes.len()),
            "archive": per_reading(readings_bytes + records_bytes + written.entry.bytes.len()),
            "arrow_rs_text": per_reading(written.bare_bytes),
        },
    })
}
