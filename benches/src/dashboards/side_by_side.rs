//! The same readings from Kafka by our aggregator and by ClickHouse's own means: AggregatingMergeTree tables behind
//! materialized views, of the same four widths and with quantiles of the same relative error.
//!
//! Neither keeps the readings, and nothing is scored, as ClickHouse's own way does not score.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::DATABASE;
use super::ask::{Answers, Effort, Route};
use super::questions::{self, Question, Subject};
use crate::fill::{self, Filled};
use crate::http::clickhouse;
use crate::peers;
use crate::result::rounded;
use crate::shape::{MACHINES, ShapeArgs};
use crate::stack::Stack;
use crate::stages::{self, AGGREGATE, Marks};
use crate::watch::Views;

const PER_RECORD: u64 = 1000;
const UNSCORED: &str = "[scoring]\nenabled = false\n";

const HEAD_AND_TAIL: &str = include_str!("../../peers/clickhouse_views.sql");
const WINDOW: &str = include_str!("../../peers/clickhouse_window.sql");
const WIDTHS: [(&str, &str); 4] =
    [("10s", "10 SECOND"), ("1m", "1 MINUTE"), ("1h", "1 HOUR"), ("1d", "1 DAY")];

/// The database of ClickHouse's own.
const PEER: &str = "peer_views";

/// The last block may be in one table before it is in another.
const WHOLE_WITHIN: Duration = Duration::from_secs(60);

/// The form of a question that a side is asked.
type Form = fn(&Question, &Route, &Subject, u64) -> String;

