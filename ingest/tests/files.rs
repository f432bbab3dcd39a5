//! The two files of a commit hold exactly what was received, in exactly the schemas that readers rely on.

mod support;

use arrow::array::{Array, AsArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{
    Float64Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType, UInt32Type,
};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use parquet::basic::Encoding;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use stillwell_ingest::writer::{Batch, Encoded, EncodedFile, encode};
use stillwell_schema::merkle::{LeafRecord, Tree, leaf};
use stillwell_schema::paths::FileKind;
use stillwell_schema::{Gap, GapReason, Head, Offset, columns};
use stillwell_source::chunk::{RecordChunk, RecordRef};
use stillwell_source::columns::{ReadingColumns, TextCell};
use stillwell_source::decode::{DecodeError, DecodeFault, Decoder};
use stillwell_source::series::{Series, SeriesTable};
use support::{key, lane_id, read_parquet};

/// One reading, as the test's wire format writes it: fields by `|`, readings by `;`.
#[derive(Clone, Debug, PartialEq)]
struct Reading {
    machine: String,
    sensor: String,
    kind: Option<String>,
    unit: Option<String>,
    time: i64,
    value: Option<f64>,
    text: Option<String>,
    quality: u32,
    offset: i64,
    index: u32,
    kafka_time: i64,
}

struct Lines;

impl Decoder for Lines {
    fn decode(
        &mut self,
        record: &RecordRef<'_>,
        number: u32,
        table: &mut SeriesTable,
        out: &mut ReadingColumns,
    ) -> Result<(), DecodeFault> {
        let line = std::str::from_utf8(record.bytes()).map_err(|e| DecodeError {
            class: "utf8",
            message: "not text".into(),
            at: e.valid_up_to(),
        })?;
        for (index, reading) in (0u32..).zip(line.split(';').filter(|r| !r.is_empty())) {
            let f: Vec<&str> = reading.split('|').collect();
            let name = |table: &mut SeriesTable, n: &str| (!n.is_empty()).then(|| table.intern_name(n));
            let (machine, sensor) = (table.intern_name(f[0]), table.intern_name(f[1]));
            let (kind, unit) = (name(table, f[2]), name(table, f[3]));
            if !f[6].is_empty() {
                let start = out.text_bytes.len() as u32;
                out.text_bytes.push_str(f[6]);
                out.text.push(TextCell { row: out.len() as u32, start, end: out.text_bytes.len() as u32 });
            }
            out.series.push(table.intern(Series { machine, sensor, kind, unit }));
            out.time_us.push(f[4].parse().unwrap());
            out.value.push(f[5].parse().unwrap_or(0.0));
            out.has_value.push(!f[5].is_empty());
            out.quality.push(f[7].parse().unwrap());
            out.record.push(number);
            out.index.push(index);
        }
        Ok(())
    }

    fn new_table(&mut self) {}
}

fn line(r: &Reading) -> String {
    let name = |n: &Option<String>| n.clone().unwrap_or_default();
    let value = r.value.map_or(String::new(), |v| format!("{v:?}"));
    let (kind, unit, text) = (name(&r.kind), name(&r.unit), name(&r.text));
    format!("{}|{}|{kind}|{unit}|{}|{value}|{text}|{};", r.machine, r.sensor, r.time, r.quality)
}

/// A seeded batch of `records` records with up to 20 readings each, in several chunks, with a gap and a
/// record that is not text; and all its readings in the archive's order.
fn batch(seed: u64, records: i64, value: impl Fn(&mut StdRng) -> f64) -> (Batch, Vec<Reading>) {
    let mut random = StdRng::seed_from_u64(seed);
    let (mut batch, mut readings) = (Batch::new(lane_id(), Offset(100)), Vec::new());
    let mut chunk = RecordChunk::new(lane_id(), Offset(100));
    for offset in 100..100 + records {
        if offset % 50 == 7 {
            let next = chunk.range().next;
            batch.push(&mut Lines, std::mem::replace(&mut chunk, RecordChunk::new(lane_id(), next))).unwrap();
        }
        if offset == 110 {
            chunk.push_gap(Gap { first: Offset(110), next: Offset(111), reason: GapReason::NotDelivered });
            continue;
        }
        let mut payload = Vec::new();
        for index in 0..random.random_range(0..20) {
            let reading = Reading {
                machine: format!("press-{}", random.random_range(0..4)),
                sensor: format!("sensor {}", random.random_range(0..5)),
                kind: random.random_bool(0.5).then(|| "vibration".to_owned()),
                unit: random.random_bool(0.5).then(|| "mm/s²".to_owned()),
                time: 1_000_000 * offset + random.random_range(-3_000_000..3_000_000),
                value: random.random_bool(0.9).then(|| value(&mut random)),
                text: random.random_bool(0.1).then(|| format!("état {offset}")),
                quality: if random.random_bool(0.1) { 0x8000_0000 } else { 0 },
                offset,
                index,
                kafka_time: offset * 7,
            };
            payload.extend(line(&reading).into_bytes());
            readings.push(reading);
        }
        if offset == 120 {
            readings.retain(|r| r.offset != 120);
            payload = vec![0xff, 0x00, 0xfe];
        }
        let key = (offset % 4 != 0).then(|| format!("key {offset}"));
        let headers = [("h", Some(&b"\x00\xff"[..])), ("h", None), ("ü", Some(&b""[..]))];
        let headers = headers.into_iter().take((offset % 4) as usize);
        let value = (offset != 130).then_some(&payload[..]);
        readings.retain(|r| value.is_some() || r.offset != 130);
        chunk.push(Offset(offset), offset * 7, key.as_deref().map(str::as_bytes), value, headers);
    }
    batch.push(&mut Lines, chunk).unwrap();
    readings.sort_by(|a, b| {
        let order = |r: &Reading| (r.time, r.offset, r.index);
        (&a.machine, &a.sensor, order(a)).cmp(&(&b.machine, &b.sensor, order(b)))
    });
    (batch, readings)
}

fn rows_of(batch: &RecordBatch) -> Vec<Reading> {
    let text = |name: &str, i| {
        let column = batch[name].as_string::<i32>();
        column.is_valid(i).then(|| column.value(i).to_owned())
    };
    let value = batch["value"].as_primitive::<Float64Type>();
    (0..batch.num_rows())
        .map(|i| Reading {
            machine: text("machine", i).unwrap(),
            sensor: text("sensor", i).unwrap(),
            kind: text("kind", i),
            unit: text("unit", i),
            time: batch["time"].as_primitive::<TimestampMicrosecondType>().value(i),
            value: value.is_valid(i).then(|| value.value(i)),
            text: text("text", i),
            quality: batch["quality"].as_primitive::<UInt32Type>().value(i),
            offset: batch["offset"].as_primitive::<Int64Type>().value(i),
            index: batch["index"].as_primitive::<UInt32Type>().value(i),
            kafka_time: batch["kafka_time"].as_primitive::<TimestampMillisecondType>().value(i),
        })
        .collect()
}

fn file(encoded: &Encoded, kind: FileKind) -> &EncodedFile {
    encoded.files.iter().find(|file| file.kind == kind).unwrap()
}

fn metadata(file: &EncodedFile) -> ParquetMetaData {
    ParquetMetaDataReader::new()
        .with_page_index_policy(PageIndexPolicy::Required)
        .parse_and_finish(&Bytes::from(file.bytes.clone()))
        .unwrap()
}

#[test]
fn readings_come_back_exactly_and_in_order() {
    for seed in 0..5 {
        let (batch, expected) = batch(seed, 300, |random| random.random_range(-1e9..1e9));
        let encoded = encode(&batch, "u").unwrap();
        let batches = read_parquet(&file(&encoded, FileKind::Readings).bytes);
        assert_eq!(batches[0].schema(), *columns::READINGS);
        let all = concat_batches(&columns::READINGS, &batches).unwrap();
        assert_eq!(rows_of(&all), expected);
        assert!(all["topic"].as_string::<i32>().iter().all(|topic| topic == Some("readings")));
        let entry = encoded.entry(&Head::genesis(), "w", 1, &key()).unwrap().entry;
        assert_eq!(entry.time_min_us, expected.iter().map(|r| r.time).min());
        assert_eq!(entry.time_max_us, expected.iter().map(|r| r.time).max());
        assert_eq!(entry.machines.unwrap(), ["press-0", "press-1", "press-2", "press-3"]);
        assert_eq!(entry.undecodable, 2);
    }
}

#[test]
fn records_come_back_byte_for_byte_with_their_errors() {
    let (batch, readings) = batch(1, 300, RngExt::random);
    let encoded = encode(&batch, "u").unwrap();
    let batches = read_parquet(&file(&encoded, FileKind::Records).bytes);
    assert_eq!(batches[0].schema(), *columns::STORED_RECORDS);
    let all = concat_batches(&columns::STORED_RECORDS, &batches).unwrap();
    assert_eq!(all["template"].null_count(), all.num_rows());
    let (keys, values) = (all["key"].as_binary::<i32>(), all["value"].as_binary::<i32>());
    let offsets = all["offset"].as_primitive::<Int64Type>();
    let times = all["kafka_time"].as_primitive::<TimestampMillisecondType>();
    let counts = all["readings"].as_primitive::<UInt32Type>();
    let classes = all["error_class"].as_string::<i32>();
    let mut tree = Tree::default();
    for i in 0..all.num_rows() {
        let offset = offsets.value(i);
        let headers = all["headers"].as_list::<i32>().value(i);
        let (names, contents) = (
            headers.as_struct().column(0).as_string::<i32>(),
            headers.as_struct().column(1).as_binary::<i32>(),
        );
        assert_eq!(names.len() as i64, (offset % 4).min(3));
        // The root binds every byte of what was received; here it is built from what was read back.
        tree.push(leaf(LeafRecord {
            topic: "readings",
            partition: 3,
            offset,
            timestamp_ms: times.value(i),
            key: keys.is_valid(i).then(|| keys.value(i)),
            value: values.is_valid(i).then(|| values.value(i)),
            headers: (0..names.len())
                .map(|h| (names.value(h), contents.is_valid(h).then(|| contents.value(h)))),
        }));
        assert_eq!(counts.value(i) as usize, readings.iter().filter(|r| r.offset == offset).count());
        let class = classes.is_valid(i).then(|| classes.value(i));
        assert_eq!(class, [(120, "utf8"), (130, "no_value")].iter().find(|e| e.0 == offset).map(|e| e.1));
    }
    assert_eq!(all.num_rows(), 299);
    let entry = encoded.entry(&Head::genesis(), "w", 1, &key()).unwrap().entry;
    assert_eq!(entry.merkle_root, hex::encode(tree.root()));
    assert_eq!(entry.gaps.len(), 1);
}

#[test]
fn values_are_encoded_as_they_repeat() {
    let check = |value: fn(&mut StdRng) -> f64, expected: Encoding| {
        let encoded = encode(&batch(3, 500, value).0, "u").unwrap();
        let metadata = metadata(file(&encoded, FileKind::Readings));
        let encodings: Vec<Encoding> = metadata.row_group(0).column(5).encodings().collect();
        assert!(encodings.contains(&expected), "{encodings:?}");
    };
    check(|random| f64::from(random.random_range(0..100)) / 10.0, Encoding::RLE_DICTIONARY);
    check(RngExt::random, Encoding::BYTE_STREAM_SPLIT);
}

#[test]
fn files_carry_what_readers_prune_by() {
    let encoded = encode(&batch(3, 300, RngExt::random).0, "u").unwrap();
    for kind in [FileKind::Readings, FileKind::Records] {
        let metadata = metadata(file(&encoded, kind));
        let footer = metadata.file_metadata().key_value_metadata().unwrap();
        let of = |key: &str| footer.iter().find(|kv| kv.key == key).unwrap().value.clone().unwrap();
        assert_eq!(of("stillwell.topic"), "readings");
        assert_eq!(of("stillwell.range"), "100-400");
        assert_eq!(of("stillwell.gaps"), r#"[{"first":110,"next":111,"reason":"not_delivered"}]"#);
        assert_eq!(of("stillwell.schema"), columns::SCHEMA_ID);
        assert!(metadata.offset_index().is_some() && metadata.column_index().is_some());
        if kind == FileKind::Readings {
            let group = metadata.row_group(0);
            assert!(group.column(0).bloom_filter_offset().is_some());
            assert!(group.column(1).bloom_filter_offset().is_some());
            assert_eq!(group.sorting_columns().unwrap().len(), 5);
        }
    }
}
