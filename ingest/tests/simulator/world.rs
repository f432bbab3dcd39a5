//! What all parts of a schedule share: its dice, its clock, its logs, and the account of what happened.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use stillwell_ingest::Retry;
use stillwell_ingest::stage::Limits;
use stillwell_schema::{Clock, TopicPartition};
use tokio::time::Instant;

use crate::log::Log;
use crate::workers::Pending;

pub(crate) const TOPIC: &str = "readings";

/// The wall clock's time at a schedule's start, µs UTC.
const EPOCH_US: i64 = 1_795_000_000_000_000;

pub(crate) fn lane_id(partition: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, partition)
}

/// What a schedule is like: drawn once, so that each has some troubles often and others never.
#[derive(Debug)]
pub(crate) struct Habits {
    pub(crate) writers: usize,
    pub(crate) partitions: i32,
    /// Store operations of a hundred that fail in fair weather.
    pub(crate) errors: u32,
    /// Jobs of a hundred that are slow.
    pub(crate) slow: u32,
    /// The longest that a job takes, or its answer, ms.
    pub(crate) slow_ms: u64,
    /// Of a hundred records, those that cannot be decoded, and offsets without a record.
    pub(crate) poison: u32,
    pub(crate) markers: u32,
    /// Deliveries of a hundred that repeat what was delivered.
    pub(crate) repeats: u32,
    /// Whether the clock leaps by hours.
    pub(crate) leaps: bool,
    /// Whether retention takes records that nobody has read.
    pub(crate) losses: bool,
    pub(crate) limits: Limits,
}

impl Habits {
    fn draw(dice: &mut SmallRng) -> Self {
        let pick = |dice: &mut SmallRng, of: &[u32]| of[dice.random_range(0..of.len())];
        Self {
            writers: pick(dice, &[1, 2, 2, 3, 3]) as usize,
            partitions: pick(dice, &[1, 1, 1, 2]) as i32,
            errors: pick(dice, &[0, 0, 5, 20, 40]),
            slow: pick(dice, &[0, 10, 30, 60]),
            slow_ms: u64::from(pick(dice, &[20, 2_000, 30_000, 120_000])),
            poison: pick(dice, &[0, 10, 50]),
            markers: pick(dice, &[0, 10, 40]),
            repeats: pick(dice, &[0, 10, 40]),
            leaps: dice.random_bool(0.6),
            losses: dice.random_bool(0.5),
            limits: Limits {
                flush_interval: Duration::from_millis(u64::from(pick(dice, &[0, 1_000, 1_000, 10_000]))),
                file_bytes: pick(dice, &[1_000, 2_000, 4_000]) as usize,
                memory_bytes: pick(dice, &[20_000, 1 << 20]) as usize,
                retry: Retry::default(),
            },
        }
    }
}

/// How the store's errors are spread at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// As the schedule's habits say.
    Fair,
    /// Half of all operations fail.
    Gusty,
    /// All fail, some after the fact.
    Outage,
    /// No troubles any more: the schedule's end.
    Calm,
}

/// How often something happened, over all schedules of a run.
#[derive(Debug, Default)]
pub(crate) struct Counts(pub(crate) Mutex<BTreeMap<&'static str, u64>>);

impl Counts {
    pub(crate) fn add(&self, what: &'static str, many: u64) {
        *self.0.lock().unwrap().entry(what).or_default() += many;
    }
}

#[derive(Default)]
struct Trace {
    hash: DefaultHasher,
    lines: Vec<String>,
}

pub(crate) struct World {
    dice: Mutex<SmallRng>,
    pub(crate) habits: Habits,
    trace: Mutex<Trace>,
    began: Instant,
    leapt_us: AtomicI64,
    pub(crate) weather: Mutex<Weather>,
    pub(crate) logs: Vec<Log>,
    /// Store calls under way, by number.
    pub(crate) pending: Mutex<BTreeMap<u64, Pending>>,
    pub(crate) jobs: AtomicU64,
    /// Whether one of them is being done within another.
    pub(crate) is_nested: AtomicBool,
    /// Partition and offset of each dead letter, sent or refused.
    pub(crate) letters: Mutex<BTreeSet<(i32, i64)>>,
    /// The highest position told to Kafka, by partition.
    pub(crate) acknowledged: Mutex<BTreeMap<i32, i64>>,
    pub(crate) counts: Arc<Counts>,
    failures: Mutex<Vec<String>>,
}

impl World {
    /// To be made inside of its schedule's runtime.
    pub(crate) fn new(seed: u64, counts: Arc<Counts>) -> Self {
        let mut dice = SmallRng::seed_from_u64(seed);
        let habits = Habits::draw(&mut dice);
        let logs = (0..habits.partitions).map(|_| Log::new(dice.random_range(0..4) * 7)).collect();
        let world = Self {
            dice: Mutex::new(dice),
            habits,
            trace: Mutex::default(),
            began: Instant::now(),
            leapt_us: AtomicI64::new(0),
            weather: Mutex::new(Weather::Fair),
            logs,
            pending: Mutex::default(),
            jobs: AtomicU64::new(0),
            is_nested: AtomicBool::new(false),
            letters: Mutex::default(),
            acknowledged: Mutex::default(),
            counts,
            failures: Mutex::default(),
        };
        world.note(format_args!("{:?}", world.habits));
        world
    }

    /// A number of `0..below`.
    pub(crate) fn below(&self, below: u64) -> u64 {
        self.dice.lock().unwrap().random_range(0..below)
    }

    /// Whether a thing happens that does so `percent` times of a hundred.
    pub(crate) fn chance(&self, percent: u32) -> bool {
        percent > 0 && self.below(100) < u64::from(percent)
    }

    pub(crate) fn log(&self, partition: i32) -> &Log {
        &self.logs[usize::try_from(partition).unwrap()]
    }

    pub(crate) fn is_calm(&self) -> bool {
        *self.weather.lock().unwrap() == Weather::Calm
    }

    /// How long a job takes until it is done, or until its answer is heard.
    pub(crate) fn delay(&self) -> Duration {
        let habits = &self.habits;
        if self.is_calm() || !self.chance(habits.slow) {
            return Duration::ZERO;
        }
        // Most are slow by a little, some by more than others take for a whole commit.
        let most = if self.chance(25) { habits.slow_ms } else { habits.slow_ms.min(500) };
        Duration::from_millis(self.below(most + 1))
    }

    pub(crate) fn leap(&self, us: i64) {
        self.leapt_us.fetch_add(us, Ordering::Relaxed);
    }

    /// Writes a line of the schedule's account; two runs of one seed write the same lines.
    pub(crate) fn note(&self, line: std::fmt::Arguments<'_>) {
        let line = format!("{:>9} {line}", self.began.elapsed().as_millis());
        let mut trace = self.trace.lock().unwrap();
        line.hash(&mut trace.hash);
        trace.lines.push(line);
    }

    /// Something happened that must never happen.
    pub(crate) fn fail(&self, what: String) {
        self.note(format_args!("FAILED: {what}"));
        self.failures.lock().unwrap().push(what);
    }

    pub(crate) fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap().clone()
    }

    /// The hash of the account, and the account.
    pub(crate) fn account(&self) -> (u64, Vec<String>) {
        let mut trace = self.trace.lock().unwrap();
        (trace.hash.finish(), std::mem::take(&mut trace.lines))
    }
}

impl Clock for World {
    fn now_us(&self) -> i64 {
        let since = i64::try_from(self.began.elapsed().as_micros()).unwrap();
        EPOCH_US + since + self.leapt_us.load(Ordering::Relaxed)
    }
}
