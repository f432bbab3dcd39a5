//! What objects look like: the bytes that stay the same, and what stands between them.

use std::ops::Range;

use super::cursor::Cursor;
use super::rows::Row;
use super::{number, time, word};
use crate::settings::TimeUnit;

/// What stands between two literals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// A name: 0 machine, 1 sensor, 2 kind, 3 unit.
    Name(u8),
    /// The time, as an integer epoch.
    Epoch,
    /// The time, as RFC 3339 between quotes.
    Timestamp,
    /// A number or null.
    Value,
    Quality,
    Text,
    /// The value of a key that nobody reads.
    Other,
    /// Nothing: here the object ends.
    End,
}

/// Where in an object a slot is.
pub(super) type Span = (Slot, Range<usize>);

/// The bytes before a slot, by their number, and the slot.
#[derive(Clone, Copy, Debug)]
struct Part {
    literal_bytes: u32,
    slot: Slot,
}

/// All templates of a lane, end to end.
#[derive(Debug)]
pub(super) struct Templates {
    bytes: Vec<u8>,
    parts: Vec<Part>,
    bytes_max: usize,
}

/// The place of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Template {
    byte: u32,
    part: u32,
}

impl Templates {
    /// None yet, and never more than fit into `bytes_max` bytes.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), parts: Vec::new(), bytes_max }
    }

    /// Whether one more template fits, of an object of so many bytes with so many slots.
    pub(super) fn has_room(&self, object_bytes: usize, slots: usize) -> bool {
        let parts = self.parts.len() + slots + 1;
        self.bytes.len() + object_bytes + parts * size_of::<Part>() <= self.bytes_max
    }

    /// Bytes of memory held.
    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.parts.capacity() * size_of::<Part>()
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.parts.clear();
    }

    /// Learns the look of `object`, part of `bytes`, from its `slots` in their order. What lies in none of
    /// them belongs to the look.
    pub(super) fn learn(
        &mut self,
        bytes: &[u8],
        object: Range<usize>,
        slots: impl Iterator<Item = Span>,
    ) -> Template {
        let place = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        let template = Template { byte: place(self.bytes.len()), part: place(self.parts.len()) };
        let end = (Slot::End, object.end..object.end);
        let mut at = object.start;
        for (slot, span) in slots.chain([end]) {
            let literal = &bytes[at..span.start];
            self.bytes.extend_from_slice(literal);
            self.parts.push(Part { literal_bytes: place(literal.len()), slot });
            at = span.end;
        }
        template
    }

    /// Reads the object at `at` into `row`, if it looks like `template` in every byte that is not in a slot,
    /// and gives its text and the place after it. `visit` is called at every slot, in order.
    #[inline(always)]
    pub(super) fn read<'a>(
        &self,
        template: Template,
        bytes: &'a [u8],
        mut at: usize,
        unit: TimeUnit,
        row: &mut Row,
        mut visit: impl FnMut(Slot, Range<usize>),
    ) -> Option<(Option<&'a str>, usize)> {
        (row.value, row.has_value, row.quality) = (0.0, false, 0);
        let mut text = None;
        let mut literals = self.bytes.get(template.byte as usize..)?;
        for part in self.parts.get(template.part as usize..)? {
            let literal;
            (literal, literals) = literals.split_at_checked(part.literal_bytes as usize)?;
            at = word::after(bytes, at, literal)?;
            let start = at;
            match part.slot {
                Slot::Epoch => {
                    let epoch;
                    (epoch, at) = number::integer(bytes, at)?;
                    row.time_us = time::from_epoch(epoch, unit)?;
                }
                Slot::Value => match number::float(bytes, at) {
                    Some((value, end)) => {
                        (row.value, row.has_value) = (value, true);
                        at = end;
                    }
                    None => at = word::after(bytes, at, b"null")?,
                },
                Slot::End => return Some((text, at)),
                Slot::Text => {
                    at = plain(bytes, at)?;
                    text = Some(std::str::from_utf8(&bytes[start..at]).ok()?);
                }
                slot => at = rare(slot, bytes, at, row)?,
            }
            visit(part.slot, start..at);
        }
        None
    }
}

/// Reads a slot that most objects do not have, and gives the place after it.
#[inline(never)]
fn rare(slot: Slot, bytes: &[u8], at: usize, row: &mut Row) -> Option<usize> {
    match slot {
        Slot::Quality => {
            let (code, end) = number::integer(bytes, at)?;
            row.quality = u32::try_from(code).ok()?;
            Some(end)
        }
        Slot::Timestamp => {
            let end = plain(bytes, at)?;
            row.time_us = time::from_text(std::str::from_utf8(&bytes[at..end]).ok()?)?;
            Some(end)
        }
        Slot::Other => {
            let mut cursor = Cursor { bytes, at };
            cursor.skip().ok()?;
            Some(cursor.at)
        }
        _ => plain(bytes, at),
    }
}

/// The place of the quote that ends the text at `at`; none where an escape or a fault comes before.
#[inline]
fn plain(bytes: &[u8], at: usize) -> Option<usize> {
    let end = word::plain_end(bytes, at);
    (bytes.get(end) == Some(&b'"')).then_some(end)
}
