//! The judge of a schedule: reads the archive's bytes as the specification says and compares them with the log.
//!
//! It shares no code with what it judges but the parser of an entry's signed bytes and Parquet itself.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use sha2::{Digest, Sha256};
use stillwell_schema::manifest::FileRef;
use stillwell_schema::{Entry, GapReason, SignedEntry};

use crate::log::{Log, Slot};
use crate::records::Reading;
use crate::rows::{RecordRow, records_of, rows_of};
use crate::store::{Object, Store};
use crate::world::{TOPIC, World};

type Objects = BTreeMap<String, Object>;

pub(crate) fn signing_key() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

/// Where an entry ends, from its bytes.
pub(crate) fn entry_next(bytes: &[u8]) -> i64 {
    let entry: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    entry["body"]["range"]["next"].as_i64().unwrap()
}

/// Everything that is wrong with the archive.
pub(crate) fn judge(world: &World, store: &Store) -> Vec<String> {
    let mut problems = Vec::new();
    for partition in 0..world.habits.partitions {
        let lane = Lane { world, partition, log: world.log(partition) };
        let judged = store.objects(|objects| lane.judge(objects));
        problems.extend(judged.err().map(|problem| format!("{TOPIC}/{partition}: {problem}")));
    }
    problems
}

struct Lane<'a> {
    world: &'a World,
    partition: i32,
    log: &'a Log,
}

type Judged<T = ()> = Result<T, String>;

macro_rules! ensure {
    ($condition:expr, $($problem:tt)+) => {
        if !$condition {
            return Err(format!($($problem)+));
        }
    };
}

impl Lane<'_> {
    fn judge(&self, objects: &Objects) -> Judged {
        let folder = format!("{TOPIC}/manifest/{}/", self.partition);
        let entries = objects.keys().filter(|path| path.starts_with(&folder)).count();
        ensure!(entries > 0, "no entry");
        let (mut next, mut previous) = (None, "0".repeat(64));
        for seq in 0..entries as u64 {
            let path = format!("{folder}{seq:012}.json");
            let object = objects.get(&path).ok_or_else(|| format!("the chain has a hole at {path}"))?;
            let signed = SignedEntry::parse(object.bytes.clone()).map_err(|e| format!("{path}: {e}"))?;
            let entry = &signed.entry;
            let key = hex::encode(signing_key().verifying_key().to_bytes());
            ensure!(entry.key == key, "{path} is signed by another");
            ensure!((&*entry.topic, entry.partition) == (TOPIC, self.partition), "{path} is another lane's");
            ensure!(entry.seq == seq, "{path} has the seq {}", entry.seq);
            ensure!(entry.previous == previous, "{path} does not follow the one before");
            let first = entry.range.first.0;
            let low = object.lows[self.partition as usize];
            match next {
                // Whatever lies before the archive had fallen to retention when it began.
                None => ensure!(first <= low, "the archive begins at {first}, but the log at {low}"),
                Some(next) => ensure!(first == next, "{path} begins at {first} in place of {next}"),
            }
            self.entry(objects, entry, low).map_err(|problem| format!("{path}: {problem}"))?;
            next = Some(entry.range.next.0);
            previous = hex::encode(Sha256::digest(&object.bytes));
        }
        let acknowledged = self.world.acknowledged.lock().unwrap().get(&self.partition).copied();
        ensure!(next >= acknowledged, "archived up to {next:?}, acknowledged up to {acknowledged:?}");
        let end = self.log.end();
        ensure!(next == Some(end), "archived up to {next:?}, but the log ends at {end}");
        Ok(())
    }

    fn entry(&self, objects: &Objects, entry: &Entry, low: i64) -> Judged {
        let readings = file(objects, entry.readings.as_ref())?;
        let records = self.records(file(objects, entry.records.as_ref())?, readings)?;
        let (first, next) = (entry.range.first.0, entry.range.next.0);
        ensure!(first < next, "it covers nothing");
        let mut rows = records.iter().peekable();
        let mut gaps = entry.gaps.iter().peekable();
        let mut leaves = Vec::new();
        let mut expected: Vec<(i64, i64, Reading)> = Vec::new();
        let (mut undecodable, mut at) = (0, first);
        while at < next {
            if let Some(gap) = gaps.next_if(|gap| gap.first.0 == at) {
                self.gap((gap.first.0, gap.next.0), gap.reason, low)?;
                self.world.counts.add(reason_name(gap.reason), 1);
                at = gap.next.0;
                continue;
            }
            let row = rows.next_if(|row| row.offset == at);
            let row = row.ok_or_else(|| format!("offset {at} is neither record nor gap"))?;
            let readings = self.log.look(at, |slot| row_is(row, slot))?;
            leaves.push(leaf(self.partition, row));
            match readings {
                Some(readings) => {
                    ensure!(row.error_class.is_none(), "offset {at} is said not to be decodable");
                    ensure!(row.readings as usize == readings.len(), "offset {at} has other readings");
                    expected.extend(readings.into_iter().map(|r| (at, row.timestamp_ms, r)));
                }
                None => {
                    undecodable += 1;
                    ensure!(row.error_class.is_some(), "offset {at} is said to be decodable");
                    ensure!(row.readings == 0, "offset {at} has readings");
                    let letters = self.world.letters.lock().unwrap();
                    ensure!(letters.contains(&(self.partition, at)), "offset {at} is no dead letter");
                }
            }
            at += 1;
        }
        ensure!(at == next && rows.next().is_none() && gaps.next().is_none(), "more than its range");
        ensure!(entry.undecodable == undecodable, "it counts {} undecodable records", entry.undecodable);
        ensure!(entry.merkle_root == hex::encode(root(&leaves)), "the Merkle root is another");
        self.readings(objects, entry, expected)
    }

    fn records(&self, bytes: Option<&[u8]>, readings: Option<&[u8]>) -> Judged<Vec<RecordRow>> {
        let records = bytes.map(|bytes| records_of(bytes, readings)).transpose()?.unwrap_or_default();
        let lane = (TOPIC.to_owned(), self.partition);
        ensure!(records.iter().all(|row| row.lane == lane), "a record of another lane");
        Ok(records)
    }

    /// What is missing must be missing in the log, for the reason given.
    fn gap(&self, (first, next): (i64, i64), reason: GapReason, low: i64) -> Judged {
        match reason {
            GapReason::RetentionLoss => {
                ensure!(next <= low, "[{first}, {next}) is said to be lost, but the log began at {low}");
            }
            GapReason::NotDelivered => {
                for offset in first..next {
                    let is_marker = self.log.look(offset, |slot| matches!(slot, Some(Slot::Marker)));
                    ensure!(is_marker, "offset {offset} is left out, but it is a record");
                }
            }
        }
        Ok(())
    }

    fn readings(&self, objects: &Objects, entry: &Entry, mut expected: Vec<(i64, i64, Reading)>) -> Judged {
        let times = expected.iter().map(|(.., reading)| reading.time_us);
        ensure!(entry.time_min_us == times.clone().min(), "time_min_us is {:?}", entry.time_min_us);
        ensure!(entry.time_max_us == times.max(), "time_max_us is {:?}", entry.time_max_us);
        let machines = entry.machines.clone().unwrap_or_default();
        for (.., reading) in &expected {
            ensure!(machines.contains(&reading.machine), "{} is not among its machines", reading.machine);
        }
        ensure!(machines.is_sorted(), "its machines are out of order");
        expected.sort_by(|(offset_a, _, a), (offset_b, _, b)| {
            let key = |offset: &i64, r: &Reading| {
                (r.machine.clone(), r.sensor.clone(), r.time_us, *offset, r.index)
            };
            key(offset_a, a).cmp(&key(offset_b, b))
        });
        let bytes = file(objects, entry.readings.as_ref())?;
        ensure!(bytes.is_some() != expected.is_empty(), "readings file without readings, or none");
        let rows = bytes.map(rows_of).transpose()?.unwrap_or_default();
        let lane = (TOPIC.to_owned(), self.partition);
        ensure!(rows.iter().all(|row| row.lane == lane), "a reading of another lane");
        let found: Vec<_> = rows.into_iter().map(|row| (row.offset, row.kafka_ms, row.reading)).collect();
        ensure!(found == expected, "its readings are {found:?}, expected {expected:?}");
        Ok(())
    }
}

