//! The commands on the life of the data: `compact`, `retain`, `hold`, `gc`, `delta`.
//!
//! They work on the archive alone, whether a stack runs or not, and need no server.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde::Serialize;
use stillwell_ingest::gc::{self, Scope};
use stillwell_ingest::keys::{self, rotation};
use stillwell_ingest::life::compact::{self, Policy};
use stillwell_ingest::life::ledger::{Pen, read_view};
use stillwell_ingest::life::{LifeError, hold, retain};
use stillwell_ingest::manifest::find_head;
use stillwell_ingest::store::ArchiveStore;
use stillwell_ingest::{delta, evidence};
use stillwell_schema::ledger::{Hold, Release};
use stillwell_schema::{Head, TopicPartition};
use uuid::Uuid;

use crate::config::Config;
use crate::evidence::{ArchiveArgs, bar, parse_time};
use crate::stages;

mod show;

const COMPACT_EXAMPLES: &str = "\
Examples:
  stillwell compact --dry-run                what would be merged, of the stack on stillwell-data
  stillwell compact --topic readings --partition 3
  stillwell compact --archive /mnt/archive --json

The write side does this by itself in the background ([compaction] in the config). Readers are switched at once, run by
run; the files before stay for a day and are then collected.";

const RETAIN_EXAMPLES: &str = "\
Examples:
  stillwell retain --dry-run                                       what has run out, by the config's [[retention]]
  stillwell retain --apply --by anna --reason 'yearly clean-up'

What is erased cannot be had back, once its files are collected a day later (where there is a Delta log, a day after
`stillwell delta` or `stillwell gc` has brought it up to date). A signed tombstone says what was erased,
by whom and why, and `stillwell verify` still proves the rest.";

const HOLD_EXAMPLES: &str = "\
Examples:
  stillwell hold add case-12 --topic readings --machines 'press-*' --from 2026-01-01T00:00:00Z --by anna --reason 'claim of Acme'
  stillwell hold list
  stillwell hold release case-12 --topic readings --by anna --reason 'settled'";

const GC_EXAMPLES: &str = "\
Examples:
  stillwell gc --dry-run                     what would go, and why
  stillwell gc --superseded-hours 0          also what was superseded just now: for an archive that nobody reads";

const DELTA_EXAMPLES: &str = "\
Examples:
  stillwell delta --topic readings           make or continue the log; run it again to follow the archive
  python: deltalake.DeltaTable('stillwell-data/archive/readings/readings').to_pyarrow_table()";

const US_PER_HOUR: i64 = 3_600 * 1_000_000;

/// Attempts at a lane whose ledger other processes continue first.
const ATTEMPTS: usize = 5;

/// Commands on the life of the data.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Merge small files of the archive into large sorted ones
    #[command(after_help = COMPACT_EXAMPLES)]
    Compact(CompactArgs),
    /// Erase what no retention class keeps any more
    #[command(after_help = RETAIN_EXAMPLES)]
    Retain(RetainArgs),
    /// Keep machines and times from being erased
    #[command(subcommand, after_help = HOLD_EXAMPLES)]
    Hold(HoldCommand),
    /// Collect files that no reader is shown
    #[command(after_help = GC_EXAMPLES)]
    Gc(GcArgs),
    /// Keep a Delta Lake log over the archive, for Spark, Trino, DuckDB and Polars
    #[command(after_help = DELTA_EXAMPLES)]
    Delta(DeltaArgs),
}

/// Which lanes of which archive, and how the answer is printed.
#[derive(Args, Debug)]
pub struct LaneArgs {
    #[command(flatten)]
    archive: ArchiveArgs,
    /// Only this topic
    #[arg(long)]
    topic: Option<String>,
    /// Only this partition
    #[arg(long, value_name = "N")]
    partition: Option<i32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is merged.
#[derive(Args, Debug)]
pub struct CompactArgs {
    #[command(flatten)]
    lanes: LaneArgs,
    /// Say what would be merged, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Level of zstd; the config's where it is left out
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..=22))]
    level: Option<i32>,
    /// Bytes of a merged file of readings and one of records together; the config's where it is left out
    #[arg(long, value_name = "BYTES")]
    file_bytes_target: Option<u64>,
}

