//! A chunk's readings, and what their records say of them.

use std::sync::{Mutex, PoisonError};

use stillwell_schema::quality;
use stillwell_source::chunk::{RecordChunk, RecordRef};
use stillwell_source::columns::ReadingColumns;
use stillwell_source::series::SeriesTable;

use super::{Latest, Widths};
use crate::window::Fold;

/// A reading whose time is further past its record's Kafka timestamp is early. A day leaves room for clocks
/// that tell local time.
const EARLY_US: i64 = 86_400_000_000;

/// What a record says of its readings.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// Its offset.
    pub offset: i64,
    /// Its Kafka timestamp, ms; not positive where it is not known.
    pub timestamp_ms: i64,
    /// Readings of a later time are early.
    early_after_us: i64,
}

impl Origin {
    /// Of a record's offset and Kafka timestamp, ms.
    #[must_use]
    pub fn new(offset: i64, timestamp_ms: i64) -> Self {
        // A broker that does not know says -1, a client that does not know 0: then nothing is early.
        let early_after_us = if timestamp_ms > 0 {
            timestamp_ms.saturating_mul(1000).saturating_add(EARLY_US)
        } else {
            i64::MAX
        };
        Self { offset, timestamp_ms, early_after_us }
    }

    /// Of a record.
    #[must_use]
    pub fn of(record: &RecordRef<'_>) -> Self {
        Self::new(record.offset.0, record.timestamp_ms)
    }

    /// Of each record of a chunk.
    #[must_use]
    pub fn all(chunk: &RecordChunk) -> Vec<Self> {
        chunk.records().map(|record| Self::of(&record)).collect()
    }

    /// Whether a reading of this time is early.
    #[must_use]
    pub fn is_early(self, time_us: i64) -> bool {
        time_us > self.early_after_us
    }
}

/// A chunk's readings.
pub(super) struct Readings<'a> {
    pub(super) columns: &'a ReadingColumns,
    /// By record of the chunk.
    pub(super) origins: &'a [Origin],
    pub(super) table: &'a SeriesTable,
    /// Widths of the windows that are kept.
    pub(super) widths: Widths,
    /// Readings below this offset were counted before.
    pub(super) counted_from: i64,
    /// For totals: the rows that are late in their series, sorted.
    pub(super) late: &'a [LateRow],
    /// For series: where late rows are noted, if anybody asks for them.
    pub(super) late_to: Option<&'a Mutex<Vec<LateRow>>>,
}

/// A row of a chunk, and a bit for each width in which it is late.
pub(super) type LateRow = (u32, u8);

impl Readings<'_> {
    #[inline]
    pub(super) fn origin(&self, row: usize) -> Origin {
        self.origins[self.columns.record[row] as usize]
    }

    #[inline]
    pub(super) fn is_bad(&self, row: usize) -> bool {
        quality::is_bad(self.columns.quality[row])
    }

    /// The string state of a reading.
    #[inline]
    pub(super) fn state(&self, row: usize) -> Option<&str> {
        if self.columns.text.is_empty() { None } else { self.columns.text_of(row) }
    }

    /// Whether a window holds anything of it.
    pub(super) fn counts(&self, row: usize) -> bool {
        self.columns.has_value[row] || self.is_bad(row) || self.state(row).is_some()
    }

    /// Whether a total holds anything of it.
    pub(super) fn counts_in_total(&self, row: usize) -> bool {
        self.columns.has_value[row] || self.is_bad(row)
    }

    /// Notes the widths in which a reading is late, a bit for each.
    pub(super) fn note_late(&self, row: usize, bits: u8) {
        if let (Some(late), true, Ok(row)) = (self.late_to, bits != 0, u32::try_from(row)) {
            late.lock().unwrap_or_else(PoisonError::into_inner).push((row, bits));
        }
    }

    /// The widths in which a reading is late in its series, a bit for each.
    pub(super) fn late_bits(&self, row: usize) -> u8 {
        if self.late.is_empty() {
            return 0;
        }
        let found = self.late.binary_search_by_key(&row, |(late, _)| *late as usize);
        found.map_or(0, |at| self.late[at].1)
    }

    /// How many were not counted before.
    pub(super) fn counted(&self) -> u64 {
        let is_new = |origin: &Origin| origin.offset >= self.counted_from;
        if self.origins.first().is_none_or(is_new) {
            return self.columns.len() as u64;
        }
        self.columns.record.iter().filter(|&&record| is_new(&self.origins[record as usize])).count() as u64
    }

    /// Folds a reading in.
    pub(super) fn fold(&self, row: usize, fold: &mut Fold) {
        let time_us = self.columns.time_us[row];
        if self.columns.has_value[row] {
            fold.add(time_us, self.columns.value[row], self.is_bad(row));
        } else {
            fold.add_valueless(self.is_bad(row));
        }
        if let Some(state) = self.state(row) {
            fold.add_state(time_us, state);
        }
    }

    /// Folds a reading into a total.
    #[inline]
    pub(super) fn fold_total(&self, row: usize, fold: &mut Fold) {
        if self.columns.has_value[row] {
            fold.add_total(self.columns.value[row], self.is_bad(row));
        } else {
            fold.add_valueless(self.is_bad(row));
        }
    }

    /// A reading as its series' last.
    pub(super) fn latest(&self, row: usize, score: Option<f32>) -> Latest {
        let columns = self.columns;
        Latest {
            time_us: columns.time_us[row],
            value: columns.has_value[row].then_some(columns.value[row]),
            text: self.state(row).map(Into::into),
            quality: columns.quality[row],
            score,
        }
    }
}
