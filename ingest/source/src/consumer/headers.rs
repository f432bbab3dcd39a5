//! The headers of a Kafka message, read from librdkafka itself: rdkafka's own reader panics at a name that is
//! not UTF-8, which a producer in any language may send.
//!
//! The archive keeps names as text. A name that is UTF-8 stands as it is. Any other is written as
//! [`MARK`] and its bytes percent-encoded (RFC 3986: letters, digits and `-._~` as they are, each other byte
//! as `%` and two upper-case hex digits), and so is a name that begins with the mark itself: no two names look
//! the same, and the bytes come back from what follows the mark. librdkafka ends a name at its first zero byte.

use std::borrow::Cow;
use std::ffi::CStr;
use std::fmt::Write;
use std::marker::PhantomData;
use std::ptr;

use rdkafka::bindings::{
    rd_kafka_header_get_all, rd_kafka_headers_t, rd_kafka_message_headers, rd_kafka_resp_err_t,
};
use rdkafka::message::BorrowedMessage;

/// What an encoded name begins with.
const MARK: &str = "%bytes:";

/// A header: its name as text, and its value.
pub(crate) type Header<'m> = (Cow<'m, str>, Option<&'m [u8]>);

/// The headers of `message`, in order.
pub(crate) fn of<'m>(message: &'m BorrowedMessage<'_>) -> Vec<Header<'m>> {
    Raw::of(message).map(|(name, value)| (text(name), value)).collect()
}

/// A name as text.
fn text(name: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(name) {
        Ok(name) if !name.starts_with(MARK) => Cow::Borrowed(name),
        _ => Cow::Owned(encoded(name)),
    }
}

/// The bytes of a name that stands as text; none where what follows the mark is not as [`of`] writes it.
pub(crate) fn bytes(text: &str) -> Option<Vec<u8>> {
    let Some(mut rest) = text.strip_prefix(MARK).map(str::as_bytes) else {
        return Some(text.as_bytes().to_vec());
    };
    let mut name = Vec::with_capacity(rest.len());
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            name.push(byte);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        name.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = tail;
    }
    Some(name)
}

fn encoded(name: &[u8]) -> String {
    let mut text = MARK.to_owned();
    for &byte in name {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a string never fails.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// Walks a message's headers, which live as long as the message.
struct Raw<'m> {
    /// Null where there are none.
    headers: *const rd_kafka_headers_t,
    at: usize,
    message: PhantomData<&'m ()>,
}

impl<'m> Raw<'m> {
    #[allow(unsafe_code, reason = "rdkafka gives header names only as `str`, and panics where they are not")]
    fn of(message: &'m BorrowedMessage<'_>) -> Self {
        let mut headers = ptr::null_mut();
        // SAFETY: the message is alive while it is borrowed, and so are the headers, which belong to it. Only
        // this thread has it: librdkafka parses them into the message at the first call.
        let found = unsafe { rd_kafka_message_headers(message.ptr(), &raw mut headers) };
        let headers = match found {
            rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => headers,
            _ => ptr::null_mut(),
        };
        Self { headers, at: 0, message: PhantomData }
    }
}

impl<'m> Iterator for Raw<'m> {
    type Item = (&'m [u8], Option<&'m [u8]>);

    #[allow(unsafe_code, reason = "see `Raw::of`")]
    fn next(&mut self) -> Option<Self::Item> {
        if self.headers.is_null() {
            return None;
        }
        let (mut name, mut value, mut bytes) = (ptr::null(), ptr::null(), 0);
        // SAFETY: `headers` is librdkafka's and alive for 'm; an index beyond the last is answered by an error.
        let found = unsafe {
            rd_kafka_header_get_all(self.headers, self.at, &raw mut name, &raw mut value, &raw mut bytes)
        };
        if found != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || name.is_null() {
            return None;
        }
        self.at += 1;
        // SAFETY: librdkafka ends each name with a zero byte and gives a value with its length, null where
        // there is none; both are alive and unchanged for 'm.
        let (name, value) = unsafe {
            let value = (!value.is_null()).then(|| std::slice::from_raw_parts(value.cast::<u8>(), bytes));
            (CStr::from_ptr(name), value)
        };
        Some((name.to_bytes(), value))
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::bindings::{rd_kafka_header_add, rd_kafka_headers_destroy, rd_kafka_headers_new};

    use super::*;

    #[test]
    fn names_stand_as_they_are_or_encoded_and_never_look_the_same() {
        let cases: [(&[u8], &str); 7] = [
            (b"trace", "trace"),
            ("µ-Größe %41".as_bytes(), "µ-Größe %41"),
            (b"", ""),
            (b"gr\xf6sse", "%bytes:gr%F6sse"),
            (b"\xff%", "%bytes:%FF%25"),
            (b"%bytes:gr%F6sse", "%bytes:%25bytes%3Agr%25F6sse"),
            (b"%byte", "%byte"),
        ];
        for (name, expected) in cases {
            assert_eq!(text(name), expected);
            assert_eq!(bytes(expected).as_deref(), Some(name));
        }
    }

    #[test]
    #[allow(unsafe_code, reason = "makes what a foreign producer may have sent")]
    fn every_header_is_read_whatever_its_name() {
        let sent: [(&[u8], Option<&[u8]>); 4] =
            [(b"a", Some(b"1")), (b"\xff\xfe", Some(b"")), (b"", None), (b"a", Some(b"\x00\xff"))];
        // SAFETY: the list is destroyed after its last reader.
        let headers = unsafe { rd_kafka_headers_new(4) };
        for (name, value) in sent {
            let (at, bytes) = value.map_or((ptr::null(), 0), |value| (value.as_ptr(), value.len()));
            // SAFETY: librdkafka copies name and value, each with its length.
            let added = unsafe {
                rd_kafka_header_add(
                    headers,
                    name.as_ptr().cast(),
                    name.len() as isize,
                    at.cast(),
                    bytes as isize,
                )
            };
            assert_eq!(added, rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR);
        }
        let raw = Raw { headers, at: 0, message: PhantomData };
        assert_eq!(raw.collect::<Vec<_>>(), sent);
        // SAFETY: nothing reads it any more.
        unsafe { rd_kafka_headers_destroy(headers) };
    }
}
