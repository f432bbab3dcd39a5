//! Decoded readings as columns, over the series table of their lane.

use crate::series::SeriesCode;

/// Readings in record order, a struct of arrays: every vector but the text ones has one element a
/// reading.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReadingColumns {
    /// Code into the lane's series table.
    pub series: Vec<SeriesCode>,
    /// Source time, µs UTC.
    pub time_us: Vec<i64>,
    /// The value; 0.0 where [`ReadingColumns::has_value`] is false.
    pub value: Vec<f64>,
    /// Whether there is a value.
    pub has_value: Vec<bool>,
    /// OPC UA StatusCode.
    pub quality: Vec<u32>,
    /// Which record of the chunk it came from.
    pub record: Vec<u32>,
    /// Its place within that record; missing cells of a batch count as places.
    pub index: Vec<u32>,
    /// String states, in row order: most readings have none.
    pub text: Vec<TextCell>,
    /// The bytes of all string states.
    pub text_bytes: String,
}

/// The string state of one reading: `text_bytes[start..end]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextCell {
    /// The reading's row.
    pub row: u32,
    /// First byte.
    pub start: u32,
    /// First byte after.
    pub end: u32,
}

impl ReadingColumns {
    /// Number of readings.
    #[must_use]
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether there is no reading.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Cuts back to the first `rows` readings: how a record that fails half way leaves no trace.
    pub fn truncate(&mut self, rows: usize) {
        self.series.truncate(rows);
        self.time_us.truncate(rows);
        self.value.truncate(rows);
        self.has_value.truncate(rows);
        self.quality.truncate(rows);
        self.record.truncate(rows);
        self.index.truncate(rows);
        let keep = self.text.partition_point(|cell| (cell.row as usize) < rows);
        self.text.truncate(keep);
        self.text_bytes.truncate(self.text.last().map_or(0, |cell| cell.end as usize));
    }

    /// The string state of a reading.
    #[must_use]
    pub fn text_of(&self, row: usize) -> Option<&str> {
        let at = self.text.binary_search_by_key(&row, |cell| cell.row as usize).ok()?;
        let cell = self.text[at];
        Some(&self.text_bytes[cell.start as usize..cell.end as usize])
    }

    /// Bytes of memory held.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.series.capacity() * 4
            + (self.time_us.capacity() + self.value.capacity()) * 8
            + self.has_value.capacity()
            + (self.quality.capacity() + self.record.capacity() + self.index.capacity()) * 4
            + self.text.capacity() * size_of::<TextCell>()
            + self.text_bytes.capacity()
    }
}
