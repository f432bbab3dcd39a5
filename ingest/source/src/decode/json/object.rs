//! An object read the general way: any order, spacing, escapes and further keys.

use std::borrow::Cow;
use std::ops::Range;

use super::super::DecodeError;
use super::Measured;
use super::cursor::{Cursor, error};
use super::{number, time};
use crate::settings::TimeUnit;

/// The value of a known key, and where it stands.
#[derive(Debug)]
pub(super) struct Field<'a> {
    pub(super) text: Cow<'a, str>,
    /// The bytes of the string between its quotes, or of the number.
    pub(super) span: Range<usize>,
}

impl Field<'_> {
    fn as_deref(&self) -> &str {
        &self.text
    }
}

/// A known key's text where it was given and not null.
#[derive(Debug, Default)]
pub(super) struct Text<'a>(pub(super) Option<Field<'a>>);

impl Text<'_> {
    pub(super) fn as_deref(&self) -> Option<&str> {
        self.0.as_ref().map(Field::as_deref)
    }
}

/// The known keys of an object. Others are checked and skipped.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    machine: Text<'a>,
    sensor: Text<'a>,
    pub(super) kind: Text<'a>,
    pub(super) unit: Text<'a>,
    text: Text<'a>,
    pub(super) time: Option<Range<usize>>,
    pub(super) value: Option<Range<usize>>,
    pub(super) quality: Option<Range<usize>>,
    pub(super) sensors: Option<usize>,
    pub(super) kinds: Option<usize>,
    pub(super) units: Option<usize>,
    /// Whether every key is known and every value plain, so that the next object may be expected alike.
    pub(super) is_regular: bool,
    seen: u16,
    bytes: &'a [u8],
}

const KEYS: [&str; 11] =
    ["machine", "sensor", "kind", "unit", "time", "value", "quality", "text", "sensors", "kinds", "units"];

impl<'a> Fields<'a> {
    /// Reads the object at the cursor.
    pub(super) fn read(cursor: &mut Cursor<'a>) -> Result<Self, DecodeError> {
        let mut fields = Self { is_regular: true, bytes: cursor.bytes, ..Self::default() };
        cursor.expect(b'{')?;
        if cursor.take(b'}') {
            return Ok(fields);
        }
        loop {
            cursor.space();
            let at = cursor.at;
            let key = cursor.string()?;
            fields.is_regular &= matches!(key, Cow::Borrowed(_));
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
            self.is_regular = false;
            return cursor.skip().map(drop);
        };
        if self.seen & 1 << known != 0 {
            return Err(error("duplicate_key", at, format!("key {key:?} is there twice")));
        }
        self.seen |= 1 << known;
        match key {
            "machine" => self.machine = self.string(cursor)?,
            "sensor" => self.sensor = self.string(cursor)?,
            "kind" => self.kind = self.string(cursor)?,
            "unit" => self.unit = self.string(cursor)?,
            "text" => {
                self.is_regular = false;
                self.text = self.string(cursor)?;
            }
            "sensors" => self.sensors = Some(cursor.skip()?),
            "kinds" => self.kinds = Some(cursor.skip()?),
            "units" => self.units = Some(cursor.skip()?),
            _ => {
                let start = cursor.skip()?;
                let slot = match key {
                    "time" => &mut self.time,
                    "value" => &mut self.value,
                    _ => &mut self.quality,
                };
                *slot = Some(start..cursor.at);
                self.is_regular &= matches!(cursor.bytes[start], b'-' | b'0'..=b'9');
            }
        }
        Ok(())
    }

    fn string(&mut self, cursor: &mut Cursor<'a>) -> Result<Text<'a>, DecodeError> {
        if cursor.null() {
            self.is_regular = false;
            return Ok(Text(None));
        }
        let start = cursor.at + 1;
        let text = cursor.string()?;
        self.is_regular &= matches!(text, Cow::Borrowed(_));
        Ok(Text(Some(Field { text, span: start..cursor.at - 1 })))
    }

    pub(super) fn machine(&self, at: usize) -> Result<&str, DecodeError> {
        required(&self.machine, "machine", at)
    }

    pub(super) fn sensor(&self, at: usize) -> Result<&str, DecodeError> {
        required(&self.sensor, "sensor", at)
    }

    /// Names with the slots they fill, in the order of the keys `machine, sensor, kind, unit`.
    pub(super) fn names(&self) -> [Option<&Field<'a>>; 4] {
        [&self.machine, &self.sensor, &self.kind, &self.unit].map(|text| text.0.as_ref())
    }

    /// What was measured.
    pub(super) fn measured(&self, at: usize, unit: TimeUnit) -> Result<Measured<'_>, DecodeError> {
        let Some(time) = &self.time else { return Err(missing("time", at)) };
        let time_us = read_time(self.bytes, time.start, unit)?;
        let value = match &self.value {
            Some(span) if &self.bytes[span.clone()] != b"null" => {
                Some(Cursor { bytes: self.bytes, at: span.start }.float()?)
            }
            None if self.text.0.is_none() => return Err(missing("value or text", at)),
            _ => None,
        };
        Ok(Measured { time_us, value, text: self.text.as_deref(), quality: self.quality()? })
    }

    fn quality(&self) -> Result<u32, DecodeError> {
        let Some(span) = &self.quality else { return Ok(0) };
        if &self.bytes[span.clone()] == b"null" {
            return Ok(0);
        }
        let code = number::integer(&self.bytes[span.clone()]);
        code.and_then(|(code, _)| u32::try_from(code).ok())
            .ok_or_else(|| error("bad_quality", span.start, "quality is no 32-bit status code"))
    }
}

/// The time whose value starts at `at`.
pub(super) fn read_time(bytes: &[u8], at: usize, unit: TimeUnit) -> Result<i64, DecodeError> {
    let mut cursor = Cursor { bytes, at };
    let time_us = match bytes[at] {
        b'"' => time::from_text(&cursor.string()?),
        _ => number::integer(&bytes[at..]).and_then(|(epoch, _)| time::from_epoch(epoch, unit)),
    };
    time_us.ok_or_else(|| {
        error("bad_time", at, "time is neither RFC 3339 nor an integer epoch from 1678 to 2262")
    })
}

fn required<'t>(text: &'t Text<'_>, key: &str, at: usize) -> Result<&'t str, DecodeError> {
    match text.as_deref() {
        Some("") => Err(error("empty_name", at, format!("{key} is empty"))),
        Some(name) => Ok(name),
        None => Err(missing(key, at)),
    }
}

pub(super) fn missing(key: &str, at: usize) -> DecodeError {
    error("missing_field", at, format!("{key} is missing"))
}
