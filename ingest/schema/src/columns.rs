//! What a reading and a record look like as Arrow columns: the archive's files and the SQL tables
//! `readings` and `records` have exactly these schemas.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

/// The id of the files' schemas, [`READINGS`] and [`STORED_RECORDS`], kept in each file's footer and each manifest
/// entry. It changes when a column changes.
pub const SCHEMA_ID: &str = "stillwell-2";

/// The id of files of before, whose records have no column `template`.
const SCHEMA_ID_WHOLE: &str = "stillwell-1";

/// Whether files of this schema can be read.
#[must_use]
pub fn is_known(schema: &str) -> bool {
    [SCHEMA_ID, SCHEMA_ID_WHOLE].contains(&schema)
}

/// One row per reading, sorted by machine, sensor, time, offset and index within a file.
///
/// | column | type | meaning |
/// |---|---|---|
/// | machine, sensor, kind, unit | text | names; `kind` and `unit` are null where not given |
/// | time | µs UTC | source timestamp |
/// | value | f64, nullable | the measured value |
/// | text | text, nullable | a string state |
/// | quality | u32 | OPC UA StatusCode, 0 = good |
/// | topic, partition, offset, index | | where it came from; `index` is its place within the record |
/// | kafka_time | ms UTC | the record's Kafka timestamp |
pub static READINGS: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("machine", DataType::Utf8, false),
        Field::new("sensor", DataType::Utf8, false),
        Field::new("kind", DataType::Utf8, true),
        Field::new("unit", DataType::Utf8, true),
        Field::new("time", micros(), false),
        Field::new("value", DataType::Float64, true),
        Field::new("text", DataType::Utf8, true),
        Field::new("quality", DataType::UInt32, false),
        Field::new("topic", DataType::Utf8, false),
        Field::new("partition", DataType::Int32, false),
        Field::new("offset", DataType::Int64, false),
        Field::new("index", DataType::UInt32, false),
        Field::new("kafka_time", millis(), false),
    ]))
});

/// One row per Kafka record, in offset order, whole.
///
/// `readings` is how many readings were decoded from it; `error_class` and `error` are null where it
/// decoded.
///
/// A header's name that is no UTF-8 is written as `%bytes:` and its bytes percent-encoded (letters, digits and
/// `-._~` as they are, each other byte as `%` and two upper-case hex digits), and so is a name that itself
/// begins with `%bytes:`; every other name stands as it came.
pub static RECORDS: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("topic", DataType::Utf8, false),
        Field::new("partition", DataType::Int32, false),
        Field::new("offset", DataType::Int64, false),
        Field::new("kafka_time", millis(), false),
        Field::new("key", DataType::Binary, true),
        Field::new("value", DataType::Binary, true),
        Field::new_list("headers", Field::new_list_field(DataType::Struct(header_fields()), false), false),
        Field::new("readings", DataType::UInt32, false),
        Field::new("error_class", DataType::Utf8, true),
        Field::new("error", DataType::Utf8, true),
    ]))
});

/// One row per Kafka record as a file holds it: the columns of [`RECORDS`], and `template`, which stands in the place
/// of `value` where the readings of the same commit or cover rebuild it (see [`crate::original`]); null where the value
/// is there, or where the record has none.
pub static STORED_RECORDS: LazyLock<SchemaRef> = LazyLock::new(|| {
    let mut fields = RECORDS.fields().to_vec();
    fields.push(Arc::new(Field::new("template", DataType::Utf8, true)));
    Arc::new(Schema::new(fields))
});

/// One row per erased record, in offset order within a file: all that is left of it.
///
/// `leaf` is its leaf's hash in the Merkle tree of its entry (see [`crate::merkle`]), 32 bytes.
pub static LEAVES: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("offset", DataType::Int64, false),
        Field::new("leaf", DataType::FixedSizeBinary(32), false),
    ]))
});

/// The fields of one header in the `headers` column of [`RECORDS`].
#[must_use]
pub fn header_fields() -> Fields {
    Fields::from(vec![Field::new("name", DataType::Utf8, false), Field::new("value", DataType::Binary, true)])
}

fn micros() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn millis() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}
