//! The wire format of Protobuf: a message as its fields, one after the other, borrowed from the record.
//!
//! Every length is checked against the bytes that are there before anything is taken, varints have ten bytes at
//! most, and groups, which nobody writes any more, are refused. What a field's number and type mean is the caller's
//! to say. Source: the Protocol Buffers encoding guide, protobuf.dev/programming-guides/encoding.

use super::DecodeError;

/// A message, or what is left of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wire<'a> {
    bytes: &'a [u8],
    /// The byte of the record where `bytes` begins.
    base: usize,
    at: usize,
}

/// One field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    pub(super) number: u32,
    /// Its first byte in the record.
    pub(super) at: usize,
    content: Content<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Content<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32([u8; 4]),
    /// With its first byte in the record.
    Bytes(&'a [u8], usize),
}

impl<'a> Wire<'a> {
    /// A message that is `bytes`, which begin at byte `base` of their record.
    pub(super) fn new(bytes: &'a [u8], base: usize) -> Self {
        Self { bytes, base, at: 0 }
    }

    /// The byte of the record where it goes on.
    pub(super) fn at(&self) -> usize {
        self.base + self.at
    }

    /// What was not read.
    pub(super) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// The next field; none at the end.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<Field<'a>>, DecodeError> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let at = self.at();
        let tag = self.varint()?;
        let number = match u32::try_from(tag >> 3) {
            Ok(number @ 1..0x2000_0000) => number,
            _ => return Err(DecodeError::new("syntax", at, "not a field number of Protobuf")),
        };
        let content = match tag & 7 {
            0 => Content::Varint(self.varint()?),
            1 => Content::Fixed64(self.array()?),
            2 => {
                let len = self.varint()?;
                let start = self.at();
                Content::Bytes(self.take(len)?, start)
            }
            5 => Content::Fixed32(self.array()?),
            3 | 4 => return Err(DecodeError::new("unsupported", at, "groups of Protobuf are not read")),
            _ => return Err(DecodeError::new("syntax", at, "not a wire type of Protobuf")),
        };
        Ok(Some(Field { number, at, content }))
    }

    /// A varint, of ten bytes at most.
    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64, DecodeError> {
        let start = self.at;
        if let Some(&byte @ 0..0x80) = self.bytes.get(start) {
            self.at += 1;
            return Ok(u64::from(byte));
        }
        match varint(&self.bytes[start..]) {
            Some((value, len)) => {
                self.at += len;
                Ok(value)
            }
            None => Err(DecodeError::new(
                "syntax",
                self.base + start,
                "a number that does not end, or is too long",
            )),
        }
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], DecodeError> {
        let rest = self.rest();
        let taken = usize::try_from(len).ok().and_then(|len| rest.get(..len));
        let Some(taken) = taken else {
            let message = format!("{len} bytes are announced, and {} are left", rest.len());
            return Err(DecodeError::new("syntax", self.at(), message));
        };
        self.at += taken.len();
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let Some(array) = self.rest().first_chunk::<N>() else {
            return Err(DecodeError::new("syntax", self.at(), "the message ends inside a number"));
        };
        self.at += N;
        Ok(*array)
    }
}

/// The varint that `bytes` begin with, and how many it takes; none where it does not end, has more than ten, or
/// more than 64 bits. Avro's integers are such, zigzagged.
#[inline]
pub(super) fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (i, &byte) in bytes.iter().take(10).enumerate() {
        if i == 9 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            return Some((value, i + 1));
        }
    }
    None
}

/// A number whose sign is in its lowest bit.
#[inline]
pub(super) fn zigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

impl<'a> Field<'a> {
    fn wrong<T>(&self, wanted: &str) -> Result<T, DecodeError> {
        let found = match self.content {
            Content::Varint(_) => "a varint",
            Content::Fixed64(_) => "8 bytes",
            Content::Fixed32(_) => "4 bytes",
            Content::Bytes(..) => "text, bytes or a message",
        };
        let message = format!("field {} is {found}, and should be {wanted}", self.number);
        Err(DecodeError::new("wire_type", self.at, message))
    }

    /// As any integer, true or false.
    #[inline]
    pub(super) fn varint(&self) -> Result<u64, DecodeError> {
        if let Content::Varint(value) = self.content { Ok(value) } else { self.wrong("a varint") }
    }

    /// As a double.
    #[inline]
    pub(super) fn double(&self) -> Result<f64, DecodeError> {
        if let Content::Fixed64(bytes) = self.content {
            Ok(f64::from_le_bytes(bytes))
        } else {
            self.wrong("a double")
        }
    }

    /// As a float.
    #[inline]
    pub(super) fn float(&self) -> Result<f32, DecodeError> {
        if let Content::Fixed32(bytes) = self.content {
            Ok(f32::from_le_bytes(bytes))
        } else {
            self.wrong("a float")
        }
    }

    /// As text or bytes.
    #[inline]
    pub(super) fn bytes(&self) -> Result<&'a [u8], DecodeError> {
        if let Content::Bytes(bytes, _) = self.content { Ok(bytes) } else { self.wrong("text or bytes") }
    }

    /// As text.
    pub(super) fn text(&self) -> Result<&'a str, DecodeError> {
        let bytes = self.bytes()?;
        simdutf8::basic::from_utf8(bytes)
            .map_err(|_| DecodeError::new("utf8", self.at, "text that is not UTF-8"))
    }

    /// As a message within the message.
    pub(super) fn message(&self) -> Result<Wire<'a>, DecodeError> {
        if let Content::Bytes(bytes, base) = self.content {
            Ok(Wire::new(bytes, base))
        } else {
            self.wrong("a message")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_have_ten_bytes_and_64_bits_at_most() {
        let check = |bytes: &[u8], expected| assert_eq!(varint(bytes), expected, "{bytes:x?}");
        check(&[], None);
        check(&[0], Some((0, 1)));
        check(&[0xac, 2, 9], Some((300, 2)));
        check(&[0x80; 9], None);
        check(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], Some((u64::MAX, 10)));
        check(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], None);
        check(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0], None);
        for (coded, plain) in [(0, 0), (1, -1), (2, 1), (u64::MAX, i64::MIN), (u64::MAX - 1, i64::MAX)] {
            assert_eq!(zigzag(coded), plain);
        }
    }

    #[test]
    fn fields_are_taken_within_their_message_or_refused() {
        let check = |bytes: &[u8], expected: Result<&[u32], &str>| {
            let mut wire = Wire::new(bytes, 0);
            let mut numbers = Vec::new();
            let outcome = loop {
                match wire.next() {
                    Ok(Some(field)) => numbers.push(field.number),
                    Ok(None) => break Ok(&*numbers),
                    Err(error) => break Err(error.class),
                }
            };
            assert_eq!(outcome, expected, "{bytes:x?}");
        };
        check(&[], Ok(&[]));
        check(&[0x08, 1, 0x12, 2, 9, 9, 0x1d, 0, 0, 0, 0, 0x21, 0, 0, 0, 0, 0, 0, 0, 0], Ok(&[1, 2, 3, 4]));
        check(&[0x12, 3, 9, 9], Err("syntax"));
        check(&[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], Err("syntax"));
        check(&[0x21, 0, 0], Err("syntax"));
        check(&[0x00, 1], Err("syntax"));
        check(&[0x0b, 0x0c], Err("unsupported"));
        check(&[0x0f], Err("syntax"));
        let wrong = Wire::new(&[0x08, 1], 0).next().unwrap().unwrap();
        assert_eq!(wrong.bytes().unwrap_err().class, "wire_type");
        assert_eq!(wrong.varint(), Ok(1));
    }
}
