//! JSON: one reading, an array of readings, or a compact batch.
//!
//! ```text
//! {"machine":"press-07","sensor":"bearing-1","kind":"vibration","unit":"mm/s","time":1795000000000,"value":2.81}
//! [{…},{…}]
//! {"machine":"press-07","time":[t0,t1,…],"sensors":{"bearing-1":[2.81,null,…],"oil":[61.2,…]},"kinds":{…},"units":{…}}
//! ```
//! The format is `wire-json.schema.json` in this crate. A value is fully checked and goes straight into columns,
//! without a tree between; a batch's lists are walked twice, as its sensors may stand before its times. What
//! speeds it up is that readings resemble each other: [`template`] expects an object to have
//! the keys and spacing of the one before, and [`names`] expects the series that followed the last one the
//! time before; both are compared byte for byte, and where they do not fit, [`object`] reads the general way.

use super::{DecodeError, DecodeFault, Decoder, Origin};
use crate::chunk::RecordRef;
use crate::columns::ReadingColumns;
use crate::series::SeriesTable;
use crate::settings::TimeUnit;

use cursor::{Cursor, error};
pub use foreign::ForeignJson;
use names::Names;
use object::Fields;
use template::Template;

mod batch;
mod cursor;
mod explain;
mod foreign;
mod names;
mod number;
mod object;
mod template;
pub(super) mod time;
mod tree;

#[cfg(test)]
mod tests;

/// Decodes JSON records of one lane.
#[derive(Debug)]
pub struct JsonDecoder {
    time_unit: TimeUnit,
    names: Names,
    template: Template,
    /// Times of a compact batch, kept for their memory.
    times: Vec<i64>,
}

/// Where a reading goes.
struct Sink<'a> {
    out: &'a mut ReadingColumns,
    record: u32,
}

/// One reading but for its series.
#[derive(Clone, Copy, Debug)]
struct Measured<'a> {
    time_us: i64,
    value: Option<f64>,
    text: Option<&'a str>,
    quality: u32,
}

impl JsonDecoder {
    /// For integer times in `time_unit`.
    #[must_use]
    pub fn new(time_unit: TimeUnit) -> Self {
        Self { time_unit, names: Names::default(), template: Template::default(), times: Vec::new() }
    }

    fn parse(
        &mut self,
        value: &[u8],
        table: &mut SeriesTable,
        sink: &mut Sink<'_>,
    ) -> Result<(), DecodeError> {
        if let Err(fault) = simdutf8::compat::from_utf8(value) {
            return Err(error("utf8", fault.valid_up_to(), "not UTF-8"));
        }
        let mut cursor = Cursor::new(value);
        if cursor.take(b'[') {
            self.array(&mut cursor, table, sink)?;
        } else {
            cursor.space();
            if !self.templated(&mut cursor, table, sink, 0)? {
                self.object(&mut cursor, table, sink, 0, true)?;
            }
        }
        cursor.end()
    }

    fn array(
        &mut self,
        cursor: &mut Cursor<'_>,
        table: &mut SeriesTable,
        sink: &mut Sink<'_>,
    ) -> Result<(), DecodeError> {
        if cursor.take(b']') {
            return Ok(());
        }
        for index in 0.. {
            cursor.space();
            if !self.templated(cursor, table, sink, index)? {
                self.object(cursor, table, sink, index, false)?;
            }
            if !cursor.take(b',') {
                break;
            }
        }
        cursor.expect(b']')
    }

    /// Reads an object that looks like the one before; false, with nothing read, where it does not.
    #[inline]
    fn templated(
        &mut self,
        cursor: &mut Cursor<'_>,
        table: &mut SeriesTable,
        sink: &mut Sink<'_>,
        index: u32,
    ) -> Result<bool, DecodeError> {
        let Some(found) = self.template.read(cursor, &self.names, table, self.time_unit) else {
            return Ok(false);
        };
        let series = self.names.resolve(found.named, table);
        sink.push(series, index, found.measured)?;
        cursor.at = found.end;
        Ok(true)
    }

    fn object(
        &mut self,
        cursor: &mut Cursor<'_>,
        table: &mut SeriesTable,
        sink: &mut Sink<'_>,
        index: u32,
        may_be_batch: bool,
    ) -> Result<(), DecodeError> {
        let start = cursor.at;
        let fields = Fields::read(cursor)?;
        if may_be_batch && fields.sensors.is_some() {
            return batch::read(self, cursor.bytes, start, &fields, table, sink);
        }
        let measured = fields.measured(start, self.time_unit)?;
        let (machine, sensor) = (fields.machine(start)?, fields.sensor(start)?);
        let series =
            self.names.intern(machine, sensor, fields.kind.as_deref(), fields.unit.as_deref(), table);
        sink.push(series, index, measured)?;
        self.template.learn(cursor, start, &fields);
        Ok(())
    }
}

impl Decoder for JsonDecoder {
    fn decode(
        &mut self,
        record: &RecordRef<'_>,
        number: u32,
        table: &mut SeriesTable,
        out: &mut ReadingColumns,
    ) -> Result<(), DecodeFault> {
        let before = out.len();
        let parsed = self.parse(record.bytes(), table, &mut Sink { out, record: number });
        if parsed.is_err() {
            out.truncate(before);
        }
        Ok(parsed?)
    }

    fn explain(
        &mut self,
        record: &RecordRef<'_>,
        table: &mut SeriesTable,
        out: &mut ReadingColumns,
        origins: &mut Vec<Origin>,
    ) -> Result<(), DecodeFault> {
        origins.clear();
        let before = out.len();
        self.decode(record, 0, table, out)?;
        for row in before..out.len() {
            origins.push(explain::origin(
                record.bytes(),
                table.series(out.series[row]),
                table,
                out.index[row],
            )?);
        }
        Ok(())
    }

    fn new_table(&mut self) {
        self.names = Names::default();
    }
}

impl Sink<'_> {
    #[inline]
    fn push(&mut self, series: u32, index: u32, measured: Measured<'_>) -> Result<(), DecodeError> {
        let out = &mut *self.out;
        if let Some(text) = measured.text {
            push_text(out, text)?;
        }
        out.series.push(series);
        out.time_us.push(measured.time_us);
        out.value.push(measured.value.unwrap_or(0.0));
        out.has_value.push(measured.value.is_some());
        out.quality.push(measured.quality);
        out.record.push(self.record);
        out.index.push(index);
        Ok(())
    }
}

fn push_text(out: &mut ReadingColumns, text: &str) -> Result<(), DecodeError> {
    let place = |len: usize| u32::try_from(len).map_err(|_| error("too_large", 0, "more than 4 GiB of text"));
    let (row, start) = (place(out.len())?, place(out.text_bytes.len())?);
    let end = place(out.text_bytes.len() + text.len())?;
    out.text_bytes.push_str(text);
    out.text.push(crate::columns::TextCell { row, start, end });
    Ok(())
}
