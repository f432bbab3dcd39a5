//! A recording: a wide CSV file, plain or gzipped, with a column of times and one column per sensor.
//!
//! Numbers are never parsed and printed again where their text is valid JSON, so that what arrives is what
//! the file says. An empty field and `nan` are missing values; what is no number is a text.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, bail};
use chrono::{DateTime, NaiveDateTime};
use csv::StringRecord;
use flate2::read::MultiGzDecoder;

use super::wire::{Cell, is_json_number};

/// Which columns are what.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The column of times.
    pub time_column: String,
    /// Columns that are not sensors.
    pub skip_columns: Vec<String>,
}

/// A file being read.
pub struct Recording {
    path: PathBuf,
    reader: csv::Reader<Box<dyn Read + Send>>,
    row: StringRecord,
    time_field: usize,
    /// Fields that are sensors, with their names.
    sensors: Vec<(usize, String)>,
}

/// Counts the bytes read from a file, before they are unpacked.
struct Counting {
    file: File,
    bytes: Arc<AtomicU64>,
}

impl Read for Counting {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.file.read(buffer)?;
        self.bytes.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

impl Recording {
    /// Opens a file and reads its header. Bytes read from the disk are added to `bytes`.
    ///
    /// # Errors
    /// If it cannot be read, has no such time column, no sensor, or two columns of one name.
    pub fn open(path: &Path, layout: &Layout, bytes: Arc<AtomicU64>) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let raw = Counting { file, bytes };
        let packed = path.extension().is_some_and(|extension| extension == "gz");
        let text: Box<dyn Read + Send> =
            if packed { Box::new(MultiGzDecoder::new(raw)) } else { Box::new(raw) };
        let mut reader = csv::ReaderBuilder::new().buffer_capacity(1 << 16).from_reader(text);
        let header = reader.headers().with_context(|| format!("cannot read {}", path.display()))?.clone();
        let (time_field, sensors) = columns(&header, layout).with_context(|| path.display().to_string())?;
        Ok(Self { path: path.to_owned(), reader, row: StringRecord::new(), time_field, sensors })
    }

    /// The sensors, in the order of [`Recording::cells`].
    pub fn sensors(&self) -> impl Iterator<Item = &str> {
        self.sensors.iter().map(|(_, name)| name.as_str())
    }

    /// Goes to the next row and says its time, µs UTC; none at the end.
    ///
    /// # Errors
    /// If the row is broken: too few fields, or no time.
    pub fn next_row(&mut self) -> anyhow::Result<Option<i64>> {
        let more = self
            .reader
            .read_record(&mut self.row)
            .with_context(|| format!("cannot read {}", self.path.display()))?;
        if !more {
            return Ok(None);
        }
        let text = &self.row[self.time_field];
        match parse_time(text) {
            Some(time_us) => Ok(Some(time_us)),
            None => {
                let line = self.row.position().map_or(0, csv::Position::line);
                bail!("{} line {line}: {text:?} is no time this reader knows", self.path.display())
            }
        }
    }

    /// What the sensors show in the current row.
    #[must_use]
    pub fn cells(&self) -> Vec<Cell<'_>> {
        self.sensors.iter().map(|&(field, _)| cell(&self.row[field])).collect()
    }
}

fn columns(header: &StringRecord, layout: &Layout) -> anyhow::Result<(usize, Vec<(usize, String)>)> {
    let mut seen = HashSet::new();
    if let Some(twice) = header.iter().find(|name| !name.is_empty() && !seen.insert(*name)) {
        bail!("column {twice:?} is there twice");
    }
    let Some(time) = header.iter().position(|name| name == layout.time_column) else {
        bail!("no column {:?}; name the one with the times with --time-column", layout.time_column);
    };
    let sensors: Vec<(usize, String)> = header
        .iter()
        .enumerate()
        .filter(|&(i, name)| i != time && !layout.skip_columns.iter().any(|skip| skip == name))
        .map(|(i, name)| (i, if name.is_empty() { format!("column-{}", i + 1) } else { name.to_owned() }))
        .collect();
    if sensors.is_empty() {
        bail!("no sensor columns beside {:?}", layout.time_column);
    }
    Ok((time, sensors))
}

