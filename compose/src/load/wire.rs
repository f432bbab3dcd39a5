//! Readings to bytes: the three JSON forms of a record's value.
//!
//! ```json
//! {"machine":"press-07","sensor":"bearing-1","kind":"vibration","unit":"mm/s","time":1795000000000,"value":2.81}
//! [{…},{…}]
//! {"machine":"press-07","time":[t0,t1],"sensors":{"bearing-1":[2.81,null]},"kinds":{…},"units":{…}}
//! ```
//! Times are integer milliseconds where they are whole ones, else RFC 3339 with microseconds. Missing cells
//! are left out of the first two forms and are `null` in the batch. The batch carries numbers only: text
//! cells follow it in a record of the array form.

use std::io::Write;
use std::sync::Arc;

use clap::ValueEnum;

/// The form of a record's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One reading per record.
    Single,
    /// An array of readings.
    Array,
    /// A compact batch: a column of times and one of values per sensor.
    Batch,
}

/// What a sensor shows in one row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell<'a> {
    /// Nothing.
    Missing,
    /// A number; one that is not finite has no JSON and counts as missing.
    Number(f64),
    /// A number as it was written, which must be valid JSON.
    Literal(&'a str),
    /// A string state.
    Text(&'a str),
}

/// A sensor as the wire names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireSensor<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it measures, if known.
    pub kind: Option<&'a str>,
    /// Its unit, if known.
    pub unit: Option<&'a str>,
}

/// A record ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The machine, which is the record's key.
    pub machine: Arc<str>,
    /// The record's value.
    pub value: Vec<u8>,
    /// Readings in it.
    pub readings: u32,
    /// Source time of its last reading, ms since the epoch.
    pub time_ms: i64,
}

/// Writes the rows of one machine into records.
#[derive(Debug)]
pub struct Encoder {
    machine: Arc<str>,
    format: Format,
    readings_max: usize,
    /// Per sensor, a reading up to its time.
    heads: Vec<Vec<u8>>,
    /// Per sensor, its name as JSON.
    names: Vec<String>,
    batch_head: Vec<u8>,
    batch_tail: Vec<u8>,
    /// Readings of the array form, each followed by a comma.
    items: Pending,
    /// Times of the batch, each followed by a comma.
    times: Vec<u8>,
    /// Cells of the batch, each followed by a comma.
    columns: Vec<Vec<u8>>,
    rows: usize,
    cells: u32,
    last_us: i64,
}

#[derive(Debug, Default)]
struct Pending {
    bytes: Vec<u8>,
    readings: u32,
}

