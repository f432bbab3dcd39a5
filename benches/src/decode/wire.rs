//! The load in each wire format, as chunks for a decoder.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, StringArray, TimestampMillisecondArray};
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use clap::ValueEnum;
use serde::Serialize;
use stillwell_schema::{Offset, TopicPartition};
use stillwell_source::chunk::RecordChunk;
use stillwell_source::mapping::Mapping;
use stillwell_source::settings::{Format, FormatSettings, TopicSettings};

use super::binary::{SparkplugNode, avro, avro_schema, protobuf};
use crate::shape::{Reading, Shape, UNIT, kind, sensor_name};

const T0_MS: u64 = 1_795_000_000_000;
const MOMENT_MS: u64 = 1000;

/// A wire format, with the settings that it is measured with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Wire {
    /// Native JSON: an object, or an array of them
    Json,
    /// The same bytes by a mapping, as foreign JSON is read
    MappedJson,
    /// Line protocol, a reading a line
    Line,
    /// An Arrow IPC stream, a reading a row
    Arrow,
    /// Avro by a schema from a file: a reading, or an array of them
    Avro,
    /// Our own `reading.proto`
    Protobuf,
    /// Sparkplug B data by aliases, after the births of all machines
    Sparkplug,
}

impl Wire {
    pub(super) const ALL: [Self; 7] =
        [Self::Json, Self::MappedJson, Self::Line, Self::Arrow, Self::Avro, Self::Protobuf, Self::Sparkplug];

    /// How a topic of it is read.
    pub(super) fn topic(self, per_record: u64) -> TopicSettings {
        let format = match self {
            Self::Json | Self::MappedJson => Format::Json,
            Self::Line => Format::Line,
            Self::Arrow => Format::Arrow,
            Self::Avro => Format::Avro,
            Self::Protobuf => Format::Protobuf,
            Self::Sparkplug => Format::Sparkplug,
        };
        let mut settings = FormatSettings::of(format);
        match self {
            Self::MappedJson => settings.mapping = Some(Mapping::default_of(format)),
            Self::Avro => settings.avro.writer = vec![avro_schema(per_record > 1)],
            _ => {}
        }
        TopicSettings { format: settings, ..TopicSettings::new("bench") }
    }

    /// A chunk of at least `bytes` of payload, and the number of readings in it.
    pub(super) fn chunk(self, per_record: u64, bytes: usize) -> anyhow::Result<(RecordChunk, u64)> {
        let mut shape = Shape::new(per_record, T0_MS, MOMENT_MS);
        let mut node = SparkplugNode::default();
        let mut filling = Filling::default();
        if self == Self::Sparkplug {
            for (topic, payload, metrics) in node.births(T0_MS) {
                filling.push(&topic, &payload, metrics);
            }
        }
        let mut value = Vec::new();
        while filling.chunk.payload_bytes() < bytes {
            let mut key = shape.key();
            if matches!(self, Self::Json | Self::MappedJson) {
                shape.value(&mut value);
            } else {
                let readings = shape.readings();
                (key, value) = self.record(key, &readings, &mut node)?;
            }
            filling.push(&key, &value, per_record);
        }
        Ok((filling.chunk, filling.readings))
    }

    /// Key and value of a record.
    fn record(
        self,
        machine: String,
        readings: &[Reading],
        node: &mut SparkplugNode,
    ) -> anyhow::Result<(String, Vec<u8>)> {
        let value = match self {
            Self::Json | Self::MappedJson => anyhow::bail!("the shape itself writes JSON"),
            Self::Line => line(&machine, readings)?,
            Self::Arrow => arrow(&machine, readings)?,
            Self::Avro => avro(&machine, readings),
            Self::Protobuf => protobuf(&machine, readings),
            Self::Sparkplug => return Ok(node.data(&machine, readings)),
        };
        Ok((machine, value))
    }
}

/// A chunk that is filled record by record.
struct Filling {
    chunk: RecordChunk,
    readings: u64,
}

impl Default for Filling {
    fn default() -> Self {
        Self { chunk: RecordChunk::new(TopicPartition::new("bench", 0), Offset(0)), readings: 0 }
    }
}

