//! The load that all measures share: 200 machines with 50 sensors each, 105 bytes a reading in arrays.
//!
//! Record number `i` is of machine `i mod 200`. A machine shows all its sensors at a moment, then all of them at
//! the next, `moment_ms` later, cut into records of `per_record` readings. Values are uniform in 20..25 with three
//! decimals, written in their shortest form. [`Shape::yardstick`] is the same load with other times.

use clap::Args;

/// Machines of the load.
pub(crate) const MACHINES: u64 = 200;
/// Sensors of each.
pub(crate) const SENSORS: u64 = 50;
/// The unit of every reading.
pub(crate) const UNIT: &str = "u";
const KINDS: [&str; 5] = ["temperature", "vibration", "pressure", "current", "flow"];

/// How much, and how it is cut into records.
#[derive(Args, Clone, Debug)]
pub(crate) struct ShapeArgs {
    /// Readings in all
    #[arg(long, default_value_t = 10_000_000)]
    pub(crate) readings: u64,
    /// Readings per record: 1 is one object a record, more is an array
    #[arg(long, default_value_t = 1000)]
    pub(crate) per_record: u64,
}

/// A yardstick's first time, ms since the epoch.
const YARDSTICK_T0_MS: u64 = 1_795_000_000_000;

/// When readings are measured.
#[derive(Clone, Copy, Debug)]
enum Times {
    Moments { t0_ms: u64, moment_ms: u64 },
    Yardstick,
}

/// One reading, as formats other than JSON take it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    /// Number of the sensor, below [`SENSORS`].
    pub(crate) sensor: u64,
    /// ms since the epoch.
    pub(crate) time_ms: u64,
    pub(crate) value: f64,
}

/// The name of a sensor.
pub(crate) fn sensor_name(sensor: u64) -> String {
    format!("s{sensor:02}")
}

/// What a sensor measures.
pub(crate) fn kind(sensor: u64) -> &'static str {
    KINDS[(sensor % 5) as usize]
}

/// Writes record after record.
pub(crate) struct Shape {
    per_record: u64,
    times: Times,
    record: u64,
    random: u64,
    /// Per sensor, what stands between the machine's number and the time.
    middles: Vec<Vec<u8>>,
}

impl Shape {
    /// From `t0_ms` on, a moment every `moment_ms`.
    pub(crate) fn new(per_record: u64, t0_ms: u64, moment_ms: u64) -> Self {
        Self::at(per_record, Times::Moments { t0_ms, moment_ms })
    }

    /// With the times of the usual yardstick: ten readings of all machines a ms from record to record, and within a
    /// record a moment a ms.
    pub(crate) fn yardstick(per_record: u64) -> Self {
        Self::at(per_record, Times::Yardstick)
    }

    fn at(per_record: u64, times: Times) -> Self {
        let middle = |s| {
            let (sensor, kind) = (sensor_name(s), kind(s));
            format!("\",\"sensor\":\"{sensor}\",\"kind\":\"{kind}\",\"unit\":\"{UNIT}\",\"time\":")
                .into_bytes()
        };
        Self { per_record, times, record: 0, random: 1, middles: (0..SENSORS).map(middle).collect() }
    }

    /// The key of the next record.
    pub(crate) fn key(&self) -> String {
        format!("machine-{:03}", self.record % MACHINES)
    }

    /// Writes the next record's value in place of what is in `out`.
    pub(crate) fn value(&mut self, out: &mut Vec<u8>) {
        out.clear();
        let machine = digits3(self.record % MACHINES);
        let array = self.per_record > 1;
        if array {
            out.push(b'[');
        }
        for j in 0..self.per_record {
            if j > 0 {
                out.push(b',');
            }
            let (sensor, time_ms) = self.place(j);
            out.extend_from_slice(b"{\"machine\":\"machine-");
            out.extend_from_slice(&machine);
            out.extend_from_slice(&self.middles[sensor as usize]);
            put_integer(out, time_ms);
            out.extend_from_slice(b",\"value\":");
            put_thousandths(out, self.thousandths());
            out.push(b'}');
        }
        if array {
            out.push(b']');
        }
        self.record += 1;
    }