/// A file that an entry names: there, whole and as its hash says.
fn file<'a>(objects: &'a Objects, named: Option<&FileRef>) -> Judged<Option<&'a [u8]>> {
    let Some(named) = named else { return Ok(None) };
    let object = objects.get(&named.path).ok_or_else(|| format!("{} is missing", named.path))?;
    let bytes = &object.bytes;
    ensure!(bytes.len() as u64 == named.bytes, "{} has {} bytes", named.path, bytes.len());
    ensure!(hex::encode(Sha256::digest(bytes)) == named.sha256, "{} has another hash", named.path);
    Ok(Some(bytes))
}

/// The readings that the record must give, where it is the one that the log holds.
fn row_is(row: &RecordRow, slot: Option<&Slot>) -> Judged<Option<Vec<Reading>>> {
    let Some(Slot::Record(record)) = slot else {
        return Err(format!("offset {} is no record of the log", row.offset));
    };
    let same = row.timestamp_ms == record.timestamp_ms
        && row.key == record.key
        && row.value == record.value
        && row.headers == record.headers;
    ensure!(same, "offset {} differs from the log: {row:?} {record:?}", row.offset);
    Ok(record.readings.clone())
}

/// The leaf of RFC 6962 over the parts of a record, as `merkle` specifies them.
fn leaf(partition: i32, row: &RecordRow) -> [u8; 32] {
    let mut bytes = vec![0];
    bytes.extend(partition.to_be_bytes());
    bytes.extend(row.offset.to_be_bytes());
    bytes.extend(row.timestamp_ms.to_be_bytes());
    let mut field = |part: Option<&[u8]>| {
        bytes.extend(part.map_or(u32::MAX, |part| part.len() as u32).to_be_bytes());
        bytes.extend(part.unwrap_or_default());
    };
    field(Some(TOPIC.as_bytes()));
    field(row.key.as_deref());
    field(row.value.as_deref());
    for (name, value) in &row.headers {
        field(Some(name.as_bytes()));
        field(value.as_deref());
    }
    Sha256::digest(&bytes).into()
}

/// The Merkle tree hash by the definition of RFC 6962, section 2.1.
fn root(leaves: &[[u8; 32]]) -> [u8; 32] {
    match leaves {
        [] => Sha256::digest([]).into(),
        [one] => *one,
        many => {
            let mut half = 1;
            while half * 2 < many.len() {
                half *= 2;
            }
            let (left, right) = many.split_at(half);
            Sha256::digest([&[1][..], &root(left), &root(right)].concat()).into()
        }
    }
}

fn reason_name(reason: GapReason) -> &'static str {
    match reason {
        GapReason::NotDelivered => "gaps: not delivered",
        GapReason::RetentionLoss => "gaps: retention loss",
    }
}
