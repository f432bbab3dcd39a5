//! `rebuild`: builds a view anew from the archive, beside the one in use.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::json;
use stillwell_aggregate::ClickHouseSettings;
use stillwell_aggregate::rebuild::{
    Approve, Comparison, Mode, Note, Order, Plan, Rebuild, RebuildError, Rebuilder, planned,
};
use stillwell_aggregate::saga::{Driver, Event, Phase, SagaError, StoredLog};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::endpoints::Endpoints;
use crate::evidence::{ArchiveArgs, parse_time};
use crate::saga::DriveArgs;
use crate::stages;

mod archive;
mod show;

pub(crate) use show::time;

pub(crate) const EXAMPLES: &str = "\
Examples:
  stillwell rebuild readings_1h                                builds it, compares it, and asks
  stillwell rebuild readings_1h --swap --yes                   and puts it in the place of the one in use
  stillwell rebuild readings_1m --diff --from 2026-11-25T00:00:00Z --machine 'press-*'
  stillwell rebuild readings_1h --as-of 2026-11-25T06:00:00Z   as it was durable then, as readings_1h_asof_<N>

Ingestion goes on meanwhile, and readers never see a hole: they are moved in one step, when the new table has all that
they saw. The old one is kept: `stillwell saga undo ID` goes back to it, `stillwell saga forget ID` removes it. A
rebuild that was cut short, by kill -9 or Ctrl-C, is finished with `stillwell saga resume ID`.

Scores are no part of the archive: they are taken over from the view in use, and a view as of a moment has none.

Exit code: 0 done, or built and left to be swapped; 1 not done: the message says what mends it; 3 with --diff: some
windows differ.";

/// Between two looks of who watches.
const TICK: Duration = Duration::from_millis(200);
/// Exit code where windows differ.
const DIFFERENT: u8 = 3;

/// What is built, and what becomes of it.
#[derive(Args, Clone, Debug)]
pub struct RebuildArgs {
    /// The view: readings_10s, readings_1m, readings_1h, readings_1d, or the totals fleet_1m, fleet_1h, fleet_1d
    view: String,
    #[command(flatten)]
    place: PlaceArgs,
    /// Only these machines; * stands for any text; may be given several times
    #[arg(long = "machine", value_name = "PATTERN")]
    machines: Vec<String>,
    /// Windows from the one that holds this time on: RFC 3339, or µs since the epoch
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    from: Option<i64>,
    /// Windows that begin before this time
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    to: Option<i64>,
    /// What was durable at this time, kept beside the view in use
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    as_of: Option<i64>,
    /// Compare with the view in use, and keep nothing
    #[arg(long, conflicts_with_all = ["as_of", "swap"])]
    diff: bool,
    /// Put it in the place of the view in use
    #[arg(long)]
    swap: bool,
    /// Do not ask
    #[arg(long, requires = "swap")]
    yes: bool,
    #[command(flatten)]
    drive: DriveArgs,
}

/// Where views and archive are.
#[derive(Args, Clone, Debug)]
pub struct PlaceArgs {
    #[command(flatten)]
    archive: ArchiveArgs,
    /// ClickHouse, as http://user:password@host:port; without it, that of the config or of the running stack
    #[arg(long, value_name = "URL")]
    clickhouse: Option<String>,
}

/// What a rebuild came to, as JSON.
#[derive(Serialize)]
struct Outcome<'a> {
    saga: String,
    phase: &'static str,
    plan: &'a Plan,
    comparison: Option<Comparison>,
}

