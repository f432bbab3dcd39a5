//! A bad network, seeded: records that come late, out of order, twice, or broken.
//!
//! It sits between the encoders and Kafka and changes no reading. A broken record is an extra one, a
//! damaged copy beside the good record, so that the number of good readings stays what the plant made.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;

use super::chance::Chance;
use super::parse::probability;
use super::wire::Outgoing;

/// A late record is held back this long, in the time of its readings.
const LATE_MIN_MS: i64 = 5_000;
const LATE_MAX_MS: i64 = 90_000;

/// How much trouble, as probabilities per record.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq)]
#[command(next_help_heading = "Transport trouble")]
pub struct TroubleArgs {
    /// Chance of a record to come 5 to 90 s late (by the time of its readings)
    #[arg(long, default_value_t = 0.0, value_name = "P", value_parser = probability)]
    pub late: f64,
    /// Chance of a record to come after its successor of the same machine
    #[arg(long, default_value_t = 0.0, value_name = "P", value_parser = probability)]
    pub out_of_order: f64,
    /// Chance of a record to come twice
    #[arg(long, default_value_t = 0.0, value_name = "P", value_parser = probability)]
    pub duplicate: f64,
    /// Chance of a damaged copy beside a record
    #[arg(long, default_value_t = 0.0, value_name = "P", value_parser = probability)]
    pub malformed: f64,
}

/// What trouble there was, in records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TroubleReport {
    /// Held back.
    pub late: u64,
    /// Swapped with their successor.
    pub out_of_order: u64,
    /// Sent twice.
    pub duplicates: u64,
    /// Readings in those second copies.
    pub duplicate_readings: u64,
    /// Damaged copies.
    pub malformed: u64,
}

/// The network.
#[derive(Debug)]
pub struct Transport {
    trouble: TroubleArgs,
    chance: Chance,
    /// Held back until a time, in order of it.
    late: BTreeMap<(i64, u64), Outgoing>,
    /// Waiting for their successor.
    swapped: BTreeMap<Arc<str>, Outgoing>,
    held: u64,
    report: TroubleReport,
}

impl Transport {
    /// A network with this much trouble.
    #[must_use]
    pub fn new(trouble: TroubleArgs, seed: u64) -> Self {
        Self {
            trouble,
            chance: Chance::new(seed),
            late: BTreeMap::new(),
            swapped: BTreeMap::new(),
            held: 0,
            report: TroubleReport::default(),
        }
    }

    /// Takes a record in; what arrives now goes to `out`.
    pub fn pass(&mut self, record: Outgoing, out: &mut Vec<Outgoing>) {
        if self.trouble == TroubleArgs::default() {
            out.push(record);
            return;
        }
        self.release(record.time_ms, out);
        if self.chance.happens(self.trouble.malformed) {
            self.report.malformed += 1;
            let broken = damaged(&record, &mut self.chance);
            out.push(broken);
        }
        if self.chance.happens(self.trouble.duplicate) {
            self.report.duplicates += 1;
            self.report.duplicate_readings += u64::from(record.readings);
            out.push(record.clone());
        }
        if self.chance.happens(self.trouble.late) {
            self.report.late += 1;
            let delay = LATE_MIN_MS + (self.chance.unit() * (LATE_MAX_MS - LATE_MIN_MS) as f64) as i64;
            self.held += 1;
            self.late.insert((record.time_ms + delay, self.held), record);
        } else if !self.swapped.contains_key(&record.machine)
            && self.chance.happens(self.trouble.out_of_order)
        {
            self.report.out_of_order += 1;
            self.swapped.insert(Arc::clone(&record.machine), record);
        } else {
            let before = self.swapped.remove(&record.machine);
            out.push(record);
            out.extend(before);
        }
    }

    /// Lets go of all that is still held.
    pub fn finish(&mut self, out: &mut Vec<Outgoing>) {
        out.extend(std::mem::take(&mut self.late).into_values());
        out.extend(std::mem::take(&mut self.swapped).into_values());
    }

