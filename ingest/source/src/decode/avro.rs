//! Avro: records in the framing of a schema registry, or of a schema from a file.
//!
//! With a registry, a record is a zero byte, the id of the schema that it was written with, and one value in Avro's
//! binary encoding. With a schema from a file, it is the value alone. Files of Avro ("object containers") are
//! no records.
//!
//! A writer's schema is compiled once a lane, against the reader's where one is configured, by the resolution rules
//! of Avro 1.12 ([`resolve`]): fields in another order, fields that one side alone has, with defaults, aliases,
//! promoted numbers and text, unions, enums. What comes out is a plan ([`plan`]). Records of our own shape
//! ([`own`]) go by it straight to readings; all others become a tree over their bytes for the topic's
//! [`crate::mapping`].
//!
//! Names and logical types: `timestamp-millis`, `-micros`, `-nanos` (local ones are taken as UTC) and `date` are
//! times, `decimal` is a number. A plain `long` is a time in the topic's `time_unit`.

use std::collections::HashMap;
use std::sync::Arc;

use super::framing::{self, HEAD_BYTES};
use super::mapped::{Origin, Scratch, Sink, apply};
use super::rows::{Follow, Rows};
use super::{DecodeError, DecodeFault, Decoder};
use crate::chunk::RecordRef;
use crate::columns::ReadingColumns;
use crate::mapping::Mapping;
use crate::registry::{Kind, Registered, Schemas};
use crate::series::SeriesTable;
use crate::settings::{Format, FormatSettings, TimeUnit};

use own::Shape;
use plan::Plan;
use schema::Schema;
use tree::Nodes;

mod defaults;
mod own;
mod plan;
mod read;
mod resolve;
mod schema;
mod tree;

#[cfg(test)]
mod tests;

/// Compiled schemas that a lane keeps; then it begins anew.
const COMPILED_MAX: usize = 1024;

/// Schemas from files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AvroSettings {
    /// The schema of records without framing, after those that it refers to. Where it is given, records have none.
    pub writer: Vec<String>,
    /// What is to be read of records, after what it refers to; as they were written where there is none.
    pub reader: Vec<String>,
}

impl AvroSettings {
    /// Looks whether the schemas are right.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), String> {
        let reader = parse(&self.reader).map_err(|reason| format!("reader_schema: {reason}"))?;
        let writer = parse(&self.writer).map_err(|reason| format!("schema_files: {reason}"))?;
        if let Some(writer) = writer {
            resolve::resolve(&writer, reader.as_ref())
                .map_err(|reason| format!("reader_schema does not read schema_files: {reason}"))?;
        }
        Ok(())
    }
}

/// The last of some schemas; none where there are none.
fn parse(texts: &[String]) -> Result<Option<Schema>, String> {
    let Some((text, references)) = texts.split_last() else { return Ok(None) };
    Schema::parse(references.iter().map(String::as_str), text).map(Some)
}

/// A writer's schema, ready to be read by.
#[derive(Debug)]
struct Compiled {
    plan: Plan,
    /// Where it is of our own shape, and no mapping says otherwise.
    shape: Option<Shape>,
}

/// Decodes Avro of one lane.
#[derive(Debug)]
pub struct AvroDecoder {
    schemas: Option<Schemas>,
    settings: AvroSettings,
    mapping: Option<Mapping>,
    /// What is read of records that are not of our own shape.
    shown: Mapping,
    time_unit: TimeUnit,
    reader: Option<Schema>,
    known: HashMap<u32, Result<Arc<Compiled>, DecodeError>>,
    last: Option<(u32, Arc<Compiled>)>,
    nodes: Nodes,
    scratch: Scratch,
    follow: Follow,
}

impl AvroDecoder {
    /// By the topic's settings, which [`AvroSettings::check`] has looked at: a reader's schema that is wrong is
    /// none.
    #[must_use]
    pub fn new(settings: &FormatSettings) -> Self {
        let FormatSettings { mapping, time_unit, avro, schemas, .. } = settings;
        Self {
            schemas: schemas.clone(),
            reader: parse(&avro.reader).ok().flatten(),
            settings: avro.clone(),
            shown: mapping.clone().unwrap_or_else(|| Mapping::default_of(Format::Avro)),
            mapping: mapping.clone(),
            time_unit: *time_unit,
            known: HashMap::new(),
            last: None,
            nodes: Nodes::default(),
            scratch: Scratch::default(),
            follow: Follow::default(),
        }
    }

