//! Protobuf: messages of our own `proto/reading.proto`, plain or in the framing of a schema registry.
//!
//! A record is one `Reading` or one `ReadingBatch`; their fields have other numbers, so that the bytes say which. No
//! message begins with a zero byte, so a record that does is framed: the schema's id follows, then the message's
//! place in its file as a list of varints, then the message. What the registry has under that id must be our
//! message, by its full name and by the type of every field that we read.
//!
//! The decoder is written for these messages alone: unknown fields are passed over, of a field that stands twice
//! the last counts, and a field of another wire type than its own is an error.

use std::collections::HashMap;

use super::framing::{self, HEAD_BYTES};
use super::rows::{Follow, Measured, Names, Rows};
use super::wire::{Wire, varint, zigzag};
use super::{DecodeError, DecodeFault, Decoder};
use crate::chunk::RecordRef;
use crate::columns::ReadingColumns;
use crate::decode::json::time::from_epoch;
use crate::registry::{Kind, Schemas};
use crate::series::SeriesTable;
use crate::settings::TimeUnit;

mod descriptor;
mod file;

/// Messages lie no deeper in others than this.
const PATH_MAX: usize = 8;
/// Schemas whose outcome is remembered; then all are looked at anew.
const CHECKED_MAX: usize = 1024;

/// Decodes Protobuf of one lane.
#[derive(Debug)]
pub struct ProtobufDecoder {
    schemas: Option<Schemas>,
    follow: Follow,
    /// By what stands before the message: whether its schema is ours.
    checked: HashMap<Box<[u8]>, Result<(), DecodeError>>,
}

impl ProtobufDecoder {
    /// With the registry of framed records.
    #[must_use]
    pub fn new(schemas: Option<Schemas>) -> Self {
        Self { schemas, follow: Follow::default(), checked: HashMap::new() }
    }

    /// Where the message begins.
    fn unframe(&mut self, bytes: &[u8]) -> Result<usize, DecodeFault> {
        if bytes.first() != Some(&0) {
            return Ok(0);
        }
        let id = framing::schema_id(bytes)?;
        let (path, start) = path(bytes)?;
        let head = &bytes[..start];
        if let Some(checked) = self.checked.get(head) {
            checked.clone()?;
            return Ok(start);
        }
        let Some(schemas) = &self.schemas else {
            let message = "it is framed for a schema registry, and none is configured";
            return Err(DecodeError::new("framing", 0, message).into());
        };
        let schema = framing::schema(schemas, id)?;
        let checked = if schema.kind == Kind::Protobuf {
            file::check(&schema.text, &path)
        } else {
            Err(format!("it is {:?}, not Protobuf", schema.kind))
        };
        let checked =
            checked.map_err(|reason| DecodeError::new("bad_schema", 1, format!("schema {id}: {reason}")));
        if self.checked.len() == CHECKED_MAX {
            self.checked.clear();
        }
        self.checked.insert(head.into(), checked.clone());
        checked?;
        Ok(start)
    }
}

impl Decoder for ProtobufDecoder {
    fn decode(
        &mut self,
        record: &RecordRef<'_>,
        number: u32,
        table: &mut SeriesTable,
        out: &mut ReadingColumns,
    ) -> Result<(), DecodeFault> {
        let bytes = record.bytes();
        let start = self.unframe(bytes)?;
        let mut rows = Rows::new(number, &mut self.follow, table, out);
        let read = message(Wire::new(&bytes[start..], start), &mut rows);
        if read.is_err() {
            rows.undo();
        }
        Ok(read?)
    }

    fn new_table(&mut self) {
        self.follow = Follow::default();
    }
}

/// The message's place in its file, and where it begins.
fn path(bytes: &[u8]) -> Result<(Vec<usize>, usize), DecodeError> {
    let mut at = HEAD_BYTES;
    let mut next = || {
        let wrong = || DecodeError::new("framing", at, "the message's place in its file is none");
        let (value, len) = varint(&bytes[at..]).ok_or_else(wrong)?;
        let value = usize::try_from(zigzag(value)).map_err(|_| wrong())?;
        at += len;
        Ok::<_, DecodeError>((value, at))
    };
    let (len, after) = next()?;
    if len > PATH_MAX {
        let message = format!("a message {len} deep in others; {PATH_MAX} at most");
        return Err(DecodeError::new("framing", HEAD_BYTES, message));
    }
    let mut path = Vec::with_capacity(len.max(1));
    let mut end = after;
    for _ in 0..len {
        let (index, after) = next()?;
        path.push(index);
        end = after;
    }
    if len == 0 {
        // The first message of the file, for short.
        path.push(0);
    }
    Ok((path, end))
}

/// A reading or a batch.
fn message(mut wire: Wire<'_>, rows: &mut Rows<'_>) -> Result<(), DecodeError> {
    let whole = wire;
    while let Some(field) = wire.next()? {
        match field.number {
            1..=8 => return reading(whole, rows),
            15 => return batch(whole, rows),
            _ => {}
        }
    }
    Err(DecodeError::new("missing_field", whole.at(), "neither a field of a Reading nor of a ReadingBatch"))
}

fn batch(mut wire: Wire<'_>, rows: &mut Rows<'_>) -> Result<(), DecodeError> {
    while let Some(field) = wire.next()? {
        match field.number {
            15 => reading(field.message()?, rows)?,
            1..=8 => {
                return Err(DecodeError::new("syntax", field.at, "a field of a Reading stands in a batch"));
            }
            _ => {}
        }
    }
    Ok(())
}

#[inline]
fn reading(mut wire: Wire<'_>, rows: &mut Rows<'_>) -> Result<(), DecodeError> {
    let at = wire.at();
    let mut names = Names::default();
    let mut measured = Measured::default();
    let mut time = None;
    while let Some(field) = wire.next()? {
        match field.number {
            1 => names.machine = field.bytes()?,
            2 => names.sensor = field.bytes()?,
            3 => names.kind = field.bytes()?,
            4 => names.unit = field.bytes()?,
            5 => time = Some(field.varint()?.cast_signed()),
            6 => measured.value = Some(field.double()?),
            7 => measured.text = Some(field.text()?),
            8 => {
                measured.quality = u32::try_from(field.varint()?).map_err(|_| {
                    DecodeError::new("bad_quality", field.at, "quality has more than 32 bits")
                })?;
            }
            15 => {
                return Err(DecodeError::new("syntax", field.at, "a reading of a batch stands in a Reading"));
            }
            _ => {}
        }
    }
    let missing = |field| Err(DecodeError::new("missing_field", at, format!("a reading has no {field}")));
    if names.machine.is_empty() {
        return missing("machine");
    }
    if names.sensor.is_empty() {
        return missing("sensor");
    }
    let Some(time) = time else { return missing("time") };
    if measured.value.is_none() && measured.text.is_none() && measured.quality == 0 {
        return missing("value or text");
    }
    measured.time_us = from_epoch(time, TimeUnit::Micros).ok_or_else(|| {
        DecodeError::new("bad_time", at, format!("{time} µs is not within the years 1678 to 2262"))
    })?;
    rows.push(names, measured, at)
}

#[cfg(test)]
mod tests;
