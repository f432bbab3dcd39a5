//! What a user would do without us, on the same topic, broker and machine: a Python script that only
//! archives, and ClickHouse's own Kafka engine.

use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::fill::Filled;
use crate::http::clickhouse;
use crate::process;
use crate::result::rounded;
use crate::stack::Stack;

const SCRIPT: &str = "benches/peers/archive_script.py";
const STATEMENTS: &str = include_str!("../peers/clickhouse_engine.sql");
const STUCK_AFTER: Duration = Duration::from_secs(120);

/// Which peers.
#[derive(Args, Clone, Debug)]
pub(crate) struct PeerArgs {
    /// Run the peers on the same topic after
    #[arg(long)]
    pub(crate) peers: bool,
    /// Python of the script; benches/peers/setup.sh makes it
    #[arg(long, default_value = "benches/peers/.venv/bin/python", value_name = "FILE")]
    python: PathBuf,
}

/// Runs the peers; `ours` is our own rate, which theirs are compared with.
pub(crate) fn run(
    args: &PeerArgs,
    stack: &Stack,
    topic: &str,
    filled: &Filled,
    ours: f64,
) -> anyhow::Result<Value> {
    Ok(json!({
        "script": script(args, stack, topic, filled, ours)?,
        "clickhouse_kafka_engine": engine(stack, topic, filled, ours)?,
    }))
}

/// The script prints one line of JSON: seconds, CPU seconds, peak memory, readings. Its own seconds run from its first
/// record to its last commit.
pub(crate) fn script(
    args: &PeerArgs,
    stack: &Stack,
    topic: &str,
    filled: &Filled,
    ours: f64,
) -> anyhow::Result<Value> {
    let out = tempfile::tempdir_in(stack.archive().parent().context("the archive has a parent")?)?;
    let started = Instant::now();
    let output = Command::new(&args.python)
        .args([SCRIPT, &stack.at.kafka, topic])
        .arg(out.path())
        .arg(filled.readings.to_string())
        .output()
        .with_context(|| format!("cannot start {}; run benches/peers/setup.sh", args.python.display()))?;
    let seconds = started.elapsed().as_secs_f64();
    if !output.status.success() {
        bail!("the script failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let own: Value = serde_json::from_slice(&output.stdout).context("the script prints one line of JSON")?;
    let cpu_s = own["cpu_s"].as_f64().unwrap_or(f64::NAN);
    let mut result = compared(filled, seconds, cpu_s, ours);
    result["peak_rss_mib"] = own["peak_rss_mib"].clone();
    result["own_seconds"] = own["seconds"].clone();
    result["bytes_per_reading"] = json!(rounded(folder_bytes(out.path())? / filled.readings as f64));
    Ok(result)
}

fn engine(stack: &Stack, topic: &str, filled: &Filled, ours: f64) -> anyhow::Result<Value> {
    let count = "SELECT count() FROM peer.raw FORMAT TabSeparated";
    let result = fed(STATEMENTS, count, stack, topic, filled, ours)?;
    clickhouse(&stack.at.clickhouse, "DROP DATABASE peer SYNC")?;
    Ok(result)
}

/// Runs `text`, the last statement of which lets ClickHouse read the topic, and waits until `count` gives all readings:
/// how long that took, and what it cost. What the statements made stays.
pub(crate) fn fed(
    text: &str,
    count: &str,
    stack: &Stack,
    topic: &str,
    filled: &Filled,
    ours: f64,
) -> anyhow::Result<Value> {
    let at = &stack.at.clickhouse;
    let pid = stack.engines().into_iter().find(|(name, _)| *name == "clickhouse").map(|(_, pid)| pid);
    let cost = || pid.and_then(|pid| process::cost(pid).ok()).unwrap_or_default();
    let group = format!("peer-{}", std::process::id());
    if let Some(pid) = pid {
        process::reset_peak(pid)?;
    }
    let before = cost();
    let started = Instant::now();
    let text = text.replace("{brokers}", &stack.at.kafka).replace("{topic}", topic);
    for statement in statements(&text.replace("{group}", &group)) {
        clickhouse(at, &statement)?;
    }
    let mut seen = 0;
    let mut moved = Instant::now();
    while seen < filled.readings {
        thread::sleep(Duration::from_millis(200));
        // While it is out of memory it does not answer.
        let now = clickhouse(at, count).map_or(Ok(seen), |answer| answer.trim().parse())?;
        if now > seen {
            moved = Instant::now();
        } else if moved.elapsed() > STUCK_AFTER {
            bail!("ClickHouse's Kafka engine stands at {seen} of {} readings", filled.readings);
        }
        seen = now;
    }
    let seconds = started.elapsed().as_secs_f64();
    let cost = cost().since(before);
    let mut result = compared(filled, seconds, cost.cpu_s, ours);
    result["peak_rss_mib"] = json!(cost.peak_rss_mib.round());
    Ok(result)
}

fn compared(filled: &Filled, seconds: f64, cpu_s: f64, ours: f64) -> Value {
    let rate = filled.readings as f64 / seconds;
    json!({
        "seconds": rounded(seconds),
        "readings_per_s": rate.round(),
        "cpu_s_per_million": rounded(cpu_s / (filled.readings as f64 / 1e6)),
        "stillwell_is_faster_by": rounded(ours / rate),
    })
}

/// The statements of a text, each ended by a semicolon at the end of a line; lines of comment go.
pub(crate) fn statements(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("--")).collect();
    lines
        .join("\n")
        .split(";\n")
        .map(|statement| statement.trim().trim_end_matches(';').to_owned())
        .filter(|statement| !statement.is_empty())
        .collect()
}

fn folder_bytes(folder: &std::path::Path) -> anyhow::Result<f64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peers_statements_are_told_apart() {
        let statements = statements(STATEMENTS);
        assert_eq!(statements.len(), 6);
        assert!(statements[0].starts_with("CREATE DATABASE"));
        assert!(statements.iter().all(|s| s.starts_with("CREATE ") && !s.contains(';')));
    }
}
