//! Readings as Avro, Protobuf and Sparkplug B, written byte by byte.
//!
//! Avro is of the schema [`avro_schema`], unframed; Protobuf is our own `reading.proto`, unframed; Sparkplug is one
//! edge node with a device a machine, which names its metrics in births and then by alias.

use crate::shape::{MACHINES, Reading, SENSORS, UNIT, kind, sensor_name};

/// The schema of [`avro`]'s records.
pub(super) fn avro_schema(is_array: bool) -> String {
    let reading = r#"{"type":"record","name":"Reading","namespace":"plant","fields":[
        {"name":"machine","type":"string"},
        {"name":"sensor","type":"string"},
        {"name":"kind","type":["null","string"],"default":null},
        {"name":"unit","type":["null","string"],"default":null},
        {"name":"time","type":{"type":"long","logicalType":"timestamp-millis"}},
        {"name":"value","type":"double"}]}"#;
    if is_array { format!(r#"{{"type":"array","items":{reading}}}"#) } else { reading.to_owned() }
}

/// One reading, or an array of them.
pub(super) fn avro(machine: &str, readings: &[Reading]) -> Vec<u8> {
    const SECOND_BRANCH: u64 = 1;
    let mut out = Vec::new();
    if readings.len() > 1 {
        put_long(&mut out, readings.len() as u64);
    }
    for reading in readings {
        put_text(&mut out, machine);
        put_text(&mut out, &sensor_name(reading.sensor));
        for text in [kind(reading.sensor), UNIT] {
            put_long(&mut out, SECOND_BRANCH);
            put_text(&mut out, text);
        }
        put_long(&mut out, reading.time_ms);
        out.extend_from_slice(&reading.value.to_le_bytes());
    }
    if readings.len() > 1 {
        put_long(&mut out, 0);
    }
    out
}

/// A `Reading`, or a `ReadingBatch`.
pub(super) fn protobuf(machine: &str, readings: &[Reading]) -> Vec<u8> {
    const READINGS: u64 = 15;
    let message = |reading: &Reading| {
        let mut out = Vec::new();
        let sensor = sensor_name(reading.sensor);
        for (number, text) in [(1, machine), (2, &sensor), (3, kind(reading.sensor)), (4, UNIT)] {
            put_bytes(&mut out, number, text.as_bytes());
        }
        put_int(&mut out, 5, reading.time_ms * 1000);
        put_double(&mut out, 6, reading.value);
        out
    };
    match readings {
        [reading] => message(reading),
        readings => {
            let mut out = Vec::new();
            for reading in readings {
                put_bytes(&mut out, READINGS, &message(reading));
            }
            out
        }
    }
}

/// An edge node of Sparkplug B, which numbers its messages.
#[derive(Default)]
pub(super) struct SparkplugNode {
    seq: u64,
}

/// The type `Double`.
const DOUBLE: u64 = 10;
/// The type `String`.
const STRING: u64 = 12;

impl SparkplugNode {
    /// The births of the node and of all its devices: MQTT topic, payload and metrics of each.
    pub(super) fn births(&mut self, time_ms: u64) -> Vec<(String, Vec<u8>, u64)> {
        let mut births = vec![("spBv1.0/plant/NBIRTH/edge".to_owned(), self.payload(time_ms, &[]), 0)];
        for machine in 0..MACHINES {
            let metrics: Vec<Vec<u8>> = (0..SENSORS).map(born).collect();
            let topic = format!("spBv1.0/plant/DBIRTH/edge/machine-{machine:03}");
            births.push((topic, self.payload(time_ms, &metrics), SENSORS));
        }
        births
    }

    /// The MQTT topic and payload of a device's data.
    pub(super) fn data(&mut self, machine: &str, readings: &[Reading]) -> (String, Vec<u8>) {
        let metrics: Vec<Vec<u8>> = readings.iter().map(metric).collect();
        let time_ms = readings.last().map_or(0, |reading| reading.time_ms);
        (format!("spBv1.0/plant/DDATA/edge/{machine}"), self.payload(time_ms, &metrics))
    }

    fn payload(&mut self, time_ms: u64, metrics: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        put_int(&mut out, 1, time_ms);
        for metric in metrics {
            put_bytes(&mut out, 2, metric);
        }
        put_int(&mut out, 3, self.seq);
        self.seq = (self.seq + 1) % 256;
        out
    }
}

/// A metric of a birth, with its alias and its properties.
fn born(sensor: u64) -> Vec<u8> {
    let mut properties = Vec::new();
    for key in ["kind", "engUnit"] {
        put_bytes(&mut properties, 1, key.as_bytes());
    }
    for text in [kind(sensor), UNIT] {
        let mut value = Vec::new();
        put_int(&mut value, 1, STRING);
        put_bytes(&mut value, 8, text.as_bytes());
        put_bytes(&mut properties, 2, &value);
    }
    let mut out = Vec::new();
    put_bytes(&mut out, 1, sensor_name(sensor).as_bytes());
    put_int(&mut out, 2, sensor);
    put_int(&mut out, 4, DOUBLE);
    put_bytes(&mut out, 9, &properties);
    put_double(&mut out, 13, 20.0);
    out
}

/// A metric of data, by its alias.
fn metric(reading: &Reading) -> Vec<u8> {
    let mut out = Vec::new();
    put_int(&mut out, 2, reading.sensor);
    put_int(&mut out, 3, reading.time_ms);
    put_double(&mut out, 13, reading.value);
    out
}

/// Avro's `long`, of numbers that are not negative.
fn put_long(out: &mut Vec<u8>, value: u64) {
    put_varint(out, value << 1);
}

/// Avro's `string`.
fn put_text(out: &mut Vec<u8>, text: &str) {
    put_long(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn put_int(out: &mut Vec<u8>, number: u64, value: u64) {
    put_varint(out, number << 3);
    put_varint(out, value);
}

fn put_bytes(out: &mut Vec<u8>, number: u64, content: &[u8]) {
    put_varint(out, (number << 3) | 2);
    put_varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

fn put_double(out: &mut Vec<u8>, number: u64, value: f64) {
    put_varint(out, (number << 3) | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
