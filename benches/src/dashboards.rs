//! What dashboards wait for: their questions over a year of 10,000 series, asked of ClickHouse's views and of
//! `/v1/sql`, and beside them the same of ClickHouse's own aggregating views.
//!
//! Two parts. [`side_by_side`] puts readings into Kafka, lets our aggregator and ClickHouse's Kafka engine with
//! AggregatingMergeTree views make windows of them, and compares what that costs, what it holds and how fast it
//! answers. [`plant`] then empties our tables and fills them straight with a year of windows, as much of it as the disk
//! may take, for the [`questions`] of a plant's dashboards and the statements of the Grafana dashboards. [`ask`] times
//! the answers.

mod ask;
#[path = "../../compose/tests/e2e/panels/grafana.rs"]
#[allow(dead_code, reason = "the tests of the dashboards ask for more of it")]
mod grafana;
mod plant;
mod questions;
mod side_by_side;

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::{Value, json};
use stillwell_schema::{Clock, SystemClock};

use crate::result::{self, ResultArgs};
use crate::stack::{Stack, StackArgs};
use ask::{Answers, Effort, Route};
use plant::PlantArgs;
use questions::Subject;

/// The database of the views.
const DATABASE: &str = "stillwell";

/// How much is there, and how often it is asked for.
#[derive(Args, Clone, Debug)]
pub(crate) struct DashboardsArgs {
    #[command(flatten)]
    plant: PlantArgs,
    /// How often each question is asked
    #[arg(long, default_value_t = 50)]
    times: u64,
    /// A question is asked no more often than fits into this
    #[arg(long, default_value_t = 8.0, value_name = "SECONDS")]
    seconds: f64,
    /// Readings that our aggregator and ClickHouse's own views get; 0 leaves that part out
    #[arg(long, default_value_t = 20_000_000)]
    peer_readings: u64,
    #[command(flatten)]
    stack: StackArgs,
    #[command(flatten)]
    result: ResultArgs,
}

/// Measures and keeps the result.
pub(crate) fn run(args: &DashboardsArgs) -> anyhow::Result<()> {
    let stack = Stack::open(&args.stack, "query")?;
    if stack.is_running_before() {
        bail!("the tables are emptied and filled anew; leave --data away");
    }
    let effort = Effort { times: args.times, seconds: args.seconds };
    plant::keep_for_ever(&stack.at.clickhouse)?;
    let side_by_side = match args.peer_readings {
        0 => Value::Null,
        readings => side_by_side::run(&stack, &args.stack.topic, readings, &effort)?,
    };
    let now_s = SystemClock.now_us() / 1_000_000;
    let filled = plant::fill(&args.plant, &stack.at.clickhouse, now_s - now_s % 3600)?;
    let mut result = answers(&stack, &filled.subject, &effort)?;
    result["filled"] = filled.told;
    result["side_by_side"] = side_by_side;
    result::keep("dashboards", &args.result, result)
}

/// Every question on both routes, then what Grafana asks.
fn answers(stack: &Stack, subject: &Subject, effort: &Effort) -> anyhow::Result<Value> {
    let http = stack.at.http.clone().context("the stack has no query side")?;
    let direct = Route::ClickHouse { url: stack.at.clickhouse.clone(), database: DATABASE };
    let sql = Route::Sql { http: http.clone() };
    let mut told = json!({});
    for (name, route) in [("clickhouse", &direct), ("sql", &sql)] {
        let mut answers = Answers::default();
        for question in questions::ALL {
            answers.take(question.name, route.time(effort, |n| question.text(route, subject, n)));
        }
        told[name] = answers.describe();
    }
    let mut grafana = Answers::default();
    for (name, statement) in questions::of_grafana(&http, subject)? {
        grafana.take(&name, sql.time(effort, |_| statement.clone()));
    }
    told["grafana"] = grafana.describe();
    Ok(told)
}

/// A time of whole seconds.
fn time(seconds: i64) -> anyhow::Result<DateTime<Utc>> {
    DateTime::from_timestamp(seconds, 0).context("no such time")
}
