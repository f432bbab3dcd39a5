//! Bytes to columns: the seam behind which each wire format stands.
//!
//! A lane has one [`Decoder`] for its whole life ([`decoder_for`]): it reads each record by the record's own
//! `content-type` header, or as the topic's settings say ([`switch`]). A panic in it costs one record ([`guard`]).

use thiserror::Error;

use crate::chunk::{RecordChunk, RecordRef};
use crate::columns::ReadingColumns;
use crate::series::SeriesTable;
use crate::settings::TopicSettings;

pub use mapped::Origin;
pub use remedy::remedy;

pub mod arrow;
pub mod avro;
mod framing;
mod guard;
pub mod json;
pub mod line;
pub mod mapped;
pub mod protobuf;
mod remedy;
mod rows;
pub mod sparkplug;
pub mod switch;
mod wire;

/// A wire format. One decoder serves one lane from its start to its end, every record once and in order, so it
/// may keep two kinds of knowledge:
///
/// - **codes of the series table** that its readings go into. A table lives shorter than the lane: an open batch
///   of the archive has its own. [`Decoder::new_table`] says that another takes its place;
/// - **what the stream itself said** (a Sparkplug birth, a schema fetched from a registry), which it keeps over
///   that, by names and never by codes of a table. A lane begins anew, with a new decoder, after a restart, a
///   rebalance or a fencing, at the offset that is durable: what a decoder must know of records before it, it
///   has to learn from elsewhere or, where it cannot, to say so in the readings' quality.
///
/// A record that ends in [`DecodeFault::Transient`] is decoded again, so until it has succeeded it must change
/// nothing that the decoder knows of the stream.
pub trait Decoder: Send + Sync {
    /// Appends the readings of one record to `out`, naming series in `table`. The record has a value, and
    /// `number` is its number in its chunk. On a fault `out` is as it was.
    ///
    /// # Errors
    /// [`DecodeFault`], which says whether the record or something outside is at fault.
    fn decode(
        &mut self,
        record: &RecordRef<'_>,
        number: u32,
        table: &mut SeriesTable,
        out: &mut ReadingColumns,
    ) -> Result<(), DecodeFault>;

    /// Decodes a record as [`Decoder::decode`] does, and says of each reading where its fields came from, for
    /// people. A format whose records say it themselves says nothing.
    ///
    /// # Errors
    /// As [`Decoder::decode`]; then `origins` is empty.
    fn explain(
        &mut self,
        record: &RecordRef<'_>,
        table: &mut SeriesTable,
        out: &mut ReadingColumns,
        origins: &mut Vec<Origin>,
    ) -> Result<(), DecodeFault> {
        origins.clear();
        self.decode(record, 0, table, out)
    }

    /// Whether what this record says depends on records before it. Alone it may then decode to other readings than
    /// in its lane, or not at all.
    fn needs_history(&mut self, _record: &RecordRef<'_>) -> bool {
        false
    }

    /// What follows is decoded into another table, which knows none of the codes given so far.
    fn new_table(&mut self);

    /// Bytes of memory that its knowledge holds; 0 of a format whose decoder knows little.
    #[must_use]
    fn memory_bytes(&self) -> usize {
        0
    }
}

