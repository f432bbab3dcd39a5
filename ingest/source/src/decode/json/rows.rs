//! Readings on their way into columns.

use super::DecodeError;
use super::cursor::error;
use crate::columns::{ReadingColumns, TextCell};
use crate::series::SeriesCode;

/// One reading but for its text.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Row {
    pub(super) series: SeriesCode,
    pub(super) index: u32,
    pub(super) time_us: i64,
    /// 0.0 where there is none.
    pub(super) value: f64,
    pub(super) has_value: bool,
    pub(super) quality: u32,
}

/// Rows that go to the columns together: so many that growing the columns costs little, so few that they stay
/// in the nearest cache.
const ROWS: usize = 64;

/// Room for such rows.
#[derive(Debug)]
pub(super) struct Rows([Row; ROWS]);

impl Default for Rows {
    fn default() -> Self {
        Self([Row::default(); ROWS])
    }
}

/// Where a record's readings go. What is not flushed at its end is lost.
pub(super) struct Sink<'a> {
    out: &'a mut ReadingColumns,
    record: u32,
    rows: &'a mut [Row; ROWS],
    len: usize,
}

impl<'a> Sink<'a> {
    pub(super) fn new(out: &'a mut ReadingColumns, record: u32, rows: &'a mut Rows) -> Self {
        Self { out, record, rows: &mut rows.0, len: 0 }
    }

    /// The row to be filled next.
    #[inline(always)]
    pub(super) fn row(&mut self) -> &mut Row {
        &mut self.rows[self.len % ROWS]
    }

    /// Takes in the row that was filled.
    #[inline(always)]
    pub(super) fn push(&mut self, text: Option<&str>) -> Result<(), DecodeError> {
        if let Some(text) = text {
            self.push_text(text)?;
        }
        self.len += 1;
        if self.len == ROWS {
            self.flush();
        }
        Ok(())
    }

    #[inline(never)]
    pub(super) fn flush(&mut self) {
        let rows = &self.rows[..self.len];
        self.len = 0;
        self.out.series.extend(rows.iter().map(|row| row.series));
        self.out.time_us.extend(rows.iter().map(|row| row.time_us));
        self.out.value.extend(rows.iter().map(|row| row.value));
        self.out.has_value.extend(rows.iter().map(|row| row.has_value));
        self.out.quality.extend(rows.iter().map(|row| row.quality));
        self.out.record.extend(rows.iter().map(|_| self.record));
        self.out.index.extend(rows.iter().map(|row| row.index));
    }

    #[inline(never)]
    fn push_text(&mut self, text: &str) -> Result<(), DecodeError> {
        let place =
            |len: usize| u32::try_from(len).map_err(|_| error("too_large", 0, "more than 4 GiB of text"));
        let (row, start) = (place(self.out.len() + self.len)?, place(self.out.text_bytes.len())?);
        let end = place(self.out.text_bytes.len() + text.len())?;
        self.out.text_bytes.push_str(text);
        self.out.text.push(TextCell { row, start, end });
        Ok(())
    }
}
