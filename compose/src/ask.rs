//! The client side of a running stack: one HTTP request, and answers as people read them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::config::Config;
use crate::endpoints::Endpoints;

/// The server ends a statement before this.
const WITHIN: Duration = Duration::from_secs(120);

/// Which query side is asked.
#[derive(Args, Clone, Debug)]
pub struct AskedArgs {
    /// Data folder of the running stack
    #[arg(long, default_value = "stillwell-data", value_name = "DIR")]
    data: PathBuf,
    /// Base URL of a query side, such as http://plant:8080; without it, the stack on --data
    #[arg(long, value_name = "URL")]
    http: Option<String>,
}

impl AskedArgs {
    /// Its base URL: the flag's, the running stack's, or the config's.
    ///
    /// # Errors
    /// If none of them names one.
    pub fn base(&self, config: &Config) -> anyhow::Result<String> {
        if let Some(http) = &self.http {
            return Ok(http.clone());
        }
        let running = Endpoints::read(&self.data);
        match (running, config.query.http.is_empty()) {
            (Ok(Endpoints { http: Some(http), .. }), _) => Ok(http),
            (_, false) => Ok(format!("http://{}", config.query.http)),
            (Ok(_), true) => {
                bail!(
                    "the stack runs no query side; start one with `stillwell query` and name it with --http"
                )
            }
            (Err(error), true) => Err(error).context("no query side named with --http or in the config"),
        }
    }
}

/// How an answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Columns aligned for the eye.
    Table,
    /// CSV with a header.
    Csv,
    /// JSON as the server sends it.
    Json,
}

/// Asks one statement and prints its answer; the exit code is 2 where rows were cut off.
///
/// # Errors
/// What the server answers, or that there is none.
#[allow(clippy::print_stdout, clippy::print_stderr)]
pub fn print_sql(base: &str, statement: &str, format: Format) -> anyhow::Result<u8> {
    let accept = if format == Format::Csv { "text/csv" } else { "application/json" };
    let body = json!({ "sql": statement }).to_string();
    let answer = request(base, "POST", "/v1/sql", accept, &body)?;
    if answer.status != 200 {
        bail!("{}", error_of(&answer.body));
    }
    match format {
        Format::Table => print!("{}", table(&answer.json()?)?),
        Format::Csv | Format::Json => print!("{}", answer.body),
    }
    if !answer.is_truncated() {
        return Ok(0);
    }
    eprintln!("stillwell: more rows were cut off; ask for less, or raise [query] rows_max");
    Ok(2)
}

/// The answer to one statement as the server sends it, JSON of `max_rows` at most.
///
/// # Errors
/// What the server answers, or that there is none.
pub(crate) fn answer(base: &str, statement: &str, max_rows: usize) -> anyhow::Result<Value> {
    let body = json!({ "sql": statement, "max_rows": max_rows }).to_string();
    let answer = request(base, "POST", "/v1/sql", "application/json", &body)?;
    if answer.status != 200 {
        bail!("{}", error_of(&answer.body));
    }
    answer.json()
}

/// Prints health and watermarks; the exit code is 1 where a part has failed.
///
/// # Errors
/// If nothing answers.
#[allow(clippy::print_stdout)]
pub fn print_status(base: &str) -> anyhow::Result<u8> {
    let health = request(base, "GET", "/health", "application/json", "")?;
    let pipeline = request(base, "GET", "/v1/pipeline", "application/json", "")?;
    print!("{}", status(&health.json()?, &pipeline.json()?)?);
    Ok(u8::from(health.status != 200))
}

fn status(health: &Value, pipeline: &Value) -> anyhow::Result<String> {
    let mut out = format!("status: {}\n", health["status"].as_str().unwrap_or("unknown"));
    for (part, status) in health["parts"].as_object().into_iter().flatten() {
        let detail = status["detail"].as_str().unwrap_or_default();
        let state = status["state"].as_str().unwrap_or_default();
        out += format!("  {part}: {state} {detail}").trim_end();
        out.push('\n');
    }
    let names = ["topic", "partition", "end", "durable", "visible", "readings"];
    let rows = pipeline["partitions"].as_array().into_iter().flatten();
    let rows = rows.map(|row| names.iter().map(|name| row[*name].clone()).collect()).collect();
    let columns = names.map(|name| json!({ "name": name }));
    out += &table(&json!({ "columns": columns, "rows": Value::Array(rows) }))?;
    Ok(out)
}

