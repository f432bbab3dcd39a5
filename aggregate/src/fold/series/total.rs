//! What all series of a machine and kind come to together, kept as one series is but for what totals do not tell.
//!
//! A total has no last reading, no shape and no order of its own: counts, sums, extremes, quality and scores do not
//! depend on it. What is late is what is late in its series.

use stillwell_source::series::{NameCode, SeriesTable};

use super::super::parallel::Tally;
use super::super::{Readings, starts};
use super::{Early, SeriesState};

/// What was stored of a machine when its lane began: any of its totals may have windows up to there.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::fold) struct Known {
    /// The largest time of a last reading that is not early, µs.
    asked_us: Option<i64>,
    early: Option<Early>,
    high_us: Option<i64>,
}

impl Known {
    /// Takes in what is known of one series: the time of its last reading, its early ones, its largest time.
    pub(in crate::fold) fn take(&mut self, latest_us: i64, early: Option<Early>, high_us: Option<i64>) {
        if early.is_none_or(|early| latest_us < early.until_us) {
            self.asked_us = self.asked_us.max(Some(latest_us));
        }
        self.high_us = self.high_us.max(high_us);
        self.early = match (self.early, early) {
            (Some(a), Some(b)) => {
                Some(Early { from_us: a.from_us.min(b.from_us), until_us: a.until_us.max(b.until_us) })
            }
            (one, other) => one.or(other),
        };
    }
}

impl SeriesState {
    /// The total of a machine's series of a kind.
    pub(in crate::fold) fn total(machine: NameCode, kind: Option<NameCode>, known: Option<&Known>) -> Self {
        let mut total = Self { kind, is_total: true, ..Self::new(machine, machine) };
        if let Some(known) = known {
            if let Some(asked_us) = known.asked_us {
                total.ask_up_to(asked_us);
            }
            total.high_us = known.high_us.unwrap_or(i64::MIN);
            total.early = known.early.filter(|early| known.asked_us.is_none_or(|us| us < early.until_us));
        }
        total
    }

    /// Whether it is a total.
    #[must_use]
    pub fn is_total(&self) -> bool {
        self.is_total
    }

    /// The name of its rows beside the machine's: its sensor; of a total its kind.
    pub(crate) fn name_in<'t>(&self, table: &'t SeriesTable) -> &'t str {
        match self.kind {
            _ if !self.is_total => table.name(self.sensor),
            Some(kind) => table.name(kind),
            None => "",
        }
    }

    /// Folds the rows of its series in a chunk in.
    pub(in crate::fold) fn apply_total(&mut self, rows: &[u32], readings: &Readings<'_>) -> Tally {
        let mut tally = Tally::default();
        for &row in rows {
            let row = row as usize;
            if !readings.counts_in_total(row) {
                continue;
            }
            let time_us = readings.columns.time_us[row];
            let origin = readings.origin(row);
            let is_early = origin.is_early(time_us);
            let is_plain = !is_early && readings.late_bits(row) == 0;
            if is_plain
                && (self.open.holds(time_us) || self.can_open(time_us, origin.offset, readings, &mut tally))
            {
                self.open.with(|fold| readings.fold_total(row, fold));
            } else {
                tally = tally + self.apply_one_to_total(row, origin.offset, readings);
            }
            self.see(time_us, is_early, None);
        }
        tally
    }

    /// Folds one reading into those windows that do not hold it yet.
    fn apply_one_to_total(&mut self, row: usize, offset: i64, readings: &Readings<'_>) -> Tally {
        let starts = starts(readings.columns.time_us[row]);
        let late = readings.late_bits(row);
        let mut tally = self.settle(readings.widths);
        self.open.close();
        for width in readings.widths.iter() {
            if offset >= self.version_of(width, starts[width]) {
                tally = tally
                    + self.change(width, starts[width], |fold| {
                        readings.fold_total(row, fold);
                        fold.late += u32::from(late >> width & 1);
                    });
            }
        }
        tally
    }
}