/// Runs a rebuild to its end and says how the process exits.
///
/// # Errors
/// What went wrong and what mends it.
pub async fn run(args: RebuildArgs, config: Config, stop: CancellationToken) -> anyhow::Result<u8> {
    let order = args.order()?;
    let (settings, rebuilder) = args.place.open(&config)?;
    let layout = config.layout()?;
    if layout.cluster.is_some() {
        bail!(
            "views over a cluster cannot be rebuilt in place; rebuild them on one server, with [clickhouse] cluster left empty, and compare there"
        );
    }
    stillwell_aggregate::migrate(&settings, &layout).await?;
    let log = StoredLog::new(&settings);
    let plan = rebuilder.plan(&order, log.all().await?.values()).await?;
    let (id, bar) = (plan.id(), bar());
    let driver = args.drive.driver(&log, stop, &bar);
    driver.plan(&id, json!(plan)).await?;
    let saga = |is_approved: bool| rebuilder.rebuild(plan.clone(), None, approve(is_approved), watch(&bar));
    yield_to_earlier(&driver, &log, &plan, &saga(false)).await?;
    let is_asked = std::io::stdin().is_terminal() && !args.yes && !args.drive.json();
    let built = saga(args.swap && !is_asked);
    let mut ended = driver.resume(&id, &built).await;
    let comparison = built.comparison();
    bar.finish_and_clear();
    if let Some(comparison) = &comparison
        && !args.drive.json()
    {
        print(&show::comparison(&plan, comparison));
    }
    if matches!(ended, Err(SagaError::Paused { .. })) && is_asked && ask(&plan)? {
        ended = driver
            .resume(&id, &rebuilder.rebuild(plan.clone(), comparison.clone(), approve(true), watch(&bar)))
            .await;
        bar.finish_and_clear();
    }
    let phase = match ended {
        Ok(phase) => phase,
        Err(SagaError::Paused { .. }) => Phase::Forward,
        Err(error) => return Err(error.into()),
    };
    args.tell(&plan, phase, comparison)
}

/// Whether to swap, as a rebuild asks it.
pub(crate) fn approve(is_approved: bool) -> Approve {
    Box::new(move |_| {
        let why = "it is built, and waits to be swapped: `stillwell saga resume ID --swap` does, `stillwell saga undo ID` drops it";
        if is_approved { Ok(()) } else { Err(why.to_owned()) }
    })
}

/// Of two that were planned at once the earlier goes on, and the other is taken back.
async fn yield_to_earlier(
    driver: &Driver<'_, StoredLog>,
    log: &StoredLog,
    plan: &Plan,
    saga: &Rebuild,
) -> anyhow::Result<()> {
    let all = log.all().await?;
    let begun = |id: &str| {
        let line = all.get(id)?.iter().find(|line| line.event == Event::Planned)?;
        Some((line.at_us, line.saga.clone()))
    };
    let own = begun(&plan.id());
    let others = all.values().filter_map(|lines| planned(lines));
    let mut others = others.filter(|(other, progress)| other.view == plan.view && progress.phase.is_open());
    if let Some((other, _)) = others.find(|(other, _)| begun(&other.id()) < own) {
        driver.undo(&plan.id(), saga).await?;
        return Err(RebuildError::UnderWay { view: plan.view.clone(), saga: other.id() }.into());
    }
    Ok(())
}

impl RebuildArgs {
    fn order(&self) -> anyhow::Result<Order> {
        if self.as_of.is_some() && self.swap {
            bail!(
                "--as-of is a look at the past: in the place of the view in use it would hide every reading since; leave --swap out"
            );
        }
        let mode = match (self.as_of, self.diff) {
            (Some(_), _) => Mode::AsOf,
            (None, true) => Mode::Diff,
            (None, false) => Mode::Swap,
        };
        Ok(Order {
            view: self.view.clone(),
            mode,
            machines: self.machines.clone(),
            from_us: self.from,
            to_us: self.to,
            as_of_us: self.as_of,
        })
    }

    fn tell(&self, plan: &Plan, phase: Phase, comparison: Option<Comparison>) -> anyhow::Result<u8> {
        let differs = comparison.as_ref().is_some_and(|comparison| comparison.different > 0);
        if self.drive.json() {
            let outcome = Outcome { saga: plan.id(), phase: phase.name(), plan, comparison };
            print(&format!("{}\n", serde_json::to_string_pretty(&outcome)?));
        } else {
            print(&said(plan, phase));
        }
        Ok(if plan.mode == Mode::Diff && differs { DIFFERENT } else { 0 })
    }
}

