//! A cell's lineage as a tree: the cell, the rows behind it by source partition, their readings by file.

use std::fmt::Write;

use serde_json::Value;

use super::Lineage;
use crate::evidence::plain;

/// What the view shows of its cell, where it does.
const SHOWN: [&str; 6] = ["count", "avg", "min", "max", "bad", "late"];

pub(super) fn tree(lineage: &Lineage) -> String {
    let Lineage { machine, sensor, view, cell, windows, readings, .. } = lineage;
    let mut out = format!("{view}  {} / {}", plain(machine), plain(sensor));
    if let Some(row) = windows.first().or(readings.first()) {
        let _ = write!(out, "  {}", text(row, "window_start"));
    }
    out.push('\n');
    match cell {
        Some(cell) => {
            let shown = SHOWN.map(|name| format!("{name} {}", text(cell, name)));
            let _ = writeln!(out, "  {}", shown.join("  "));
        }
        None => out.push_str("  the view shows no such row\n"),
    }
    for partition in partitions(windows, readings) {
        let is_its = |row: &&Value| partition == place(row);
        let window = windows.iter().find(is_its);
        let _ = writeln!(out, "├─ {}  {}", partition, window.map_or_else(not_yet, held));
        let own: Vec<&Value> = readings.iter().filter(is_its).collect();
        files(&mut out, &own);
    }
    if windows.is_empty() && readings.is_empty() {
        out.push_str("  neither the views nor the archive hold a reading of that series in that window\n");
    }
    out
}

/// All that have a row of the window or a reading, in order.
fn partitions(windows: &[Value], readings: &[Value]) -> Vec<String> {
    let mut places: Vec<(String, i64)> = windows.iter().chain(readings).map(key).collect();
    places.sort();
    places.dedup();
    places.into_iter().map(|(topic, partition)| format!("{topic}/{partition}")).collect()
}

fn key(row: &Value) -> (String, i64) {
    (text(row, "topic"), row["partition"].as_i64().unwrap_or_default())
}

fn place(row: &Value) -> String {
    let (topic, partition) = key(row);
    format!("{topic}/{partition}")
}

fn held(row: &Value) -> String {
    format!(
        "a row of {}, complete up to offset {}: {} values, {} bad, {} late, {} texts",
        text(row, "table_name"),
        text(row, "version"),
        text(row, "count"),
        text(row, "bad"),
        text(row, "late"),
        text(row, "texts")
    )
}

fn not_yet() -> String {
    "no row of the window yet".to_owned()
}

/// The readings of one partition, in the order of their offsets, under the file that holds them.
fn files(out: &mut String, readings: &[&Value]) {
    let of = |row: &Value| (text(row, "seq"), text(row, "file"));
    for run in readings.chunk_by(|a, b| of(a) == of(b)) {
        let (seq, file) = of(run[0]);
        let _ = writeln!(out, "│  ├─ entry {seq}  {file}");
        for reading in run {
            let _ = writeln!(out, "│  │  ├─ {}", line(reading));
        }
    }
}

fn line(reading: &Value) -> String {
    let value = if reading["value"].is_null() { text(reading, "text") } else { text(reading, "value") };
    let mut line = format!(
        "offset {} index {}  row {}  {}  {value}",
        text(reading, "offset"),
        text(reading, "index"),
        text(reading, "row"),
        text(reading, "time")
    );
    if reading["quality"].as_u64().is_some_and(|quality| quality > 0) {
        let _ = write!(line, "  quality {}", text(reading, "quality"));
    }
    if !reading["trace_id"].is_null() {
        let _ = write!(line, "  trace {}", text(reading, "trace_id"));
    }
    if reading["visible"] == Value::Bool(false) {
        line.push_str("  not in the window's row yet");
    }
    line
}

/// A cell for people.
fn text(row: &Value, name: &str) -> String {
    match row.get(name) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => plain(text),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reading(offset: i64, seq: i64, visible: bool) -> Value {
        json!({
            "topic": "readings", "partition": 3, "visible": visible, "offset": offset, "index": 0,
            "time": "2026-11-25T06:00:01Z", "value": 2.5, "text": null, "quality": 0, "seq": seq,
            "file": format!("f{seq}.parquet"), "row": 17, "trace_id": if visible { json!("4bf9") } else { json!(null) },
            "window_start": "2026-11-25T06:00:00Z",
        })
    }

    #[test]
    fn the_tree_goes_from_the_cell_to_the_trace() {
        let lineage = Lineage {
            machine: "press-07".to_owned(),
            sensor: "oil".to_owned(),
            view: "readings_10s".to_owned(),
            cell: None,
            windows: vec![json!({
                "topic": "readings", "partition": 3, "table_name": "windows_10s", "version": 105, "count": 1,
                "bad": 0, "late": 0, "texts": 0, "window_start": "2026-11-25T06:00:00Z",
            })],
            readings: vec![reading(103, 7, true), reading(106, 8, false)],
            truncated: false,
        };
        let expected = "\
readings_10s  press-07 / oil  2026-11-25T06:00:00Z
  the view shows no such row
├─ readings/3  a row of windows_10s, complete up to offset 105: 1 values, 0 bad, 0 late, 0 texts
│  ├─ entry 7  f7.parquet
│  │  ├─ offset 103 index 0  row 17  2026-11-25T06:00:01Z  2.5  trace 4bf9
│  ├─ entry 8  f8.parquet
│  │  ├─ offset 106 index 0  row 17  2026-11-25T06:00:01Z  2.5  not in the window's row yet
";
        assert_eq!(tree(&lineage), expected);
    }
}
