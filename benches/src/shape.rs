//! The load that all measures share: 200 machines with 50 sensors each, 105 bytes a reading in arrays.
//!
//! Record number `i` is of machine `i mod 200`. A machine shows all its sensors at a moment, then all of them at
//! the next, `moment_ms` later, cut into records of `per_record` readings. Values are uniform in 20..25 with three
//! decimals, written in their shortest form.

use clap::Args;

/// Machines of the load.
pub(crate) const MACHINES: u64 = 200;
/// Sensors of each.
pub(crate) const SENSORS: u64 = 50;
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

/// Writes record after record.
pub(crate) struct Shape {
    per_record: u64,
    t0_ms: u64,
    moment_ms: u64,
    record: u64,
    random: u64,
    /// Per sensor, what stands between the machine's number and the time.
    middles: Vec<Vec<u8>>,
}

impl Shape {
    /// From `t0_ms` on, a moment every `moment_ms`.
    pub(crate) fn new(per_record: u64, t0_ms: u64, moment_ms: u64) -> Self {
        let middles = (0..SENSORS)
            .map(|s| {
                let kind = KINDS[(s % 5) as usize];
                format!("\",\"sensor\":\"s{s:02}\",\"kind\":\"{kind}\",\"unit\":\"u\",\"time\":").into_bytes()
            })
            .collect();
        Self { per_record, t0_ms, moment_ms, record: 0, random: 1, middles }
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
        let before = self.record / MACHINES * self.per_record;
        for j in before..before + self.per_record {
            if j > before {
                out.push(b',');
            }
            out.extend_from_slice(b"{\"machine\":\"machine-");
            out.extend_from_slice(&machine);
            out.extend_from_slice(&self.middles[(j % SENSORS) as usize]);
            put_integer(out, self.t0_ms + j / SENSORS * self.moment_ms);
            out.extend_from_slice(b",\"value\":");
            self.put_value(out);
            out.push(b'}');
        }
        if array {
            out.push(b']');
        }
        self.record += 1;
    }

    /// 20.0 to 25.0 in thousandths, without trailing zeros.
    fn put_value(&mut self, out: &mut Vec<u8>) {
        // Xorshift64 (Marsaglia 2003): enough for values that must only not compress away.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let thousandths = 20_000 + self.random % 5001;
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