impl Encoder {
    /// An encoder of `machine`, which puts at most `readings_max` readings into a record (a batch holds
    /// whole rows, at least one).
    #[must_use]
    pub fn new(format: Format, readings_max: usize, machine: &str, sensors: &[WireSensor<'_>]) -> Self {
        let machine_json = quoted(machine);
        let heads = sensors.iter().map(|sensor| head(&machine_json, sensor)).collect();
        let mut batch_tail = b"}".to_vec();
        put_names(&mut batch_tail, "kinds", sensors.iter().map(|s| (s.name, s.kind)));
        put_names(&mut batch_tail, "units", sensors.iter().map(|s| (s.name, s.unit)));
        batch_tail.push(b'}');
        Self {
            machine: machine.into(),
            format,
            readings_max: if format == Format::Single { 1 } else { readings_max.max(1) },
            heads,
            names: sensors.iter().map(|sensor| quoted(sensor.name)).collect(),
            batch_head: format!("{{\"machine\":{machine_json},\"time\":[").into_bytes(),
            batch_tail,
            items: Pending::default(),
            times: Vec::new(),
            columns: vec![Vec::new(); sensors.len()],
            rows: 0,
            cells: 0,
            last_us: 0,
        }
    }

    /// Adds a row of one cell per sensor at `time_us`; records that are full go to `out`.
    pub fn row(&mut self, time_us: i64, cells: &[Cell<'_>], out: &mut Vec<Outgoing>) {
        assert_eq!(cells.len(), self.columns.len(), "a row has one cell per sensor");
        self.last_us = time_us;
        if self.format == Format::Batch {
            self.batch_row(time_us, cells, out);
        } else {
            for (sensor, &cell) in cells.iter().enumerate() {
                self.item(sensor, time_us, cell, out);
            }
        }
    }

    /// Sends what is pending.
    pub fn flush(&mut self, out: &mut Vec<Outgoing>) {
        self.close_batch(out);
        self.close_items(out);
    }

    /// Whether anything is pending.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0 && self.items.readings == 0
    }

    fn item(&mut self, sensor: usize, time_us: i64, cell: Cell<'_>, out: &mut Vec<Outgoing>) {
        let bytes = &mut self.items.bytes;
        let before = bytes.len();
        bytes.extend_from_slice(&self.heads[sensor]);
        put_time(bytes, time_us);
        if !put_cell(bytes, cell) {
            bytes.truncate(before);
            return;
        }
        bytes.extend_from_slice(b"},");
        self.items.readings += 1;
        if self.items.readings as usize >= self.readings_max {
            self.close_items(out);
        }
    }

    fn close_items(&mut self, out: &mut Vec<Outgoing>) {
        let items = std::mem::take(&mut self.items);
        if items.readings == 0 {
            return;
        }
        let body = &items.bytes[..items.bytes.len() - 1];
        let value = if self.format == Format::Single { body.to_vec() } else { [b"[", body, b"]"].concat() };
        self.send(value, items.readings, out);
    }

    fn batch_row(&mut self, time_us: i64, cells: &[Cell<'_>], out: &mut Vec<Outgoing>) {
        put_time(&mut self.times, time_us);
        self.times.push(b',');
        for (sensor, &cell) in cells.iter().enumerate() {
            let column = &mut self.columns[sensor];
            if put_number(column, cell) {
                self.cells += 1;
            } else {
                column.extend_from_slice(b"null");
            }
            column.push(b',');
            if matches!(cell, Cell::Text(_)) {
                self.item(sensor, time_us, cell, out);
            }
        }
        self.rows += 1;
        if (self.rows + 1) * self.columns.len() > self.readings_max {
            self.flush(out);
        }
    }

    fn close_batch(&mut self, out: &mut Vec<Outgoing>) {
        if self.rows == 0 {
            return;
        }
        let mut value = self.batch_head.clone();
        put_column(&mut value, &mut self.times);
        value.extend_from_slice(b",\"sensors\":{");
        for (i, (name, column)) in self.names.iter().zip(&mut self.columns).enumerate() {
            value.extend_from_slice(if i == 0 { b"" } else { b"," });
            value.extend_from_slice(name.as_bytes());
            value.extend_from_slice(b":[");
            put_column(&mut value, column);
        }
        value.extend_from_slice(&self.batch_tail);
        let readings = std::mem::take(&mut self.cells);
        self.rows = 0;
        self.send(value, readings, out);
    }

    fn send(&self, value: Vec<u8>, readings: u32, out: &mut Vec<Outgoing>) {
        let time_ms = self.last_us.div_euclid(1000);
        out.push(Outgoing { machine: Arc::clone(&self.machine), value, readings, time_ms });
    }
}

/// Moves a column, each cell followed by a comma, into an array that is open.
fn put_column(value: &mut Vec<u8>, column: &mut Vec<u8>) {
    column.pop();
    value.append(column);
    value.push(b']');
}

fn head(machine_json: &str, sensor: &WireSensor<'_>) -> Vec<u8> {
    let mut head = format!("{{\"machine\":{machine_json},\"sensor\":{}", quoted(sensor.name));
    for (key, value) in [("kind", sensor.kind), ("unit", sensor.unit)] {
        if let Some(value) = value {
            head.push_str(&format!(",\"{key}\":{}", quoted(value)));
        }
    }
    head.push_str(",\"time\":");
    head.into_bytes()
}

fn put_names<'a>(out: &mut Vec<u8>, key: &str, names: impl Iterator<Item = (&'a str, Option<&'a str>)>) {
    let known: Vec<String> =
        names.filter_map(|(sensor, name)| Some(format!("{}:{}", quoted(sensor), quoted(name?)))).collect();
    if !known.is_empty() {
        out.extend_from_slice(format!(",\"{key}\":{{{}}}", known.join(",")).as_bytes());
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn put_time(out: &mut Vec<u8>, time_us: i64) {
    let (ms, rest) = (time_us.div_euclid(1000), time_us.rem_euclid(1000));
    let precise = (rest != 0).then(|| chrono::DateTime::from_timestamp_micros(time_us)).flatten();
    match precise {
        Some(time) => {
            let text = time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
            put_display(out, format_args!("\"{text}\""));
        }
        None => put_display(out, format_args!("{ms}")),
    }
}

/// Writes the `value` or `text` of a reading; false, and nothing written, where there is none.
fn put_cell(out: &mut Vec<u8>, cell: Cell<'_>) -> bool {
    if let Cell::Text(text) = cell {
        put_display(out, format_args!(",\"text\":{}", quoted(text)));
        return true;
    }
    let before = out.len();
    out.extend_from_slice(b",\"value\":");
    let written = put_number(out, cell);
    if !written {
        out.truncate(before);
    }
    written
}

fn put_number(out: &mut Vec<u8>, cell: Cell<'_>) -> bool {
    match cell {
        // The shortest text that reads back as the same f64.
        Cell::Number(number) if number.is_finite() => put_display(out, format_args!("{number}")),
        Cell::Literal(number) => out.extend_from_slice(number.as_bytes()),
        _ => return false,
    }
    true
}

fn put_display(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a Vec has no way to fail.
    let _ = out.write_fmt(text);
}

/// Whether `text` is a number by JSON's grammar (RFC 8259 section 6).
#[must_use]
pub fn is_json_number(text: &str) -> bool {
    let rest = text.strip_prefix('-').unwrap_or(text);
    let (whole, rest) = digits(rest);
    if whole == 0 || (whole > 1 && text.trim_start_matches('-').starts_with('0')) {
        return false;
    }
    let rest = match rest.strip_prefix('.').map(digits) {
        Some((0, _)) => return false,
        Some((_, rest)) => rest,
        None => rest,
    };
    match rest.strip_prefix(['e', 'E']) {
        Some(exponent) => {
            let (count, rest) = digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent));
            count > 0 && rest.is_empty()
        }
        None => rest.is_empty(),
    }
}

fn digits(text: &str) -> (usize, &str) {
    let count = text.bytes().take_while(u8::is_ascii_digit).count();
    (count, &text[count..])
}

#[cfg(test)]
mod tests;