/// What a rebuild came to, for people.
pub(crate) fn said(plan: &Plan, phase: Phase) -> String {
    let (id, view) = (plan.id(), &plan.view);
    match (plan.mode, phase) {
        (Mode::Swap, Phase::Finished) => format!(
            "{view} is shown from {}; `stillwell saga undo {id}` goes back to {}, `stillwell saga forget {id}` removes that\n",
            plan.table, plan.old
        ),
        (Mode::AsOf, Phase::Finished) => format!(
            "{} in ClickHouse shows {view} as it was durable at {}; `stillwell saga forget {id}` removes it\n",
            plan.as_of_view(),
            plan.as_of_us.map(time).unwrap_or_default()
        ),
        (Mode::Diff, Phase::Finished) => String::new(),
        (_, Phase::Forward) => format!(
            "{view} is built as {}; `stillwell saga resume {id} --swap` puts it in place, `stillwell saga undo {id}` drops it\n",
            plan.table
        ),
        (_, phase) => format!("{id} is {}\n", phase.name()),
    }
}

impl PlaceArgs {
    /// The settings of ClickHouse, and what builds views there from the archive.
    ///
    /// # Errors
    /// Where there is no archive, or no ClickHouse is named.
    pub(crate) fn open(&self, config: &Config) -> anyhow::Result<(ClickHouseSettings, Rebuilder)> {
        let settings = self.clickhouse(config)?;
        let history = Arc::new(archive::Archive(self.archive.open(config)?));
        let rebuilder = Rebuilder::new(&settings, history);
        Ok((settings, rebuilder))
    }

    /// The settings of ClickHouse.
    ///
    /// # Errors
    /// Where none is named.
    pub(crate) fn clickhouse(&self, config: &Config) -> anyhow::Result<ClickHouseSettings> {
        let mut config = config.clone();
        if let Some(url) = &self.clickhouse {
            config.clickhouse.set_url(url);
        } else if config.clickhouse.url.is_empty() {
            let running = Endpoints::read(self.archive.data()).context(
                "no clickhouse: name it in the config, with --clickhouse, or by --data of a running stack",
            )?;
            config.clickhouse.set_url(&running.clickhouse);
        }
        Ok(stages::clickhouse_settings(&config))
    }
}

/// A bar of records, on a terminal.
pub(crate) fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{bar:30} {percent:>3}%  {human_pos} of {human_len} records, {per_sec}  {eta}  {msg}",
    );
    let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(TICK);
    bar
}

/// Shows on a bar how a rebuild goes on.
pub(crate) fn watch(bar: &ProgressBar) -> stillwell_aggregate::rebuild::Watch {
    let bar = bar.clone();
    Arc::new(move |note| match note {
        Note::Total(records) => {
            bar.set_position(0);
            bar.set_length(records);
        }
        Note::Folded(records) => bar.inc(records),
        Note::Waiting(why) => bar.set_message(why.to_owned()),
    })
}

#[allow(clippy::print_stdout)]
fn print(text: &str) {
    print!("{text}");
}

/// Asks on the terminal.
#[allow(clippy::print_stderr)]
fn ask(plan: &Plan) -> anyhow::Result<bool> {
    eprint!("show {} from {} instead of {}? [y/N] ", plan.view, plan.table, plan.old);
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: RebuildArgs,
    }

    fn order(words: &[&str]) -> anyhow::Result<Order> {
        Line::try_parse_from([&["rebuild", "readings_1h"][..], words].concat())?.args.order()
    }

    #[test]
    fn what_becomes_of_it_is_what_was_asked_for() {
        assert_eq!(order(&[]).unwrap().mode, Mode::Swap);
        assert_eq!(order(&["--diff"]).unwrap().mode, Mode::Diff);
        assert_eq!(order(&["--as-of", "7"]).unwrap().as_of_us, Some(7));
        assert!(order(&["--diff", "--swap"]).is_err() && order(&["--yes"]).is_err());
        let error = order(&["--as-of", "7", "--swap"]).unwrap_err();
        assert!(error.to_string().contains("leave --swap out"), "{error}");
    }
}
