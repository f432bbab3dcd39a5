//! How what was decoded is shown: a table, each reading's origins, an error with its place; or JSON.

use chrono::DateTime;
use serde_json::{Map, Value, json};
use stillwell_source::decode::{DecodeError, DecodeFault, remedy};

use super::Outcome;

/// Bytes of an excerpt before and after the place of an error.
const EXCERPT: usize = 40;
/// Bytes of a hex excerpt before and after.
const HEX_EXCERPT: usize = 12;

const COLUMNS: [&str; 8] = ["machine", "sensor", "kind", "unit", "time", "value", "text", "quality"];

/// For people.
pub(super) fn text(outcome: &Outcome<'_>, explain: bool, many: bool) -> String {
    let mut out = if many { format!("record {}\n", outcome.number) } else { String::new() };
    match &outcome.result {
        Ok(()) => readings(outcome, &mut out),
        Err(DecodeFault::Data(error)) => failure(error, outcome.bytes, explain, &mut out),
        Err(DecodeFault::Transient(error)) => {
            out += &format!("cannot be read now: {error}\nA stage would wait and try again.\n");
        }
    }
    out
}

/// For machines: one line.
pub(super) fn json(outcome: &Outcome<'_>) -> String {
    let body = match &outcome.result {
        Ok(()) => {
            let reading = |i: usize| {
                let names = COLUMNS.into_iter().zip(cells(outcome, i));
                let mut reading: Map<String, Value> =
                    names.filter_map(|(name, cell)| Some((name.to_owned(), cell?))).collect();
                if let Some(origin) = outcome.origins.get(i) {
                    let from = origin.fields.iter().map(|(field, place)| ((*field).to_owned(), json!(place)));
                    reading.insert("from".to_owned(), Value::Object(from.collect()));
                }
                Value::Object(reading)
            };
            json!({ "record": outcome.number, "readings": (0..outcome.columns.len()).map(reading).collect::<Value>() })
        }
        Err(DecodeFault::Data(error)) => json!({ "record": outcome.number, "error": {
            "class": error.class, "message": error.message, "at": error.at, "remedy": remedy(error.class),
        }}),
        Err(DecodeFault::Transient(error)) => {
            json!({ "record": outcome.number, "error": { "class": "transient", "message": error.to_string() }})
        }
    };
    format!("{body}\n")
}

/// The cells of one reading, in the order of [`COLUMNS`].
fn cells(outcome: &Outcome<'_>, i: usize) -> [Option<Value>; 8] {
    let (table, columns) = (&outcome.table, &outcome.columns);
    let series = table.series(columns.series[i]);
    let name = |code: u32| json!(table.name(code));
    let time = DateTime::from_timestamp_micros(columns.time_us[i]);
    let text = columns.text.iter().find(|cell| cell.row as usize == i);
    [
        Some(name(series.machine)),
        Some(name(series.sensor)),
        series.kind.map(name),
        series.unit.map(name),
        Some(json!(time.map_or_else(String::new, |time| time.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()))),
        columns.has_value[i].then(|| json!(columns.value[i])),
        text.map(|cell| json!(columns.text_bytes[cell.start as usize..cell.end as usize])),
        Some(json!(columns.quality[i])),
    ]
}

fn readings(outcome: &Outcome<'_>, out: &mut String) {
    let plain = |cell: Option<Value>| match cell {
        None => String::new(),
        Some(Value::String(text)) => text.escape_debug().to_string(),
        Some(value) => value.to_string(),
    };
    let rows: Vec<[String; 8]> = (0..outcome.columns.len()).map(|i| cells(outcome, i).map(plain)).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([COLUMNS[column].len()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    let mut line = |cells: &[String]| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        *out += padded.collect::<Vec<_>>().join("  ").trim_end();
        out.push('\n');
    };
    line(&COLUMNS.map(str::to_owned));
    for row in &rows {
        line(row);
    }
    let count = rows.len();
    *out += &format!("{count} {}\n", if count == 1 { "reading" } else { "readings" });
    for (i, origin) in outcome.origins.iter().enumerate() {
        *out += &format!("\n{} {}\n", rows[i][0], rows[i][1]);
        for (field, place) in &origin.fields {
            *out += &format!("  {field:8} from {place}\n");
        }
    }
}

fn failure(error: &DecodeError, bytes: &[u8], explain: bool, out: &mut String) {
    *out += &format!("cannot be read: {}\n", error.message);
    *out += &format!("  class   {}\n  at      byte {} of {}\n", error.class, error.at, bytes.len());
    if explain {
        *out += &excerpt(bytes, error.at);
    }
    *out += &format!("  remedy  {}\n", remedy(error.class));
}

/// The bytes around `at`, with a caret below it: as text where they are, else in hex.
pub(crate) fn excerpt(bytes: &[u8], at: usize) -> String {
    let at = at.min(bytes.len());
    let Ok(text) = std::str::from_utf8(bytes) else { return hex(bytes, at) };
    let at = text.floor_char_boundary(at);
    // Its own line, as far as it is near.
    let start = text[..at]
        .rfind('\n')
        .map_or(0, |line| line + 1)
        .max(text.floor_char_boundary(at.saturating_sub(EXCERPT)));
    let end = text[at..].find('\n').map_or(text.len(), |line| at + line);
    let end = end.min(text.ceil_char_boundary((at + EXCERPT).min(text.len())));
    let shown = |part: &str| part.chars().map(|c| if c.is_control() { '·' } else { c }).collect::<String>();
    let before = shown(&text[start..at]);
    let indent = " ".repeat(before.chars().count());
    format!("    {before}{}\n    {indent}^\n", shown(&text[at..end]))
}

fn hex(bytes: &[u8], at: usize) -> String {
    let start = at.saturating_sub(HEX_EXCERPT);
    let end = (at + HEX_EXCERPT).min(bytes.len());
    let shown: Vec<String> = bytes[start..end].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("    {}\n    {}^^\n", shown.join(" "), "   ".repeat(at - start))
}
