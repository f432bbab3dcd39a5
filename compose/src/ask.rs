//! The client side of a running stack: one HTTP request, and answers as people read them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};

/// The server ends a statement before this.
const WITHIN: Duration = Duration::from_secs(120);

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

/// Asks one statement.
///
/// # Errors
/// What the server answers, or that there is none.
pub fn sql(base: &str, statement: &str, format: Format) -> anyhow::Result<String> {
    let accept = if format == Format::Csv { "text/csv" } else { "application/json" };
    let body = json!({ "sql": statement }).to_string();
    let (status, answer) = request(base, "POST", "/v1/sql", accept, &body)?;
    if status != 200 {
        bail!("{}", error_of(&answer));
    }
    match format {
        Format::Table => table(&serde_json::from_str(&answer).context("the answer is not JSON")?),
        Format::Csv | Format::Json => Ok(answer),
    }
}

/// Health and watermarks, for the eye.
///
/// # Errors
/// If nothing answers.
pub fn status(base: &str) -> anyhow::Result<String> {
    let (_, health) = request(base, "GET", "/health", "application/json", "")?;
    let health: Value = serde_json::from_str(&health).context("the answer is not JSON")?;
    let mut out = format!("status: {}\n", health["status"].as_str().unwrap_or("unknown"));
    for (part, status) in health["parts"].as_object().into_iter().flatten() {
        let detail = status["detail"].as_str().unwrap_or_default();
        out += &format!("  {part}: {} {detail}\n", status["state"].as_str().unwrap_or_default());
    }
    let (_, pipeline) = request(base, "GET", "/v1/pipeline", "application/json", "")?;
    let pipeline: Value = serde_json::from_str(&pipeline).context("the answer is not JSON")?;
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

fn table(answer: &Value) -> anyhow::Result<String> {
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
    if answer["truncated"] == true {
        out += "… more rows were cut off; add a limit or ask for less\n";
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

/// Status and body. HTTP/1.0, so that the answer comes whole and ends with the connection.
fn request(base: &str, method: &str, path: &str, accept: &str, body: &str) -> anyhow::Result<(u16, String)> {
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
    Ok((status, body.to_owned()))
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
}
