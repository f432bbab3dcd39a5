//! A dead letter, read back: the record as it came, where it came from, and what was wrong.
//!
//! A letter is the record's key, value and headers, and then [`HEADERS`], in that order. A record that is sent
//! again carries, behind its own headers, [`REDRIVE`]: where it stood first and how often it was sent again. Should
//! it fail again, its new letter carries these along, so that attempts are counted over all rounds.

use rdkafka::message::{Header, OwnedHeaders};
use stillwell_schema::{Offset, TopicPartition};

use crate::chunk::{RecordChunk, RecordRef};
use crate::consumer::headers::bytes;

/// What a letter's last headers say, in the names that Kafka Connect gives them.
pub const HEADERS: [&str; 7] = [
    "__connect.errors.topic",
    "__connect.errors.partition",
    "__connect.errors.offset",
    "__connect.errors.connector.name",
    "__connect.errors.stage",
    "__connect.errors.exception.class.name",
    "__connect.errors.exception.message",
];

/// The last headers of a record that was sent again: where it stood first, and the how manieth attempt this is.
pub const REDRIVE: [&str; 4] = [
    "stillwell.redrive.topic",
    "stillwell.redrive.partition",
    "stillwell.redrive.offset",
    "stillwell.redrive.attempt",
];

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Where the record stood that could not be read.
    pub source: (TopicPartition, Offset),
    /// Where it stood first: its source, unless it was sent again.
    pub origin: (TopicPartition, Offset),
    /// How often it was sent again so far.
    pub attempts: u32,
    /// The record's Kafka timestamp, ms since the epoch; -1 where there is none.
    pub timestamp_ms: i64,
    /// The class of the error.
    pub class: String,
    /// The error, with its class and place.
    pub message: String,
    /// The record's key.
    pub key: Option<Vec<u8>>,
    /// The record's value.
    pub value: Option<Vec<u8>>,
    /// The record's own headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Letter {
    /// Reads a record of a dead letter topic; none where it is no letter of ours.
    #[must_use]
    pub fn parse(record: &RecordRef<'_>) -> Option<Self> {
        let mut headers: Vec<(String, Option<Vec<u8>>)> =
            record.headers().map(|(name, value)| (plain(name), value.map(<[u8]>::to_vec))).collect();
        let [topic, partition, offset, _, _, class, message] = take_last(&mut headers, HEADERS)?;
        let source = place(topic, &partition, &offset)?;
        let redrive = take_last(&mut headers, REDRIVE).and_then(|[topic, partition, offset, attempt]| {
            Some((place(topic, &partition, &offset)?, attempt.parse().ok()?))
        });
        let (origin, attempts) = redrive.unwrap_or_else(|| (source.clone(), 0));
        Some(Self {
            source,
            origin,
            attempts,
            timestamp_ms: record.timestamp_ms,
            class,
            message,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers,
        })
    }

    /// The byte of the value at which the error was found, as its message ends.
    #[must_use]
    pub fn at(&self) -> Option<usize> {
        self.message.rsplit_once(" at byte ")?.1.parse().ok()
    }

    /// The record as it was, for a decoder, at the place where it stood first.
    #[must_use]
    pub fn record(&self) -> RecordChunk {
        let (lane, offset) = &self.origin;
        let mut chunk = RecordChunk::new(lane.clone(), *offset);
        let headers = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
        chunk.push(*offset, self.timestamp_ms, self.key.as_deref(), self.value.as_deref(), headers);
        chunk
    }

    /// Bytes of memory held, roughly.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let headers =
            self.headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len));
        let [key, value] = [&self.key, &self.value].map(|part| part.as_ref().map_or(0, Vec::len));
        key + value + headers.sum::<usize>() + self.message.len() + size_of::<Self>()
    }

    /// The headers to send it again with, as attempt number `attempt`.
    #[must_use]
    pub fn redriven(&self, attempt: u32) -> OwnedHeaders {
        let (lane, offset) = &self.origin;
        let values =
            [lane.topic.to_string(), lane.partition.to_string(), offset.to_string(), attempt.to_string()];
        let own = self.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: value.as_deref() })
        });
        REDRIVE
            .into_iter()
            .zip(&values)
            .fold(own, |headers, (key, value)| headers.insert(Header { key, value: Some(value) }))
    }
}

