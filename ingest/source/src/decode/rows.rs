//! Where the readings of a record go whose format names them itself, without a mapping.
//!
//! Names come as bytes. A lane's readings follow each other in a pattern, so the series that came after the last one
//! the time before is tried first and compared byte for byte; only others are checked and looked up.

use stillwell_schema::quality::BAD;

use super::DecodeError;
use super::mapped::{NAME_BYTES_MAX, READINGS_MAX, TEXT_BYTES_MAX};
use crate::columns::{ReadingColumns, TextCell};
use crate::series::{NameCode, Series, SeriesCode, SeriesTable};

/// What the series of a lane were followed by.
#[derive(Debug, Default)]
pub(super) struct Follow {
    followers: Vec<SeriesCode>,
    last: SeriesCode,
}

/// The names of a reading as they stand in the record.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Names<'a> {
    pub(super) machine: &'a [u8],
    pub(super) sensor: &'a [u8],
    /// None where it is empty, as with the unit.
    pub(super) kind: &'a [u8],
    pub(super) unit: &'a [u8],
}

/// What was measured.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Measured<'a> {
    pub(super) time_us: i64,
    pub(super) value: Option<f64>,
    pub(super) text: Option<&'a str>,
    pub(super) quality: u32,
}

/// The readings of one record on their way out.
pub(super) struct Rows<'a> {
    follow: &'a mut Follow,
    pub(super) table: &'a mut SeriesTable,
    out: &'a mut ReadingColumns,
    number: u32,
    index: u32,
    rows_before: usize,
    text_before: usize,
}

impl<'a> Rows<'a> {
    /// For the record of that number.
    pub(super) fn new(
        number: u32,
        follow: &'a mut Follow,
        table: &'a mut SeriesTable,
        out: &'a mut ReadingColumns,
    ) -> Self {
        let (rows_before, text_before) = (out.len(), out.text_bytes.len());
        Self { follow, table, out, number, index: 0, rows_before, text_before }
    }

    /// Takes back what was appended.
    pub(super) fn undo(&mut self) {
        self.out.truncate(self.rows_before);
    }

    /// A place in the record without a reading.
    pub(super) fn skip(&mut self, at: usize) -> Result<(), DecodeError> {
        self.step(at).map(drop)
    }

    /// Appends a reading that begins at byte `at`.
    #[inline]
    pub(super) fn push(
        &mut self,
        names: Names<'_>,
        measured: Measured<'_>,
        at: usize,
    ) -> Result<(), DecodeError> {
        let series = match self.expected(&names) {
            Some(code) => code,
            None => self.intern(names, at)?,
        };
        self.push_coded(series, measured, at)
    }

    /// Appends a reading of a series that is known by its code.
    #[inline]
    pub(super) fn push_coded(
        &mut self,
        series: SeriesCode,
        measured: Measured<'_>,
        at: usize,
    ) -> Result<(), DecodeError> {
        let index = self.step(at)?;
        let Measured { time_us, value, text, mut quality } = measured;
        let finite = value.filter(|value| value.is_finite());
        if value.is_some() && finite.is_none() {
            quality |= BAD;
        }
        if let Some(text) = text {
            self.text(text, at)?;
        }
        let out = &mut *self.out;
        out.series.push(series);
        out.time_us.push(time_us);
        out.value.push(finite.unwrap_or(0.0));
        out.has_value.push(finite.is_some());
        out.quality.push(quality);
        out.record.push(self.number);
        out.index.push(index);
        Ok(())
    }

    fn text(&mut self, text: &str, at: usize) -> Result<(), DecodeError> {
        let out = &mut *self.out;
        let row = u32::try_from(out.len()).ok();
        let end = u32::try_from(out.text_bytes.len() + text.len()).ok();
        let (Some(row), Some(end)) = (row, end) else { return Err(too_much_text(at)) };
        if out.text_bytes.len() - self.text_before + text.len() > TEXT_BYTES_MAX {
            return Err(too_much_text(at));
        }
        out.text.push(TextCell { row, start: end - text.len() as u32, end });
        out.text_bytes.push_str(text);
        Ok(())
    }

    fn step(&mut self, at: usize) -> Result<u32, DecodeError> {
        if self.index == READINGS_MAX {
            let message = format!("more than {READINGS_MAX} readings in one record; send smaller records");
            return Err(DecodeError::new("too_large", at, message));
        }
        self.index += 1;
        Ok(self.index - 1)
    }

    /// The series that is expected next, if these are its names.
    #[inline]
    fn expected(&mut self, names: &Names<'_>) -> Option<SeriesCode> {
        let code = *self.follow.followers.get(self.follow.last as usize)?;
        let Series { machine, sensor, kind, unit } = self.table.series(code);
        let table = &*self.table;
        let is = |code: NameCode, name: &[u8]| table.name(code).as_bytes() == name;
        let may_be = |code: Option<NameCode>, name: &[u8]| match code {
            Some(code) => is(code, name),
            None => name.is_empty(),
        };
        let same = is(sensor, names.sensor)
            && is(machine, names.machine)
            && may_be(kind, names.kind)
            && may_be(unit, names.unit);
        if same {
            self.follow.last = code;
        }
        same.then_some(code)
    }

    /// The code of a series by its names; it becomes the one expected after the last.
    pub(super) fn intern(&mut self, names: Names<'_>, at: usize) -> Result<SeriesCode, DecodeError> {
        let machine = self.name(names.machine, "machine", at)?;
        let sensor = self.name(names.sensor, "sensor", at)?;
        let (Some(machine), Some(sensor)) = (machine, sensor) else {
            return Err(DecodeError::new("empty_name", at, "machine or sensor is empty"));
        };
        let (kind, unit) = (self.name(names.kind, "kind", at)?, self.name(names.unit, "unit", at)?);
        let code = self.table.intern(Series { machine, sensor, kind, unit });
        let followers = &mut self.follow.followers;
        while followers.len() < self.table.len() {
            followers.push(u32::try_from(followers.len()).unwrap_or(code));
        }
        followers[self.follow.last as usize] = code;
        self.follow.last = code;
        Ok(code)
    }

    fn name(&mut self, name: &[u8], field: &str, at: usize) -> Result<Option<NameCode>, DecodeError> {
        if name.is_empty() {
            return Ok(None);
        }
        if name.len() > NAME_BYTES_MAX {
            let message = format!("{field} is a name of {} bytes; {NAME_BYTES_MAX} at most", name.len());
            return Err(DecodeError::new("bad_name", at, message));
        }
        let name = simdutf8::basic::from_utf8(name)
            .map_err(|_| DecodeError::new("utf8", at, format!("{field} is not UTF-8")))?;
        Ok(Some(self.table.intern_name(name)))
    }
}

fn too_much_text(at: usize) -> DecodeError {
    let message = format!("more than {TEXT_BYTES_MAX} bytes of text in one record; send smaller records");
    DecodeError::new("too_large", at, message)
}