/// Fills the topic, lets both take it in, and asks both.
pub(super) fn run(stack: &Stack, topic: &str, readings: u64, effort: &Effort) -> anyhow::Result<Value> {
    let filled = fill::fill(&stack.at.kafka, topic, &ShapeArgs { readings, per_record: PER_RECORD })?;
    let (mut ours, rate) = ours(stack, topic, &filled)?;
    let mut theirs = theirs(stack, topic, &filled, rate)?;
    let url = &stack.at.clickhouse;
    let subject = Subject { machines: MACHINES, whole: 0, now: super::time(latest(url)? + 1)?, days: 1 };
    let sides: [(&mut Value, &'static str, Form); 2] =
        [(&mut ours, DATABASE, Question::text), (&mut theirs, PEER, Question::peer_text)];
    for (told, database, form) in sides {
        let route = Route::ClickHouse { url: url.clone(), database };
        let mut answers = Answers::default();
        for question in questions::common() {
            answers.take(question.name, route.time(effort, |n| form(question, &route, &subject, n)));
        }
        told["questions"] = answers.describe();
    }
    clickhouse(url, &format!("DROP DATABASE {PEER} SYNC"))?;
    Ok(json!({ "readings": filled.readings, "stillwell": ours, "aggregating_merge_tree": theirs }))
}

/// What our aggregator takes, and how many readings it takes a second.
fn ours(stack: &Stack, topic: &str, filled: &Filled) -> anyhow::Result<(Value, f64)> {
    let ends = fill::ends(&stack.at.kafka, topic)?;
    let views =
        || Views { clickhouse: stack.at.clickhouse.clone(), topic: topic.to_owned(), partitions: ends.len() };
    let mut marks = Marks::new(&[AGGREGATE], stack.archive(), views(), topic, ends.len())?;
    let engines = stages::engine_costs(stack);
    let started = Instant::now();
    let mut running = [stack.stage_by(AGGREGATE, UNSCORED)?];
    let seconds = marks.wait(&ends, started, &mut running)?.last_done();
    let process = running[0].cost()?;
    let engines = stages::engines(stack, &engines, filled);
    drop(running);
    let (views, rate) = (views(), filled.readings as f64 / seconds);
    let seen = views.readings()?;
    if seen != filled.readings {
        bail!("the views hold {seen} of {} readings", filled.readings);
    }
    views.settle()?;
    let process = stages::cost(process, filled);
    let cpu = |of: &Value| of["cpu_s_per_million"].as_f64().unwrap_or(f64::NAN);
    let told = json!({
        "seconds": rounded(seconds),
        "readings_per_s": rate.round(),
        "cpu_s_per_million": rounded(cpu(&process) + cpu(&engines["clickhouse"])),
        "aggregate": process,
        "engines": engines,
        "bytes_per_reading": bytes_per_reading(&stack.at.clickhouse, DATABASE, filled)?,
    });
    Ok((told, rate))
}

/// What ClickHouse takes by itself.
fn theirs(stack: &Stack, topic: &str, filled: &Filled, rate: f64) -> anyhow::Result<Value> {
    let url = &stack.at.clickhouse;
    let count = |table: &str| format!("SELECT countMerge(readings) FROM {PEER}.{table} FORMAT TabSeparated");
    let mut told = peers::fed(&text(), &count("by_1d"), stack, topic, filled, rate)?;
    let until = Instant::now() + WHOLE_WITHIN;
    for (width, _) in WIDTHS {
        let count = count(&format!("by_{width}"));
        // A block that is repeated for one view is doubled in the others.
        let counted = loop {
            let asked = clickhouse(url, &count);
            let is_over = Instant::now() > until;
            // Its own merges may have all memory for a moment.
            let is_full = |error: &anyhow::Error| format!("{error:#}").contains("MEMORY_LIMIT_EXCEEDED");
            let counted = match asked {
                Err(error) if is_full(&error) && !is_over => 0,
                asked => asked?.trim().parse::<u64>()?,
            };
            if counted >= filled.readings {
                break counted;
            }
            if is_over {
                bail!("ClickHouse's own windows of {width} hold {counted} of {} readings", filled.readings);
            }
            thread::sleep(Duration::from_millis(200));
        };
        told["counted"][width] = json!(counted);
    }
    // Its asking Kafka for more is no part of its answers' time.
    clickhouse(url, &format!("DROP TABLE {PEER}.to_raw SYNC"))?;
    Views { clickhouse: url.clone(), topic: topic.to_owned(), partitions: 0 }.settle()?;
    told["bytes_per_reading"] = bytes_per_reading(url, PEER, filled)?;
    Ok(told)
}

/// All statements; the last lets the readings in.
fn text() -> String {
    let windows =
        WIDTHS.map(|(width, interval)| WINDOW.replace("{width}", width).replace("{interval}", interval));
    HEAD_AND_TAIL.replace("{windows}\n", &windows.concat())
}

/// Bytes on disk of a database for each reading.
fn bytes_per_reading(url: &str, database: &str, filled: &Filled) -> anyhow::Result<Value> {
    let sql = format!(
        "SELECT sum(bytes_on_disk) FROM system.parts WHERE database = '{database}' AND active FORMAT TabSeparated"
    );
    let bytes: f64 = clickhouse(url, &sql)?.trim().parse()?;
    Ok(json!(rounded(bytes / filled.readings as f64)))
}

/// When the last reading was measured, seconds since the epoch.
fn latest(url: &str) -> anyhow::Result<i64> {
    let sql = format!("SELECT toUnixTimestamp(max(time)) FROM {DATABASE}.latest FORMAT TabSeparated");
    clickhouse(url, &sql)?.trim().parse().context("no reading is visible")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readings_are_let_in_by_the_last_statement() {
        let statements = peers::statements(&text());
        assert_eq!(statements.len(), 7 + 3 * WIDTHS.len());
        assert!(statements.iter().all(|s| s.starts_with("CREATE ") && !s.contains(';')));
        assert!(statements.iter().all(|s| !s.contains("{w") && !s.contains("{i")));
        assert!(
            statements.last().is_some_and(|s| s.starts_with("CREATE MATERIALIZED VIEW peer_views.to_raw "))
        );
    }
}