impl Filling {
    fn push(&mut self, key: &str, value: &[u8], readings: u64) {
        let next = self.chunk.range().next;
        self.chunk.push(next, 0, Some(key.as_bytes()), Some(value), []);
        self.readings += readings;
    }
}

fn line(machine: &str, readings: &[Reading]) -> anyhow::Result<Vec<u8>> {
    let mut out = String::new();
    for Reading { sensor, time_ms, value } in readings {
        let (name, kind) = (sensor_name(*sensor), kind(*sensor));
        writeln!(out, "plant,machine={machine},kind={kind},unit={UNIT} {name}={value} {time_ms}000000")?;
    }
    Ok(out.into_bytes())
}

fn arrow(machine: &str, readings: &[Reading]) -> anyhow::Result<Vec<u8>> {
    let text = |of: fn(&Reading) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(readings.iter().map(of)))
    };
    let constant = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text; readings.len()])) };
    let times: Vec<i64> = readings.iter().map(|reading| reading.time_ms.cast_signed()).collect();
    let values: Vec<f64> = readings.iter().map(|reading| reading.value).collect();
    let columns: [(&str, ArrayRef); 6] = [
        ("machine", constant(machine)),
        ("sensor", text(|reading| sensor_name(reading.sensor))),
        ("kind", text(|reading| kind(reading.sensor).to_owned())),
        ("unit", constant(UNIT)),
        ("time", Arc::new(TimestampMillisecondArray::from(times))),
        ("value", Arc::new(Float64Array::from(values))),
    ];
    let batch = RecordBatch::try_from_iter(columns)?;
    let mut stream = StreamWriter::try_new(Vec::new(), &batch.schema())?;
    stream.write(&batch)?;
    Ok(stream.into_inner()?)
}

#[cfg(test)]
mod tests {
    use stillwell_source::decode::{decode_chunk, decoder_for};
    use stillwell_source::series::SeriesTable;

    use super::*;

    #[test]
    fn every_format_says_the_same_and_is_read_whole() {
        for per_record in [1, 100] {
            for wire in Wire::ALL {
                // The births of Sparkplug alone are some 700 kB.
                let (chunk, readings) = wire.chunk(per_record, 1_500_000).unwrap();
                let (mut decoder, mut table) = (decoder_for(&wire.topic(per_record)), SeriesTable::default());
                let decoded = decode_chunk(&mut *decoder, &chunk, &mut table).unwrap();
                assert!(decoded.failures.is_empty(), "{wire:?}: {:?}", decoded.failures);
                assert_eq!(decoded.columns.len() as u64, readings, "{wire:?}");
                assert!(decoded.columns.quality.iter().all(|quality| *quality == 0), "{wire:?}");
                let mut shape = Shape::new(per_record, T0_MS, MOMENT_MS);
                let births = decoded.columns.len() - chunk_readings(&chunk, wire, per_record);
                for (i, reading) in (births..).zip(shape.readings()) {
                    let series = table.series(decoded.columns.series[i]);
                    let named = |code: Option<u32>| code.map(|code| table.name(code));
                    assert!(table.name(series.machine).ends_with("machine-000"), "{wire:?}");
                    assert!(table.name(series.sensor).ends_with(&sensor_name(reading.sensor)), "{wire:?}");
                    assert_eq!(named(series.kind), Some(kind(reading.sensor)), "{wire:?}");
                    assert_eq!(named(series.unit), Some(UNIT), "{wire:?}");
                    assert_eq!(decoded.columns.time_us[i], reading.time_ms.cast_signed() * 1000, "{wire:?}");
                    assert_eq!(decoded.columns.value[i], reading.value, "{wire:?}");
                }
            }
        }
    }

    /// Readings of the load, without those of births.
    fn chunk_readings(chunk: &RecordChunk, wire: Wire, per_record: u64) -> usize {
        let births = if wire == Wire::Sparkplug { SparkplugNode::default().births(T0_MS).len() } else { 0 };
        (chunk.len() - births) * per_record as usize
    }
}
