//! `saga`: what became of operations of several steps, and how they go on or are taken back.

use std::fmt::Write;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use stillwell_aggregate::rebuild::{self, Plan, Rebuild, planned};
use stillwell_aggregate::saga::{Die, Driver, Line, Moment, Phase, Progress, SagaError, StoredLog};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config::Config;
use crate::rebuild::{PlaceArgs, approve, bar, said, time, watch};
use crate::stages;

pub(crate) const EXAMPLES: &str = "\
Examples:
  stillwell saga list
  stillwell saga show rebuild-1h-3             every step, with its outcome
  stillwell saga resume rebuild-1h-3 --swap    go on after kill -9, and swap what was built
  stillwell saga undo rebuild-1h-3 --by anna --why 'compared with the wrong plant'
  stillwell saga forget rebuild-1h-3           remove what is kept for an undo

Exit code: 0 done, or waiting for --swap; 1 not done: the message says what mends it.";

/// What is done with sagas.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// All of them, and where they are
    List(ListArgs),
    /// One of them, line by line
    Show(ShowArgs),
    /// Go on with one, whichever way it went
    Resume(ResumeArgs),
    /// Take one back, step by step from its last
    Undo(EndArgs),
    /// Remove what is kept for an undo of a finished one
    Forget(EndArgs),
}

/// Where they are kept.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Which is shown.
#[derive(Args, Clone, Debug)]
pub struct ShowArgs {
    /// Its name
    id: String,
    #[command(flatten)]
    place: PlaceArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Which goes on.
#[derive(Args, Clone, Debug)]
pub struct ResumeArgs {
    /// Its name
    id: String,
    #[command(flatten)]
    place: PlaceArgs,
    /// Where it waits to be swapped: swap
    #[arg(long)]
    swap: bool,
    #[command(flatten)]
    drive: DriveArgs,
}

/// Which comes to an end.
#[derive(Args, Clone, Debug)]
pub struct EndArgs {
    /// Its name
    id: String,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    drive: DriveArgs,
}

/// Who drives a saga, and how it is told.
#[derive(Args, Clone, Debug)]
pub struct DriveArgs {
    /// Who asks for it, kept in the log
    #[arg(long, value_name = "WHO", env = "USER", hide_env_values = true, default_value = "")]
    by: String,
    /// Why, kept in the log
    #[arg(long, value_name = "WHY", default_value = "")]
    why: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// End the process at this moment of a step, such as fold:before or fold:after: for tests
    #[arg(long, hide = true, env = "STILLWELL_TEST_DIE_AT", value_name = "STEP:MOMENT")]
    die_at: Option<String>,
}

impl DriveArgs {
    /// Whether JSON is printed.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// This process, as it drives sagas; `bar` shows the steps.
    pub(crate) fn driver<'a>(
        &self,
        log: &'a StoredLog,
        stop: CancellationToken,
        bar: &ProgressBar,
    ) -> Driver<'a, StoredLog> {
        let bar = bar.clone();
        Driver {
            log,
            owner: format!("stillwell/{}/{}", std::process::id(), Uuid::new_v4()),
            by: self.by.clone(),
            why: self.why.clone(),
            clock: stages::clock(),
            stop,
            die: die_at(self.die_at.clone()),
            watch: Arc::new(move |step: &str, is_undone| {
                bar.set_message(if is_undone { format!("undo {step}") } else { step.to_owned() });
            }),
        }
    }
}

fn die_at(at: Option<String>) -> Die {
    Arc::new(move |step: &str, moment: Moment| {
        if at.as_deref().and_then(|at| at.split_once(':')) == Some((step, moment.name())) {
            // As kill -9 would: nothing is cleaned up.
            std::process::abort();
        }
    })
}

/// Runs a command to its end and says how the process exits.
///
/// # Errors
/// What went wrong and what mends it.
pub async fn run(command: Command, config: Config, stop: CancellationToken) -> anyhow::Result<u8> {
    match command {
        Command::List(args) => {
            let all = log(&args.place, &config).await?.all().await?;
            let sagas: Vec<(Plan, Progress, &Vec<Line>)> = all
                .values()
                .filter_map(|lines| planned(lines).map(|(plan, progress)| (plan, progress, lines)))
                .collect();
            print(args.json, &listed_json(&sagas), || listed(&sagas))?;
        }
        Command::Show(args) => {
            let mut all = log(&args.place, &config).await?.all().await?;
            let lines = all.remove(&args.id).ok_or_else(|| SagaError::Unknown(args.id.clone()))?;
            print(args.json, &json!(lines), || shown(&lines))?;
        }
        Command::Resume(args) => {
            let driven = Driven::open(&args.id, &args.place, &args.drive, args.swap, &config, stop).await?;
            let ended = driven.driver(&args.drive).resume(&args.id, &driven.saga).await;
            driven.tell(args.drive.json, ended)?;
        }
        Command::Undo(args) => {
            let driven = Driven::open(&args.id, &args.place, &args.drive, false, &config, stop).await?;
            let ended = driven.driver(&args.drive).undo(&args.id, &driven.saga).await;
            driven.tell(args.drive.json, ended)?;
        }
        Command::Forget(args) => {
            let driven = Driven::open(&args.id, &args.place, &args.drive, false, &config, stop).await?;
            let ended = driven.driver(&args.drive).forget(&args.id, &driven.saga).await;
            driven.tell(args.drive.json, ended)?;
        }
    }
    Ok(0)
}

