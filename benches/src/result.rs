//! What came out: one line of JSON per measure, with the machine, the commit and the command.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde_json::{Map, Value, json};
use stillwell_schema::{Clock, SystemClock};

/// Where results go.
#[derive(Args, Clone, Debug)]
pub(crate) struct ResultArgs {
    /// Folder of the result files
    #[arg(long, default_value = "benches/results", value_name = "DIR")]
    pub(crate) results: PathBuf,
    /// Name of the result file, after the date; the measure's own name by default
    #[arg(long)]
    pub(crate) name: Option<String>,
}

/// Prints a result and appends it to `<results>/<date>-<name>.jsonl`.
pub(crate) fn keep(measure: &str, args: &ResultArgs, result: Value) -> anyhow::Result<()> {
    let now = chrono::DateTime::from_timestamp_micros(SystemClock.now_us()).unwrap_or_default();
    let line = json!({
        "measure": measure,
        "time": now.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        "commit": commit(),
        "command": command(),
        "machine": machine(),
        "result": result,
    });
    println_pretty(&line["result"])?;
    let name = args.name.as_deref().unwrap_or(measure);
    let path = args.results.join(format!("{}-{name}.jsonl", now.format("%Y-%m-%d")));
    fs::create_dir_all(&args.results)?;
    let mut file = fs::File::options().create(true).append(true).open(&path)?;
    writeln!(file, "{line}").with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("kept in {}", path.display());
    Ok(())
}

fn println_pretty(value: &Value) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(value)?)?;
    Ok(())
}

/// Options that say where a measure was run, which is nothing to its result.
const PLACES: [&str; 2] = ["--work", "--results"];

/// The command, wherever it was run.
fn command() -> String {
    let mut told = env!("CARGO_BIN_NAME").to_owned();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if PLACES.contains(&argument.as_str()) {
            arguments.next();
        } else {
            told = format!("{told} {argument}");
        }
    }
    told
}

/// `n` with three digits after the point.
pub(crate) fn rounded(n: f64) -> f64 {
    (n * 1000.0).round() / 1000.0
}

/// Quantiles of latencies by name, ms; null where there are none.
pub(crate) fn quantiles(mut latencies: Vec<Duration>, of: &[(&str, f64)]) -> Map<String, Value> {
    latencies.sort_unstable();
    let last = latencies.len().saturating_sub(1);
    let at = |q: f64| latencies.get((q * last as f64).round() as usize);
    let ms = |latency: &Duration| rounded(latency.as_secs_f64() * 1000.0);
    of.iter().map(|&(name, q)| (name.to_owned(), json!(at(q).map(ms)))).collect()
}

fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok().filter(|o| o.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".to_owned() };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|s| !s.is_empty());
    if changed { commit + "+changes" } else { commit }
}

fn machine() -> Value {
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(file).ok()?;
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let memory_kib = field("/proc/meminfo", "MemTotal")
        .and_then(|text| text.trim_end_matches("kB").trim().parse::<f64>().ok());
    json!({
        "cpu": field("/proc/cpuinfo", "model name"),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "memory_gib": memory_kib.map(|kib| (kib / 1_048_576.0 * 10.0).round() / 10.0),
    })
}
