//! Rows that a machine's model is going to be trained on, and the interval that they ask for.
//!
//! Where sensors report one after another, or seldom, rows of the first interval hold few of them. Such rows
//! are merged into longer ones, as long as the time between the readings of most sensors, and commissioning
//! goes on with these.

use super::rows::Assembly;

/// A sensor that shows a value in less than one of so many rows is left out.
const PRESENT_SHARE: usize = 10;
/// A sensor of fewer readings has no say in the interval.
const READINGS_MIN: usize = 4;
/// Where no sensor has a say yet, intervals become so many times as long.
const BLIND_FACTOR: i64 = 5;
/// No interval becomes longer.
const INTERVAL_MAX_US: i64 = 3_600_000_000;

/// Commissioning rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Commissioning {
    /// Columns.
    pub(super) width: usize,
    /// Number of each row's interval.
    pub(super) buckets: Vec<i64>,
    /// Their cells, a column a sensor, NaN where missing.
    pub(super) cells: Vec<f32>,
    /// Offset of the record from which on rows are like these; it tells them from shorter ones that are
    /// stored.
    pub(super) since: Option<i64>,
    /// How many of them are stored.
    pub(super) saved: usize,
}

impl Commissioning {
    pub(super) fn new(width: usize, since: Option<i64>) -> Self {
        Self { width, since, ..Self::default() }
    }

    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.buckets.len()
    }

    /// Makes room for one more sensor.
    pub(super) fn widen(&mut self) {
        let cells = widened(&self.cells, self.width, self.width + 1);
        (self.cells, self.width) = (cells, self.width + 1);
    }

    /// Takes the rows that ended.
    pub(super) fn append(&mut self, assembly: &mut Assembly) {
        self.buckets.extend(assembly.rows.iter().map(|row| row.bucket));
        self.cells.append(&mut assembly.cells);
        assembly.clear();
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        self.buckets.truncate(rows);
        self.cells.truncate(rows * self.width);
    }

    /// Columns that are there often enough to learn from.
    pub(super) fn kept(&self) -> Vec<usize> {
        let least = self.len().div_ceil(PRESENT_SHARE);
        (0..self.width).filter(|&column| self.seen(column).count() >= least).collect()
    }

    /// The cells of some columns.
    pub(super) fn columns(&self, kept: &[usize]) -> Vec<f32> {
        let rows = self.cells.chunks_exact(self.width.max(1));
        rows.flat_map(|row| kept.iter().map(|&column| row[column])).collect()
    }

    /// Numbers of the intervals in which a column is there.
    fn seen(&self, column: usize) -> impl Iterator<Item = i64> {
        let values = self.cells.iter().skip(column).step_by(self.width.max(1));
        values.zip(&self.buckets).filter(|(value, _)| !value.is_nan()).map(|(_, &bucket)| bucket)
    }

    /// How many times as long the interval should be, that most cells are there; none where they are, or
    /// where it is as long as may be.
    pub(super) fn factor(&self, interval_us: i64) -> Option<i64> {
        let longest = INTERVAL_MAX_US / interval_us.max(1);
        if longest < 2 {
            return None;
        }
        let regular: Vec<Vec<i64>> = (0..self.width)
            .map(|column| self.seen(column).collect::<Vec<i64>>())
            .filter(|seen| seen.len() >= READINGS_MIN)
            .collect();
        if regular.is_empty() {
            return Some(BLIND_FACTOR.min(longest));
        }
        let present: usize = regular.iter().map(Vec::len).sum();
        if 2 * present >= regular.len() * self.len() {
            return None;
        }
        let gaps = regular.iter().map(|seen| median(seen.windows(2).map(|pair| pair[1] - pair[0])));
        Some(median(gaps).clamp(2, longest))
    }

    /// Merges rows into those of intervals `factor` times as long, from the record at `since` on; each keeps
    /// the first reading of a sensor.
    pub(super) fn merge(&mut self, factor: i64, since: i64) {
        let mut merged = Self::new(self.width, Some(since));
        for (row, bucket) in self.cells.chunks_exact(self.width.max(1)).zip(&self.buckets) {
            let bucket = bucket.div_euclid(factor);
            if merged.buckets.last() != Some(&bucket) {
                merged.buckets.push(bucket);
                merged.cells.extend_from_slice(row);
                continue;
            }
            let first = merged.cells.len() - self.width;
            for (cell, &value) in merged.cells[first..].iter_mut().zip(row) {
                if cell.is_nan() {
                    *cell = value;
                }
            }
        }
        *self = merged;
    }
}

/// Rows of `width` cells as rows of `to`, the new cells missing.
pub(super) fn widened(cells: &[f32], width: usize, to: usize) -> Vec<f32> {
    if width == 0 {
        return Vec::new();
    }
    let missing = || std::iter::repeat_n(f32::NAN, to - width);
    cells.chunks_exact(width).flat_map(|row| row.iter().copied().chain(missing())).collect()
}

/// The middle one, the lower of two; 1 of none.
fn median(values: impl Iterator<Item = i64>) -> i64 {
    let mut all: Vec<i64> = values.collect();
    all.sort_unstable();
    all.get(all.len().saturating_sub(1) / 2).copied().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_US: i64 = 1_000_000;

    /// One row a second; `is_there` tells which sensors report in it.
    fn rows(seconds: i64, width: usize, is_there: impl Fn(i64, usize) -> bool) -> Commissioning {
        let mut all = Commissioning::new(width, Some(0));
        for second in 0..seconds {
            let cells =
                (0..width).map(|sensor| if is_there(second, sensor) { second as f32 } else { f32::NAN });
            let cells: Vec<f32> = cells.collect();
            if cells.iter().any(|cell| !cell.is_nan()) {
                all.buckets.push(second);
                all.cells.extend(cells);
            }
        }
        all
    }

    #[test]
    fn the_interval_follows_the_sensors() {
        let cases: [(&str, Option<i64>, Commissioning); 5] = [
            ("together", None, rows(400, 10, |_, _| true)),
            ("together, each minute", None, rows(4000, 10, |second, _| second % 60 == 0)),
            ("one after another", Some(10), rows(400, 10, |second, sensor| second % 10 == sensor as i64)),
            (
                "some seldom ones",
                None,
                rows(400, 20, |second, sensor| sensor < 10 || second == sensor as i64),
            ),
            (
                "too many to tell",
                Some(BLIND_FACTOR),
                rows(400, 400, |second, sensor| second == sensor as i64),
            ),
        ];
        for (what, factor, rows) in cases {
            assert_eq!(rows.factor(SECOND_US), factor, "{what}");
        }
        let apart = rows(400, 10, |second, sensor| second % 10 == sensor as i64);
        assert_eq!(apart.factor(INTERVAL_MAX_US), None, "no interval is longer");
    }

    #[test]
    fn merged_rows_hold_the_first_reading_of_each_sensor() {
        let mut apart = rows(40, 2, |second, sensor| second % 4 == 2 * sensor as i64);
        apart.merge(8, 7);
        assert_eq!(apart.buckets, [0, 1, 2, 3, 4]);
        assert_eq!(apart.cells[..4], [0.0, 2.0, 8.0, 10.0]);
        assert_eq!((apart.factor(8 * SECOND_US), apart.since), (None, Some(7)));
    }

    #[test]
    fn columns_that_are_seldom_there_are_not_kept() {
        let all = rows(400, 3, |second, sensor| sensor < 2 || second % 50 == 0);
        assert_eq!(all.kept(), [0, 1]);
        assert_eq!(all.columns(&[1]).len(), 400);
    }
}
