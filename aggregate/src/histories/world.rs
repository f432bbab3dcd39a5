//! What all parts of a history share: its dice, its clock, its logs, its tables, and the account of what happened.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use stillwell_schema::{Clock, TopicPartition};
use tokio::time::Instant;

use super::log::{Log, START_S};
use super::tables::Tables;
use super::truth::Truth;

pub(super) const TOPIC: &str = "readings";

pub(super) fn lane_id(partition: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, partition)
}

/// What a history is like: drawn once, so that each has some troubles often and others never.
#[derive(Debug)]
pub(super) struct Habits {
    pub(super) processes: usize,
    pub(super) partitions: i32,
    /// Records of all partitions.
    pub(super) records: usize,
    /// Questions and writes of a hundred that fail in fair weather.
    pub(super) errors: u32,
    /// Those of a hundred that are slow, and by how much at most, ms.
    pub(super) slow: u32,
    pub(super) slow_ms: u64,
    /// Pauses between the chunks of a lane, ms at most.
    pub(super) pause_ms: u64,
    pub(super) fine: Duration,
    pub(super) coarse: Duration,
    /// Series whose longer windows are written at every flush.
    pub(super) few_series: usize,
    /// Memory for windows; little lets them go whenever it is looked at.
    pub(super) windows_bytes_max: usize,
    /// Whether partitions move while their owners live.
    pub(super) moves: bool,
    /// Whether tables are built anew.
    pub(super) builds: bool,
}

impl Habits {
    fn draw(dice: &mut SmallRng) -> Self {
        let pick = |dice: &mut SmallRng, of: &[u64]| of[dice.random_range(0..of.len())];
        let ms = |dice: &mut SmallRng, of: &[u64]| Duration::from_millis(pick(dice, of));
        Self {
            processes: dice.random_range(1..=2),
            partitions: pick(dice, &[1, 1, 1, 2, 3]) as i32,
            records: dice.random_range(15..130),
            errors: pick(dice, &[0, 0, 5, 20, 40]) as u32,
            slow: pick(dice, &[0, 10, 30, 60]) as u32,
            slow_ms: pick(dice, &[5, 300, 3_000, 20_000]),
            pause_ms: pick(dice, &[20, 500, 3_000]),
            fine: ms(dice, &[50, 1_000, 1_000]),
            coarse: ms(dice, &[1_000, 10_000, 10_000, 60_000]),
            few_series: pick(dice, &[0, 0, 0, 500]) as usize,
            windows_bytes_max: pick(dice, &[0, 1 << 30]) as usize,
            moves: dice.random_bool(0.5),
            builds: dice.random_bool(0.4),
        }
    }
}

/// How the store's errors are spread at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weather {
    /// As the history's habits say.
    Fair,
    /// Half of all fails.
    Gusty,
    /// Nothing is answered, though some of it is done.
    Outage,
    /// No troubles any more: the history's end.
    Calm,
}

/// How often something happened, over all histories of a run.
#[derive(Debug, Default)]
pub(super) struct Counts(pub(super) Mutex<BTreeMap<&'static str, u64>>);

impl Counts {
    pub(super) fn add(&self, what: &'static str, many: u64) {
        *self.0.lock().unwrap().entry(what).or_default() += many;
    }
}

pub(super) struct World {
    dice: Mutex<SmallRng>,
    pub(super) habits: Habits,
    logs: Vec<Log>,
    truths: Vec<Truth>,
    pub(super) tables: Mutex<Tables>,
    pub(super) weather: Mutex<Weather>,
    /// Whether a table was put in use that is behind others: what it then says of late readings is judged by times
    /// that may be later ones.
    pub(super) is_late_unknown: AtomicBool,
    pub(super) counts: Arc<Counts>,
    began: Instant,
    trace: Mutex<Vec<String>>,
    failures: Mutex<Vec<String>>,
}

impl World {
    /// To be made inside of its history's runtime.
    pub(super) fn new(seed: u64, counts: Arc<Counts>) -> Self {
        let mut dice = SmallRng::seed_from_u64(seed);
        let habits = Habits::draw(&mut dice);
        let records = habits.records.div_ceil(usize::try_from(habits.partitions).unwrap());
        let logs: Vec<Log> = (0..habits.partitions).map(|_| Log::draw(&mut dice, records)).collect();
        let world = Self {
            dice: Mutex::new(dice),
            habits,
            truths: logs.iter().map(Truth::of).collect(),
            logs,
            tables: Mutex::default(),
            weather: Mutex::new(Weather::Fair),
            is_late_unknown: AtomicBool::new(false),
            counts,
            began: Instant::now(),
            trace: Mutex::default(),
            failures: Mutex::default(),
        };
        world.note(format_args!("{:?}", world.habits));
        world
    }

    /// A number of `0..below`.
    pub(super) fn below(&self, below: u64) -> u64 {
        self.dice.lock().unwrap().random_range(0..below)
    }

    /// The same as an index.
    pub(super) fn index(&self, below: usize) -> usize {
        self.dice.lock().unwrap().random_range(0..below)
    }

    /// Whether a thing happens that does so `percent` times of a hundred.
    pub(super) fn chance(&self, percent: u32) -> bool {
        percent > 0 && self.below(100) < u64::from(percent)
    }

    pub(super) fn log(&self, partition: i32) -> &Log {
        &self.logs[usize::try_from(partition).unwrap()]
    }

    pub(super) fn truth(&self, partition: i32) -> &Truth {
        &self.truths[usize::try_from(partition).unwrap()]
    }

    pub(super) fn partitions(&self) -> std::ops::Range<i32> {
        0..self.habits.partitions
    }

    pub(super) fn weather(&self) -> Weather {
        *self.weather.lock().unwrap()
    }

    /// How long a question takes on its way, or its answer.
    pub(super) fn delay(&self) -> Duration {
        if self.weather() == Weather::Calm || !self.chance(self.habits.slow) {
            return Duration::ZERO;
        }
        Duration::from_millis(self.below(self.habits.slow_ms + 1))
    }

    /// Writes a line of the history's account.
    pub(super) fn note(&self, line: fmt::Arguments<'_>) {
        let line = format!("{:>9} {line}", self.began.elapsed().as_millis());
        self.trace.lock().unwrap().push(line);
    }

    /// Something happened that must never happen.
    pub(super) fn fail(&self, what: String) {
        self.note(format_args!("FAILED: {what}"));
        self.failures.lock().unwrap().push(what);
    }

    pub(super) fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap().clone()
    }

    /// The account.
    pub(super) fn account(&self) -> Vec<String> {
        std::mem::take(&mut *self.trace.lock().unwrap())
    }
}

impl Clock for World {
    fn now_us(&self) -> i64 {
        START_S * 1_000_000 + i64::try_from(self.began.elapsed().as_micros()).unwrap()
    }
}
