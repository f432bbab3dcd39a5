//! The totals of a lane: what the series of each machine and kind come to together, so that questions over a whole
//! plant need not read every series.
//!
//! They are a fold of their own beside that of the series, by the same protocol: windows with versions, brought back
//! when late data touches them, written and let go as those of series are.

use std::sync::Mutex;

use stillwell_source::columns::ReadingColumns;
use stillwell_source::series::{NameCode, SeriesTable};

use super::groups::REFUSED;
use super::readings::LateRow;
use super::series::{Known, SeriesState};
use super::{Groups, LaneFold, Origin, Readings, Stored, Widths, parallel};

impl LaneFold {
    /// Keeps totals of the series of these widths, too.
    #[must_use]
    pub fn with_totals(self, widths: Widths) -> Self {
        Self { totals: Some(Box::new(Self::new(widths))), ..self }
    }

    /// The totals, if they are kept, to be written: a series is all series of a machine and kind there.
    pub fn totals_mut(&mut self) -> Option<&mut Self> {
        self.totals.as_deref_mut()
    }

    /// Takes over what is stored of a series, which is not in use yet; [`LaneFold::restored`] follows the last one.
    pub fn restore(&mut self, machine: NameCode, sensor: NameCode, stored: Stored) {
        if let Some(totals) = &mut self.totals {
            let known = totals.known.entry(machine).or_default();
            known.take(stored.latest.time_us, stored.early, stored.high_us);
        }
        let number = self.series_of(machine, sensor);
        self.series[number as usize].restore(stored);
    }

    /// Takes over how far the windows of a machine's total of a kind go, which is not in use yet.
    pub fn restore_total(&mut self, machine: NameCode, kind: Option<NameCode>, stored: Stored) {
        let Some(totals) = &mut self.totals else { return };
        let number = totals.total_of(machine, kind);
        totals.series[number as usize].restore(Stored { kind, ..stored });
    }

    /// Makes the totals of all series that were restored: a score may be for one that no reading comes for.
    pub fn restored(&mut self) {
        let Some(totals) = &mut self.totals else { return };
        for series in &self.series {
            totals.total_of(series.machine, series.kind);
        }
    }

    /// The number of a machine's total of a kind, which may be new.
    pub(super) fn total_of(&mut self, machine: NameCode, kind: Option<NameCode>) -> u32 {
        let next = u32::try_from(self.series.len()).unwrap_or(REFUSED);
        let number = *self.by_name.entry((machine, kind.unwrap_or(NameCode::MAX))).or_insert(next);
        if number == next {
            self.series.push(SeriesState::total(machine, kind, self.known.get(&machine)));
        }
        number
    }

    /// The number of the total that a series belongs to now, where it has one.
    pub(super) fn total_with(&self, series: &SeriesState) -> Option<u32> {
        self.by_name.get(&(series.machine, series.kind.unwrap_or(NameCode::MAX))).copied()
    }

    /// Folds a chunk into the totals; `late` are the rows that are late in their series.
    pub(super) fn apply_to_totals(
        &mut self,
        origins: &[Origin],
        columns: &ReadingColumns,
        groups: &Groups,
        table: &SeriesTable,
        late: Mutex<Vec<LateRow>>,
    ) {
        let (Some(totals), Some(groups)) = (&mut self.totals, &groups.totals) else { return };
        let mut late = late.into_inner().unwrap_or_default();
        late.sort_unstable();
        let readings = Readings {
            columns,
            origins,
            table,
            widths: totals.widths,
            counted_from: i64::MAX,
            late: &late,
            late_to: None,
        };
        let tally = parallel::apply_totals(&mut totals.series, groups, &readings);
        for (number, _) in groups.iter() {
            totals.mark(number);
        }
        totals.grow(tally);
    }
}

/// What is known of machines when a lane begins.
pub(super) type KnownMachines = rustc_hash::FxHashMap<NameCode, Known>;
