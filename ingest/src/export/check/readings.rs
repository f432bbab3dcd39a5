//! Holds the readings of a pack against its proven records, and the CSV against the readings.

use sha2::{Digest, Sha256};
use stillwell_schema::TopicPartition;

use super::{Check, CheckError};
use crate::export::names;
use crate::export::rows::{Columns, Row, csv_header};
use crate::reader::each_batch_of;
use crate::verify::ProblemKind;

impl Check<'_> {
    /// Reads all readings, and compares lane by lane.
    pub(super) fn readings(&mut self) -> Result<(), CheckError> {
        let (mut csv, mut lines) = (Sha256::new(), csv_header());
        let file = self.open(names::READINGS)?;
        let read = each_batch_of(file, None, &mut |batch| {
            for row in Columns::of(batch).rows() {
                row.csv(&mut lines);
                self.reading(&row);
            }
            csv.update(&lines);
            lines.clear();
        });
        if let Err(error) = read {
            self.unreadable(names::READINGS, &error);
            return Ok(());
        }
        csv.update(&lines);
        let csv = hex::encode(csv.finalize());
        if self.report.manifest.files.iter().any(|file| file.name == names::CSV && file.sha256 != csv) {
            let message = "its rows are not those of readings.parquet";
            self.report.problem(ProblemKind::Records, names::CSV, message);
        }
        if self.report.readings != self.report.manifest.readings {
            let (stated, found) = (self.report.manifest.readings, self.report.readings);
            let message = format!("holds {found} readings of proven records, where {stated} are stated");
            self.report.problem(ProblemKind::Counts, names::READINGS, message);
        }
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
