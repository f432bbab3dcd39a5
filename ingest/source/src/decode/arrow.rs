//! Arrow IPC streams, as pyarrow, Polars, ClickHouse and Flight clients write them: a schema, then record batches.
//!
//! A record is one whole stream. Each row is an object whose members are the columns, structs are objects and
//! lists are lists; dictionaries are what they stand for. All widths of integers and floats, decimals, strings of
//! all kinds, timestamps of all units (with a zone or without, when they are taken as UTC), dates and bodies
//! compressed with LZ4 or Zstandard are read. A stream with a column of another type (a union, a map, a
//! run-end-encoded one) is refused by that column's name.
//!
//! The `arrow` crate's reader trusts much of a stream's framing: it panics on buffers beyond the body and on types
//! that it does not know, and unpacks what is declared. So [`frames`] checks all of it before, with bounds; the
//! reader itself then validates the arrays. Should it panic all the same, the record is a data error of the class
//! `panic`, and nothing else is harmed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::buffer::Buffer;
use arrow::ipc::reader::StreamDecoder;

use super::DecodeError;
use super::mapped::{Mapped, Scratch, Sink, apply};
use crate::chunk::RecordRef;
use crate::mapping::Mapping;
use crate::settings::TimeUnit;

use tree::RowTree;

mod frames;
mod tree;
mod types;

/// Decodes Arrow IPC streams of one lane.
#[derive(Debug)]
pub struct ArrowDecoder {
    mapping: Mapping,
    time_unit: TimeUnit,
    scratch: Scratch,
}

impl ArrowDecoder {
    /// By `mapping`, with times that are plain integers in `time_unit`.
    #[must_use]
    pub fn new(mapping: Mapping, time_unit: TimeUnit) -> Self {
        Self { mapping, time_unit, scratch: Scratch::default() }
    }

    fn stream(&mut self, record: &RecordRef<'_>, sink: &mut Sink<'_>) -> Result<(), DecodeError> {
        // A copy, aligned as the reader wants it.
        let mut rest = Buffer::from(record.bytes());
        let whole = rest.len();
        frames::check(&rest)?;
        let mut decoder = StreamDecoder::new();
        while !rest.is_empty() {
            let at = whole - rest.len();
            let invalid = |error| DecodeError::new("syntax", at, format!("not a valid stream: {error}"));
            let Some(batch) = decoder.decode(&mut rest).map_err(invalid)? else { continue };
            for row in 0..batch.num_rows() {
                let tree = RowTree { batch: &batch, row, at };
                apply(&self.mapping, self.time_unit, &tree, record, &mut self.scratch, sink)?;
            }
        }
        decoder.finish().map_err(|_| DecodeError::new("syntax", whole, "the stream ends inside a message"))
    }
}

impl Mapped for ArrowDecoder {
    fn read(&mut self, record: &RecordRef<'_>, sink: &mut Sink<'_>) -> Result<(), DecodeError> {
        // Nothing that a panic leaves half done is used after it.
        let read = catch_unwind(AssertUnwindSafe(|| self.stream(record, sink)));
        read.unwrap_or_else(|_| {
            self.scratch = Scratch::default();
            Err(DecodeError::new("panic", 0, "the arrow reader cannot cope with this stream"))
        })
    }
}
