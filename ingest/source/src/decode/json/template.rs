//! Expects an object to look like the one before: the same bytes between its values.

use super::Measured;
use super::cursor::Cursor;
use super::names::{Named, Names};
use super::object::Fields;
use super::{number, time};
use crate::series::{NameCode, SeriesTable};
use crate::settings::TimeUnit;

/// What stands between two literals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    /// A name: 0 machine, 1 sensor, 2 kind, 3 unit.
    Name(usize),
    Time,
    Value,
    Quality,
}

/// The bytes before a value, and what the value is.
#[derive(Clone, Debug)]
struct Part {
    literal: Vec<u8>,
    slot: Slot,
}

/// The shape of the last object read the general way; empty before the first.
#[derive(Debug, Default)]
pub(super) struct Template {
    parts: Vec<Part>,
    tail: Vec<u8>,
    has_kind: bool,
    has_unit: bool,
}

/// A reading found by the template.
pub(super) struct Found<'a> {
    pub(super) named: Named<'a>,
    pub(super) measured: Measured<'static>,
    /// The place after the object.
    pub(super) end: usize,
}

impl Template {
    /// Learns the shape of the object that starts at `start` and ends at the cursor.
    pub(super) fn learn(&mut self, cursor: &Cursor<'_>, start: usize, fields: &Fields<'_>) {
        self.parts.clear();
        if !fields.is_regular || fields.sensors.is_some() || fields.kinds.is_some() || fields.units.is_some()
        {
            return;
        }
        let names = fields.names();
        (self.has_kind, self.has_unit) = (names[2].is_some(), names[3].is_some());
        let names = names.into_iter().enumerate();
        let names = names.filter_map(|(i, field)| Some((field?.span.clone(), Slot::Name(i))));
        let numbers =
            [(&fields.time, Slot::Time), (&fields.value, Slot::Value), (&fields.quality, Slot::Quality)];
        let numbers = numbers.into_iter().filter_map(|(span, slot)| Some((span.clone()?, slot)));
        let mut spans: Vec<_> = names.chain(numbers).collect();
        spans.sort_by_key(|(span, _)| span.start);
        let mut at = start;
        for (span, slot) in spans {
            self.parts.push(Part { literal: cursor.bytes[at..span.start].to_vec(), slot });
            at = span.end;
        }
        self.tail = cursor.bytes[at..cursor.at].to_vec();
    }

    /// Reads the object at the cursor, if it has this shape in every byte that is not a value.
    #[inline]
    pub(super) fn read<'a>(
        &self,
        cursor: &Cursor<'a>,
        names: &Names,
        table: &SeriesTable,
        unit: TimeUnit,
    ) -> Option<Found<'a>> {
        if self.parts.is_empty() {
            return None;
        }
        let bytes = cursor.bytes;
        let mut at = cursor.at;
        let expected = names.expected().filter(|&code| {
            let series = table.series(code);
            series.kind.is_some() == self.has_kind && series.unit.is_some() == self.has_unit
        });
        let series = expected.map(|code| table.series(code));
        let mut spelled = [None; 4];
        let mut as_expected = expected.is_some();
        let mut measured = Measured { time_us: 0, value: None, text: None, quality: 0 };
        for part in &self.parts {
            at = after(bytes, at, &part.literal)?;
            match part.slot {
                Slot::Name(i) => {
                    let code = series.and_then(|s| [Some(s.machine), Some(s.sensor), s.kind, s.unit][i]);
                    let (len, is_expected) = name(bytes, at, code, table)?;
                    spelled[i] = Some(&bytes[at..at + len]);
                    as_expected &= is_expected;
                    at += len;
                }
                Slot::Time => {
                    let (epoch, len) = number::integer(&bytes[at..])?;
                    measured.time_us = time::from_epoch(epoch, unit)?;
                    at += len;
                }
                Slot::Value => {
                    let (value, len) = number::float(&bytes[at..])?;
                    measured.value = Some(value);
                    at += len;
                }
                Slot::Quality => {
                    let (code, len) = number::integer(&bytes[at..])?;
                    measured.quality = u32::try_from(code).ok()?;
                    at += len;
                }
            }
        }
        let end = after(bytes, at, &self.tail)?;
        let named = match expected {
            Some(code) if as_expected => Named::Expected(code),
            _ => {
                // Quotes are ASCII, so none of these cuts a character.
                let [machine, sensor, kind, unit] =
                    spelled.map(|name| name.map(|name| std::str::from_utf8(name).unwrap_or_default()));
                let (machine, sensor) = (machine?, sensor?);
                if machine.is_empty() || sensor.is_empty() {
                    return None;
                }
                Named::Spelled { machine, sensor, kind, unit }
            }
        };
        Some(Found { named, measured, end })
    }
}

/// The place after `literal`, if it stands at `at`.
#[inline]
fn after(bytes: &[u8], at: usize, literal: &[u8]) -> Option<usize> {
    bytes[at..].starts_with(literal).then_some(at + literal.len())
}

/// The length of the name at `at`, up to its closing quote, and whether it is the expected one. None where it
/// is escaped.
#[inline]
fn name(bytes: &[u8], at: usize, expected: Option<NameCode>, table: &SeriesTable) -> Option<(usize, bool)> {
    if let Some(code) = expected {
        let name = table.name(code);
        if bytes[at..].starts_with(name.as_bytes()) && bytes.get(at + name.len()) == Some(&b'"') {
            return Some((name.len(), true));
        }
    }
    let len = memchr::memchr(b'"', &bytes[at..])?;
    super::names::is_plain_text(&bytes[at..at + len]).then_some((len, false))
}