/// What is erased.
#[derive(Args, Debug)]
pub struct RetainArgs {
    #[command(flatten)]
    lanes: LaneArgs,
    /// Say what would be erased, and change nothing
    #[arg(long, conflicts_with = "apply", required_unless_present = "apply")]
    dry_run: bool,
    /// Erase it
    #[arg(long, requires = "by", requires = "reason")]
    apply: bool,
    /// Who asks for it, kept in the archive for ever
    #[arg(long, value_name = "WHO")]
    by: Option<String>,
    /// Why, kept in the archive for ever
    #[arg(long, value_name = "WHY")]
    reason: Option<String>,
}

/// What is done with holds.
#[derive(Debug, Subcommand)]
pub enum HoldCommand {
    /// Hold machines, for some time or all time
    Add(HoldArgs),
    /// End a hold
    Release(ReleaseArgs),
    /// The holds that stand
    List(LaneArgs),
}

/// What is held.
#[derive(Args, Debug)]
pub struct HoldArgs {
    /// The hold's name
    id: String,
    #[command(flatten)]
    archive: ArchiveArgs,
    /// In which topic
    #[arg(long)]
    topic: String,
    /// The machines; * stands for any text
    #[arg(long, value_name = "PATTERN")]
    machines: String,
    /// From this time on: RFC 3339, or µs since the epoch
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    from: Option<i64>,
    /// Before this time
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    until: Option<i64>,
    /// Who asks for it, kept in the archive for ever
    #[arg(long, value_name = "WHO")]
    by: String,
    /// Why, kept in the archive for ever
    #[arg(long, value_name = "WHY")]
    reason: String,
}

/// Which hold ends.
#[derive(Args, Debug)]
pub struct ReleaseArgs {
    /// The hold's name
    id: String,
    #[command(flatten)]
    archive: ArchiveArgs,
    /// In which topic
    #[arg(long)]
    topic: String,
    /// Who asks for it, kept in the archive for ever
    #[arg(long, value_name = "WHO")]
    by: String,
    /// Why, kept in the archive for ever
    #[arg(long, value_name = "WHY")]
    reason: String,
}

/// What is collected.
#[derive(Args, Debug)]
pub struct GcArgs {
    #[command(flatten)]
    lanes: LaneArgs,
    /// List what would go, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Files of an older view stay this long
    #[arg(long, default_value = "24", value_name = "HOURS", value_parser = clap::value_parser!(u32))]
    superseded_hours: u32,
}

/// Which log is kept.
#[derive(Args, Debug)]
pub struct DeltaArgs {
    #[command(flatten)]
    archive: ArchiveArgs,
    /// Only this topic
    #[arg(long)]
    topic: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs a command to its end and says how the process exits.
///
/// # Errors
/// What went wrong and what mends it.
pub fn run(command: Command, config: &Config) -> anyhow::Result<u8> {
    match command {
        Command::Compact(args) => compact_lanes(&args, config)?,
        Command::Retain(args) => retain_lanes(&args, config)?,
        Command::Hold(command) => holds(command, config)?,
        Command::Gc(args) => collect(&args, config)?,
        Command::Delta(args) => delta_logs(&args, config)?,
    }
    Ok(0)
}

impl LaneArgs {
    fn lanes(&self, store: &dyn ArchiveStore, config: &Config) -> anyhow::Result<Vec<TopicPartition>> {
        let mut lanes = evidence::lanes(store, self.topic.as_deref())?;
        lanes.retain(|lane| self.partition.is_none_or(|partition| partition == lane.partition));
        if lanes.is_empty() {
            bail!("the archive at {} holds no such lane", self.archive.url(config)?);
        }
        Ok(lanes)
    }

    /// Prints what was done, as JSON or for people.
    fn print<T: Serialize>(&self, all: &[T], text: impl Fn(&[T]) -> String) -> anyhow::Result<()> {
        print(self.json, all, text)
    }

