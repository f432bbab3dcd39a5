//! Answers as JSON, CSV or Arrow.
//!
//! In JSON, times are RFC 3339 in UTC with microseconds, 64-bit integers are numbers, NaN and infinities are null,
//! bytes are base64. CSV writes times and bytes the same, nested values as JSON text, nulls as empty cells, and
//! NaN as `NaN`, infinities as `inf`.

use std::io::Write as _;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Field, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Schema, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, Datelike as _, SecondsFormat, Timelike as _, Utc};
use serde::Serialize;
use serde_json::json;

use crate::engine::Answer;
use crate::error::QueryError;
use crate::pipeline::Freshness;

/// What an answer is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Csv,
    Arrow,
}

impl Format {
    pub(crate) const ALL: [Self; 3] = [Self::Json, Self::Csv, Self::Arrow];

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }

    /// The format that the client likes best, the first of those it likes as much; JSON where it takes anything.
    /// A quality of 0 refuses a kind (RFC 9110, 12.5.1).
    pub(crate) fn accepted(headers: &HeaderMap) -> Result<Self, String> {
        let lines = headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok());
        let accept = lines.collect::<Vec<_>>().join(", ").to_ascii_lowercase();
        if accept.trim().is_empty() {
            return Ok(Self::Json);
        }
        let kinds: Vec<(&str, f32)> = accept.split(',').map(quality).collect();
        let mut best: Option<(Self, f32, usize)> = None;
        for format in Self::ALL {
            let Some((at, q)) = format.liked(&kinds) else { continue };
            if best.is_none_or(|(_, most, first)| q > most || (q == most && at < first)) {
                best = Some((format, q, at));
            }
        }
        best.map(|(format, ..)| format).ok_or(accept)
    }

    /// How much the client likes this format, by the entry that names it most closely, and that entry's place.
    fn liked(self, kinds: &[(&str, f32)]) -> Option<(usize, f32)> {
        let name = self.name();
        let family = name.split_once('/').map_or("", |(family, _)| family);
        let exact = |kind: &str| kind == name;
        let of_family = |kind: &str| kind.strip_suffix("/*") == Some(family);
        let any = |kind: &str| kind == "*/*" || kind.is_empty();
        let find = |fits: &dyn Fn(&str) -> bool| kinds.iter().position(|(kind, _)| fits(kind));
        let at = find(&exact).or_else(|| find(&of_family)).or_else(|| find(&any))?;
        Some((at, kinds[at].1)).filter(|(_, q)| *q > 0.0)
    }

    fn name(self) -> &'static str {
        self.content_type().split(';').next().unwrap_or_default()
    }
}

/// One entry of Accept: a kind and how much it is liked. A quality that does not parse counts as none given.
fn quality(entry: &str) -> (&str, f32) {
    let mut parts = entry.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default();
    let q = parts.find_map(|part| part.strip_prefix("q=")).and_then(|q| q.trim().parse().ok());
    (kind, q.unwrap_or(1.0))
}

/// The body of an answer, of `limit` bytes at most.
pub(crate) fn encode(
    answer: &Answer,
    format: Format,
    freshness: Freshness,
    elapsed_ms: f64,
    limit: usize,
) -> Result<Vec<u8>, QueryError> {
    let mut out = Body { bytes: Vec::new(), limit, over: false };
    let written = match format {
        Format::Json => json(&mut out, answer, freshness, elapsed_ms),
        Format::Csv => csv(&mut out, answer),
        Format::Arrow => arrow(&mut out, answer),
    };
    match written {
        _ if out.over => Err(QueryError::TooLarge { limit }),
        Ok(()) => Ok(out.bytes),
        Err(error) => Err(QueryError::Internal(format!("the answer cannot be written: {error}"))),
    }
}

/// A body that does not grow beyond its limit.
struct Body {
    bytes: Vec<u8>,
    limit: usize,
    over: bool,
}

