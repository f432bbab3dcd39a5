//! Rows out of readings: what a machine's sensors showed within one interval.
//!
//! Within a record, readings are taken by interval, whatever their order, so a batch that lists sensor after
//! sensor gives the same rows as one that lists moment after moment. A row ends when all columns are there, or
//! when a record brings a later interval; what comes for an ended row is too late for it.

/// A reading on its way into a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cell {
    /// Number of the interval since the epoch.
    pub(super) bucket: i64,
    /// The sensor's column.
    pub(super) column: u16,
    pub(super) value: f32,
    /// Source time, µs.
    pub(super) time_us: i64,
}

/// An ended row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// The time of its last reading, µs.
    pub(super) time_us: i64,
    /// The record that ended it.
    pub(super) offset: i64,
}

/// The row that is being put together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Open {
    pub(super) bucket: i64,
    pub(super) time_us: i64,
    /// One per column, NaN where none came yet. Empty where no row is open.
    pub(super) values: Vec<f32>,
}

/// Puts rows together.
#[derive(Clone, Debug, Default)]
pub(super) struct Assembly {
    pub(super) open: Open,
    /// Intervals up to this one have ended.
    pub(super) ended: Option<i64>,
    /// Readings that came for an ended row.
    pub(super) too_late: u64,
    /// Ended rows' cells, `width` each.
    pub(super) cells: Vec<f32>,
    /// Ended rows.
    pub(super) rows: Vec<Ended>,
}

impl Assembly {
    /// Takes a record's readings; rows have `width` columns, and end when `complete` and all are there.
    pub(super) fn take(&mut self, cells: &mut [Cell], width: usize, offset: i64, is_complete_ended: bool) {
        if !cells.is_sorted_by_key(|cell| cell.bucket) {
            // Stable: of two readings for one cell the later in the log stays.
            cells.sort_by_key(|cell| cell.bucket);
        }
        let mut rest = &cells[..];
        while let Some(first) = rest.first() {
            let count = rest.iter().take_while(|cell| cell.bucket == first.bucket).count();
            let (row, later) = rest.split_at(count);
            self.merge(row, width, offset, is_complete_ended);
            rest = later;
        }
    }

    /// Takes readings of one interval.
    fn merge(&mut self, row: &[Cell], width: usize, offset: i64, is_complete_ended: bool) {
        let bucket = row[0].bucket;
        let is_late = self.ended.is_some_and(|ended| bucket <= ended)
            || (!self.open.values.is_empty() && bucket < self.open.bucket);
        if is_late {
            self.too_late += row.len() as u64;
            return;
        }
        if !self.open.values.is_empty() && bucket > self.open.bucket {
            self.end(width, offset);
        }
        if self.open.values.is_empty() {
            self.open = Open { bucket, time_us: i64::MIN, values: std::mem::take(&mut self.open.values) };
        }
        self.open.values.resize(width, f32::NAN);
        for cell in row {
            self.open.values[cell.column as usize] = cell.value;
            self.open.time_us = self.open.time_us.max(cell.time_us);
        }
        if is_complete_ended && self.open.values.iter().all(|value| !value.is_nan()) {
            self.end(width, offset);
        }
    }

    fn end(&mut self, width: usize, offset: i64) {
        self.open.values.resize(width, f32::NAN);
        self.cells.append(&mut self.open.values);
        self.rows.push(Ended { time_us: self.open.time_us, offset });
        self.ended = Some(self.open.bucket);
    }

    /// Drops what is under way: rows are going to have other columns.
    pub(super) fn restart(&mut self) {
        if !self.open.values.is_empty() {
            self.ended = Some(self.open.bucket);
            self.open.values.clear();
        }
        self.clear();
    }

    /// Forgets the ended rows.
    pub(super) fn clear(&mut self) {
        self.cells.clear();
        self.rows.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(bucket: i64, column: u16, value: f32) -> Cell {
        Cell { bucket, column, value, time_us: bucket * 10 + i64::from(column) }
    }

    #[test]
    fn sensor_after_sensor_gives_the_same_rows_as_moment_after_moment() {
        let by_moment: Vec<Cell> = (0..5).flat_map(|b| (0..3).map(move |c| cell(b, c, b as f32))).collect();
        let by_sensor: Vec<Cell> = (0..3).flat_map(|c| (0..5).map(move |b| cell(b, c, b as f32))).collect();
        for is_complete_ended in [false, true] {
            let (mut one, mut other) = (Assembly::default(), Assembly::default());
            one.take(&mut by_moment.clone(), 3, 7, is_complete_ended);
            other.take(&mut by_sensor.clone(), 3, 7, is_complete_ended);
            assert_eq!((&one.cells, &one.rows), (&other.cells, &other.rows));
            assert_eq!(one.rows.len(), if is_complete_ended { 5 } else { 4 });
        }
    }

    #[test]
    fn a_row_ends_with_a_later_interval_and_takes_nothing_after() {
        let mut assembly = Assembly::default();
        assembly.take(&mut [cell(1, 0, 1.0)], 2, 10, true);
        assembly.take(&mut [cell(1, 0, 2.0)], 2, 11, true);
        assembly.take(&mut [cell(2, 0, 3.0)], 2, 12, true);
        assembly.take(&mut [cell(1, 1, 9.0)], 2, 13, true);
        assert_eq!(assembly.rows, [Ended { time_us: 10, offset: 12 }]);
        assert_eq!(assembly.cells[0], 2.0, "the later reading of an interval stays");
        assert!(assembly.cells[1].is_nan());
        assert_eq!(assembly.too_late, 1);
    }
}