fn error_of(answer: &str) -> String {
    let parsed: Value = serde_json::from_str(answer).unwrap_or_default();
    let error = &parsed["error"];
    let Some(message) = error["message"].as_str() else { return answer.trim().to_owned() };
    match (error["position"]["line"].as_u64(), error["position"]["column"].as_u64()) {
        (Some(line), Some(column)) => format!("line {line}, column {column}: {message}"),
        _ => message.to_owned(),
    }
}

/// An answer aligned for the eye: its `columns` with their names, and its `rows`.
pub(crate) fn table(answer: &Value) -> anyhow::Result<String> {
    let columns = answer["columns"].as_array().context("the answer has no columns")?;
    let mut lines: Vec<Vec<String>> = vec![columns.iter().map(|c| text(&c["name"])).collect()];
    for row in answer["rows"].as_array().context("the answer has no rows")? {
        lines.push(row.as_array().context("a row is no list")?.iter().map(text).collect());
    }
    let width = |i: usize| lines.iter().map(|line| line[i].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut out = String::new();
    for (n, line) in lines.iter().enumerate() {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        out += cells.join("  ").trim_end();
        out.push('\n');
        if n == 0 {
            out += &widths.iter().map(|&width| "─".repeat(width)).collect::<Vec<_>>().join("  ");
            out.push('\n');
        }
    }
    Ok(out)
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What a server answered.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.body).context("the answer is not JSON")
    }

    fn is_truncated(&self) -> bool {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines
            .any(|(name, value)| name.eq_ignore_ascii_case("x-stillwell-truncated") && value.trim() == "true")
    }
}

/// HTTP/1.0, so that the answer comes whole and ends with the connection.
fn request(base: &str, method: &str, path: &str, accept: &str, body: &str) -> anyhow::Result<Answer> {
    let host = base.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(host).with_context(|| format!("nothing answers at {base}"))?;
    stream.set_read_timeout(Some(WITHIN))?;
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nhost: {host}\r\naccept: {accept}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(|| format!("no whole answer from {base}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
    let status =
        head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("the answer is not HTTP")?;
    Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned() {
        let answer =
            json!({"columns": [{"name": "machine"}, {"name": "n"}], "rows": [["press-07", 3], [null, 12]]});
        assert_eq!(table(&answer).unwrap(), "machine   n\n────────  ──\npress-07  3\n          12\n");
    }

    #[test]
    fn errors_say_where() {
        let answer = r#"{"error":{"message":"no such column","position":{"line":2,"column":5}}}"#;
        assert_eq!(error_of(answer), "line 2, column 5: no such column");
    }

    #[test]
    fn a_cut_off_answer_is_told_by_its_head() {
        let answer = |head: &str| Answer { status: 200, head: head.to_owned(), body: String::new() };
        assert!(answer("HTTP/1.0 200 OK\r\nX-Stillwell-Truncated: true\r\n").is_truncated());
        assert!(!answer("HTTP/1.0 200 OK\r\nx-stillwell-truncated: false").is_truncated());
        assert!(!answer("HTTP/1.0 200 OK").is_truncated());
    }

    #[test]
    fn status_lists_parts_and_partitions() {
        let health = json!({"status": "ok", "parts": {"ingest": {"state": "ok", "detail": ""}}});
        let row =
            json!({"topic": "t", "partition": 0, "end": 9, "durable": 8, "visible": null, "readings": 7});
        let text = status(&health, &json!({"partitions": [row]})).unwrap();
        assert!(text.starts_with("status: ok\n  ingest: ok\ntopic  partition"), "{text}");
        assert!(text.ends_with("t      0          9    8                 7\n"), "{text}");
    }
}
