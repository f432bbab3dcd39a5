//! InfluxDB line protocol, as Telegraf, Influx clients and PLC gateways write it.
//!
//! ```text
//! press,host=press-07,line=a oil=61.2,running=true,cycles=1204i,state="warming up" 1795000000000000000
//! ```
//! A record holds one line or many; blank lines and comments (`#` at a line's start) are passed over. By the
//! [reference](https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/): floats, integers (`i`),
//! unsigned (`u`), booleans and quoted strings, which alone may hold line breaks; `\` escapes commas, spaces and
//! equals signs in names (in a measurement commas and spaces alone), quotes and itself in strings, and is a plain sign before anything else. Timestamps are in
//! the topic's `time_unit`, nanoseconds by default; a line without one has its Kafka record's.
//!
//! A record is read whole or not at all: one bad line makes it a dead letter, and what is wrong is told with its
//! byte. What the readings are called is the [`crate::mapping`]'s to say.

use super::DecodeError;
use super::mapped::{Mapped, Scratch, Sink, apply};
use crate::chunk::RecordRef;
use crate::mapping::Mapping;
use crate::settings::TimeUnit;

use parse::Parser;
use tree::LineTree;

mod parse;
mod tree;

#[cfg(test)]
mod tests;

/// Decodes line protocol of one lane.
#[derive(Debug)]
pub struct LineDecoder {
    mapping: Mapping,
    time_unit: TimeUnit,
    scratch: Scratch,
}

impl LineDecoder {
    /// By `mapping`, with timestamps in `time_unit`.
    #[must_use]
    pub fn new(mapping: Mapping, time_unit: TimeUnit) -> Self {
        Self { mapping, time_unit, scratch: Scratch::default() }
    }
}

impl Mapped for LineDecoder {
    fn read(&mut self, record: &RecordRef<'_>, sink: &mut Sink<'_>) -> Result<(), DecodeError> {
        let text = simdutf8::compat::from_utf8(record.bytes())
            .map_err(|fault| DecodeError::new("utf8", fault.valid_up_to(), "not UTF-8"))?;
        let mut parser = Parser::new(text);
        let mut tree = LineTree::default();
        while parser.next(&mut tree)? {
            apply(&self.mapping, self.time_unit, &tree, record, &mut self.scratch, sink)?;
        }
        Ok(())
    }
}
