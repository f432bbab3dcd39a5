//! Where the readings of a foreign record go, and what one record may become.

use std::borrow::Cow;

use crate::columns::{ReadingColumns, TextCell};
use crate::decode::DecodeError;
use crate::series::{Series, SeriesTable};

/// Readings of one record, missing cells among them, and its rows: 4 million take some 150 MB. Few bytes can stand for many
/// readings where a format compresses or repeats.
pub const READINGS_MAX: u32 = 1 << 22;
/// Bytes of string states, and of new names, of one record; a dictionary repeats them for a few bits.
pub const TEXT_BYTES_MAX: usize = 64 << 20;
/// Bytes of one name.
pub const NAME_BYTES_MAX: usize = 4096;

/// Where the fields of one reading came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Each field with the path, column or bytes that it was read from.
    pub fields: Vec<(&'static str, String)>,
}

/// One reading but for its names.
#[derive(Clone, Debug)]
pub(in crate::decode) struct Row<'a> {
    pub(in crate::decode) time_us: i64,
    pub(in crate::decode) value: Option<f64>,
    pub(in crate::decode) text: Option<Cow<'a, str>>,
    pub(in crate::decode) quality: u32,
}

/// The readings of one record on their way out.
pub(in crate::decode) struct Sink<'a> {
    table: &'a mut SeriesTable,
    out: &'a mut ReadingColumns,
    number: u32,
    index: u32,
    rows: u32,
    /// How `out` and `table` were before.
    rows_before: usize,
    text_before: usize,
    table_before: usize,
    trace: Option<Trace<'a>>,
}

struct Trace<'a> {
    origins: &'a mut Vec<Origin>,
    /// Of the row, and of the reading at hand.
    fields: Vec<(&'static str, String)>,
}

impl<'a> Sink<'a> {
    /// For the record of that number. Where `origins` is given, each reading's origin is appended to it.
    pub(in crate::decode) fn new(
        number: u32,
        table: &'a mut SeriesTable,
        out: &'a mut ReadingColumns,
        origins: Option<&'a mut Vec<Origin>>,
    ) -> Self {
        Self {
            number,
            index: 0,
            rows: 0,
            rows_before: out.len(),
            text_before: out.text_bytes.len(),
            table_before: table.memory_bytes(),
            table,
            out,
            trace: origins.map(|origins| Trace { origins, fields: Vec::new() }),
        }
    }

    /// Takes back what was appended.
    pub(in crate::decode) fn undo(&mut self) {
        self.out.truncate(self.rows_before);
        if let Some(trace) = &mut self.trace {
            trace.origins.clear();
        }
    }

    /// A row begins at byte `at`.
    pub(super) fn begin(&mut self, at: usize) -> Result<(), DecodeError> {
        if self.rows == READINGS_MAX {
            return Err(DecodeError::new(
                "too_large",
                at,
                format!("more than {READINGS_MAX} rows in one record"),
            ));
        }
        self.rows += 1;
        if let Some(trace) = &mut self.trace {
            trace.fields.clear();
        }
        Ok(())
    }

    pub(super) fn is_traced(&self) -> bool {
        self.trace.is_some()
    }

    /// Notes where a field of the row, or of the reading to come, was found.
    pub(super) fn origin(&mut self, field: &'static str, place: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.fields.retain(|(name, _)| *name != field);
            trace.fields.push((field, place()));
        }
    }

    /// The reading to come has no such field.
    pub(super) fn forget(&mut self, field: &'static str) {
        if let Some(trace) = &mut self.trace {
            trace.fields.retain(|(name, _)| *name != field);
        }
    }

    /// A cell without a reading.
    pub(super) fn skip(&mut self) -> Result<(), DecodeError> {
        self.step(0).map(drop)
    }

    fn step(&mut self, at: usize) -> Result<u32, DecodeError> {
        if self.index == READINGS_MAX {
            let message = format!("more than {READINGS_MAX} readings in one record; send smaller records");
            return Err(DecodeError::new("too_large", at, message));
        }
        self.index += 1;
        Ok(self.index - 1)
    }

    /// Appends a reading with the names machine, sensor, kind and unit.
    pub(super) fn push(
        &mut self,
        names: [Option<&mut String>; 4],
        row: Row<'_>,
        at: usize,
    ) -> Result<(), DecodeError> {
        let index = self.step(at)?;
        let mut codes = [None; 4];
        for (code, name) in codes.iter_mut().zip(names) {
            let Some(name) = name else { continue };
            if name.len() > NAME_BYTES_MAX {
                let message = format!("a name of {} bytes; {NAME_BYTES_MAX} at most", name.len());
                return Err(DecodeError::new("bad_name", at, message));
            }
            *code = Some(self.table.intern_name(name));
        }
        let [machine, sensor, kind, unit] = codes;
        let (machine, sensor) = (machine.unwrap_or_default(), sensor.unwrap_or_default());
        let series = self.table.intern(Series { machine, sensor, kind, unit });
        let text = row.text.as_deref().map_or(0, str::len);
        let held = (self.out.text_bytes.len() - self.text_before + text)
            .max(self.table.memory_bytes().saturating_sub(self.table_before));
        let row_number = u32::try_from(self.out.len()).ok();
        let end = u32::try_from(self.out.text_bytes.len() + text).ok();
        let (Some(row_number), Some(end), true) = (row_number, end, held <= TEXT_BYTES_MAX) else {
            let message =
                format!("more than {TEXT_BYTES_MAX} bytes of text in one record; send smaller records");
            return Err(DecodeError::new("too_large", at, message));
        };
        let out = &mut *self.out;
        if let Some(text) = row.text {
            out.text_bytes.push_str(&text);
            out.text.push(TextCell { row: row_number, start: end - text.len() as u32, end });
        }
        out.series.push(series);
        out.time_us.push(row.time_us);
        out.value.push(row.value.unwrap_or(0.0));
        out.has_value.push(row.value.is_some());
        out.quality.push(row.quality);
        out.record.push(self.number);
        out.index.push(index);
        if let Some(trace) = &mut self.trace {
            trace.origins.push(Origin { fields: trace.fields.clone() });
        }
        Ok(())
    }
}
