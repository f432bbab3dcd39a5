//! What others make of the same JSON: structs by serde_json, sonic-rs and simd-json, columns by arrow-json.
//!
//! simd-json writes into its input, so each record is copied for it first. arrow-json is given whole records, arrays
//! as rows of one list.

use std::borrow::Cow;
use std::hint::black_box;

use anyhow::ensure;
use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Fields, Schema};
use arrow::json::ReaderBuilder;
use arrow::json::reader::Decoder;
use serde::Deserialize;
use stillwell_source::chunk::RecordChunk;

/// Parses the records of a chunk, which are arrays or objects; says how many readings it saw.
pub(super) type Peer = fn(&RecordChunk, bool) -> anyhow::Result<u64>;

/// All of them, by name.
pub(super) const PEERS: [(&str, Peer); 4] = [
    ("serde_json_structs", serde_json),
    ("sonic_rs_structs", sonic_rs),
    ("simd_json_structs", simd_json),
    ("arrow_json", arrow_json),
];

/// arrow-json keeps what it has parsed until it builds a batch: so many records at most,
const BATCH_RECORDS: usize = 1 << 13;

/// or so many bytes.
const BATCH_BYTES: usize = 1 << 20;

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

fn values(chunk: &RecordChunk) -> impl Iterator<Item = &[u8]> {
    chunk.records().filter_map(|record| record.value)
}

fn serde_json(chunk: &RecordChunk, is_array: bool) -> anyhow::Result<u64> {
    let mut seen = 0;
    for value in values(chunk) {
        if is_array {
            seen += black_box(serde_json::from_slice::<Vec<Reading<'_>>>(value)?).len() as u64;
        } else {
            black_box(serde_json::from_slice::<Reading<'_>>(value)?);
            seen += 1;
        }
    }
    Ok(seen)
}

fn sonic_rs(chunk: &RecordChunk, is_array: bool) -> anyhow::Result<u64> {
    let mut seen = 0;
    for value in values(chunk) {
        if is_array {
            seen += black_box(sonic_rs::from_slice::<Vec<Reading<'_>>>(value)?).len() as u64;
        } else {
            black_box(sonic_rs::from_slice::<Reading<'_>>(value)?);
            seen += 1;
        }
    }
    Ok(seen)
}

fn simd_json(chunk: &RecordChunk, is_array: bool) -> anyhow::Result<u64> {
    use simd_json::serde::from_slice_with_buffers;
    let mut buffers = simd_json::Buffers::default();
    let mut bytes = Vec::new();
    let mut seen = 0;
    for value in values(chunk) {
        bytes.clear();
        bytes.extend_from_slice(value);
        if is_array {
            let readings: Vec<Reading<'_>> = from_slice_with_buffers(&mut bytes, &mut buffers)?;
            seen += black_box(readings).len() as u64;
        } else {
            let reading: Reading<'_> = from_slice_with_buffers(&mut bytes, &mut buffers)?;
            black_box(reading);
            seen += 1;
        }
    }
    Ok(seen)
}

fn arrow_json(chunk: &RecordChunk, is_array: bool) -> anyhow::Result<u64> {
    let text = |name| Field::new(name, DataType::Utf8, true);
    let fields = Fields::from(vec![
        text("machine"),
        text("sensor"),
        text("kind"),
        text("unit"),
        Field::new("time", DataType::Int64, true),
        Field::new("value", DataType::Float64, true),
    ]);
    let builder = if is_array {
        let reading = Field::new_list_field(DataType::Struct(fields), true);
        ReaderBuilder::new_with_field(Field::new_list("readings", reading, true))
    } else {
        ReaderBuilder::new(Schema::new(fields).into())
    };
    let mut decoder = builder.with_batch_size(BATCH_RECORDS).build_decoder()?;
    let (mut seen, mut records, mut bytes) = (0, 0, 0);
    for value in values(chunk) {
        let taken = decoder.decode(value)?;
        ensure!(taken == value.len(), "arrow-json took {taken} of {} bytes", value.len());
        records += 1;
        bytes += taken;
        if records == BATCH_RECORDS || bytes >= BATCH_BYTES {
            seen += flush(&mut decoder, is_array)?;
            (records, bytes) = (0, 0);
        }
    }
    Ok(seen + flush(&mut decoder, is_array)?)
}

fn flush(decoder: &mut Decoder, is_array: bool) -> anyhow::Result<u64> {
    let Some(batch) = black_box(decoder.flush()?) else { return Ok(0) };
    let rows = if is_array { batch.column(0).as_list::<i32>().values().len() } else { batch.num_rows() };
    Ok(rows as u64)
}