/// A name as the letter has it: the archive's way of writing it is taken off again.
fn plain(name: &str) -> String {
    bytes(name).and_then(|name| String::from_utf8(name).ok()).unwrap_or_else(|| name.to_owned())
}

/// Takes the last headers off, where they have these names.
fn take_last<const N: usize>(
    headers: &mut Vec<(String, Option<Vec<u8>>)>,
    names: [&str; N],
) -> Option<[String; N]> {
    let at = headers.len().checked_sub(N)?;
    if !headers[at..].iter().map(|(name, _)| name.as_str()).eq(names) {
        return None;
    }
    let values: Option<Vec<String>> =
        headers[at..].iter().map(|(_, value)| String::from_utf8(value.clone()?).ok()).collect();
    let values = values?.try_into().ok()?;
    headers.truncate(at);
    Some(values)
}

fn place(topic: String, partition: &str, offset: &str) -> Option<(TopicPartition, Offset)> {
    Some((TopicPartition::new(topic, partition.parse().ok()?), Offset(offset.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use rdkafka::message::Headers;

    use super::super::headers as letter_headers;
    use super::*;
    use crate::decode::DecodeError;

    type Named = Vec<(String, Option<Vec<u8>>)>;

    fn chunk(headers: &Named, at: i64) -> RecordChunk {
        let mut chunk = RecordChunk::new(TopicPartition::new("t", 2), Offset(at));
        let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
        chunk.push(Offset(at), 77, Some(b"k"), Some(b"{"), headers);
        chunk
    }

    fn plain_of(headers: &OwnedHeaders) -> Named {
        headers.iter().map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec))).collect()
    }

    fn letter(record: &Named, at: i64) -> Letter {
        let (chunk_of_record, error) = (chunk(record, at), DecodeError::new("syntax", 1, "no more"));
        let sent = letter_headers(&TopicPartition::new("t", 2), &chunk_of_record.record(0), &error);
        Letter::parse(&chunk(&plain_of(&sent), 9).record(0)).unwrap()
    }

    #[test]
    fn a_letter_comes_back_as_the_record_was_and_counts_its_attempts_over_rounds() {
        let own: Named = vec![
            ("trace".to_owned(), Some(vec![1, 255])),
            ("trace".to_owned(), None),
            // A record that Kafka Connect has failed on before.
            (HEADERS[0].to_owned(), Some(b"other".to_vec())),
        ];
        let first = letter(&own, 5);
        let origin = (TopicPartition::new("t", 2), Offset(5));
        assert_eq!((&first.source, &first.origin, first.attempts), (&origin, &origin, 0));
        assert_eq!((&first.headers, first.at(), &*first.class), (&own, Some(1), "syntax"));
        assert_eq!((first.key.as_deref(), first.value.as_deref()), (Some(&b"k"[..]), Some(&b"{"[..])));
        assert_eq!(first.timestamp_ms, 77);
        let again = letter(&plain_of(&first.redriven(1)), 8);
        assert_eq!((&again.origin, again.attempts), (&origin, 1));
        assert_eq!((again.source.1, &again.headers), (Offset(8), &own));
        assert_eq!(letter(&plain_of(&again.redriven(2)), 10).attempts, 2);
    }

    #[test]
    fn what_is_no_letter_is_none() {
        assert_eq!(Letter::parse(&chunk(&Vec::new(), 0).record(0)), None);
        let mut some: Named = HEADERS.iter().map(|name| ((*name).to_owned(), Some(b"1".to_vec()))).collect();
        assert!(Letter::parse(&chunk(&some, 0).record(0)).is_some());
        some[1].1 = Some(b"x".to_vec());
        assert_eq!(Letter::parse(&chunk(&some, 0).record(0)), None);
        some.swap(0, 1);
        assert_eq!(Letter::parse(&chunk(&some, 0).record(0)), None);
    }
}
