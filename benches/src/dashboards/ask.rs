//! How long an answer takes, from the question's first byte to the answer's last, connection and all.

use std::time::{Duration, Instant};

use anyhow::Context;
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};

use crate::http;
use crate::result;

const QUANTILES: [(&str, f64); 2] = [("p50_ms", 0.5), ("p95_ms", 0.95)];

/// Each question counts with so many of its latencies, evenly from the smallest to the largest, however often it was
/// asked.
const WEIGHT: u32 = 20;

/// How often a question is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    pub(super) times: u64,
    /// It is asked no more often than fits into this.
    pub(super) seconds: f64,
}

/// Who is asked.
#[derive(Clone, Debug)]
pub(super) enum Route {
    /// ClickHouse over HTTP, the views of a database.
    ClickHouse { url: String, database: &'static str },
    /// The query side's `/v1/sql`.
    Sql { http: String },
}

impl Route {
    /// What stands before a view's name.
    pub(super) fn prefix(&self) -> String {
        match self {
            Self::ClickHouse { database, .. } => format!("{database}."),
            Self::Sql { .. } => String::new(),
        }
    }

    /// The views of totals that add up, but for the width. The query side takes the parts by itself.
    pub(super) fn totals(&self) -> &'static str {
        match self {
            Self::ClickHouse { .. } => "fleet_parts_",
            Self::Sql { .. } => "fleet_",
        }
    }

    /// A time as a statement writes it.
    pub(super) fn literal(&self, time: DateTime<Utc>) -> String {
        match self {
            Self::ClickHouse { .. } => {
                format!("fromUnixTimestamp64Micro({}, 'UTC')", time.timestamp_micros())
            }
            Self::Sql { .. } => format!("'{}'", time.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
        }
    }

    /// The latencies of a question whose `n`th form `text` gives; the first is asked before, as a dashboard that is open
    /// has been asking.
    pub(super) fn time(
        &self,
        effort: &Effort,
        text: impl Fn(u64) -> String,
    ) -> anyhow::Result<Vec<Duration>> {
        self.ask(&text(0))?;
        let began = Instant::now();
        let mut latencies = Vec::new();
        for n in 1..=effort.times {
            if began.elapsed().as_secs_f64() > effort.seconds {
                break;
            }
            let text = text(n);
            let asked = Instant::now();
            self.ask(&text)?;
            latencies.push(asked.elapsed());
        }
        Ok(latencies)
    }

    fn ask(&self, text: &str) -> anyhow::Result<String> {
        match self {
            Self::ClickHouse { url, .. } => http::clickhouse(url, &format!("{text} FORMAT JSONCompact")),
            Self::Sql { http } => {
                http::post(http, "/v1/sql", "application/json", &json!({ "sql": text }).to_string())
            }
        }
    }
}

/// The rows of a statement's answer over `/v1/sql`.
pub(super) fn rows(http: &str, sql: &str) -> anyhow::Result<Vec<Value>> {
    let answer = Route::Sql { http: http.to_owned() }.ask(sql).with_context(|| sql.to_owned())?;
    let mut answer: Value = serde_json::from_str(&answer)?;
    match answer["rows"].take() {
        Value::Array(rows) => Ok(rows),
        other => anyhow::bail!("{sql} has no rows but {other}"),
    }
}

/// What was answered how fast.
#[derive(Default)]
pub(super) struct Answers {
    each: Map<String, Value>,
    all: Vec<Duration>,
    failed: u64,
}

impl Answers {
    /// Takes a question's latencies in, or says why there are none.
    pub(super) fn take(&mut self, name: &str, latencies: anyhow::Result<Vec<Duration>>) {
        let told = match latencies {
            Ok(mut latencies) => {
                latencies.sort_unstable();
                self.all.extend(evenly(&latencies));
                let runs = latencies.len();
                let mut told = result::quantiles(latencies, &QUANTILES);
                told.insert("runs".into(), json!(runs));
                Value::Object(told)
            }
            Err(error) => {
                self.failed += 1;
                json!({ "error": format!("{error:#}") })
            }
        };
        eprintln!("{name}: {told}");
        self.each.insert(name.to_owned(), told);
    }

    /// All of them, and together.
    pub(super) fn describe(self) -> Value {
        let mut all = result::quantiles(self.all, &QUANTILES);
        all.insert("failed".into(), json!(self.failed));
        json!({ "each": self.each, "all": all })
    }
}

/// [`WEIGHT`] of these, which are sorted.
fn evenly(latencies: &[Duration]) -> impl Iterator<Item = Duration> + '_ {
    (0..WEIGHT).filter_map(|i| {
        let at = (f64::from(i) + 0.5) / f64::from(WEIGHT) * latencies.len() as f64;
        latencies.get(at as usize).copied()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_question_counts_the_same_however_often_it_was_asked() {
        let ms = |n: u64| Duration::from_millis(n);
        let mut answers = Answers::default();
        answers.take("slow", Ok(vec![ms(100)]));
        answers.take("fast", Ok((0..1000).map(|_| ms(1)).collect()));
        answers.take("wrong", Err(anyhow::anyhow!("no such view")));
        let told = answers.describe();
        assert_eq!((&told["all"]["p50_ms"], &told["all"]["p95_ms"]), (&json!(100.0), &json!(100.0)));
        assert_eq!(told["all"]["failed"], 1);
        assert_eq!(told["each"]["fast"]["runs"], 1000);
        assert_eq!(evenly(&[]).count(), 0);
    }

    #[test]
    fn times_are_written_as_each_side_reads_them() {
        let time = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
        let direct = Route::ClickHouse { url: String::new(), database: "peer" };
        assert_eq!(direct.literal(time), "fromUnixTimestamp64Micro(1767225600000000, 'UTC')");
        assert_eq!(direct.prefix(), "peer.");
        assert_eq!(Route::Sql { http: String::new() }.literal(time), "'2026-01-01T00:00:00Z'");
    }
}
