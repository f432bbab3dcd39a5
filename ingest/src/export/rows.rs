//! A reading as a row: as the columns of the archive hold it, and as a line of CSV.
//!
//! CSV is RFC 4180 with a header of the columns' names and `\n` line ends. Times are RFC 3339, UTC; one beyond the
//! reach of a calendar is a plain number, in the unit of its column. A cell without a value is empty, an empty text is
//! `""`.

use std::fmt::Write as _;

use arrow::array::{Array, AsArray, Float64Array, RecordBatch, StringArray};
use arrow::datatypes::{
    Float64Type, Int32Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType, UInt32Type,
};
use arrow::temporal_conversions::{timestamp_ms_to_datetime, timestamp_us_to_datetime};
use sha2::{Digest, Sha256};
use stillwell_schema::columns;

/// One reading.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    pub(super) machine: &'a str,
    pub(super) sensor: &'a str,
    pub(super) kind: Option<&'a str>,
    pub(super) unit: Option<&'a str>,
    pub(super) time_us: i64,
    pub(super) value: Option<f64>,
    pub(super) text: Option<&'a str>,
    pub(super) quality: u32,
    pub(super) topic: &'a str,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) index: u32,
    pub(super) kafka_time_ms: i64,
}

/// The columns of a batch of readings.
pub(super) struct Columns<'a> {
    machine: &'a StringArray,
    sensor: &'a StringArray,
    kind: &'a StringArray,
    unit: &'a StringArray,
    time: &'a [i64],
    value: &'a Float64Array,
    text: &'a StringArray,
    quality: &'a [u32],
    topic: &'a StringArray,
    partition: &'a [i32],
    offset: &'a [i64],
    index: &'a [u32],
    kafka_time: &'a [i64],
}

impl<'a> Columns<'a> {
    pub(super) fn of(batch: &'a RecordBatch) -> Self {
        let text = |name: &str| batch[name].as_string::<i32>();
        Self {
            machine: text("machine"),
            sensor: text("sensor"),
            kind: text("kind"),
            unit: text("unit"),
            time: batch["time"].as_primitive::<TimestampMicrosecondType>().values(),
            value: batch["value"].as_primitive::<Float64Type>(),
            text: text("text"),
            quality: batch["quality"].as_primitive::<UInt32Type>().values(),
            topic: text("topic"),
            partition: batch["partition"].as_primitive::<Int32Type>().values(),
            offset: batch["offset"].as_primitive::<Int64Type>().values(),
            index: batch["index"].as_primitive::<UInt32Type>().values(),
            kafka_time: batch["kafka_time"].as_primitive::<TimestampMillisecondType>().values(),
        }
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = Row<'a>> {
        (0..self.time.len()).map(move |row| self.row(row))
    }

    pub(super) fn row(&self, row: usize) -> Row<'a> {
        Row {
            machine: self.machine.value(row),
            sensor: self.sensor.value(row),
            kind: text_at(self.kind, row),
            unit: text_at(self.unit, row),
            time_us: self.time[row],
            value: self.value.is_valid(row).then(|| self.value.value(row)),
            text: text_at(self.text, row),
            quality: self.quality[row],
            topic: self.topic.value(row),
            partition: self.partition[row],
            offset: self.offset[row],
            index: self.index[row],
            kafka_time_ms: self.kafka_time[row],
        }
    }
}

fn text_at(column: &StringArray, row: usize) -> Option<&str> {
    column.is_valid(row).then(|| column.value(row))
}

/// The header line of the CSV.
pub(super) fn csv_header() -> String {
    let names: Vec<&str> = columns::READINGS.fields().iter().map(|field| field.name().as_str()).collect();
    names.join(",") + "\n"
}

impl<'a> Row<'a> {
    /// Where it stands in the archive's order.
    pub(super) fn place(&self) -> (&'a str, &'a str, i64, i64, u32) {
        (self.machine, self.sensor, self.time_us, self.offset, self.index)
    }

    /// Appends the row's line of CSV.
    pub(super) fn csv(&self, out: &mut String) {
        for text in [Some(self.machine), Some(self.sensor), self.kind, self.unit] {
            cell(out, text);
        }
        out.push_str(&time_text(self.time_us));
        out.push(',');
        if let Some(value) = self.value {
            let _ = write!(out, "{value}");
        }
        out.push(',');
        cell(out, self.text);
        let _ = write!(out, "{},", self.quality);
        cell(out, Some(self.topic));
        let kafka_time = timestamp_ms_to_datetime(self.kafka_time_ms)
            .map_or_else(|| self.kafka_time_ms.to_string(), |time| format!("{time:?}Z"));
        let _ = writeln!(out, "{},{},{},{kafka_time}", self.partition, self.offset, self.index);
    }

    /// A hash of all columns under a salt. Sums of them tell sets of rows apart for as long as nobody who chose the
    /// rows knew the salt.
    pub(super) fn fingerprint(&self, salt: &[u8; 16]) -> u128 {
        let mut sha = Sha256::new();
        sha.update(salt);
        let texts =
            [Some(self.machine), Some(self.sensor), self.kind, self.unit, self.text, Some(self.topic)];
        for text in texts {
            sha.update([u8::from(text.is_some())]);
            sha.update((text.map_or(0, str::len) as u64).to_be_bytes());
            sha.update(text.unwrap_or_default());
        }
        // Of the many that are no number, text tells one.
        let value = self.value.map(|value| if value.is_nan() { f64::NAN } else { value });
        sha.update([u8::from(value.is_some())]);
        sha.update(value.map_or(0, f64::to_bits).to_be_bytes());
        for number in [self.time_us, self.offset, self.kafka_time_ms] {
            sha.update(number.to_be_bytes());
        }
        sha.update(self.partition.to_be_bytes());
        sha.update(self.quality.to_be_bytes());
        sha.update(self.index.to_be_bytes());
        let hash: [u8; 32] = sha.finalize().into();
        hash.iter().take(16).fold(0, |sum, byte| sum << 8 | u128::from(*byte))
    }
}

/// Appends a cell and the comma after it.
fn cell(out: &mut String, text: Option<&str>) {
    match text {
        None => {}
        Some(text) if text.is_empty() || text.contains([',', '"', '\r', '\n']) => {
            out.push('"');
            out.push_str(&text.replace('"', "\"\""));
            out.push('"');
        }
        Some(text) => out.push_str(text),
    }
    out.push(',');
}

/// A time as people write it, from µs UTC.
pub(super) fn time_text(us: i64) -> String {
    timestamp_us_to_datetime(us).map_or_else(|| us.to_string(), |time| format!("{time:?}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_csv_tells_nothing_from_an_empty_text_and_keeps_every_bit() {
        let row = Row {
            machine: "press, \"old\"",
            sensor: "oil",
            kind: None,
            unit: Some(""),
            time_us: 1_795_000_000_000_001,
            value: Some(0.1 + 0.2),
            text: None,
            quality: 0,
            topic: "readings",
            partition: 3,
            offset: 7,
            index: 1,
            kafka_time_ms: i64::MAX,
        };
        let mut line = String::new();
        row.csv(&mut line);
        assert_eq!(
            line,
            "\"press, \"\"old\"\"\",oil,,\"\",2026-11-18T11:06:40.000001Z,0.30000000000000004,,0,readings,3,7,1,\
             9223372036854775807\n"
        );
        assert_eq!(line.matches(',').count(), csv_header().matches(',').count() + 1, "one is in the name");
    }
}
