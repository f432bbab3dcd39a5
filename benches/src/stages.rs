//! Kafka to archive, Kafka to views with scores, and both at once.
//!
//! On a fresh stack every machine is commissioned first, where rows are scored, and the stages are stopped again.
//! The load then waits in Kafka before they start; the time runs from their start to the moment when all is
//! durable (or visible), so it holds the start-up and the reload of models and windows too. On a stack that ran
//! before, the time runs from the start of the load.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args;
use serde_json::{Map, Value, json};

use crate::fill::{self, Filled};
use crate::peers::{self, PeerArgs};
use crate::process::{self, Cost};
use crate::result::{self, ResultArgs, rounded};
use crate::shape::{MACHINES, ShapeArgs};
use crate::stack::{Running, Stack, StackArgs};
use crate::watch::{Archived, Manifest, Scored, Views, reached};

const POLL_EVERY: Duration = Duration::from_millis(100);
/// Without progress for this long, a stage is stuck.
pub(crate) const STUCK_AFTER: Duration = Duration::from_secs(120);

/// The write side.
pub(crate) const INGEST: &str = "ingest";
/// The read side's writer.
pub(crate) const AGGREGATE: &str = "aggregate";

/// How a stage is measured.
#[derive(Args, Clone, Debug)]
pub(crate) struct StageArgs {
    #[command(flatten)]
    shape: ShapeArgs,
    #[command(flatten)]
    stack: StackArgs,
    /// Run the stages in one process, as `stillwell up` does, in place of one process per stage
    #[arg(long)]
    one_process: bool,
    #[command(flatten)]
    peers: PeerArgs,
    #[command(flatten)]
    result: ResultArgs,
}

/// Runs a measure of `stages` and keeps its result.
pub(crate) fn run(measure: &str, stages: &[&str], args: &StageArgs) -> anyhow::Result<()> {
    let stack = Stack::open(&args.stack, "none")?;
    let result = measured(stages, args, &stack)?;
    result::keep(measure, &args.result, result)
}

fn measured(stages: &[&str], args: &StageArgs, stack: &Stack) -> anyhow::Result<Value> {
    let topic = &args.stack.topic;
    let partitions = fill::ends(&stack.at.kafka, topic)?.len();
    let views = Views { clickhouse: stack.at.clickhouse.clone(), topic: topic.clone(), partitions };
    let archive = if args.one_process { stack.one_process_archive() } else { stack.archive() };
    let mut marks = Marks::new(stages, archive, views, topic, partitions)?;
    let mut filled = None;
    if !stack.is_running_before() {
        if marks.visible {
            commission(stages, args, stack, &mut marks)?;
        }
        filled = Some(fill::fill(&stack.at.kafka, topic, &args.shape)?);
    }
    let engines_before = engine_costs(stack);
    let started = Instant::now();
    let mut running = Vec::new();
    if stack.is_running_before() {
        marks.before = process::cost(stack.at.pid)?;
    } else {
        running = start(stages, args, stack)?;
    }
    let filled = match filled {
        Some(filled) => filled,
        None => fill::fill(&stack.at.kafka, topic, &args.shape)?,
    };
    let ends = fill::ends(&stack.at.kafka, topic)?;
    let times = marks.wait(&ends, started, &mut running)?;
    let mut result = Map::new();
    result.insert("load".into(), load(&filled, args, partitions, stack));
    result.insert("seconds".into(), json!(rounded(times.last_done())));
    let rate = filled.readings as f64 / times.last_done();
    result.insert("readings_per_s".into(), json!(rate.round()));
    result.insert("processes".into(), processes(&running, stack, marks.before, &filled)?);
    result.insert("engines".into(), engines(stack, &engines_before, &filled));
    marks.describe(&mut result, &times, &filled)?;
    drop(running);
    if args.peers.peers {
        marks.views.settle()?;
        result.insert("peers".into(), peers::run(&args.peers, stack, topic, &filled, rate)?);
    }
    Ok(Value::Object(result))
}

