//! The log of one partition, drawn whole before a history begins: what is in it arrives bit by bit.

use std::fmt::Write;

use rand::RngExt;
use rand::rngs::SmallRng;
use stillwell_schema::{Gap, GapReason, Offset, quality};
use stillwell_source::chunk::RecordChunk;
use tokio::sync::watch;

use super::world::lane_id;

/// When a log begins, s since the epoch: in January 2027.
pub(super) const START_S: i64 = 1_800_000_000;

const DAY_MS: i64 = 86_400_000;

/// Sensors of every machine: name, kind, and what they tell.
const SENSORS: [(&str, &str, Tells); 5] = [
    ("level", "", Tells::Values),
    ("energy", "counter", Tells::Counts),
    ("mode", "state", Tells::States),
    ("valve", VALVE, Tells::Both),
    ("slide", "position", Tells::Values),
];

/// A valve's kind, but now and then.
const VALVE: &str = "position";
const VALVE_AT_TIMES: &str = "flow";

#[derive(Clone, Copy)]
enum Tells {
    Values,
    Counts,
    States,
    Both,
}

/// One reading.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) offset: i64,
    pub(super) machine: &'static str,
    pub(super) sensor: &'static str,
    pub(super) kind: &'static str,
    pub(super) time_us: i64,
    pub(super) value: Option<f64>,
    pub(super) text: Option<&'static str>,
    pub(super) quality: u32,
    /// The Kafka timestamp of its record, ms.
    pub(super) kafka_ms: i64,
}

impl Reading {
    pub(super) fn is_bad(&self) -> bool {
        quality::is_bad(self.quality)
    }

    /// Whether its clock is more than a day ahead.
    pub(super) fn is_early(&self) -> bool {
        self.kafka_ms > 0 && self.time_us > (self.kafka_ms + DAY_MS) * 1000
    }

    /// Whether a window holds anything of it.
    pub(super) fn counts(&self) -> bool {
        self.value.is_some() || self.text.is_some() || self.is_bad()
    }

    /// Whether a total holds anything of it.
    pub(super) fn counts_in_total(&self) -> bool {
        self.value.is_some() || self.is_bad()
    }

