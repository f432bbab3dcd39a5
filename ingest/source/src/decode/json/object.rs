//! An object read the general way: any order, spacing, escapes and further keys.

use std::borrow::Cow;
use std::ops::Range;

use super::super::DecodeError;
use super::cursor::{Cursor, error};
use super::rows::Row;
use super::template::{Slot, Span};
use super::{number, time};
use crate::settings::TimeUnit;

/// The known keys of an object. Others are checked and skipped.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    machine: Option<Cow<'a, str>>,
    sensor: Option<Cow<'a, str>>,
    pub(super) kind: Option<Cow<'a, str>>,
    pub(super) unit: Option<Cow<'a, str>>,
    pub(super) text: Option<Cow<'a, str>>,
    pub(super) time: Option<Range<usize>>,
    value: Option<Range<usize>>,
    quality: Option<Range<usize>>,
    pub(super) sensors: Option<usize>,
    pub(super) kinds: Option<usize>,
    pub(super) units: Option<usize>,
    /// What the next object may have other than this one, in order.
    pub(super) slots: Vec<Span>,
    seen: u16,
    bytes: &'a [u8],
}

const KEYS: [&str; 11] =
    ["machine", "sensor", "kind", "unit", "time", "value", "quality", "text", "sensors", "kinds", "units"];

impl<'a> Fields<'a> {
    /// Reads the object at the cursor.
    pub(super) fn read(cursor: &mut Cursor<'a>) -> Result<Self, DecodeError> {
        let mut fields = Self { bytes: cursor.bytes, ..Self::default() };
        cursor.expect(b'{')?;
        if cursor.take(b'}') {
            return Ok(fields);
        }
        loop {
            cursor.space();
            let at = cursor.at;
            let key = cursor.string()?;
            cursor.expect(b':')?;
            fields.field(&key, at, cursor)?;
            if !cursor.take(b',') {
                cursor.expect(b'}')?;
                return Ok(fields);
            }
        }
    }

    fn field(&mut self, key: &str, at: usize, cursor: &mut Cursor<'a>) -> Result<(), DecodeError> {
        let Some(known) = KEYS.iter().position(|&known| known == key) else {
            return self.skip(cursor, Slot::Other).map(drop);
        };
        if self.seen & 1 << known != 0 {
            return Err(error("duplicate_key", at, format!("key {key:?} is there twice")));
        }
        self.seen |= 1 << known;
        match key {
            "machine" => self.machine = self.string(cursor, Slot::Name(0))?,
            "sensor" => self.sensor = self.string(cursor, Slot::Name(1))?,
            "kind" => self.kind = self.string(cursor, Slot::Name(2))?,
            "unit" => self.unit = self.string(cursor, Slot::Name(3))?,
            "text" => self.text = self.string(cursor, Slot::Text)?,
            "time" => {
                cursor.space();
                self.time = Some(if cursor.peek() == Some(b'"') {
                    let start = cursor.at;
                    self.string(cursor, Slot::Timestamp)?;
                    start..cursor.at
                } else {
                    self.skip(cursor, Slot::Epoch)?
                });
            }
            "value" => self.value = Some(self.skip(cursor, Slot::Value)?),
            "quality" => {
                let span = self.skip(cursor, Slot::Quality)?;
                if &cursor.bytes[span.clone()] == b"null" {
                    self.slots.pop();
                }
                self.quality = Some(span);
            }
            "sensors" => self.sensors = Some(cursor.skip()?),
            "kinds" => self.kinds = Some(cursor.skip()?),
            _ => self.units = Some(cursor.skip()?),
        }
        Ok(())
    }

    /// A string, or none where it says null, which then belongs to the object's look.
    fn string(&mut self, cursor: &mut Cursor<'a>, slot: Slot) -> Result<Option<Cow<'a, str>>, DecodeError> {
        if cursor.null() {
            return Ok(None);
        }
        let start = cursor.at + 1;
        let text = cursor.string()?;
        self.slots.push((slot, start..cursor.at - 1));
        Ok(Some(text))
    }

    fn skip(&mut self, cursor: &mut Cursor<'a>, slot: Slot) -> Result<Range<usize>, DecodeError> {
        let start = cursor.skip()?;
        self.slots.push((slot, start..cursor.at));
        Ok(start..cursor.at)
    }

    /// Whether it is a reading that another may resemble.
    pub(super) fn is_regular(&self) -> bool {
        self.sensors.is_none() && self.kinds.is_none() && self.units.is_none()
    }

    pub(super) fn machine(&self, at: usize) -> Result<&str, DecodeError> {
        required(&self.machine, "machine", at)
    }

    pub(super) fn sensor(&self, at: usize) -> Result<&str, DecodeError> {
        required(&self.sensor, "sensor", at)
    }

    /// What was measured, but for the text.
    pub(super) fn row(&self, at: usize, unit: TimeUnit) -> Result<Row, DecodeError> {
        let Some(time) = &self.time else { return Err(missing("time", at)) };
        let time_us = read_time(self.bytes, time.start, unit)?;
        let value = match &self.value {
            Some(span) if &self.bytes[span.clone()] != b"null" => {
                Some(Cursor { bytes: self.bytes, at: span.start }.float()?)
            }
            None if self.text.is_none() => return Err(missing("value or text", at)),
            _ => None,
        };
        let (has_value, value) = (value.is_some(), value.unwrap_or(0.0));
        Ok(Row { time_us, value, has_value, quality: self.quality()?, ..Row::default() })
    }

    fn quality(&self) -> Result<u32, DecodeError> {
        let Some(span) = &self.quality else { return Ok(0) };
        if &self.bytes[span.clone()] == b"null" {
            return Ok(0);
        }
        let code = number::integer(self.bytes, span.start);
        code.and_then(|(code, _)| u32::try_from(code).ok())
            .ok_or_else(|| error("bad_quality", span.start, "quality is no 32-bit status code"))
    }
}

/// The time whose value starts at `at`.
pub(super) fn read_time(bytes: &[u8], at: usize, unit: TimeUnit) -> Result<i64, DecodeError> {
    let mut cursor = Cursor { bytes, at };
    let time_us = match bytes[at] {
        b'"' => time::from_text(&cursor.string()?),
        _ => number::integer(bytes, at).and_then(|(epoch, _)| time::from_epoch(epoch, unit)),
    };
    time_us.ok_or_else(|| {
        error("bad_time", at, "time is neither RFC 3339 nor an integer epoch from 1678 to 2262")
    })
}

fn required<'t>(text: &'t Option<Cow<'_, str>>, key: &str, at: usize) -> Result<&'t str, DecodeError> {
    match text.as_deref() {
        Some("") => Err(error("empty_name", at, format!("{key} is empty"))),
        Some(name) => Ok(name),
        None => Err(missing(key, at)),
    }
}

pub(super) fn missing(key: &str, at: usize) -> DecodeError {
    error("missing_field", at, format!("{key} is missing"))
}