fn cell(field: &str) -> Cell<'_> {
    if field.is_empty() || field.eq_ignore_ascii_case("nan") {
        Cell::Missing
    } else if is_json_number(field) {
        Cell::Literal(field)
    } else {
        match field.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Cell::Number(number),
            _ => Cell::Text(field),
        }
    }
}

/// A time as µs UTC: RFC 3339, the same without a zone (UTC then) with `T` or a space, or an integer epoch
/// whose unit shows in its size.
fn parse_time(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Ok(epoch) = text.parse::<i64>() {
        return match epoch.unsigned_abs() {
            0..100_000_000_000 => epoch.checked_mul(1_000_000),
            100_000_000_000..100_000_000_000_000 => epoch.checked_mul(1000),
            100_000_000_000_000..100_000_000_000_000_000 => Some(epoch),
            _ => Some(epoch.div_euclid(1000)),
        };
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp_micros());
    }
    ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
        .map(|time| time.and_utc().timestamp_micros())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn layout() -> Layout {
        Layout { time_column: "time".into(), skip_columns: vec!["phase".into(), "label".into()] }
    }

    fn open(folder: &Path, name: &str, text: &str) -> anyhow::Result<Recording> {
        let path = folder.join(name);
        let mut file = File::create(&path).unwrap();
        if name.ends_with(".gz") {
            let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
            packed.write_all(text.as_bytes()).unwrap();
            packed.finish().unwrap();
        } else {
            file.write_all(text.as_bytes()).unwrap();
        }
        Recording::open(&path, &layout(), Arc::default())
    }

    #[test]
    fn cells_are_what_the_file_says() {
        let folder = tempfile::tempdir().unwrap();
        let text = "time,phase,a,b,c,d,label\n2020-02-08 13:30:47,train,0.20,,unworn,.5,0\n";
        for name in ["x.csv", "x.csv.gz"] {
            let mut recording = open(folder.path(), name, text).unwrap();
            assert_eq!(recording.sensors().collect::<Vec<_>>(), ["a", "b", "c", "d"]);
            assert_eq!(recording.next_row().unwrap(), Some(1_581_168_647_000_000));
            let expected = [Cell::Literal("0.20"), Cell::Missing, Cell::Text("unworn"), Cell::Number(0.5)];
            assert_eq!(recording.cells(), expected);
            assert_eq!(recording.next_row().unwrap(), None);
        }
    }

    #[test]
    fn broken_files_are_named_with_their_line() {
        let folder = tempfile::tempdir().unwrap();
        let mut bad = open(folder.path(), "bad.csv", "time,a\nyesterday,1\n").unwrap();
        let error = bad.next_row().unwrap_err().to_string();
        assert!(error.contains("bad.csv line 2") && error.contains("yesterday"), "{error}");
        let mut short = open(folder.path(), "short.csv", "time,a,b\n2020-01-01 00:00:00,1\n").unwrap();
        assert!(short.next_row().is_err());
        for text in ["t,a\n", "time,phase,label\n", "time,a,a\n"] {
            assert!(open(folder.path(), "header.csv", text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_read_in_the_forms_that_recordings_use() {
        let expected = 1_577_934_245_000_000;
        for text in [
            "2020-01-02 03:04:05",
            "2020-01-02T03:04:05",
            "2020-01-02T03:04:05.000000",
            "2020-01-02T03:04:05Z",
            "2020-01-02T04:04:05+01:00",
            "1577934245",
            "1577934245000",
            "1577934245000000",
            "1577934245000000000",
        ] {
            assert_eq!(parse_time(text), Some(expected), "{text}");
        }
        assert_eq!(parse_time("2018-01-01T00:00:00.100000"), Some(1_514_764_800_100_000));
        assert_eq!(parse_time("2020-01-02 03:04"), Some(expected - 5_000_000));
        assert_eq!(parse_time("03:04"), None);
    }
}
