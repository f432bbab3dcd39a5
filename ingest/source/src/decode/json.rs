//! JSON: one reading, an array of readings, or a compact batch.
//!
//! ```text
//! {"machine":"press-07","sensor":"bearing-1","kind":"vibration","unit":"mm/s","time":1795000000000,"value":2.81}
//! [{…},{…}]
//! {"machine":"press-07","time":[t0,t1,…],"sensors":{"bearing-1":[2.81,null,…],"oil":[61.2,…]},"kinds":{…},"units":{…}}
//! ```
//! The format is `wire-json.schema.json` in this crate. A value is fully checked and goes straight into columns,
//! without a tree between; a batch's lists are walked twice, as its sensors may stand before its times. What
//! speeds it up is that readings resemble each other: [`names`] expects the series that followed the last one
//! the time before, in the very bytes that it had then, or else the keys and spacing of an object seen lately;
//! [`template`] compares them byte for byte. Where nothing fits, [`object`] reads the general way.

use super::{DecodeError, DecodeFault, Decoder, Origin};
use crate::chunk::RecordRef;
use crate::columns::ReadingColumns;
use crate::series::SeriesTable;
use crate::settings::TimeUnit;

use cursor::{Cursor, error};
pub use foreign::ForeignJson;
use names::Names;
use object::Fields;
pub use original::templates;
use rows::{Row, Rows, Sink};

mod batch;
mod cursor;
mod explain;
mod foreign;
mod names;
mod number;
mod object;
mod original;
mod rows;
mod template;
pub(super) mod time;
mod tree;
mod word;

#[cfg(test)]
mod tests;

/// Memory for what objects look like: some 40,000 series of the usual kind. What does not fit makes room for
/// all new ones, so a lane of more series reads on, only slower.
const LOOKS_BYTES_MAX: usize = 4 << 20;

/// Decodes JSON records of one lane.
#[derive(Debug)]
pub struct JsonDecoder {
    reader: Reader,
    rows: Rows,
}

/// Reads records by what it saw before.
#[derive(Debug)]
struct Reader {
    time_unit: TimeUnit,
    names: Names,
    /// Times of a compact batch, kept for their memory.
    times: Vec<i64>,
}

impl JsonDecoder {
    /// For integer times in `time_unit`.
    #[must_use]
    pub fn new(time_unit: TimeUnit) -> Self {
        Self::remembering(time_unit, LOOKS_BYTES_MAX)
    }

    /// One that keeps what objects look like in `looks_bytes_max` bytes.
    fn remembering(time_unit: TimeUnit, looks_bytes_max: usize) -> Self {
        let reader = Reader { time_unit, names: Names::new(looks_bytes_max), times: Vec::new() };
        Self { reader, rows: Rows::default() }
    }
}

impl Reader {
    fn parse(
        &mut self,
        value: &[u8],
        table: &mut SeriesTable,
        sink: &mut Sink<'_>,
    ) -> Result<(), DecodeError> {
        let mut cursor = Cursor::new(value);
        if cursor.take(b'[') {
            self.array(&mut cursor, table, sink)?;
        } else {
            self.reading(&mut cursor, table, sink, None)?;
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
            self.reading(cursor, table, sink, Some(index))?;
            if !cursor.take(b',') {
                break;
            }
        }
        cursor.expect(b']')
    }

    /// Reads the object at the cursor: number `index` of an array, or the whole record.
    #[inline(always)]
    fn reading(
        &mut self,
        cursor: &mut Cursor<'_>,
        table: &mut SeriesTable,
        sink: &mut Sink<'_>,
        index: Option<u32>,
    ) -> Result<(), DecodeError> {
        cursor.space();
        let (bytes, at, unit) = (cursor.bytes, cursor.at, self.time_unit);
        let row = sink.row();
        row.index = index.unwrap_or(0);
        let text;
        (text, cursor.at) = match self.names.expected(bytes, at, unit, row) {
            Some(found) => found,
            None => match self.names.alike(bytes, at, unit, table, row) {
                Some(found) => found,
                None => return self.object(cursor, table, sink, index),
            },
        };
        sink.push(text)
    }

    #[inline(never)]
    fn object(
        &mut self,
        cursor: &mut Cursor<'_>,
        table: &mut SeriesTable,
        sink: &mut Sink<'_>,
        index: Option<u32>,
    ) -> Result<(), DecodeError> {
        let start = cursor.at;
        let fields = Fields::read(cursor)?;
        if index.is_none() && fields.sensors.is_some() {
            return batch::read(self, cursor.bytes, start, &fields, table, sink);
        }
        let row = fields.row(start, self.time_unit)?;
        let (machine, sensor) = (fields.machine(start)?, fields.sensor(start)?);
        let series =
            self.names.intern(machine, sensor, fields.kind.as_deref(), fields.unit.as_deref(), table);
        *sink.row() = Row { series, index: index.unwrap_or(0), ..row };
        sink.push(fields.text.as_deref())?;
        if fields.is_regular() {
            self.names.learn(series, cursor.bytes, start..cursor.at, &fields.slots);
        }
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
        let mut sink = Sink::new(out, number, &mut self.rows);
        let parsed = self.reader.parse(record.bytes(), table, &mut sink);
        sink.flush();
        parsed.map_err(|error| {
            out.truncate(before);
            not_utf8(record.bytes()).unwrap_or(error).into()
        })
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
        self.reader.names.forget();
    }

    fn memory_bytes(&self) -> usize {
        self.reader.names.memory_bytes() + self.reader.times.capacity() * size_of::<i64>()
    }
}

/// What is not UTF-8 in `value`. It is asked only of a record that has a fault: what was read without one is
/// UTF-8, as its text was checked or is the very bytes of text checked before, and all else is ASCII.
fn not_utf8(value: &[u8]) -> Option<DecodeError> {
    let fault = simdutf8::compat::from_utf8(value).err()?;
    Some(error("utf8", fault.valid_up_to(), "not UTF-8"))
}
