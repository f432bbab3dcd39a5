//! The rows of a page, gathered from where they were decoded.

use stillwell_source::series::SeriesCode;

use super::batch::Part;
use super::sort::Row;

/// Columns of a run of sorted rows, an element a row, but for the series, which come in runs.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) runs: Vec<(SeriesCode, usize)>,
    pub(super) time_us: Vec<i64>,
    pub(super) value: Vec<f64>,
    pub(super) has_value: Vec<bool>,
    pub(super) quality: Vec<i64>,
    pub(super) offset: Vec<i64>,
    pub(super) index: Vec<i64>,
    pub(super) kafka_time_ms: Vec<i64>,
}

impl Page {
    pub(super) fn len(&self) -> usize {
        self.time_us.len()
    }

    /// Takes the place of what was gathered before.
    pub(super) fn gather(&mut self, parts: &[Part], rows: &[Row]) {
        let at = |row: &Row| (&parts[row.part as usize], row.row as usize);
        self.runs.clear();
        for row in rows {
            let (part, row) = at(row);
            let series = part.columns.series[row];
            match self.runs.last_mut() {
                Some((last, len)) if *last == series => *len += 1,
                _ => self.runs.push((series, 1)),
            }
        }
        fill(&mut self.time_us, rows, |row| at(row).0.columns.time_us[row.row as usize]);
        fill(&mut self.value, rows, |row| at(row).0.columns.value[row.row as usize]);
        fill(&mut self.has_value, rows, |row| at(row).0.columns.has_value[row.row as usize]);
        fill(&mut self.quality, rows, |row| i64::from(at(row).0.columns.quality[row.row as usize]));
        fill(&mut self.index, rows, |row| i64::from(at(row).0.columns.index[row.row as usize]));
        self.offset.clear();
        self.kafka_time_ms.clear();
        for row in rows {
            let (part, row) = at(row);
            let (offset, time_ms) = part.chunk.place(part.columns.record[row] as usize);
            self.offset.push(offset.0);
            self.kafka_time_ms.push(time_ms);
        }
    }
}

fn fill<T>(column: &mut Vec<T>, rows: &[Row], get: impl Fn(&Row) -> T) {
    column.clear();
    column.extend(rows.iter().map(get));
}
