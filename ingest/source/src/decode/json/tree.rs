//! A whole JSON value as a flat tree over its bytes, for records whose shape a mapping names.

use std::borrow::Cow;

use super::super::DecodeError;
use super::super::mapped::{Each, Scalar, Tree};
use super::cursor::{Cursor, error};
use super::number;

/// Values of one record: its tree takes some 32 bytes for each, which may be as few as 2 in the record.
const NODES_MAX: usize = 4 << 20;
/// Values nest no deeper than this.
const DEPTH_MAX: usize = 128;

/// The values of a record in the order in which they stand.
#[derive(Debug, Default)]
pub(super) struct Nodes(Vec<Value>);

#[derive(Clone, Copy, Debug)]
struct Value {
    /// Its first byte.
    start: u32,
    /// The byte of its key's quote, where it is a member.
    key: u32,
    /// Past its last descendant.
    next: u32,
}

/// A parsed record.
#[derive(Clone, Copy, Debug)]
pub(super) struct JsonTree<'a> {
    bytes: &'a [u8],
    nodes: &'a [Value],
}

impl Nodes {
    /// Parses `bytes`, which must be one JSON value and nothing after.
    pub(super) fn parse<'a>(&'a mut self, bytes: &'a [u8]) -> Result<JsonTree<'a>, DecodeError> {
        self.0.clear();
        if let Err(fault) = simdutf8::compat::from_utf8(bytes) {
            return Err(error("utf8", fault.valid_up_to(), "not UTF-8"));
        }
        if u32::try_from(bytes.len()).is_err() {
            return Err(error("too_large", 0, "more than 4 GiB"));
        }
        let mut cursor = Cursor::new(bytes);
        self.value(&mut cursor, 0, 0)?;
        cursor.end()?;
        Ok(JsonTree { bytes, nodes: &self.0 })
    }

    #[allow(clippy::cast_possible_truncation, reason = "bounded in parse")]
    fn value(&mut self, cursor: &mut Cursor<'_>, key: usize, depth: usize) -> Result<(), DecodeError> {
        cursor.space();
        if depth > DEPTH_MAX {
            return Err(error("too_deep", cursor.at, format!("values nest deeper than {DEPTH_MAX}")));
        }
        if self.0.len() == NODES_MAX {
            return Err(error("too_large", cursor.at, format!("more than {NODES_MAX} values in one record")));
        }
        let number = self.0.len();
        self.0.push(Value { start: cursor.at as u32, key: key as u32, next: 0 });
        match cursor.peek() {
            Some(open @ (b'{' | b'[')) => {
                cursor.at += 1;
                let close = open + 2;
                if !cursor.take(close) {
                    loop {
                        cursor.space();
                        let key = cursor.at;
                        if open == b'{' {
                            cursor.string()?;
                            cursor.expect(b':')?;
                        }
                        self.value(cursor, key, depth + 1)?;
                        if !cursor.take(b',') {
                            cursor.expect(close)?;
                            break;
                        }
                    }
                }
            }
            _ => cursor.skip().map(drop)?,
        }
        self.0[number].next = self.0.len() as u32;
        Ok(())
    }
}

impl<'a> JsonTree<'a> {
    fn byte(&self, node: u32) -> u8 {
        self.bytes[self.nodes[node as usize].start as usize]
    }

    fn cursor(&self, at: u32) -> Cursor<'a> {
        Cursor { bytes: self.bytes, at: at as usize }
    }

    /// The children of a node, if it has any.
    fn inner(&self, node: u32) -> impl Iterator<Item = u32> + use<'a> {
        let (nodes, end) = (self.nodes, self.nodes[node as usize].next);
        let first = Some(node + 1).filter(|first| *first < end);
        std::iter::successors(first, move |at| Some(nodes[*at as usize].next).filter(|next| *next < end))
    }

    fn key(&self, node: u32) -> Result<Cow<'a, str>, DecodeError> {
        self.cursor(self.nodes[node as usize].key).string()
    }
}

impl Tree for JsonTree<'_> {
    type Node = u32;

    fn root(&self) -> u32 {
        0
    }

    fn member(&self, node: u32, name: &str) -> Result<Option<u32>, DecodeError> {
        if self.byte(node) != b'{' {
            return Ok(None);
        }
        let mut found = None;
        for child in self.inner(node) {
            if self.key(child)? != name {
                continue;
            }
            if found.is_some() {
                let at = self.nodes[child as usize].key as usize;
                return Err(error("duplicate_key", at, format!("key {name:?} is there twice")));
            }
            found = Some(child);
        }
        Ok(found)
    }

    fn item(&self, node: u32, i: usize) -> Option<u32> {
        if self.is_list(node) { self.inner(node).nth(i) } else { None }
    }

    fn children(&self, node: u32, each: &mut Each<'_, u32>) -> Result<(), DecodeError> {
        match self.byte(node) {
            b'{' => self.inner(node).try_for_each(|child| each(&self.key(child)?, child)),
            b'[' => self.inner(node).enumerate().try_for_each(|(i, child)| each(&i.to_string(), child)),
            _ => Ok(()),
        }
    }

    fn is_list(&self, node: u32) -> bool {
        self.byte(node) == b'['
    }

    fn scalar(&self, node: u32) -> Result<Scalar<'_>, DecodeError> {
        let start = self.nodes[node as usize].start;
        Ok(match self.byte(node) {
            b'{' => Scalar::Other("an object"),
            b'[' => Scalar::Other("a list"),
            b'"' => Scalar::Text(self.cursor(start).string()?),
            b't' => Scalar::Bool(true),
            b'f' => Scalar::Bool(false),
            b'n' => Scalar::Null,
            _ => {
                let mut cursor = self.cursor(start);
                match number::integer(cursor.bytes, cursor.at) {
                    Some((int, _)) => Scalar::Int(int),
                    None => Scalar::Float(cursor.float()?),
                }
            }
        })
    }

    fn at(&self, node: u32) -> usize {
        self.nodes[node as usize].start as usize
    }
}
