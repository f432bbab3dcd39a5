//! The archive's order of readings: machine, sensor, time, offset, index.
//!
//! Readings arrive in (offset, index) order, and a series' times mostly ascend. So rows are dealt out to
//! their series by counting, which keeps arrival order, and only a series whose times do not ascend is
//! sorted, stably.

use stillwell_source::series::{Series, SeriesTable};

use super::batch::Part;

/// A reading's place in a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    /// Number of the part.
    pub(super) part: u32,
    /// Row within the part's columns.
    pub(super) row: u32,
}

/// All readings of `parts` in the archive's order.
pub(super) fn sorted_rows(parts: &[Part], table: &SeriesTable) -> Vec<Row> {
    let (ranks, distinct) = ranks(table);
    let mut ends = count(parts, &ranks, distinct);
    let total = ends.last().copied().unwrap_or(0);
    let starts: Vec<usize> = std::iter::once(0).chain(ends.iter().copied()).take(distinct).collect();
    ends.copy_from_slice(&starts);
    let mut rows = vec![Row::default(); total];
    for (part, of_part) in (0u32..).zip(parts) {
        for (row, &series) in (0u32..).zip(&of_part.columns.series) {
            let end = &mut ends[ranks[series as usize] as usize];
            rows[*end] = Row { part, row };
            *end += 1;
        }
    }
    let time = |row: &Row| parts[row.part as usize].columns.time_us[row.row as usize];
    for (&start, &end) in starts.iter().zip(&ends) {
        let series = &mut rows[start..end];
        if !series.is_sorted_by_key(time) {
            series.sort_by_key(time);
        }
    }
    rows
}

/// The ends of each rank's rows, were they laid out by rank.
fn count(parts: &[Part], ranks: &[u32], distinct: usize) -> Vec<usize> {
    let mut counts = vec![0usize; distinct];
    for &series in parts.iter().flat_map(|part| &part.columns.series) {
        counts[ranks[series as usize] as usize] += 1;
    }
    let mut end = 0;
    for count in &mut counts {
        end += *count;
        *count = end;
    }
    counts
}

/// The rank of each series code by machine and sensor, and how many ranks there are. Codes that differ in
/// kind or unit alone share a rank: they are one series.
fn ranks(table: &SeriesTable) -> (Vec<u32>, usize) {
    let names = |s: &Series| (table.name(s.machine), table.name(s.sensor));
    let mut codes: Vec<u32> = (0u32..).take(table.len()).collect();
    codes.sort_unstable_by_key(|&code| names(&table.all()[code as usize]));
    let mut ranks = vec![0; table.len()];
    let mut distinct = 0;
    for group in codes.chunk_by(|&a, &b| names(&table.series(a)) == names(&table.series(b))) {
        for &code in group {
            ranks[code as usize] = distinct;
        }
        distinct += 1;
    }
    (ranks, distinct as usize)
}