async fn log(place: &PlaceArgs, config: &Config) -> anyhow::Result<StoredLog> {
    let settings = place.clickhouse(config)?;
    stillwell_aggregate::migrate(&settings, &config.layout()?).await?;
    Ok(StoredLog::new(&settings))
}

/// A saga that is driven.
struct Driven {
    log: StoredLog,
    saga: Rebuild,
    bar: ProgressBar,
    stop: CancellationToken,
}

impl Driven {
    async fn open(
        id: &str,
        place: &PlaceArgs,
        drive: &DriveArgs,
        is_approved: bool,
        config: &Config,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let log = log(place, config).await?;
        let lines = log.all().await?.remove(id).ok_or_else(|| SagaError::Unknown(id.to_owned()))?;
        let Some((plan, _)) = planned(&lines) else {
            bail!("{id} was planned by another version of stillwell; go on with it there");
        };
        let (_, rebuilder) = place.open(config)?;
        let bar = if drive.json { ProgressBar::hidden() } else { bar() };
        let compared = rebuild::comparison(&lines);
        let saga = rebuilder.rebuild(plan, compared, approve(is_approved), watch(&bar));
        Ok(Self { log, saga, bar, stop })
    }

    fn driver(&self, drive: &DriveArgs) -> Driver<'_, StoredLog> {
        drive.driver(&self.log, self.stop.clone(), &self.bar)
    }

    fn tell(&self, json: bool, ended: Result<Phase, SagaError>) -> anyhow::Result<()> {
        self.bar.finish_and_clear();
        let phase = match ended {
            Ok(phase) => phase,
            Err(SagaError::Paused { .. }) => Phase::Forward,
            Err(error) => return Err(error.into()),
        };
        let plan = self.saga.plan();
        print(json, &json!({ "saga": plan.id(), "phase": phase.name(), "plan": plan }), || said(plan, phase))
    }
}

#[allow(clippy::print_stdout)]
fn print(is_json: bool, json: &Value, text: impl FnOnce() -> String) -> anyhow::Result<()> {
    match is_json {
        true => println!("{}", serde_json::to_string_pretty(json).context("the log cannot be printed")?),
        false => print!("{}", text()),
    }
    Ok(())
}

fn listed_json(sagas: &[(Plan, Progress, &Vec<Line>)]) -> Value {
    let one = |(plan, progress, lines): &(Plan, Progress, &Vec<Line>)| {
        json!({
            "saga": plan.id(),
            "phase": progress.phase.name(),
            "begun_us": lines.first().map(|line| line.at_us),
            "by": lines.first().map(|line| &line.by),
            "plan": plan,
        })
    };
    sagas.iter().map(one).collect()
}

fn listed(sagas: &[(Plan, Progress, &Vec<Line>)]) -> String {
    let mut out = String::new();
    for (plan, progress, lines) in sagas {
        let begun = lines.first().map(|line| time(line.at_us)).unwrap_or_default();
        let last = lines.iter().rev().find(|line| !line.step.is_empty());
        let last = last.map_or_else(String::new, |line| format!(": {} {}", line.step, line.event.name()));
        let _ = writeln!(out, "{}  {begun}  {}  {}{last}", plan.id(), plan.view, progress.phase.name());
    }
    if sagas.is_empty() {
        out.push_str("there is none\n");
    }
    out
}

fn shown(lines: &[Line]) -> String {
    let mut out = String::new();
    for line in lines {
        let Line { step, event, detail, by, why, at_us, .. } = line;
        let detail =
            if detail.is_null() { String::new() } else { format!("  {}", short(&detail.to_string())) };
        let who =
            [by, why].into_iter().filter(|text| !text.is_empty()).cloned().collect::<Vec<_>>().join(": ");
        let _ = writeln!(out, "{}  {:<12}  {step:<8}  {who}{detail}", time(*at_us), event.name());
    }
    out
}

/// Details may be long; the JSON has all.
fn short(text: &str) -> String {
    const CHARACTERS_MAX: usize = 300;
    let mut short: String = text.chars().take(CHARACTERS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
