//! A chunk's rows grouped by series, in the order of arrival within each: a counting sort.

use stillwell_source::columns::ReadingColumns;
use stillwell_source::series::SeriesCode;

/// The number of a series that was not taken in.
pub(super) const REFUSED: u32 = u32::MAX;

/// Rows by series; groups are sorted by series number.
#[derive(Debug, Default)]
pub struct Groups {
    rows: Vec<u32>,
    /// Series number, and the end of its rows.
    groups: Vec<(u32, u32)>,
    /// Codes of series that were not taken in, and their readings; a code may come several times.
    refused: Vec<(SeriesCode, u64)>,
    /// The same rows by total, where totals are kept.
    pub(super) totals: Option<Box<Self>>,
}

impl Groups {
    /// Groups rows by `numbers[code]`, which are below `series`. `counts` is room for their counts, and zero before
    /// and after.
    pub(super) fn new(
        columns: &ReadingColumns,
        numbers: &[u32],
        series: usize,
        counts: &mut Vec<u32>,
    ) -> Self {
        counts.resize(series, 0);
        let (mut touched, mut refused) = (Vec::new(), Vec::<(SeriesCode, u64)>::new());
        for &code in &columns.series {
            let number = numbers[code as usize];
            if number == REFUSED {
                match refused.last_mut() {
                    Some(last) if last.0 == code => last.1 += 1,
                    _ => refused.push((code, 1)),
                }
                continue;
            }
            let count = &mut counts[number as usize];
            if *count == 0 {
                touched.push(number);
            }
            *count += 1;
        }
        sort(&mut touched, counts);
        let mut groups = Vec::with_capacity(touched.len());
        let mut at = 0;
        for &number in &touched {
            let count = std::mem::replace(&mut counts[number as usize], at);
            at += count;
            groups.push((number, at));
        }
        let mut rows = vec![0; at as usize];
        for (row, &code) in (0u32..).zip(&columns.series) {
            let Some(place) = counts.get_mut(numbers[code as usize] as usize) else { continue };
            rows[*place as usize] = row;
            *place += 1;
        }
        touched.iter().for_each(|&number| counts[number as usize] = 0);
        Self { rows, groups, refused, totals: None }
    }

    /// Codes of series that were not taken in, and their readings; a code may come several times.
    pub(super) fn refused(&self) -> &[(SeriesCode, u64)] {
        &self.refused
    }

    /// Number of groups.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Series number and rows of a group.
    #[must_use]
    pub fn get(&self, group: usize) -> (u32, &[u32]) {
        let (number, end) = self.groups[group];
        let start = if group == 0 { 0 } else { self.groups[group - 1].1 };
        (number, &self.rows[start as usize..end as usize])
    }

    /// All groups.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[u32])> {
        (0..self.len()).map(|group| self.get(group))
    }
}

/// Sorts the numbers that have a count; where they are most of all, by looking at each.
fn sort(touched: &mut Vec<u32>, counts: &[u32]) {
    const SHARE: usize = 8;
    if touched.len() < counts.len() / SHARE {
        touched.sort_unstable();
    } else {
        touched.clear();
        touched.extend((0u32..).zip(counts).filter(|&(_, &count)| count > 0).map(|(number, _)| number));
    }
}
