//! Work on many series, shared out to the threads of the pool.

use std::ops::{Add, Range};

use super::{Groups, Readings, SeriesState, Widths};

/// Series are shared out to threads in runs of at least so many.
const SERIES_PER_TASK_MIN: usize = 256;

/// What folding has come to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    /// Late readings.
    pub(super) late: u64,
    /// Memory by which what is to be written has grown,
    pub(super) bytes: usize,
    /// and of that what is written at the coarser level alone.
    pub(super) coarse_bytes: usize,
}

impl Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            late: self.late + other.late,
            bytes: self.bytes + other.bytes,
            coarse_bytes: self.coarse_bytes + other.coarse_bytes,
        }
    }
}

/// Folds the groups of a chunk into their series.
pub(super) fn apply(series: &mut [SeriesState], groups: &Groups, readings: &Readings<'_>) -> Tally {
    let number = |group: usize| groups.get(group).0 as usize;
    halve(series, 0, &number, 0..groups.len(), &|state, group| state.apply(groups.get(group).1, readings))
}

/// Folds the groups of a chunk into their totals.
pub(super) fn apply_totals(totals: &mut [SeriesState], groups: &Groups, readings: &Readings<'_>) -> Tally {
    let number = |group: usize| groups.get(group).0 as usize;
    let work = |total: &mut SeriesState, group| total.apply_total(groups.get(group).1, readings);
    halve(totals, 0, &number, 0..groups.len(), &work)
}

/// Puts what these series hold into their windows; they are sorted.
pub(super) fn settle(series: &mut [SeriesState], numbers: &[u32], widths: Widths) -> Tally {
    let number = |at: usize| numbers[at] as usize;
    halve(series, 0, &number, 0..numbers.len(), &|state, _| state.settle(widths))
}

/// Does `work` on the series that `number` gives for each of `range`, in ascending order, halving it over the
/// threads of the pool; `series` starts at number `base`.
fn halve(
    series: &mut [SeriesState],
    base: usize,
    number: &(impl Fn(usize) -> usize + Sync),
    range: Range<usize>,
    work: &(impl Fn(&mut SeriesState, usize) -> Tally + Sync),
) -> Tally {
    if range.len() <= SERIES_PER_TASK_MIN {
        return range.map(|at| work(&mut series[number(at) - base], at)).fold(Tally::default(), Tally::add);
    }
    let middle = range.start + range.len() / 2;
    let cut = number(middle);
    let (left, right) = series.split_at_mut(cut - base);
    let (a, b) = rayon::join(
        || halve(left, base, number, range.start..middle, work),
        || halve(right, cut, number, middle..range.end, work),
    );
    a + b
}