    /// The trouble so far.
    #[must_use]
    pub fn report(&self) -> TroubleReport {
        self.report
    }

    fn release(&mut self, time_ms: i64, out: &mut Vec<Outgoing>) {
        let still_held = self.late.split_off(&(time_ms + 1, 0));
        out.extend(std::mem::replace(&mut self.late, still_held).into_values());
    }
}

/// A copy that no decoder may accept.
fn damaged(record: &Outgoing, chance: &mut Chance) -> Outgoing {
    let value = match chance.below(6) {
        0 => record.value[..record.value.len() / 2].to_vec(),
        1 => record.value[..record.value.len() - 1].to_vec(),
        2 => b"{\"machine\":\"pump-01\",\"sensor\":\"vibration\"}".to_vec(),
        3 => {
            b"{\"machine\":\"pump-01\",\"sensor\":\"vibration\",\"time\":\"yesterday\",\"value\":1}".to_vec()
        }
        4 => [&record.value[..], b"\xFF\xFE"].concat(),
        _ => b"ERR 17: sensor bus timeout".to_vec(),
    };
    Outgoing { machine: Arc::clone(&record.machine), value, readings: 0, time_ms: record.time_ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> impl Iterator<Item = Outgoing> {
        (0..4000i64).map(|i| Outgoing {
            machine: Arc::from(format!("m{}", i % 4)),
            value: format!("{{\"n\":{i}}}").into_bytes(),
            readings: 3,
            time_ms: i * 1000,
        })
    }

    fn send(trouble: TroubleArgs, seed: u64) -> (Vec<Outgoing>, TroubleReport) {
        let mut transport = Transport::new(trouble, seed);
        let mut out = Vec::new();
        for record in records() {
            transport.pass(record, &mut out);
        }
        transport.finish(&mut out);
        (out, transport.report())
    }

    #[test]
    fn without_trouble_all_passes_in_order() {
        let (out, report) = send(TroubleArgs::default(), 1);
        assert_eq!(out, records().collect::<Vec<_>>());
        assert_eq!(report, TroubleReport::default());
    }

    #[test]
    fn nothing_is_lost_and_the_report_counts_the_rest() {
        let trouble = TroubleArgs { late: 0.05, out_of_order: 0.05, duplicate: 0.05, malformed: 0.05 };
        let (out, report) = send(trouble, 1);
        let good: Vec<&Outgoing> = out.iter().filter(|r| r.readings > 0).collect();
        assert_eq!(good.len() as u64, 4000 + report.duplicates);
        assert_eq!((out.len() - good.len()) as u64, report.malformed);
        assert_eq!(report.duplicate_readings, report.duplicates * 3);
        for count in [report.late, report.out_of_order, report.duplicates, report.malformed] {
            assert!((120..280).contains(&count), "{report:?}");
        }
        let mut distinct: Vec<&[u8]> = good.iter().map(|r| &r.value[..]).collect();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), 4000);
        assert_eq!(send(trouble, 1), (out, report), "the seed says it all");
    }

    #[test]
    fn broken_records_are_no_json_reading() {
        let (out, _) = send(TroubleArgs { malformed: 0.5, ..TroubleArgs::default() }, 2);
        for record in out.iter().filter(|r| r.readings == 0) {
            let json = serde_json::from_slice::<serde_json::Value>(&record.value);
            assert!(
                json.is_err() || json.is_ok_and(|v| v.get("value").is_none() || v["time"] == "yesterday")
            );
        }
    }

    #[test]
    fn late_records_come_within_their_delay() {
        let (out, _) = send(TroubleArgs { late: 0.05, ..TroubleArgs::default() }, 3);
        let mut newest = 0;
        let mut latest = 0;
        for record in &out[..3900] {
            newest = newest.max(record.time_ms);
            latest = latest.max(newest - record.time_ms);
        }
        assert!((LATE_MIN_MS..=LATE_MAX_MS + 1000).contains(&latest), "{latest}");
    }
}