/// Starts the stages, each as a process of its own or all in one.
fn start(stages: &[&str], args: &StageArgs, stack: &Stack) -> anyhow::Result<Vec<Running>> {
    if args.one_process {
        return Ok(vec![stack.one_process(&stages.join(","))?]);
    }
    stages.iter().map(|stage| stack.stage(stage)).collect()
}

/// Puts a model in force for every machine of the load.
fn commission(stages: &[&str], args: &StageArgs, stack: &Stack, marks: &mut Marks) -> anyhow::Result<()> {
    let topic = &args.stack.topic;
    fill::fill_commissioning(&stack.at.kafka, topic, None)?;
    let ends = fill::ends(&stack.at.kafka, topic)?;
    let started = Instant::now();
    let mut running = start(stages, args, stack)?;
    marks.wait(&ends, started, &mut running)?;
    drop(running);
    fill::forget(&stack.at.kafka, topic, &ends)?;
    eprintln!("commissioned {MACHINES} machines in {:.1} s", started.elapsed().as_secs_f64());
    marks.archived_before = marks.manifest.archived;
    marks.views_before = marks.views.readings()?;
    marks.scored_before = marks.views.scored()?;
    marks.views.settle()
}

/// What is watched until it reaches the end.
pub(crate) struct Marks {
    archive: bool,
    visible: bool,
    manifest: Manifest,
    archived_before: Archived,
    views: Views,
    views_before: u64,
    scored_before: Scored,
    before: Cost,
}

/// When each mark moved first and reached the end, seconds.
#[derive(Debug, Default)]
pub(crate) struct Times {
    durable: Mark,
    visible: Mark,
}

#[derive(Debug, Default)]
struct Mark {
    first_s: Option<f64>,
    done_s: Option<f64>,
    position: i64,
}

impl Times {
    /// When the last of them was there.
    pub(crate) fn last_done(&self) -> f64 {
        let done = [self.durable.done_s, self.visible.done_s];
        done.into_iter().flatten().fold(0.0, f64::max)
    }
}

impl Mark {
    /// Takes new positions in; true if they moved.
    fn see(&mut self, positions: &[i64], ends: &[i64], at_s: f64) -> bool {
        let position: i64 = positions.iter().sum();
        let moved = position > self.position;
        self.position = position;
        if moved && self.first_s.is_none() {
            self.first_s = Some(at_s);
        }
        if self.done_s.is_none() && reached(positions, ends) {
            self.done_s = Some(at_s);
        }
        moved
    }

    fn describe(&self, filled: &Filled) -> Value {
        let rate = self.done_s.map(|done| (filled.readings as f64 / done).round());
        json!({"first_s": self.first_s.map(rounded), "done_s": self.done_s.map(rounded), "readings_per_s": rate})
    }
}

impl Marks {
    /// Where they stand now.
    pub(crate) fn new(
        stages: &[&str],
        archive: PathBuf,
        views: Views,
        topic: &str,
        partitions: usize,
    ) -> anyhow::Result<Self> {
        let mut manifest = Manifest::new(archive, topic, partitions);
        manifest.poll()?;
        let views_before = if views.poll()?.iter().all(|p| *p == 0) { 0 } else { views.readings()? };
        Ok(Self {
            archive: stages.contains(&INGEST),
            visible: stages.contains(&AGGREGATE),
            archived_before: manifest.archived,
            manifest,
            views,
            views_before,
            scored_before: Scored::default(),
            before: Cost::default(),
        })
    }