/// Why a record was not decoded.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeFault {
    /// The record can never be read by this decoder with these settings.
    #[error(transparent)]
    Data(#[from] DecodeError),
    /// Something outside is away, such as a schema registry: the same record may decode later, so the lane waits
    /// and keeps its order.
    #[error(transparent)]
    Transient(#[from] TransientError),
}

/// Why a record cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{class}: {message} at byte {at}")]
pub struct DecodeError {
    /// Its class, a stable word for counting and filtering, such as `syntax` or `missing_field`.
    pub class: &'static str,
    /// What is wrong, for people.
    pub message: String,
    /// Byte position in the record's value.
    pub at: usize,
}

impl DecodeError {
    /// A finding of `class` at byte `at`.
    pub fn new(class: &'static str, at: usize, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), at }
    }
}

/// What is away, and what brings it back.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct TransientError(pub String);

/// The readings of a chunk and the records that have none.
#[derive(Debug, Default)]
pub struct Decoded {
    /// All readings, in record order.
    pub columns: ReadingColumns,
    /// Records that could not be read, by number in the chunk, ascending.
    pub failures: Vec<(u32, DecodeError)>,
}

/// A chunk that could be decoded only in part, as something outside is away.
#[derive(Debug, Error)]
#[error("{error}")]
pub struct Stalled {
    /// What was decoded: all records before [`Stalled::at`]. They are done, and not to be decoded again.
    pub decoded: Decoded,
    /// The record to go on with, by number in the chunk; [`RecordChunk::split_off`] cuts there.
    pub at: usize,
    /// What is away.
    pub error: TransientError,
}

/// Decodes every record of a chunk. CPU work: call it on a compute thread.
///
/// # Errors
/// [`Stalled`] where something outside is away. Nothing is half done: the records before it are decoded, the
/// rest has not been touched.
pub fn decode_chunk(
    decoder: &mut dyn Decoder,
    chunk: &RecordChunk,
    table: &mut SeriesTable,
) -> Result<Decoded, Box<Stalled>> {
    let mut decoded = Decoded::default();
    for (i, record) in (0u32..).zip(chunk.records()) {
        let outcome = if record.value.is_some() {
            decoder.decode(&record, i, table, &mut decoded.columns)
        } else {
            Err(DecodeError::new("no_value", 0, "record has no value").into())
        };
        match outcome {
            Ok(()) => {}
            Err(DecodeFault::Data(error)) => decoded.failures.push((i, error)),
            Err(DecodeFault::Transient(error)) => {
                return Err(Box::new(Stalled { decoded, at: i as usize, error }));
            }
        }
    }
    Ok(decoded)
}

/// The decoder of a lane of a topic.
#[must_use]
pub fn decoder_for(topic: &TopicSettings) -> Box<dyn Decoder> {
    let topic = topic.clone();
    Box::new(guard::Guard::new(move || switch::Switch::new(&topic)))
}

#[cfg(test)]
mod tests {
    use stillwell_schema::{Gap, GapReason, Offset, TopicPartition};

    use super::*;

    /// Reads nothing, refuses `bad`, and waits at `away` until `is_back`.
    struct Picky {
        is_back: bool,
    }

    impl Decoder for Picky {
        fn decode(
            &mut self,
            record: &RecordRef<'_>,
            _: u32,
            _: &mut SeriesTable,
            _: &mut ReadingColumns,
        ) -> Result<(), DecodeFault> {
            match record.bytes() {
                b"bad" => Err(DecodeError::new("syntax", 0, "bad").into()),
                b"away" if !self.is_back => Err(TransientError("the registry is away".into()).into()),
                _ => Ok(()),
            }
        }

        fn new_table(&mut self) {}
    }

    #[test]
    fn a_chunk_that_stalls_goes_on_where_it_stopped() {
        let mut chunk = RecordChunk::new(TopicPartition::new("t", 0), Offset(0));
        for (offset, value) in ["good", "bad", "away", "bad"].into_iter().enumerate() {
            chunk.push(Offset(offset as i64), 0, None, Some(value.as_bytes()), []);
        }
        chunk.push_gap(Gap { first: Offset(4), next: Offset(6), reason: GapReason::NotDelivered });
        let (mut picky, mut table) = (Picky { is_back: false }, SeriesTable::default());
        let stalled = decode_chunk(&mut picky, &chunk, &mut table).unwrap_err();
        assert_eq!((stalled.at, stalled.decoded.failures.len()), (2, 1));
        assert_eq!(stalled.to_string(), "the registry is away");
        let rest = chunk.split_off(stalled.at);
        assert_eq!(decode_chunk(&mut picky, &rest, &mut table).unwrap_err().at, 0);
        picky.is_back = true;
        let decoded = decode_chunk(&mut picky, &rest, &mut table).unwrap();
        assert_eq!(decoded.failures.iter().map(|(i, _)| *i).collect::<Vec<_>>(), [1]);
        assert_eq!((chunk.range().next, rest.range().next), (Offset(2), Offset(6)));
    }
}