    /// The writer's schema of a record, and where its value begins.
    #[inline]
    fn open(&mut self, bytes: &[u8]) -> Result<(Arc<Compiled>, usize), DecodeFault> {
        let (id, start) = if !self.settings.writer.is_empty() {
            (0, 0)
        } else if self.schemas.is_some() {
            (framing::schema_id(bytes).map_err(hint(bytes))?, HEAD_BYTES)
        } else {
            let message = "nobody says by which schema: give the topic schema_files, or configure a registry";
            return Err(DecodeError::new("framing", 0, message).into());
        };
        match &self.last {
            Some((last, compiled)) if *last == id => Ok((Arc::clone(compiled), start)),
            _ => Ok((self.compiled(id)?, start)),
        }
    }

    fn compiled(&mut self, id: u32) -> Result<Arc<Compiled>, DecodeFault> {
        let found = match self.known.get(&id) {
            Some(found) => found.clone(),
            None => {
                let compiled = match &self.schemas {
                    Some(schemas) if self.settings.writer.is_empty() => {
                        let schema = framing::schema(schemas, id)?;
                        self.compile_registered(&schema).map_err(|reason| format!("schema {id}: {reason}"))
                    }
                    _ => parse(&self.settings.writer)
                        .and_then(|schema| schema.ok_or_else(|| "no schema_files".to_owned()))
                        .and_then(|schema| self.compile(&schema)),
                };
                let compiled =
                    compiled.map(Arc::new).map_err(|reason| DecodeError::new("bad_schema", 0, reason));
                if self.known.len() == COMPILED_MAX {
                    self.known.clear();
                }
                self.known.insert(id, compiled.clone());
                compiled
            }
        };
        let compiled = found?;
        self.last = Some((id, Arc::clone(&compiled)));
        Ok(compiled)
    }

    fn compile_registered(&self, registered: &Registered) -> Result<Compiled, String> {
        if registered.kind != Kind::Avro {
            return Err(format!("it is {:?}, not Avro", registered.kind));
        }
        let references = registered.references.iter().map(String::as_str);
        self.compile(&Schema::parse(references, &registered.text)?)
    }

    fn compile(&self, writer: &Schema) -> Result<Compiled, String> {
        let plan = resolve::resolve(writer, self.reader.as_ref())?;
        let shape = if self.mapping.is_none() { Shape::of(&plan) } else { None };
        Ok(Compiled { plan, shape })
    }

    fn mapped(
        &mut self,
        compiled: &Compiled,
        start: usize,
        record: &RecordRef<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<(), DecodeError> {
        let read = self
            .nodes
            .parse(&compiled.plan, record.bytes(), start)
            .and_then(|tree| apply(&self.shown, self.time_unit, &tree, record, &mut self.scratch, sink));
        if read.is_err() {
            sink.undo();
        }
        read
    }
}

impl Decoder for AvroDecoder {
    fn decode(
        &mut self,
        record: &RecordRef<'_>,
        number: u32,
        table: &mut SeriesTable,
        out: &mut ReadingColumns,
    ) -> Result<(), DecodeFault> {
        let bytes = record.bytes();
        let (compiled, start) = self.open(bytes)?;
        let Some(shape) = &compiled.shape else {
            return Ok(self.mapped(&compiled, start, record, &mut Sink::new(number, table, out, None))?);
        };
        let mut rows = Rows::new(number, &mut self.follow, table, out);
        let read = shape.read(&compiled.plan, bytes, start, self.time_unit, &mut rows);
        if read.is_err() {
            rows.undo();
        }
        Ok(read?)
    }

    fn explain(
        &mut self,
        record: &RecordRef<'_>,
        table: &mut SeriesTable,
        out: &mut ReadingColumns,
        origins: &mut Vec<Origin>,
    ) -> Result<(), DecodeFault> {
        origins.clear();
        let (compiled, start) = self.open(record.bytes())?;
        if compiled.shape.is_some() {
            return self.decode(record, 0, table, out);
        }
        Ok(self.mapped(&compiled, start, record, &mut Sink::new(0, table, out, Some(origins)))?)
    }

    fn new_table(&mut self) {
        self.follow = Follow::default();
    }
}

/// Says what a record is that is not framed.
fn hint(bytes: &[u8]) -> impl FnOnce(DecodeError) -> DecodeError {
    let is_file = bytes.starts_with(b"Obj\x01");
    let is_single = bytes.starts_with(&[0xc3, 0x01]);
    move |error| match (is_file, is_single) {
        (true, _) => DecodeError::new("framing", 0, "it is a whole file of Avro, not a record"),
        (_, true) => {
            DecodeError::new("framing", 0, "single-object encoding is not read: use a registry's framing")
        }
        _ => error,
    }
}