    /// Waits until all of them reach `ends`; an error where a process dies, or nothing moves any more.
    pub(crate) fn wait(
        &mut self,
        ends: &[i64],
        started: Instant,
        running: &mut [Running],
    ) -> anyhow::Result<Times> {
        let mut times = Times::default();
        let mut moved = Instant::now();
        loop {
            let mut progress = false;
            if self.archive && times.durable.done_s.is_none() {
                let positions = self.manifest.poll()?;
                progress |= times.durable.see(&positions, ends, started.elapsed().as_secs_f64());
            }
            if self.visible && times.visible.done_s.is_none() {
                let positions = self.views.poll()?;
                progress |= times.visible.see(&positions, ends, started.elapsed().as_secs_f64());
            }
            let archived = !self.archive || times.durable.done_s.is_some();
            if archived && (!self.visible || times.visible.done_s.is_some()) {
                return Ok(times);
            }
            if progress {
                moved = Instant::now();
            }
            for process in running.iter_mut() {
                process.check()?;
            }
            if moved.elapsed() > STUCK_AFTER {
                let words: Vec<String> = running.iter().map(Running::last_words).collect();
                bail!("no progress for {} s at {times:?}\n{}", STUCK_AFTER.as_secs(), words.join("\n"));
            }
            thread::sleep(POLL_EVERY);
        }
    }

    /// What each mark says at the end, and whether it agrees with the load to the reading.
    fn describe(
        &self,
        result: &mut Map<String, Value>,
        times: &Times,
        filled: &Filled,
    ) -> anyhow::Result<()> {
        if self.archive {
            let archived = self.manifest.archived.since(self.archived_before);
            if archived.readings != filled.readings {
                bail!("the archive holds {} of {} readings", archived.readings, filled.readings);
            }
            let mut archive = times.durable.describe(filled);
            archive["commits"] = json!(archived.commits);
            archive["bytes_per_reading"] = archived.bytes_per_reading(filled.readings);
            result.insert("archive".into(), archive);
        }
        if self.visible {
            let readings = self.views.readings()? - self.views_before;
            if readings != filled.readings {
                bail!("the views hold {readings} of {} readings", filled.readings);
            }
            let mut views = times.visible.describe(filled);
            views["bytes_per_reading"] = json!(rounded(self.views.bytes()? as f64 / filled.readings as f64));
            let scored = self.views.scored()?;
            let rows = scored.rows - self.scored_before.rows;
            if rows == 0 {
                bail!("no row was scored: this is no measure of views with scores");
            }
            views["models"] = json!(scored.machines);
            views["scored_rows"] = json!(rows);
            result.insert("views".into(), views);
        }
        Ok(())
    }
}

fn load(filled: &Filled, args: &StageArgs, partitions: usize, stack: &Stack) -> Value {
    json!({
        "readings": filled.readings,
        "records": filled.records,
        "per_record": args.shape.per_record,
        "partitions": partitions,
        "bytes_per_reading": rounded(filled.bytes as f64 / filled.readings as f64),
        "waits_in_kafka": !stack.is_running_before(),
        "fill_s": rounded(filled.seconds),
    })
}

fn processes(running: &[Running], stack: &Stack, before: Cost, filled: &Filled) -> anyhow::Result<Value> {
    let mut costs = Map::new();
    for process in running {
        costs.insert(process.name().to_owned(), cost(process.cost()?, filled));
    }
    if stack.is_running_before() {
        costs.insert("up".to_owned(), cost(process::cost(stack.at.pid)?.since(before), filled));
    }
    Ok(Value::Object(costs))
}

/// What each engine has cost so far.
pub(crate) fn engine_costs(stack: &Stack) -> Vec<(&'static str, u32, Cost)> {
    let cost = |(name, pid)| process::cost(pid).ok().map(|cost| (name, pid, cost));
    stack.engines().into_iter().filter_map(cost).collect()
}

/// What each engine has cost since `before`.
pub(crate) fn engines(stack: &Stack, before: &[(&'static str, u32, Cost)], filled: &Filled) -> Value {
    let mut costs = Map::new();
    for (name, pid, now) in engine_costs(stack) {
        if let Some((_, _, before)) = before.iter().find(|(_, old, _)| *old == pid) {
            costs.insert(name.to_owned(), cost(now.since(*before), filled));
        }
    }
    Value::Object(costs)
}

/// A cost as results have it.
pub(crate) fn cost(cost: Cost, filled: &Filled) -> Value {
    json!({
        "cpu_s_per_million": rounded(cost.cpu_s / (filled.readings as f64 / 1e6)),
        "peak_rss_mib": cost.peak_rss_mib.round(),
    })
}
