//! Walks JSON bytes and checks them, by RFC 8259, and that their text is UTF-8.

use std::borrow::Cow;

use super::super::DecodeError;
use super::{number, word};

/// Values nest no deeper than this.
const DEPTH_MAX: usize = 128;

/// A place in a value's bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

/// A finding at a place.
pub(super) fn error(class: &'static str, at: usize, message: impl Into<String>) -> DecodeError {
    DecodeError { class, message: message.into(), at }
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    pub(super) fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// Skips space and takes `byte` if it comes next.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        self.space();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect(&mut self, byte: u8) -> Result<(), DecodeError> {
        if self.take(byte) { Ok(()) } else { Err(self.unexpected(&format!("'{}'", byte as char))) }
    }

    pub(super) fn unexpected(&self, wanted: &str) -> DecodeError {
        let found = match self.peek() {
            None => "the end".to_owned(),
            Some(byte @ 0x21..0x7f) => format!("'{}'", byte as char),
            Some(byte) => format!("byte 0x{byte:02x}"),
        };
        error("syntax", self.at, format!("expected {wanted}, found {found}"))
    }

    pub(super) fn end(&mut self) -> Result<(), DecodeError> {
        self.space();
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.unexpected("the end")) }
    }

    /// Takes `null` if it comes next.
    pub(super) fn null(&mut self) -> bool {
        self.space();
        let found = self.rest().starts_with(b"null");
        self.at += if found { 4 } else { 0 };
        found
    }

    /// A string, unescaped.
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>, DecodeError> {
        self.expect(b'"')?;
        let start = self.at;
        self.at = word::plain_end(self.bytes, start);
        match self.peek() {
            Some(b'"') => self.at += 1,
            Some(b'\\') => return self.escaped(start).map(Cow::Owned),
            _ => return Err(self.unexpected("the rest of a string")),
        }
        self.text(start, self.at - 1).map(Cow::Borrowed)
    }

    fn text(&self, start: usize, end: usize) -> Result<&'a str, DecodeError> {
        // Quotes and backslashes are ASCII, so they never cut a character.
        std::str::from_utf8(&self.bytes[start..end]).map_err(|_| error("utf8", start, "not UTF-8"))
    }

    /// The rest of a string whose first escape is here.
    fn escaped(&mut self, start: usize) -> Result<String, DecodeError> {
        let mut text = self.text(start, self.at)?.to_owned();
        loop {
            let plain = self.at;
            self.at = word::plain_end(self.bytes, plain);
            text.push_str(self.text(plain, self.at)?);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => {
                    self.at += 1;
                    text.push(self.escape()?);
                }
                _ => return Err(self.unexpected("the rest of a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, DecodeError> {
        let at = self.at;
        self.at += 1;
        Ok(match self.bytes.get(at) {
            Some(byte @ (b'"' | b'\\' | b'/')) => *byte as char,
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => self.unicode()?,
            _ => return Err(error("syntax", at, "unknown escape")),
        })
    }

    fn unicode(&mut self) -> Result<char, DecodeError> {
        let at = self.at;
        let broken = || error("syntax", at, "broken unicode escape");
        let first = self.hex4().ok_or_else(broken)?;
        let code = match first {
            0xd800..0xdc00 => {
                if !self.rest().starts_with(b"\\u") {
                    return Err(broken());
                }
                self.at += 2;
                let second = self.hex4().filter(|low| (0xdc00..0xe000).contains(low)).ok_or_else(broken)?;
                0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
            }
            _ => first,
        };
        char::from_u32(code).ok_or_else(broken)
    }

    fn hex4(&mut self) -> Option<u32> {
        let hex = self.bytes.get(self.at..self.at + 4)?;
        self.at += 4;
        hex.iter().try_fold(0, |code, &byte| Some(code << 4 | char::from(byte).to_digit(16)?))
    }

    pub(super) fn float(&mut self) -> Result<f64, DecodeError> {
        self.space();
        let (value, end) = number::float(self.bytes, self.at)
            .ok_or_else(|| error("bad_value", self.at, "not a number, or beyond 64-bit floating point"))?;
        self.at = end;
        Ok(value)
    }

    /// The number here, which is mostly one, or none where it says null.
    pub(super) fn float_or_null(&mut self) -> Result<Option<f64>, DecodeError> {
        self.space();
        match number::float(self.bytes, self.at) {
            Some((value, end)) => {
                self.at = end;
                Ok(Some(value))
            }
            None if self.null() => Ok(None),
            None => self.float().map(Some),
        }
    }

    /// Skips one value of any kind, checked, and gives the place where it starts.
    pub(super) fn skip(&mut self) -> Result<usize, DecodeError> {
        self.space();
        let start = self.at;
        self.skip_nested(0)?;
        Ok(start)
    }

    fn skip_nested(&mut self, depth: usize) -> Result<(), DecodeError> {
        if depth > DEPTH_MAX {
            return Err(error("too_deep", self.at, format!("values nest deeper than {DEPTH_MAX}")));
        }
        self.space();
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(open @ (b'{' | b'[')) => {
                self.at += 1;
                let close = open + 2;
                if self.take(close) {
                    return Ok(());
                }
                loop {
                    if open == b'{' {
                        self.string()?;
                        self.expect(b':')?;
                    }
                    self.skip_nested(depth + 1)?;
                    if !self.take(b',') {
                        return self.expect(close);
                    }
                }
            }
            Some(b'-' | b'0'..=b'9') => self.skip_number(),
            _ => {
                let word = [&b"true"[..], b"false", b"null"].into_iter().find(|w| self.rest().starts_with(w));
                self.at += word.ok_or_else(|| self.unexpected("a value"))?.len();
                Ok(())
            }
        }
    }

    /// A number of any size: what nobody reads need not fit.
    fn skip_number(&mut self) -> Result<(), DecodeError> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        let whole = self.at;
        let digits = |cursor: &mut Self| {
            let from = cursor.at;
            cursor.at = word::digits(cursor.bytes, from, &mut 0);
            cursor.at - from
        };
        let len = digits(self);
        let mut valid = len == 1 || (len > 1 && self.bytes[whole] != b'0');
        if self.peek() == Some(b'.') {
            self.at += 1;
            valid &= digits(self) > 0;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            valid &= digits(self) > 0;
        }
        if valid { Ok(()) } else { Err(error("syntax", start, "not a number")) }
    }
}
