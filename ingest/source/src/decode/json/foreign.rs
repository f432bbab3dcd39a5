//! JSON of a foreign shape, read by a mapping.
//!
//! The whole value is checked before anything of it is read. A key that stands twice is an error where it is read,
//! and none of ours where it is not.

use super::super::mapped::{Origin, Scratch, Sink, apply};
use super::super::{DecodeError, DecodeFault, Decoder};
use super::tree::Nodes;
use crate::chunk::RecordRef;
use crate::columns::ReadingColumns;
use crate::mapping::Mapping;
use crate::series::SeriesTable;
use crate::settings::TimeUnit;

/// Decodes JSON records of one lane by a mapping.
#[derive(Debug)]
pub struct ForeignJson {
    mapping: Mapping,
    time_unit: TimeUnit,
    nodes: Nodes,
    scratch: Scratch,
}

impl ForeignJson {
    /// By `mapping`, with integer times in `time_unit`.
    #[must_use]
    pub fn new(mapping: Mapping, time_unit: TimeUnit) -> Self {
        Self { mapping, time_unit, nodes: Nodes::default(), scratch: Scratch::default() }
    }

    fn read(&mut self, record: &RecordRef<'_>, sink: &mut Sink<'_>) -> Result<(), DecodeError> {
        let read = self
            .nodes
            .parse(record.bytes())
            .and_then(|tree| apply(&self.mapping, self.time_unit, &tree, record, &mut self.scratch, sink));
        if read.is_err() {
            sink.undo();
        }
        read
    }
}

impl Decoder for ForeignJson {
    fn decode(
        &mut self,
        record: &RecordRef<'_>,
        number: u32,
        table: &mut SeriesTable,
        out: &mut ReadingColumns,
    ) -> Result<(), DecodeFault> {
        Ok(self.read(record, &mut Sink::new(number, table, out, None))?)
    }

    fn explain(
        &mut self,
        record: &RecordRef<'_>,
        table: &mut SeriesTable,
        out: &mut ReadingColumns,
        origins: &mut Vec<Origin>,
    ) -> Result<(), DecodeFault> {
        origins.clear();
        Ok(self.read(record, &mut Sink::new(0, table, out, Some(origins)))?)
    }

    fn new_table(&mut self) {}
}