    /// Prints what was done up to the end or an error: it cannot be undone, so it is not kept from who asked for it.
    fn print_done<T: Serialize>(
        &self,
        done: anyhow::Result<()>,
        all: &[T],
        text: impl Fn(&[T]) -> String,
    ) -> anyhow::Result<()> {
        if done.is_ok() || !all.is_empty() {
            self.print(all, text)?;
        }
        done
    }
}

#[allow(clippy::print_stdout)]
fn print<T: Serialize>(json: bool, all: &[T], text: impl Fn(&[T]) -> String) -> anyhow::Result<()> {
    match json {
        true => println!("{}", serde_json::to_string_pretty(all)?),
        false => print!("{}", text(all)),
    }
    Ok(())
}

fn pen(archive: &ArchiveArgs, config: &Config) -> anyhow::Result<Pen> {
    let (store, key_file) = (archive.open(config)?, archive.key_file(config));
    rotation::settle(&key_file, &*store)?;
    Ok(Pen {
        store,
        key: keys::load(&key_file)?,
        writer: format!("stillwell/{}", Uuid::new_v4()),
        clock: stages::clock(),
    })
}

fn compact_lanes(args: &CompactArgs, config: &Config) -> anyhow::Result<()> {
    let pen = pen(&args.lanes.archive, config)?;
    let policy = Policy {
        file_bytes_target: args.file_bytes_target.unwrap_or(config.compaction.file_bytes_target),
        before_us: i64::MAX,
        pieces_min: 2,
        level: args.level.unwrap_or(config.compaction.level),
    };
    let lanes = args.lanes.lanes(&*pen.store, config)?;
    let mut all = Vec::new();
    if args.dry_run {
        for lane in &lanes {
            all.extend(compact::plan(&pen, lane, policy)?);
        }
        return args.lanes.print(&all, show::merged);
    }
    let bar = bar(0);
    let done = lanes.iter().try_for_each(|lane| {
        let done = unless_raced(|| {
            // What is read once to be merged is read again to be proven.
            let planned = compact::plan(&pen, lane, policy)?;
            bar.inc_length(planned.iter().map(|run| 2 * run.bytes_before).sum());
            compact::compact(&pen, lane, policy, &|bytes| bar.inc(bytes), &mut |merged| {
                all.push(merged);
                true
            })
        });
        done.with_context(|| format!("{lane} is not compacted to its end"))
    });
    bar.finish_and_clear();
    args.lanes.print_done(done, &all, show::merged)
}

/// Works on a lane again where another process came first: each attempt reads it anew.
fn unless_raced(mut work: impl FnMut() -> Result<(), LifeError>) -> Result<(), LifeError> {
    for _ in 1..ATTEMPTS {
        match work() {
            Err(LifeError::Raced(_)) => {}
            done => return done,
        }
    }
    work()
}

fn retain_lanes(args: &RetainArgs, config: &Config) -> anyhow::Result<()> {
    if config.retention.is_empty() {
        bail!("no retention class is configured, so everything is kept; add a [[retention]] to the config");
    }
    let pen = pen(&args.lanes.archive, config)?;
    let class = |class: &crate::config::RetentionClass| retain::Class {
        name: class.class.clone(),
        machines: class.machines.clone(),
        keep_days: class.keep_days,
    };
    let retention = retain::Retention {
        classes: config.retention.iter().map(class).collect(),
        by: args.by.clone().unwrap_or_default(),
        reason: args.reason.clone().unwrap_or_default(),
        file_bytes_target: config.compaction.file_bytes_target,
        level: config.compaction.level,
    };
    let lanes = args.lanes.lanes(&*pen.store, config)?;
    let bar = bar(0);
    let tick = |bytes| {
        bar.inc_length(bytes);
        bar.inc(bytes);
    };
    let mut all = Vec::new();
    let done = lanes.iter().try_for_each(|lane| {
        if args.apply {
            let apply = || retain::retain(&pen, lane, &retention, &tick, &mut |erased| all.push(erased));
            return unless_raced(apply).with_context(|| format!("{lane} is not looked through to its end"));
        }
        all.extend(retain::plan(&pen, lane, &retention, &tick)?);
        Ok(())
    });
    bar.finish_and_clear();
    args.lanes.print_done(done, &all, show::erased)
}

#[allow(clippy::print_stdout)]
fn holds(command: HoldCommand, config: &Config) -> anyhow::Result<()> {
    match command {
        HoldCommand::Add(args) => {
            let HoldArgs { id, archive, topic, machines, from: from_us, until: until_us, by, reason } = args;
            let hold = Hold { id, machines, from_us, until_us, by, reason };
            let lanes = hold::add(&pen(&archive, config)?, &topic, &hold)?;
            if lanes == 0 {
                bail!("a hold {} stands in topic {topic} already, or the topic has no lane", hold.id);
            }
            println!("{} holds {} in {lanes} partitions of {topic}", hold.id, hold.machines);
            Ok(())
        }
        HoldCommand::Release(args) => {
            let ReleaseArgs { id, archive, topic, by, reason } = args;
            let release = Release { id, by, reason };
            let lanes = hold::release(&pen(&archive, config)?, &topic, &release)?;
            if lanes == 0 {
                bail!("no hold {} stands in topic {topic}; see `stillwell hold list`", release.id);
            }
            println!("{} is released in {lanes} partitions of {topic}", release.id);
            Ok(())
        }
        HoldCommand::List(args) => {
            let store = args.archive.open(config)?;
            let mut topics: Vec<Arc<str>> =
                args.lanes(&*store, config)?.into_iter().map(|lane| lane.topic).collect();
            topics.dedup();
            let mut all = Vec::new();
            for topic in topics {
                let holds = hold::list(&*store, &topic)?;
                all.extend(
                    holds.into_iter().map(|standing| show::Held { topic: topic.to_string(), standing }),
                );
            }
            args.print(&all, show::held)
        }
    }
}

fn collect(args: &GcArgs, config: &Config) -> anyhow::Result<()> {
    let store = args.lanes.archive.open(config)?;
    let lanes = args.lanes.lanes(&*store, config)?;
    if !args.dry_run {
        // What a Delta log names stays, and one that is behind names much.
        let topics: BTreeSet<&str> = lanes.iter().map(|lane| &*lane.topic).collect();
        topics.iter().try_for_each(|topic| delta::update_if_any(&*store, topic, &*stages::clock()))?;
    }
    let now_us = stages::clock().now_us();
    let from = Head::genesis();
    let mut all = Vec::new();
    for lane in lanes {
        let view = read_view(&*store, &lane)?;
        let head = find_head(&*store, &lane)?;
        let scope = Scope {
            from: &from,
            head: &head,
            view: &view,
            before_us: now_us - gc::AGE_US,
            superseded_before_us: now_us - i64::from(args.superseded_hours) * US_PER_HOUR,
        };
        gc::find(&*store, &lane, scope, &mut |found| {
            if !args.dry_run {
                store.delete(&found.path)?;
            }
            all.push(found.clone());
            Ok(())
        })?;
    }
    args.lanes.print(&all, |all| show::collected(all, args.dry_run))
}

fn delta_logs(args: &DeltaArgs, config: &Config) -> anyhow::Result<()> {
    let store = args.archive.open(config)?;
    let lanes = evidence::lanes(&*store, args.topic.as_deref())?;
    let mut topics: Vec<Arc<str>> = lanes.into_iter().map(|lane| lane.topic).collect();
    topics.dedup();
    if topics.is_empty() {
        bail!("the archive at {} holds no such topic", args.archive.url(config)?);
    }
    let all: Result<Vec<_>, _> =
        topics.iter().map(|topic| delta::update(&*store, topic, &*stages::clock())).collect();
    let url = args.archive.url(config)?;
    print(args.json, &all?, |all| show::delta(all, &url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_tried_again_while_others_come_first_but_not_for_ever() {
        let raced = || LifeError::Raced(TopicPartition::new("readings", 0));
        let attempt = |races: usize| {
            let mut calls = 0;
            let done = unless_raced(|| {
                calls += 1;
                if calls > races { Ok(()) } else { Err(raced()) }
            });
            (done.is_ok(), calls)
        };
        assert_eq!(attempt(0), (true, 1));
        assert_eq!(attempt(ATTEMPTS - 1), (true, ATTEMPTS));
        assert_eq!(attempt(ATTEMPTS), (false, ATTEMPTS));
    }
}
