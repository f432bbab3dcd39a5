//! Rows out of readings: what a machine's sensors showed within one interval.
//!
//! A row holds the first reading, in the order of the log, of each sensor within its interval. While its
//! machine is scored, a row ends as soon as all columns are there, so that an alert need not wait for the
//! next; else it ends when a record brings a later interval. Readings after a sensor's first have no part in
//! it, so a row holds the same whichever ended it, and rows to learn from are made like rows to score.
//!
//! Within a record, readings are taken by interval, whatever their order, so a batch that lists sensor after
//! sensor gives the same rows as one that lists moment after moment. What comes for an interval before the
//! newest is too late. Where record after record is, it is the newest interval that was wrong, or a clock was
//! set back: rows then begin anew.

/// So many records on end of which all is too late let rows begin anew.
const LATE_RECORDS_MAX: u32 = 64;

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
    /// Number of its interval.
    pub(super) bucket: i64,
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
    /// Records on end of which all was too late.
    pub(super) late_records: u32,
    /// Readings that were too late, since this was last asked for.
    pub(super) too_late: u64,
    /// Ended rows' cells, `width` each.
    pub(super) cells: Vec<f32>,
    /// Ended rows.
    pub(super) rows: Vec<Ended>,
}

impl Assembly {
    /// Takes a record's readings; rows have `width` columns, and end when `is_complete_ended` and all are
    /// there.
    pub(super) fn take(&mut self, cells: &mut [Cell], width: usize, offset: i64, is_complete_ended: bool) {
        if !cells.is_sorted_by_key(|cell| cell.bucket) {
            // Stable: of two readings for one cell the earlier in the log stays the first.
            cells.sort_by_key(|cell| cell.bucket);
        }
        if cells.last().is_none_or(|newest| self.is_passed_over(newest.bucket)) {
            self.too_late += cells.len() as u64;
            return;
        }
        let mut rest = &cells[..];
        while let Some(first) = rest.first() {
            let count = rest.iter().take_while(|cell| cell.bucket == first.bucket).count();
            let (row, later) = rest.split_at(count);
            self.merge(row, width, offset, is_complete_ended);
            rest = later;
        }
    }

    /// Whether a record whose newest reading falls into `bucket` is too late as a whole, and is not yet the
    /// one that lets rows begin anew.
    fn is_passed_over(&mut self, bucket: i64) -> bool {
        if !self.is_late(bucket) {
            self.late_records = 0;
            return false;
        }
        self.late_records += 1;
        if self.late_records < LATE_RECORDS_MAX {
            return true;
        }
        self.late_records = 0;
        self.ended = None;
        self.open.values.clear();
        false
    }

    fn is_late(&self, bucket: i64) -> bool {
        let newest = if self.open.values.is_empty() { self.ended } else { Some(self.open.bucket) };
        newest.is_some_and(|newest| bucket < newest)
    }

    /// Takes readings of one interval.
    fn merge(&mut self, row: &[Cell], width: usize, offset: i64, is_complete_ended: bool) {
        let bucket = row[0].bucket;
        if self.is_late(bucket) {
            self.too_late += row.len() as u64;
            return;
        }
        if self.ended == Some(bucket) {
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
            let value = &mut self.open.values[cell.column as usize];
            if value.is_nan() {
                *value = cell.value;
                self.open.time_us = self.open.time_us.max(cell.time_us);
            }
        }
        if is_complete_ended && self.open.values.iter().all(|value| !value.is_nan()) {
            self.end(width, offset);
        }
    }

    fn end(&mut self, width: usize, offset: i64) {
        self.open.values.resize(width, f32::NAN);
        self.cells.append(&mut self.open.values);
        self.rows.push(Ended { bucket: self.open.bucket, time_us: self.open.time_us, offset });
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

    /// Goes over to intervals `factor` times as long; the one with the last ended row has ended.
    pub(super) fn lengthen(&mut self, factor: i64) {
        self.ended = self.ended.map(|ended| ended.div_euclid(factor));
        self.open.bucket = self.open.bucket.div_euclid(factor);
        if self.ended.is_some_and(|ended| self.open.bucket <= ended) {
            self.open.values.clear();
        }
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
        assert_eq!(assembly.rows, [Ended { bucket: 1, time_us: 10, offset: 12 }]);
        assert_eq!(assembly.cells[0], 1.0, "the first reading of an interval stays");
        assert!(assembly.cells[1].is_nan());
        assert_eq!(assembly.too_late, 1);
    }

    #[test]
    fn rows_hold_the_same_whether_or_not_complete_ones_end_at_once() {
        let several: Vec<Cell> = (0..6)
            .flat_map(|b| (0..9).map(move |i| cell(b, i % 3, (b * 10) as f32 + f32::from(i))))
            .collect();
        let (mut at_once, mut later) = (Assembly::default(), Assembly::default());
        for (offset, mut cell) in several.into_iter().enumerate() {
            at_once.take(std::slice::from_mut(&mut cell), 3, offset as i64, true);
            later.take(std::slice::from_mut(&mut cell), 3, offset as i64, false);
        }
        assert_eq!(at_once.cells[..5 * 3], later.cells);
        assert_eq!((at_once.rows.len(), later.rows.len()), (6, 5));
        assert_eq!((at_once.too_late, later.too_late), (0, 0), "the rest of an interval is no late data");
    }

    #[test]
    fn rows_begin_anew_when_record_after_record_is_too_late() {
        let mut assembly = Assembly::default();
        assembly.take(&mut [cell(1_000_000, 0, 1.0)], 2, 0, true);
        let late = i64::from(LATE_RECORDS_MAX) - 1;
        for at in 0..late {
            assembly.take(&mut [cell(at, 0, 1.0)], 2, at, true);
        }
        assert_eq!((assembly.too_late, assembly.rows.len()), (late as u64, 0));
        for at in late..late + 5 {
            assembly.take(&mut [cell(at, 0, 1.0)], 2, at, true);
        }
        assert_eq!((assembly.too_late, assembly.rows.len()), (late as u64, 4));
    }

    #[test]
    fn a_record_in_time_starts_the_count_of_late_ones_anew() {
        let mut assembly = Assembly::default();
        for at in 0..i64::from(LATE_RECORDS_MAX) * 3 {
            let bucket = if at % 10 == 0 { 1000 + at } else { at };
            assembly.take(&mut [cell(bucket, 0, 1.0)], 2, at, true);
        }
        assert!(assembly.rows.iter().all(|row| row.bucket >= 1000));
    }
}