impl std::io::Write for Body {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.limit {
            self.over = true;
            return Err(std::io::Error::other("the answer is too large"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn json(out: &mut Body, answer: &Answer, freshness: Freshness, elapsed_ms: f64) -> Result<(), ArrowError> {
    let fields = answer.schema.fields().iter();
    let columns: Vec<_> =
        fields.map(|field| json!({"name": field.name(), "type": type_name(field.data_type())})).collect();
    write!(out, "{{\"columns\":{},\"rows\":[", json!(columns))?;
    let mut line = Vec::new();
    for (at, batch) in answer.batches.iter().enumerate() {
        let columns = batch.columns().iter().map(plain).collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            line.clear();
            line.extend_from_slice(if at == 0 && row == 0 { b"[" } else { b",[" });
            sequence(&mut line, &columns, row)?;
            line.push(b']');
            out.write_all(&line)?;
        }
    }
    let rest = json!({
        "row_count": answer.rows, "truncated": answer.truncated, "elapsed_ms": elapsed_ms, "freshness": freshness,
    });
    write!(out, "],{}", &rest.to_string()[1..])?;
    Ok(())
}

/// A dictionary's values in their places.
fn plain(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match column.data_type() {
        DataType::Dictionary(_, values) => cast(column, values),
        _ => Ok(Arc::clone(column)),
    }
}

fn sequence(out: &mut Vec<u8>, columns: &[ArrayRef], row: usize) -> Result<(), ArrowError> {
    for (at, column) in columns.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        value(out, column, row)?;
    }
    Ok(())
}

macro_rules! number {
    ($out:expr, $array:expr, $row:expr, $kind:ty) => {
        write!($out, "{}", $array.as_primitive::<$kind>().value($row))?
    };
}

fn value(out: &mut Vec<u8>, array: &dyn Array, row: usize) -> Result<(), ArrowError> {
    if array.is_null(row) {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    match array.data_type() {
        DataType::Null => out.extend_from_slice(b"null"),
        DataType::Boolean => write!(out, "{}", array.as_boolean().value(row))?,
        DataType::Int8 => number!(out, array, row, Int8Type),
        DataType::Int16 => number!(out, array, row, Int16Type),
        DataType::Int32 => number!(out, array, row, Int32Type),
        DataType::Int64 => number!(out, array, row, Int64Type),
        DataType::UInt8 => number!(out, array, row, UInt8Type),
        DataType::UInt16 => number!(out, array, row, UInt16Type),
        DataType::UInt32 => number!(out, array, row, UInt32Type),
        DataType::UInt64 => number!(out, array, row, UInt64Type),
        DataType::Float32 => float(out, array.as_primitive::<Float32Type>().value(row))?,
        DataType::Float64 => float(out, array.as_primitive::<Float64Type>().value(row))?,
        DataType::Utf8 => text(out, array.as_string::<i32>().value(row))?,
        DataType::LargeUtf8 => text(out, array.as_string::<i64>().value(row))?,
        DataType::Utf8View => text(out, array.as_string_view().value(row))?,
        DataType::Binary => bytes(out, array.as_binary::<i32>().value(row))?,
        DataType::LargeBinary => bytes(out, array.as_binary::<i64>().value(row))?,
        DataType::BinaryView => bytes(out, array.as_binary_view().value(row))?,
        DataType::FixedSizeBinary(_) => bytes(out, array.as_fixed_size_binary().value(row))?,
        DataType::Timestamp(unit, _) => match time(array, *unit, row) {
            Some(time) => rfc3339(out, time)?,
            None => out.extend_from_slice(b"null"),
        },
        DataType::List(_) => elements(out, &array.as_list::<i32>().value(row))?,
        DataType::LargeList(_) => elements(out, &array.as_list::<i64>().value(row))?,
        DataType::FixedSizeList(..) => elements(out, &array.as_fixed_size_list().value(row))?,
        DataType::Struct(fields) => {
            for (at, field) in fields.iter().enumerate() {
                out.push(if at == 0 { b'{' } else { b',' });
                text(out, field.name())?;
                out.push(b':');
                value(out, array.as_struct().column(at), row)?;
            }
            out.extend_from_slice(if fields.is_empty() { b"{}" } else { b"}" });
        }
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            value(out, dictionary.values(), dictionary.normalized_keys()[row])?;
        }
        DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => {
            write!(out, "{}", display(array, row)?)?;
        }
        _ => text(out, &display(array, row)?)?,
    }
    Ok(())
}

fn display(array: &dyn Array, row: usize) -> Result<String, ArrowError> {
    Ok(ArrayFormatter::try_new(array, &FormatOptions::default())?.value(row).to_string())
}

fn elements(out: &mut Vec<u8>, list: &ArrayRef) -> Result<(), ArrowError> {
    out.push(b'[');
    for row in 0..list.len() {
        if row > 0 {
            out.push(b',');
        }
        value(out, list, row)?;
    }
    out.push(b']');
    Ok(())
}

/// The shortest digits that read back as the same number, with an exponent where that is shorter; null where it has none.
fn float(out: &mut Vec<u8>, number: impl Serialize) -> std::io::Result<()> {
    Ok(serde_json::to_writer(out, &number)?)
}

fn text(out: &mut Vec<u8>, text: &str) -> std::io::Result<()> {
    Ok(serde_json::to_writer(out, text)?)
}

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) -> std::io::Result<()> {
    write!(out, "\"{}\"", BASE64.encode(bytes))
}

fn time(array: &dyn Array, unit: TimeUnit, row: usize) -> Option<DateTime<Utc>> {
    match unit {
        TimeUnit::Second => {
            DateTime::from_timestamp(array.as_primitive::<TimestampSecondType>().value(row), 0)
        }
        TimeUnit::Millisecond => {
            DateTime::from_timestamp_millis(array.as_primitive::<TimestampMillisecondType>().value(row))
        }
        TimeUnit::Microsecond => {
            DateTime::from_timestamp_micros(array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        TimeUnit::Nanosecond => {
            Some(DateTime::from_timestamp_nanos(array.as_primitive::<TimestampNanosecondType>().value(row)))
        }
    }
}

/// A time with its microseconds. Most of a large answer are times of the years of four digits, whose digits are written one
/// by one.
fn rfc3339(out: &mut Vec<u8>, time: DateTime<Utc>) -> std::io::Result<()> {
    let Ok(year @ 0..=9999) = u32::try_from(time.year()) else {
        return text(out, &time.to_rfc3339_opts(SecondsFormat::Micros, true));
    };
    let mut line = *b"\"0000-00-00T00:00:00.000000Z\"";
    let micros = time.nanosecond() / 1000;
    let parts = [
        (1..5, year),
        (6..8, time.month()),
        (9..11, time.day()),
        (12..14, time.hour()),
        (15..17, time.minute()),
    ];
    for (place, number) in parts.into_iter().chain([(18..20, time.second()), (21..27, micros)]) {
        let mut rest = number;
        for digit in line[place].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
    }
    out.write_all(&line)
}

/// A column's type in SQL's words.
fn type_name(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Null => "null",
        DataType::Boolean => "boolean",
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => "smallint",
        DataType::Int32 | DataType::UInt16 => "integer",
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => "bigint",
        DataType::Float16 | DataType::Float32 => "real",
        DataType::Float64 => "double",
        DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => "numeric",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "bytes"
        }
        DataType::Timestamp(..) => "timestamp",
        DataType::Date32 | DataType::Date64 => "date",
        DataType::Time32(_) | DataType::Time64(_) => "time",
        DataType::Duration(_) | DataType::Interval(_) => "interval",
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => "array",
        DataType::Struct(_) => "struct",
        DataType::Dictionary(_, value) => type_name(value),
        _ => "other",
    }
}

fn csv(out: &mut Body, answer: &Answer) -> Result<(), ArrowError> {
    let mut writer = arrow::csv::WriterBuilder::new().with_header(true).build(out);
    let flat = |field: &Field| match field.data_type() {
        DataType::Timestamp(..) => true,
        DataType::Binary | DataType::BinaryView | DataType::LargeBinary | DataType::FixedSizeBinary(_) => {
            true
        }
        other => other.is_nested(),
    };
    let columns: Vec<Field> = answer
        .schema
        .fields()
        .iter()
        .map(|field| match flat(field) {
            true => Field::new(field.name(), DataType::Utf8, true),
            false => field.as_ref().clone(),
        })
        .collect();
    let schema = Arc::new(Schema::new(columns));
    let empty = RecordBatch::new_empty(Arc::clone(&answer.schema));
    for batch in std::iter::once(&empty).chain(&answer.batches) {
        let fields = answer.schema.fields().iter().zip(batch.columns());
        let columns =
            fields.map(|(field, column)| if flat(field) { as_text(column) } else { Ok(Arc::clone(column)) });
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        writer.write(&RecordBatch::try_new_with_options(
            Arc::clone(&schema),
            columns.collect::<Result<_, _>>()?,
            &options,
        )?)?;
    }
    Ok(())
}

/// A column as JSON writes it, without the quotes of a plain text.
fn as_text(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let mut cell = Vec::new();
    let texts = (0..column.len()).map(|row| {
        cell.clear();
        value(&mut cell, column, row)?;
        let text = String::from_utf8_lossy(&cell);
        Ok((text != "null").then(|| text.trim_matches('"').to_owned()))
    });
    Ok(Arc::new(texts.collect::<Result<StringArray, ArrowError>>()?))
}

/// Texts as plain texts: readers of all ages know them.
fn arrow(out: &mut Body, answer: &Answer) -> Result<(), ArrowError> {
    let plain = |data_type: &DataType| match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        other => other.clone(),
    };
    let fields = answer.schema.fields().iter();
    let fields: Vec<Field> =
        fields.map(|field| field.as_ref().clone().with_data_type(plain(field.data_type()))).collect();
    let schema = Arc::new(Schema::new(fields));
    let mut writer = StreamWriter::try_new(out, &schema)?;
    for batch in &answer.batches {
        let columns = batch.columns().iter().map(|column| cast(column, &plain(column.data_type())));
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let columns = columns.collect::<Result<_, _>>()?;
        writer.write(&RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)?)?;
    }
    writer.finish()
}

#[cfg(test)]
mod tests;
