//! `stillwell reconcile`: the views against the archive, in a process of its own that only reads.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use stillwell_query::reconcile::{Outcome, Pace, Reconciler, Scope, Verdict};

use crate::config::Config;
use crate::evidence::parse_time;
use crate::stages;

/// Shown under `--help`.
pub const EXAMPLES: &str = "\
Examples:
  stillwell reconcile                                     all hours and machines, of the stack on stillwell-data
  stillwell reconcile --machine press-07 --from 2026-11-25T06:00:00Z --to 2026-11-25T12:00:00Z
  stillwell reconcile --json > differences.json

Each window of readings_1h must hold what the archive holds of its series and hour, up to the same offset: counts, least
and largest values to the last bit, sums but for rounding. What the archive has not come as far for is pending, not
wrong. What retention has erased from the archive, by the tombstones of its ledger, is erased, not wrong. The query
side does the same in the background ([reconcile] in the config):
select * from reconciliation where state = 'differs'.

Exit code: 0 nothing differs, 1 something does, 2 it could not be compared.";

/// Differences that are shown to people; JSON has all.
const SHOWN_MAX: usize = 50;

/// What is compared.
#[derive(Args, Clone, Debug)]
pub struct ReconcileArgs {
    /// Data folder of the stack whose servers and archive are used where the config names none
    #[arg(long, default_value = "stillwell-data", value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// ClickHouse, as http://user:password@host:port
    #[arg(long, value_name = "URL")]
    pub(crate) clickhouse: Option<String>,
    /// Hours from the one that holds this time on: RFC 3339, or µs since the epoch
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    from: Option<i64>,
    /// Hours that start before this time
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    to: Option<i64>,
    /// One machine alone
    #[arg(long)]
    machine: Option<String>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Debug, Default, Serialize)]
struct Report {
    hours: usize,
    /// Machines times hours by what was found of them.
    equal: usize,
    pending: usize,
    refused: usize,
    erased: usize,
    differing: usize,
    archive_readings: u64,
    differences: Vec<Outcome>,
}

/// Compares, and says how the process exits. Neither equal nor different is what could not be compared.
///
/// # Errors
/// If the runtime cannot be started.
#[allow(clippy::print_stdout, clippy::print_stderr)]
pub fn run(args: &ReconcileArgs, config: &Config) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = match runtime.block_on(compare(args, config)) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("stillwell: views and archive were not compared: {error:#}");
            return Ok(2);
        }
    };
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => print!("{}", text(&report)),
    }
    Ok(u8::from(report.differing > 0))
}

async fn compare(args: &ReconcileArgs, config: &Config) -> anyhow::Result<Report> {
    let settings = stages::query_settings(config, &args.data, (0, 0))?;
    let reconciler = Reconciler::new(&settings, stages::clock())?;
    let scope = Scope { from_us: args.from, until_us: args.to, machine: args.machine.clone() };
    let hours = reconciler.hours(&scope).await?;
    let bar = bar(hours.len());
    let mut report = Report { hours: hours.len(), ..Report::default() };
    for hour_us in hours {
        report.add(reconciler.check(hour_us, args.machine.as_deref(), Pace::Full).await?);
        bar.set_message(format!("{} differ", report.differing));
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(report)
}

impl Report {
    fn add(&mut self, outcomes: Vec<Outcome>) {
        for outcome in outcomes {
            self.archive_readings += outcome.archive_count;
            match outcome.state {
                Verdict::Equal => self.equal += 1,
                Verdict::Pending => self.pending += 1,
                Verdict::Refused => self.refused += 1,
                Verdict::Erased => self.erased += 1,
                Verdict::Differs => {
                    self.differing += 1;
                    self.differences.push(outcome);
                }
            }
        }
    }
}

fn bar(hours: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {percent:>3}%  {pos} of {len} hours, {msg}  {eta}");
    let bar = ProgressBar::new(hours as u64);
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())).with_message("0 differ")
}

/// A line for each difference, and one for all.
fn text(report: &Report) -> String {
    let mut out = String::new();
    for one in report.differences.iter().take(SHOWN_MAX) {
        let hour = chrono::DateTime::from_timestamp_micros(one.hour_us);
        let hour = hour.map_or_else(
            || format!("{} µs", one.hour_us),
            |hour| hour.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        );
        let _ = writeln!(
            out,
            "{hour}  {}: {} readings in the archive, {} in the views; sums {} and {}; {}",
            one.machine, one.archive_count, one.view_count, one.archive_sum, one.view_sum, one.detail
        );
    }
    if report.differences.len() > SHOWN_MAX {
        let _ = writeln!(out, "… and {} more; --json lists all", report.differences.len() - SHOWN_MAX);
    }
    let _ = writeln!(
        out,
        "{} hours, {} readings: of machines and hours {} are equal, {} pending, {} refused, {} erased, {} differ",
        report.hours,
        report.archive_readings,
        report.equal,
        report.pending,
        report.refused,
        report.erased,
        report.differing
    );
    if report.differences.iter().any(|one| one.lacking > 0) {
        let _ = writeln!(
            out,
            "the archive lacks readings that the views have; a rebuild would lose them: has retention erased them? \
             stillwell verify says whether the archive is whole"
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(state: Verdict) -> Outcome {
        Outcome {
            machine: "press-07".to_owned(),
            hour_us: 1_795_600_800_000_000,
            archive_count: 3,
            view_count: 4,
            archive_sum: 1.5,
            view_sum: 2.5,
            state,
            lacking: 0,
            detail: "oil: 4 readings, the archive holds 3".to_owned(),
            checked_us: 0,
        }
    }

    #[test]
    fn differences_name_machine_and_hour() {
        let mut report = Report { hours: 1, ..Report::default() };
        report.add(vec![outcome(Verdict::Differs), outcome(Verdict::Equal), outcome(Verdict::Pending)]);
        let text = text(&report);
        let (first, last) = text.split_once('\n').unwrap();
        assert!(first.starts_with("2026-11-25T"), "{first}");
        assert!(first.contains("press-07: 3 readings in the archive, 4 in the views"), "{first}");
        assert!(last.contains("1 are equal, 1 pending, 0 refused, 0 erased, 1 differ"), "{last}");
        assert!(serde_json::to_string(&report).unwrap().contains(r#""state":"differs""#));
    }
}
