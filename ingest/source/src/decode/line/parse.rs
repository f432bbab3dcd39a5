//! One line at a time, borrowed from the record where nothing is escaped.

use std::borrow::Cow;

use super::super::DecodeError;
use super::super::mapped::Scalar;
use super::tree::{Item, LineTree};

/// Tags of a line, and its fields: a line is looked through by name.
const ITEMS_MAX: usize = 4096;

/// A place in a record's lines.
#[derive(Debug)]
pub(super) struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Reads the next line into `line`; false where there is none.
    pub(super) fn next(&mut self, line: &mut LineTree<'a>) -> Result<bool, DecodeError> {
        loop {
            match self.peek() {
                None => return Ok(false),
                Some(b' ' | b'\t' | b'\r' | b'\n') => self.at += 1,
                Some(b'#') => {
                    let rest = &self.text.as_bytes()[self.at..];
                    self.at += memchr::memchr(b'\n', rest).unwrap_or(rest.len());
                }
                Some(_) => break,
            }
        }
        line.clear(self.at);
        line.measurement = self.name(b", ", "a measurement")?;
        while self.take(b',') {
            let item = self.tag()?;
            full(line.tags.len(), "tags", item.at)?;
            line.tags.push(item);
        }
        self.spaces("a space and the fields")?;
        loop {
            let item = self.field()?;
            full(line.fields.len(), "fields", item.at)?;
            line.fields.push(item);
            if !self.take(b',') {
                break;
            }
        }
        while self.take(b' ') {}
        if matches!(self.peek(), Some(b'-' | b'0'..=b'9')) {
            line.timestamp = Some((self.at, self.integer()?));
            while self.take(b' ') {}
        }
        self.take(b'\r');
        match self.peek() {
            None => Ok(true),
            Some(b'\n') => {
                self.at += 1;
                Ok(true)
            }
            Some(_) => Err(self.unexpected("a comma, a timestamp or the end of the line")),
        }
    }

    fn tag(&mut self) -> Result<Item<'a>, DecodeError> {
        let at = self.at;
        let name = self.name(b",= ", "a tag's name")?;
        self.equals("the tag's value")?;
        let value = self.name(b",= ", "a tag's value")?;
        if self.peek() == Some(b'=') {
            return Err(self.unexpected("a comma or a space; an equals sign in a tag is written \\="));
        }
        Ok(Item { at, name, value: Scalar::Text(value) })
    }

    fn field(&mut self) -> Result<Item<'a>, DecodeError> {
        let at = self.at;
        let name = self.name(b",= ", "a field's name")?;
        self.equals("the field's value")?;
        let value = if self.peek() == Some(b'"') { Scalar::Text(self.string()?) } else { self.value()? };
        Ok(Item { at, name, value })
    }

    /// A name up to one of `ends`, which a backslash escapes. Line breaks end it too.
    fn name(&mut self, ends: &[u8], what: &str) -> Result<Cow<'a, str>, DecodeError> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut escaped = false;
        while let Some(&byte) = bytes.get(self.at) {
            if byte == b'\\' && bytes.get(self.at + 1).is_some_and(|next| ends.contains(next)) {
                escaped = true;
                self.at += 2;
            } else if ends.contains(&byte) || byte == b'\n' || byte == b'\r' {
                break;
            } else {
                self.at += 1;
            }
        }
        if self.at == start {
            return Err(self.unexpected(what));
        }
        let text = &self.text[start..self.at];
        Ok(if escaped { Cow::Owned(unescape(text, ends)) } else { Cow::Borrowed(text) })
    }

    /// A quoted string, unescaped.
    fn string(&mut self) -> Result<Cow<'a, str>, DecodeError> {
        let open = self.at;
        self.at += 1;
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut escaped = false;
        loop {
            match bytes.get(self.at) {
                None => {
                    return Err(DecodeError::new("syntax", open, "a string that is not closed with \""));
                }
                Some(b'"') => break,
                Some(b'\\') if matches!(bytes.get(self.at + 1), Some(b'"' | b'\\')) => {
                    escaped = true;
                    self.at += 2;
                }
                Some(_) => self.at += 1,
            }
        }
        let text = &self.text[start..self.at];
        self.at += 1;
        Ok(if escaped { Cow::Owned(unescape(text, b"\"\\")) } else { Cow::Borrowed(text) })
    }

    /// A number or a boolean.
    fn value(&mut self) -> Result<Scalar<'a>, DecodeError> {
        let start = self.at;
        while !matches!(self.peek(), None | Some(b',' | b' ' | b'\n' | b'\r')) {
            self.at += 1;
        }
        let word = &self.text[start..self.at];
        let is_number =
            word.trim_start_matches(['-', '+']).starts_with(|c: char| c.is_ascii_digit() || c == '.');
        let value = match word {
            "t" | "T" | "true" | "True" | "TRUE" => Some(Scalar::Bool(true)),
            "f" | "F" | "false" | "False" | "FALSE" => Some(Scalar::Bool(false)),
            _ if !is_number => None,
            _ => match (word.strip_suffix('i'), word.strip_suffix('u')) {
                (Some(digits), _) => digits.parse().ok().map(Scalar::Int),
                (_, Some(digits)) => digits.parse().ok().map(Scalar::Unsigned),
                _ => word.parse().ok().filter(|float: &f64| float.is_finite()).map(Scalar::Float),
            },
        };
        value.ok_or_else(|| {
            let shown: String = word.chars().take(40).collect();
            let message = format!(
                "{shown:?} is no field value: neither a number, nor one with i or u at its end, true, false, or a \"string\""
            );
            DecodeError::new("bad_value", start, message)
        })
    }

    fn integer(&mut self) -> Result<i64, DecodeError> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.text[start..self.at]
            .parse()
            .map_err(|_| DecodeError::new("bad_time", start, "the timestamp is no 64-bit integer"))
    }

    fn equals(&mut self, what: &str) -> Result<(), DecodeError> {
        if self.take(b'=') { Ok(()) } else { Err(self.unexpected(&format!("= and {what}"))) }
    }

    fn spaces(&mut self, what: &str) -> Result<(), DecodeError> {
        if !self.take(b' ') {
            return Err(self.unexpected(what));
        }
        while self.take(b' ') {}
        Ok(())
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn unexpected(&self, wanted: &str) -> DecodeError {
        let found = match self.text[self.text.floor_char_boundary(self.at)..].chars().next() {
            None => "the end".to_owned(),
            Some('\n' | '\r') => "the end of the line".to_owned(),
            Some(sign) => format!("{sign:?}"),
        };
        DecodeError::new("syntax", self.at, format!("expected {wanted}, found {found}"))
    }
}

fn full(len: usize, what: &str, at: usize) -> Result<(), DecodeError> {
    if len < ITEMS_MAX {
        return Ok(());
    }
    Err(DecodeError::new("too_large", at, format!("more than {ITEMS_MAX} {what} in one line")))
}

/// Takes the backslash before each of `signs` away.
fn unescape(text: &str, signs: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        let is_escape = rest.as_bytes().get(at + 1).is_some_and(|next| signs.contains(next));
        out.push_str(&rest[..at + usize::from(!is_escape)]);
        // What is escaped is copied as it is, so that a backslash that was escaped escapes nothing.
        let copied = at + 1 + usize::from(is_escape);
        out.push_str(&rest[at + 1..copied]);
        rest = &rest[copied..];
    }
    out.push_str(rest);
    out
}
