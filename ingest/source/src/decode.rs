//! Bytes to columns: the seam behind which each wire format stands.

use thiserror::Error;

use crate::chunk::RecordChunk;
use crate::columns::ReadingColumns;
use crate::series::SeriesTable;
use crate::settings::TimeUnit;

pub mod json;

/// A wire format. One decoder serves one lane; what it learns (names, shapes) it may keep.
pub trait Decoder: Send + Sync {
    /// Appends the readings of one record's value to `out`, naming series in `table`. `record` is the
    /// record's number in its chunk. On error `out` is as it was.
    ///
    /// # Errors
    /// [`DecodeError`] where the bytes are not a record of this format.
    fn decode(
        &mut self,
        value: &[u8],
        record: u32,
        table: &mut SeriesTable,
        out: &mut ReadingColumns,
    ) -> Result<(), DecodeError>;
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

/// The readings of a chunk and the records that have none.
#[derive(Debug, Default)]
pub struct Decoded {
    /// All readings, in record order.
    pub columns: ReadingColumns,
    /// Records that could not be read, by number in the chunk, ascending.
    pub failures: Vec<(u32, DecodeError)>,
}

/// Decodes every record of a chunk. CPU work: call it on a compute thread.
pub fn decode_chunk(decoder: &mut dyn Decoder, chunk: &RecordChunk, table: &mut SeriesTable) -> Decoded {
    let mut decoded = Decoded::default();
    for (i, record) in (0u32..).zip(chunk.records()) {
        let outcome = match record.value {
            Some(value) => decoder.decode(value, i, table, &mut decoded.columns),
            None => Err(DecodeError { class: "no_value", message: "record has no value".into(), at: 0 }),
        };
        if let Err(error) = outcome {
            decoded.failures.push((i, error));
        }
    }
    decoded
}

/// The decoder of a topic's format.
#[must_use]
pub fn decoder_for(time_unit: TimeUnit) -> Box<dyn Decoder> {
    Box::new(json::JsonDecoder::new(time_unit))
}