    fn json(&self, out: &mut String) {
        let Self { machine, sensor, kind, time_us, quality, .. } = self;
        let time_ms = time_us / 1000;
        let value = self.value.map_or("null".to_owned(), |value| value.to_string());
        let text = self.text.map_or("null".to_owned(), |text| format!("\"{text}\""));
        let kind = if kind.is_empty() { String::new() } else { format!(r#""kind":"{kind}","#) };
        write!(
            out,
            r#"{{"machine":"{machine}","sensor":"{sensor}",{kind}"time":{time_ms},"value":{value},"text":{text},"quality":{quality}}}"#
        )
        .unwrap();
    }
}

/// What an offset holds.
enum Slot {
    Record { kafka_ms: i64, value: String },
    Gap,
}

/// A partition's log.
pub(super) struct Log {
    pub(super) first: i64,
    slots: Vec<Slot>,
    pub(super) readings: Vec<Reading>,
    /// The offset that the next record to arrive will have.
    pub(super) arrived: watch::Sender<i64>,
}

impl Log {
    pub(super) fn draw(dice: &mut SmallRng, records: usize) -> Self {
        let sevens: i64 = dice.random_range(0..3);
        let first = 7 * sevens;
        let mut source = Source::draw(dice);
        let (mut slots, mut readings) = (Vec::new(), Vec::new());
        for offset in (first..).take(records) {
            slots.push(source.slot(dice, offset, &mut readings));
        }
        Self { first, slots, readings, arrived: watch::Sender::new(first) }
    }

    /// The offset after its last.
    pub(super) fn end(&self) -> i64 {
        self.first + i64::try_from(self.slots.len()).unwrap()
    }

    /// So many more records arrive, if there are.
    pub(super) fn grow(&self, records: i64) {
        let end = self.end();
        self.arrived.send_modify(|arrived| *arrived = (*arrived + records).min(end));
    }

    /// The records from `first` up to `next`.
    pub(super) fn chunk(&self, partition: i32, first: i64, next: i64) -> RecordChunk {
        let mut chunk = RecordChunk::new(lane_id(partition), Offset(first));
        for offset in first..next {
            match &self.slots[usize::try_from(offset - self.first).unwrap()] {
                Slot::Record { kafka_ms, value } => {
                    chunk.push(Offset(offset), *kafka_ms, None, Some(value.as_bytes()), []);
                }
                Slot::Gap => chunk.push_gap(Gap {
                    first: Offset(offset),
                    next: Offset(offset + 1),
                    reason: GapReason::NotDelivered,
                }),
            }
        }
        chunk
    }
}

/// What writes a log.
struct Source {
    now_ms: i64,
    /// The longest step from one record to the next, ms.
    step_ms: i64,
    /// Readings of a hundred that come late, far too late, and from a clock that is far ahead.
    late: u32,
    old: u32,
    ahead: u32,
    /// Machines; each may be in any partition.
    machines: usize,
    counter: i32,
}

impl Source {
    fn draw(dice: &mut SmallRng) -> Self {
        let mut pick = |of: &[u32]| of[dice.random_range(0..of.len())];
        Self {
            now_ms: START_S * 1000,
            step_ms: i64::from(pick(&[900, 8_000, 8_000, 400_000])),
            late: pick(&[0, 10, 40]),
            old: pick(&[0, 3, 10]),
            ahead: pick(&[0, 0, 2, 8]),
            machines: pick(&[1, 2, 3]) as usize,
            counter: 100,
        }
    }

    fn slot(&mut self, dice: &mut SmallRng, offset: i64, readings: &mut Vec<Reading>) -> Slot {
        self.now_ms += dice.random_range(0..=self.step_ms);
        if dice.random_bool(0.03) {
            return Slot::Gap;
        }
        let kafka_ms = if dice.random_bool(0.02) { -1 } else { self.now_ms };
        if dice.random_bool(0.02) {
            return Slot::Record { kafka_ms, value: "no reading".to_owned() };
        }
        let from = readings.len();
        for _ in 0..dice.random_range(1..=3u8) {
            readings.push(self.reading(dice, offset, kafka_ms));
        }
        let mut value = "[".to_owned();
        for (at, reading) in readings[from..].iter().enumerate() {
            value.push_str(if at == 0 { "" } else { "," });
            reading.json(&mut value);
        }
        value.push(']');
        Slot::Record { kafka_ms, value }
    }

    fn reading(&mut self, dice: &mut SmallRng, offset: i64, kafka_ms: i64) -> Reading {
        let machine = ["press", "pump", "kiln"][dice.random_range(0..self.machines)];
        let (sensor, kind, tells) = SENSORS[dice.random_range(0..SENSORS.len())];
        let kind = if kind == VALVE && dice.random_bool(0.2) { VALVE_AT_TIMES } else { kind };
        let (has_value, has_text) = match tells {
            Tells::Values | Tells::Counts => (dice.random_bool(0.93), false),
            Tells::States => (false, dice.random_bool(0.95)),
            Tells::Both => (dice.random_bool(0.7), dice.random_bool(0.5)),
        };
        let eighths = if matches!(tells, Tells::Counts) {
            let is_reset = dice.random_bool(0.05);
            self.counter = if is_reset { 0 } else { self.counter + dice.random_range(0..50i32) };
            self.counter
        } else {
            dice.random_range(-8_000..8_000)
        };
        let quality = [quality::GOOD, quality::GOOD, quality::GOOD, quality::UNCERTAIN, quality::BAD]
            [dice.random_range(0..5usize)];
        Reading {
            offset,
            machine,
            sensor,
            kind,
            time_us: self.time_ms(dice) * 1000,
            value: has_value.then_some(f64::from(eighths) / 8.0),
            text: has_text.then(|| ["auto", "hand", "off"][dice.random_range(0..3usize)]),
            quality,
            kafka_ms,
        }
    }

    fn time_ms(&self, dice: &mut SmallRng) -> i64 {
        let fate = dice.random_range(0..100u32);
        let back = if fate < self.late {
            dice.random_range(0..60_000i64)
        } else if fate < self.late + self.old {
            dice.random_range(0..2 * DAY_MS)
        } else if fate < self.late + self.old + self.ahead {
            dice.random_range(-3 * DAY_MS..-DAY_MS)
        } else {
            0
        };
        self.now_ms - back
    }
}
