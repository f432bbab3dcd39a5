//! Holds the readings of a pack against its proven records, and the CSV against the readings.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use sha2::{Digest, Sha256};
use stillwell_schema::{TopicPartition, columns};

use super::{Check, CheckError};
use crate::export::rows::{Columns, Row, csv_header};
use crate::export::{MachineCount, names};
use crate::verify::ProblemKind;

/// What is seen of the rows as they come.
struct Seen {
    /// The hash of the CSV that they make.
    csv: Sha256,
    lines: String,
    /// The last row so far, alone.
    last: Option<RecordBatch>,
    is_sorted: bool,
    machines: BTreeMap<String, u64>,
}

impl Check<'_> {
    /// Reads all readings, and compares lane by lane.
    pub(super) fn readings(&mut self) -> Result<(), CheckError> {
        let mut seen = Seen::default();
        let is_read = self.each_batch(names::READINGS, &columns::READINGS, &mut |check, batch| {
            let columns = Columns::of(batch);
            let rows: Vec<Row<'_>> = columns.rows().collect();
            seen.rows(batch, &rows);
            rows.iter().for_each(|row| check.reading(row));
            Ok(())
        })?;
        if !is_read {
            return Ok(());
        }
        self.stated(seen);
        self.compare();
        Ok(())
    }

    fn reading(&mut self, row: &Row<'_>) {
        let id = TopicPartition::new(row.topic, row.partition);
        let proven = self.lanes.get_mut(&id).filter(|lane| lane.proven.contains(row.offset));
        let asked = self.report.manifest.query.wants(row.machine, row.time_us);
        let Some(lane) = proven.filter(|_| asked) else {
            let why = if asked { "of no proven record" } else { "not asked for" };
            let message = format!("has a reading of {id} offset {} that is {why}", row.offset);
            self.report.problem(ProblemKind::Records, names::READINGS, message);
            return;
        };
        self.report.readings += 1;
        if lane.open.contains(row.offset) {
            self.report.readings_open += 1;
        } else {
            lane.found.add(row.fingerprint(&self.audit.salt));
        }
    }

    /// Holds what was seen against what the manifest states.
    fn stated(&mut self, mut seen: Seen) {
        seen.csv.update(&seen.lines);
        let csv = hex::encode(seen.csv.finalize());
        if self.report.manifest.files.iter().any(|file| file.name == names::CSV && file.sha256 != csv) {
            let message = "its rows are not those of readings.parquet";
            self.report.problem(ProblemKind::Records, names::CSV, message);
        }
        if !seen.is_sorted {
            let message = "its rows are not in the order of machine, sensor, time, offset and index";
            self.report.problem(ProblemKind::Records, names::READINGS, message);
        }
        if self.report.readings != self.report.manifest.readings {
            let (stated, found) = (self.report.manifest.readings, self.report.readings);
            let message = format!("holds {found} readings of proven records, where {stated} are stated");
            self.report.problem(ProblemKind::Counts, names::READINGS, message);
        }
        let machines = seen.machines.into_iter();
        let machines: Vec<_> =
            machines.map(|(machine, readings)| MachineCount { machine, readings }).collect();
        if machines != self.report.manifest.machines {
            let message = "does not state the machines that readings.parquet has";
            self.report.problem(ProblemKind::Counts, names::MANIFEST, message);
        }
    }

    fn compare(&mut self) {
        for (id, lane) in &self.lanes {
            if lane.decoded != lane.found {
                let message = format!(
                    "its {} readings of {id} are not the {} that the proven records decode to; if the topic's \
                     format or mapping was changed since, use the config of that time",
                    lane.found.rows, lane.decoded.rows
                );
                self.report.problem(ProblemKind::Records, names::READINGS, message);
            }
            if lane.open.len() > 0 {
                let reason = lane.reason.as_deref().unwrap_or("it has no decoder");
                self.report.notes.push(format!(
                    "{} records of {id} are not decoded here, so that their readings are taken as they are: {reason}",
                    lane.open.len()
                ));
            }
        }
    }
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            csv: Sha256::new(),
            lines: csv_header(),
            last: None,
            is_sorted: true,
            machines: BTreeMap::new(),
        }
    }
}

impl Seen {
    /// The rows of a batch come.
    fn rows(&mut self, batch: &RecordBatch, rows: &[Row<'_>]) {
        for row in rows {
            row.csv(&mut self.lines);
            match self.machines.get_mut(row.machine) {
                Some(readings) => *readings += 1,
                None => {
                    self.machines.insert(row.machine.to_owned(), 1);
                }
            }
        }
        self.csv.update(&self.lines);
        self.lines.clear();
        let Some(first) = rows.first() else { return };
        let follows = |last: &RecordBatch| Columns::of(last).row(0).place() <= first.place();
        self.is_sorted &= self.last.as_ref().is_none_or(follows);
        self.is_sorted &= rows.is_sorted_by_key(Row::place);
        self.last = Some(batch.slice(batch.num_rows() - 1, 1));
    }
}
