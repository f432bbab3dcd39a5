//! Holds each record of a pack against its proof, and reads what it holds.

use arrow::array::{Array, RecordBatch};
use stillwell_schema::{TopicPartition, columns};
use stillwell_source::chunk::RecordChunk;
use stillwell_source::decode::DecodeFault;

use super::entries::Entries;
use super::{Audit, Check, CheckError, Lane, Lines};
use crate::export::rows::Row;
use crate::export::{FORMAT, Inclusion, names};
use crate::proof::{self, Place, Reading};
use crate::reader::RecordColumns;
use crate::verify::ProblemKind;
use crate::writer::leaf;

/// Why a record has no readings here.
enum Unread {
    /// This cannot be said here.
    Open(String),
    /// Its decoder refuses it.
    Wrong(String),
}

impl Check<'_> {
    /// Walks along records, proofs and entries, which have one order.
    pub(super) fn records(&mut self) -> Result<(), CheckError> {
        let mut entries = self.entries()?;
        let mut proofs = Lines::open(&self.folder.join(names::PROOFS))?;
        let is_read = self.each_batch(names::RECORDS, &columns::RECORDS, &mut |check, batch| {
            check.errors(batch);
            let columns = RecordColumns::of(batch);
            (0..batch.num_rows()).try_for_each(|row| check.record(&columns, row, &mut proofs, &mut entries))
        })?;
        if is_read {
            while let Some((number, _)) = proofs.next()? {
                let object = format!("{} line {number}", names::PROOFS);
                self.report.problem(ProblemKind::Records, object, "is of no record of records.parquet");
            }
        }
        entries.finish(self)
    }

    /// A record that has readings states no error.
    fn errors(&mut self, batch: &RecordBatch) {
        let is_stated = |name: &str| batch[name].null_count() < batch.num_rows();
        if is_stated("error_class") || is_stated("error") {
            let message = "states errors of records that have readings";
            self.report.problem(ProblemKind::Records, names::RECORDS, message);
        }
    }

    fn record(
        &mut self,
        columns: &RecordColumns<'_>,
        row: usize,
        proofs: &mut Lines,
        entries: &mut Entries,
    ) -> Result<(), CheckError> {
        let Some((number, line)) = proofs.next()? else {
            let object = format!("{} offset {}", names::RECORDS, columns.offset[row]);
            self.report.problem(ProblemKind::Records, object, "the record has no proof");
            return Ok(());
        };
        let object = format!("{} line {number}", names::PROOFS);
        let inclusion: Inclusion = match serde_json::from_slice(&line) {
            Ok(inclusion) => inclusion,
            Err(error) => {
                self.report.problem(ProblemKind::Altered, object, format!("is no proof: {error}"));
                return Ok(());
            }
        };
        match self.included(&inclusion, entries)? {
            Err(message) => self.report.problem(ProblemKind::Records, object, message),
            Ok(chunk) if leaf(chunk.lane(), &chunk.record(0)) != columns.leaf(row) => {
                let message =
                    format!("proves another record than offset {} of records.parquet", columns.offset[row]);
                self.report.problem(ProblemKind::Records, object, message);
            }
            Ok(chunk) => self.proven(&chunk, columns.readings[row], object),
        }
        Ok(())
    }

    /// The record that is proven, or why it is not.
    fn included(
        &mut self,
        inclusion: &Inclusion,
        entries: &mut Entries,
    ) -> Result<Result<RecordChunk, String>, CheckError> {
        let Inclusion { format, seq, leaf, leaves, path, record } = inclusion;
        if *format != FORMAT {
            return Ok(Err(format!("proof format {format} is unknown to this version")));
        }
        let lane = TopicPartition::new(&*record.topic, record.partition);
        let Some(signed) = entries.find(self, &lane, *seq)? else {
            return Ok(Err(format!("entries.jsonl has no sound entry {seq} of {lane} at its place")));
        };
        let place = Place { leaf: *leaf, leaves: *leaves, path };
        Ok(proof::included(record, place, &signed.entry).map_err(|error| error.to_string()))
    }

    /// Takes a proven record, of which `stated` readings are stated, and adds up those that are asked for.
    fn proven(&mut self, chunk: &RecordChunk, stated: u32, object: String) {
        let (id, record) = (chunk.lane(), chunk.record(0));
        let offset = record.offset.0;
        let lane = self.lanes.entry(id.clone()).or_default();
        if lane.proven.contains(offset) {
            let message = format!("proves offset {offset} of {id} once more");
            return self.report.problem(ProblemKind::Records, object, message);
        }
        lane.proven.insert(offset);
        self.report.records += 1;
        let readings = match lane.readings(self.audit, chunk) {
            Ok(readings) => readings,
            Err(Unread::Open(reason)) => {
                lane.open.insert(offset);
                lane.reason.get_or_insert(reason);
                return;
            }
            Err(Unread::Wrong(reason)) => {
                let message = format!(
                    "proves a record that does not decode: {reason}; if the topic's format or mapping was changed \
                     since, use the config of that time"
                );
                return self.report.problem(ProblemKind::Records, object, message);
            }
        };
        if readings.len() as u64 != u64::from(stated) {
            let message = format!(
                "proves a record of {} readings, where records.parquet states {stated}; if the topic's format or \
                 mapping was changed since, use the config of that time",
                readings.len()
            );
            self.report.problem(ProblemKind::Records, object, message);
        }
        for reading in &readings {
            if self.report.manifest.query.wants(&reading.machine, reading.time_us) {
                let row = Row {
                    machine: &reading.machine,
                    sensor: &reading.sensor,
                    kind: reading.kind.as_deref(),
                    unit: reading.unit.as_deref(),
                    time_us: reading.time_us,
                    value: reading.value,
                    text: reading.text.as_deref(),
                    quality: reading.quality,
                    topic: &id.topic,
                    partition: id.partition,
                    offset,
                    index: reading.index,
                    kafka_time_ms: record.timestamp_ms,
                };
                lane.decoded.add(row.fingerprint(&self.audit.salt));
            }
        }
    }
}

impl Lane {
    /// The readings of a record, if its topic's decoder can tell them from the record alone.
    fn readings(&mut self, audit: &Audit<'_>, chunk: &RecordChunk) -> Result<Vec<Reading>, Unread> {
        if self.decoder.is_none() && self.reason.is_none() {
            match (audit.decoder_of)(&chunk.lane().topic) {
                Ok(decoder) => self.decoder = Some(decoder),
                Err(reason) => self.reason = Some(reason),
            }
        }
        let Some(decoder) = &mut self.decoder else {
            return Err(Unread::Open("it has no decoder".into()));
        };
        if decoder.needs_history(&chunk.record(0)) {
            let reason = "their format is read by records before them, which are not in the pack";
            return Err(Unread::Open(reason.into()));
        }
        decoder.new_table();
        proof::readings(chunk, &mut **decoder).map_err(|fault| match fault {
            DecodeFault::Data(error) => Unread::Wrong(error.to_string()),
            DecodeFault::Transient(error) => Unread::Open(error.to_string()),
        })
    }
}
