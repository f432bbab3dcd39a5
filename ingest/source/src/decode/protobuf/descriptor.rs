//! A file of Protobuf as a `FileDescriptorProto`, which some clients register in the place of its text.
//!
//! Source: `google/protobuf/descriptor.proto`.

use super::super::DecodeError;
use super::super::wire::Wire;
use super::file::{DEPTH_MAX, File, Message};

/// Types by their numbers, as they are written in text; groups have none.
const TYPES: [&str; 19] = [
    "", "double", "float", "int64", "uint64", "int32", "fixed64", "fixed32", "bool", "string", "group",
    "message", "bytes", "uint32", "enum", "sfixed32", "sfixed64", "sint32", "sint64",
];
const REPEATED: u64 = 3;

/// Reads a descriptor.
pub(super) fn parse(bytes: &[u8]) -> Result<File<'_>, DecodeError> {
    let mut file = File::default();
    let mut wire = Wire::new(bytes, 0);
    while let Some(field) = wire.next()? {
        match field.number {
            2 => file.package = field.text()?,
            4 => file.messages.push(message(field.message()?, 0)?),
            _ => {}
        }
    }
    Ok(file)
}

fn message(mut wire: Wire<'_>, depth: usize) -> Result<Message<'_>, DecodeError> {
    if depth == DEPTH_MAX {
        return Err(DecodeError::new(
            "too_deep",
            wire.at(),
            format!("messages nest deeper than {DEPTH_MAX}"),
        ));
    }
    let mut found = Message::default();
    while let Some(field) = wire.next()? {
        match field.number {
            1 => found.name = field.text()?,
            2 => found.fields.push(member(field.message()?)?),
            3 => found.messages.push(message(field.message()?, depth + 1)?),
            _ => {}
        }
    }
    Ok(found)
}

fn member(mut wire: Wire<'_>) -> Result<(u64, &str, bool), DecodeError> {
    let (mut number, mut kind, mut named, mut label) = (0, 0, "", 0);
    while let Some(field) = wire.next()? {
        match field.number {
            3 => number = field.varint()?,
            4 => label = field.varint()?,
            5 => kind = field.varint()?,
            6 => named = field.text()?,
            _ => {}
        }
    }
    let plain = usize::try_from(kind).ok().and_then(|kind| TYPES.get(kind)).copied().unwrap_or_default();
    Ok((number, if named.is_empty() { plain } else { named }, label == REPEATED))
}