    /// The next record's readings, in place of [`Shape::value`].
    pub(crate) fn readings(&mut self) -> Vec<Reading> {
        let mut readings = Vec::new();
        for j in 0..self.per_record {
            let (sensor, time_ms) = self.place(j);
            readings.push(Reading { sensor, time_ms, value: self.thousandths() as f64 / 1000.0 });
        }
        self.record += 1;
        readings
    }

    /// Sensor and time, ms, of reading `j` of the record.
    fn place(&self, j: u64) -> (u64, u64) {
        match self.times {
            Times::Moments { t0_ms, moment_ms } => {
                let n = self.record / MACHINES * self.per_record + j;
                (n % SENSORS, t0_ms + n / SENSORS * moment_ms)
            }
            Times::Yardstick => {
                let n = self.record * self.per_record;
                ((n + j) % SENSORS, YARDSTICK_T0_MS + n / 10 + j / SENSORS)
            }
        }
    }

    /// The next value, 20,000 to 25,000.
    fn thousandths(&mut self) -> u64 {
        // Xorshift64 (Marsaglia 2003): enough for values that must only not compress away.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        20_000 + self.random % 5001
    }
}

/// Writes thousandths as a decimal without trailing zeros.
fn put_thousandths(out: &mut Vec<u8>, thousandths: u64) {
    put_integer(out, thousandths / 1000);
    out.push(b'.');
    let decimals = digits3(thousandths % 1000);
    let kept = if decimals[2] != b'0' {
        3
    } else if decimals[1] != b'0' {
        2
    } else {
        1
    };
    out.extend_from_slice(&decimals[..kept]);
}

fn digits3(n: u64) -> [u8; 3] {
    [(n / 100) as u8 + b'0', (n / 10 % 10) as u8 + b'0', (n % 10) as u8 + b'0']
}

fn put_integer(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = (n % 10) as u8 + b'0';
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn arrays_have_the_shape_of_the_yardstick() {
        let mut shape = Shape::new(1000, 1_795_000_000_000, 1000);
        let mut value = Vec::new();
        let mut bytes = 0;
        for record in 0..300 {
            assert_eq!(shape.key(), format!("machine-{:03}", record % 200));
            shape.value(&mut value);
            bytes += value.len();
        }
        let last: Vec<Value> = serde_json::from_slice(&value).unwrap();
        assert_eq!(last.len(), 1000);
        assert_eq!(last[57]["machine"], "machine-099");
        assert_eq!(last[57]["sensor"], "s07");
        assert_eq!(last[57]["kind"], "pressure");
        assert_eq!(last[57]["time"], 1_795_000_000_000_u64 + 21_000, "the second record of this machine");
        assert!(last.iter().all(|r| (20.0..=25.0).contains(&r["value"].as_f64().unwrap())));
        assert!((100..110).contains(&(bytes / 300_000)), "{} bytes a reading", bytes / 300_000);
    }

    #[test]
    fn readings_are_those_of_the_json() {
        let (mut json, mut plain) = (Shape::yardstick(100), Shape::yardstick(100));
        let mut value = Vec::new();
        for _ in 0..3 {
            json.value(&mut value);
            let written: Vec<Value> = serde_json::from_slice(&value).unwrap();
            let readings = plain.readings();
            assert_eq!(written.len(), readings.len());
            for (written, reading) in written.iter().zip(readings) {
                assert_eq!(written["sensor"], sensor_name(reading.sensor));
                assert_eq!(written["time"], reading.time_ms);
                assert_eq!(written["value"].as_f64(), Some(reading.value));
            }
        }
        let last = Shape { record: 7, ..Shape::yardstick(100) }.readings();
        assert_eq!((last[0].time_ms, last[99].time_ms), (1_795_000_000_070, 1_795_000_000_071));
    }

    #[test]
    fn single_records_are_objects() {
        let mut shape = Shape::new(1, 0, 1000);
        let mut value = Vec::new();
        let mut series = std::collections::BTreeSet::new();
        for _ in 0..MACHINES * SENSORS {
            shape.value(&mut value);
            let reading: Value = serde_json::from_slice(&value).unwrap();
            assert_eq!(reading["time"], 0);
            series.insert(format!("{} {}", reading["machine"], reading["sensor"]));
        }
        assert_eq!(series.len() as u64, MACHINES * SENSORS, "all sensors of all machines at one moment");
    }
}
