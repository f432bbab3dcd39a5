//! Readings as a plant with troubles sends them: late, out of order, twice, ahead of the clock, in words, of bad
//! quality; machines that stand still for hours; and one whose readings move from partition to partition.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Partitions of the topic.
pub(super) const PARTITIONS: i32 = 6;

const MACHINES: usize = 8;
/// The one that moves.
const CRANE: usize = 7;
/// Ticks until it moves on, or until a machine has its next fault.
const STRETCH: u64 = 150;
/// Ticks until all machines stand still for hours.
const SHIFT: u64 = 300;

const MILLI: i64 = 1_000;
const SECOND: i64 = 1_000 * MILLI;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
/// From the first reading to the present.
const PAST: i64 = 9 * 24 * HOUR;
/// Past which a reading's time, ahead of its record's, is no more believed.
const BELIEVED: i64 = 24 * HOUR;

const BAD: u32 = 0x8000_0000;

/// A record to be sent.
pub(super) struct Record {
    pub(super) partition: i32,
    pub(super) machine: String,
    /// An array of readings, JSON.
    pub(super) value: String,
}

/// The plant.
pub(super) struct Load {
    random: StdRng,
    /// The plant's present, whole seconds in µs.
    now_us: i64,
    ticks: u64,
    strokes: [u64; MACHINES],
}

impl Load {
    /// A plant whose past ends long before the clock's `clock_us`.
    pub(super) fn new(seed: u64, clock_us: i64) -> Self {
        let now_us = clock_us - clock_us % SECOND - PAST;
        Self { random: StdRng::seed_from_u64(seed), now_us, ticks: 0, strokes: [0; MACHINES] }
    }

    /// Two seconds of the plant, one record a machine.
    pub(super) fn tick(&mut self, clock_us: i64) -> Vec<Record> {
        self.ticks += 1;
        self.now_us += 2 * SECOND;
        if self.ticks.is_multiple_of(SHIFT) {
            self.now_us += self.random.random_range(1..8i64) * HOUR;
        }
        (0..MACHINES).map(|machine| self.record(machine, clock_us)).collect()
    }

    fn record(&mut self, machine: usize, clock_us: i64) -> Record {
        let partition = self.partition(machine);
        let name = if machine == CRANE { "crane-07".to_owned() } else { format!("press-{machine:02}") };
        let mut readings = Vec::new();
        for (sensor, kind, unit) in [
            ("flow", "flow", "l/s"),
            ("bearing", "vibration", "mm/s"),
            ("oil", "temperature", "°C"),
            ("strokes", "counter", "1"),
            ("mode", "state", "1"),
        ] {
            let times = if self.happens(20) { 2 } else { 1 };
            for _ in 0..times {
                let Some(what) = self.what(machine, sensor) else { continue };
                // Of two readings of a series, no two partitions have one time: which is the first is then told.
                let time = self.time(machine, clock_us) + i64::from(partition);
                readings.push(format!(
                    r#"{{"machine":"{name}","sensor":"{sensor}","kind":"{kind}","unit":"{unit}","time":{time},{what}}}"#
                ));
            }
        }
        if self.happens(200) {
            readings.reverse();
        }
        Record { partition, machine: name, value: format!("[{}]", readings.join(",")) }
    }

    fn partition(&mut self, machine: usize) -> i32 {
        let of = |n: u64| i32::try_from(n).unwrap() % PARTITIONS;
        match (machine, self.ticks / STRETCH) {
            (CRANE, stretch) if stretch % 3 == 2 => self.random.random_range(0..PARTITIONS),
            (CRANE, stretch) => of(stretch),
            _ => of(machine as u64),
        }
    }

    /// When it is measured, in steps of 100 ms, so that some readings have the same time.
    fn time(&mut self, machine: usize, clock_us: i64) -> i64 {
        let random = &mut self.random;
        match random.random_range(0..1000u32) {
            0..860 => self.now_us + random.random_range(0..10i64) * 100 * MILLI,
            860..960 => self.now_us - random.random_range(20..400i64) * 100 * MILLI,
            960..985 => self.now_us - random.random_range(1..10i64) * MINUTE,
            985..997 => self.now_us - random.random_range(1..60i64) * HOUR,
            _ if machine == CRANE => self.now_us,
            _ => clock_us - clock_us % SECOND + BELIEVED + random.random_range(6..30i64) * HOUR,
        }
    }

    /// What is measured; none where a sensor has nothing new to report.
    fn what(&mut self, machine: usize, sensor: &str) -> Option<String> {
        if self.happens(10) {
            return Some(format!(r#""value":null,"quality":{BAD}"#));
        }
        let quality = if self.happens(20) { BAD + self.random.random_range(0..9u32) * 0x1_0000 } else { 0 };
        let what = match sensor {
            "mode" => {
                let modes = ["running", "idle", "fault", "set-up"];
                format!(r#""text":"{}""#, modes[self.random.random_range(0..modes.len())])
            }
            "strokes" => {
                let strokes = &mut self.strokes[machine];
                let restarts = self.random.random_range(0..500u32) == 0;
                *strokes = if restarts { 0 } else { *strokes + self.random.random_range(0..5u64) };
                format!(r#""value":{strokes}"#)
            }
            "oil" if self.random.random_range(0..4u32) > 0 => return None,
            _ => format!(r#""value":{:.3}"#, self.measured(machine)),
        };
        Some(format!(r#"{what},"quality":{quality}"#))
    }

    /// A value around 20, far from it while the machine has a fault.
    fn measured(&mut self, machine: usize) -> f64 {
        let value = 20.0 + f64::from(self.random.random_range(0..5000u32)) / 1000.0;
        let ticks = self.ticks + 37 * machine as u64;
        let has_fault = ticks > 3 * STRETCH && ticks % (3 * STRETCH) < 25;
        if has_fault { 4.0 * value } else { value }
    }

    fn happens(&mut self, of_thousand: u32) -> bool {
        self.random.random_range(0..1000u32) < of_thousand
    }
}
