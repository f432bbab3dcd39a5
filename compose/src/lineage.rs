//! `stillwell lineage`: a view's cell, the rows behind it, and the readings that it was made of, asked of a running
//! query side in SQL.

mod show;

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use serde_json::Value;

use crate::ask;
use crate::evidence::parse_time;

pub(crate) const EXAMPLES: &str = "\
Examples:
  stillwell lineage --machine press-07 --sensor oil --at 2026-11-25T06:00:00Z
  stillwell lineage --machine press-07 --sensor oil --at 2026-11-25T06:00:00Z --view readings_1h --limit 20
  stillwell lineage --machine press-07 --sensor oil --at 2026-11-25T06:00:00Z --json > lineage.json
  stillwell sql \"select trace_id, * from lineage('press-07', 'oil', '2026-11-25T06:00:00Z', 'readings_1m')\"

Exit code: 0 all of it is shown, 1 there is nothing of that series in that window, 2 readings beyond --limit are left
out.";

/// Which cell, and how it is shown.
#[derive(Args, Clone, Debug)]
pub(crate) struct CellArgs {
    /// The machine
    #[arg(long)]
    machine: String,
    /// The sensor
    #[arg(long)]
    sensor: String,
    /// Any time in the window: RFC 3339, or µs since 1970 UTC
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_negative_numbers = true)]
    at: i64,
    /// The view
    #[arg(long, default_value = "readings_10s",
        value_parser = ["readings_10s", "readings_1m", "readings_1h", "readings_1d"])]
    view: String,
    /// Readings at most
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: usize,
    /// JSON instead of a tree
    #[arg(long)]
    json: bool,
}

/// What is known of a cell: rows as objects by their columns' names.
#[derive(Debug, Serialize)]
struct Lineage {
    machine: String,
    sensor: String,
    view: String,
    /// The view's own row; none where it shows none.
    cell: Option<Value>,
    /// One for each source partition.
    windows: Vec<Value>,
    /// By partition, offset and index.
    readings: Vec<Value>,
    /// Whether there are more readings.
    truncated: bool,
}

/// Asks the query side at `base` and prints what it says.
///
/// # Errors
/// What the server answers, or that there is none.
#[allow(clippy::print_stdout, clippy::print_stderr)]
pub(crate) fn run(args: &CellArgs, base: &str) -> anyhow::Result<u8> {
    let lineage = look(args, base)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&lineage)?);
    } else {
        print!("{}", show::tree(&lineage));
    }
    if lineage.truncated {
        eprintln!("stillwell: more readings were left out; raise --limit to see them");
        return Ok(2);
    }
    Ok(u8::from(lineage.windows.is_empty() && lineage.readings.is_empty()))
}

fn look(args: &CellArgs, base: &str) -> anyhow::Result<Lineage> {
    let CellArgs { machine, sensor, at, view, .. } = args.clone();
    let of = format!("{}, {}", literal(&machine), literal(&sensor));
    let cell = format!("{of}, {at}, {}", literal(&view));
    let rows = |sql: String, limit| -> anyhow::Result<_> { objects(&ask::answer(base, &sql, limit)?) };
    let (windows, _) =
        rows(format!("SELECT * FROM lineage_windows({cell}) ORDER BY topic, \"partition\""), usize::MAX)?;
    let order = "topic, \"partition\", \"offset\", \"index\"";
    let (readings, truncated) = rows(format!("SELECT * FROM lineage({cell}) ORDER BY {order}"), args.limit)?;
    let start = windows.first().or(readings.first()).and_then(|row| row["window_start"].as_str());
    let cell = match start {
        Some(start) => {
            let is_it = format!("machine = {} AND sensor = {}", literal(&machine), literal(&sensor));
            let sql = format!("SELECT * FROM {view} WHERE {is_it} AND time = {}", literal(start));
            rows(sql, 1)?.0.into_iter().next()
        }
        None => None,
    };
    Ok(Lineage { machine, sensor, view, cell, windows, readings, truncated })
}

/// A text of SQL.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The rows of an answer as objects, and whether more were cut off.
fn objects(answer: &Value) -> anyhow::Result<(Vec<Value>, bool)> {
    let columns = answer["columns"].as_array().context("the answer has no columns")?;
    let names: Vec<&str> = columns.iter().filter_map(|column| column["name"].as_str()).collect();
    let mut objects = Vec::new();
    for row in answer["rows"].as_array().context("the answer has no rows")? {
        let cells = row.as_array().context("a row is no list")?;
        let named = names.iter().zip(cells).map(|(name, cell)| ((*name).to_owned(), cell.clone()));
        objects.push(Value::Object(named.collect()));
    }
    Ok((objects, answer["truncated"].as_bool().unwrap_or(false)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_quote_cannot_end_its_text() {
        assert_eq!(literal("a'b"), "'a''b'");
    }

    #[test]
    fn rows_are_read_by_their_columns_names() {
        let answer = json!({
            "columns": [{"name": "offset"}, {"name": "trace_id"}], "rows": [[7, null]], "truncated": true
        });
        let (rows, truncated) = objects(&answer).unwrap();
        assert_eq!(
            (rows[0]["offset"].as_i64(), rows[0]["trace_id"].is_null(), truncated),
            (Some(7), true, true)
        );
    }
}
