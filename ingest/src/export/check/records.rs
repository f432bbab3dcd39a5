//! Holds each record of a pack against its proof, and reads what it holds.

use stillwell_schema::TopicPartition;
use stillwell_source::chunk::RecordChunk;

use super::entries::Entries;
use super::{Check, CheckError, Lines};
use crate::export::rows::Row;
use crate::export::{FORMAT, Inclusion, names};
use crate::proof::{self, Place};
use crate::reader::{RecordColumns, each_batch_of};
use crate::verify::ProblemKind;
use crate::writer::leaf;

impl Check<'_> {
    /// Walks along records, proofs and entries, which have one order.
    pub(super) fn records(&mut self) -> Result<(), CheckError> {
        let mut entries = self.entries()?;
        let mut proofs = Lines::open(&self.folder.join(names::PROOFS))?;
        let mut done = Ok(());
        let file = self.open(names::RECORDS)?;
        let read = each_batch_of(file, None, &mut |batch| {
            let columns = RecordColumns::of(batch);
            for row in 0..batch.num_rows() {
                if done.is_ok() {
                    done = self.record(&columns, row, &mut proofs, &mut entries);
                }
            }
        });
        done?;
        match read {
            Err(error) => self.unreadable(names::RECORDS, &error),
            Ok(()) => {
                while let Some((number, _)) = proofs.next()? {
                    let object = format!("{} line {number}", names::PROOFS);
                    self.report.problem(ProblemKind::Records, object, "is of no record of records.parquet");
                }
            }
        }
        entries.finish(self)
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
            Ok(chunk) => {
                self.report.records += 1;
                self.decode(&chunk);
            }
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

    /// Decodes a proven record and adds up those of its readings that are asked for.
    fn decode(&mut self, chunk: &RecordChunk) {
        let id = chunk.lane();
        if !self.lanes.contains_key(id) {
            self.begin(id);
        }
        let Some(lane) = self.lanes.get_mut(id) else { return };
        let record = chunk.record(0);
        lane.proven.insert(record.offset.0);
        let Some(decoder) = &mut lane.decoder else {
            lane.open.insert(record.offset.0);
            return;
        };
        decoder.new_table();
        let readings = match proof::readings(chunk, &mut **decoder) {
            Ok(readings) => readings,
            Err(reason) => {
                lane.open.insert(record.offset.0);
                lane.reason.get_or_insert(reason);
                return;
            }
        };
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
                    offset: record.offset.0,
                    index: reading.index,
                    kafka_time_ms: record.timestamp_ms,
                };
                lane.decoded.add(row.fingerprint(&self.audit.salt));
            }
        }
    }

    /// The first record of a lane comes.
    fn begin(&mut self, id: &TopicPartition) {
        let lane = self.lanes.entry(id.clone()).or_default();
        match (self.audit.decoder_of)(&id.topic) {
            Ok(decoder) => lane.decoder = Some(decoder),
            Err(reason) => lane.reason = Some(reason),
        }
    }
}
