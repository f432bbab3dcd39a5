//! JSON of a foreign shape, read by a mapping.
//!
//! The whole value is checked before anything of it is read. A key that stands twice is an error where it is read,
//! and none of ours where it is not.

use super::super::DecodeError;
use super::super::mapped::{Mapped, Scratch, Sink, apply};
use super::tree::Nodes;
use crate::chunk::RecordRef;
use crate::mapping::Mapping;
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
}

impl Mapped for ForeignJson {
    fn read(&mut self, record: &RecordRef<'_>, sink: &mut Sink<'_>) -> Result<(), DecodeError> {
        let tree = self.nodes.parse(record.bytes())?;
        apply(&self.mapping, self.time_unit, &tree, record, &mut self.scratch, sink)
    }
}
