//! What the commands on the life of the data print, for people.

use std::fmt::Write;

use serde::Serialize;
use stillwell_ingest::delta::Updated;
use stillwell_ingest::gc::Found;
use stillwell_ingest::life::compact::Merged;
use stillwell_ingest::life::hold::Standing;
use stillwell_ingest::life::retain::Erased;

use stillwell_schema::ArchiveUrl;

use crate::load::grouped;

/// Files listed one by one; the JSON has all.
const SHOWN_MAX: usize = 40;

/// A hold and its topic.
#[derive(Debug, Serialize)]
pub(super) struct Held {
    pub(super) topic: String,
    #[serde(flatten)]
    pub(super) standing: Standing,
}

/// Runs that were merged, or would be.
pub(super) fn merged(all: &[Merged]) -> String {
    let mut out = String::new();
    for one in all {
        let _ =
            write!(out, "{}/{}  entries {} to {}: ", one.topic, one.partition, one.first_seq, one.next_seq);
        let _ = match one.files_after.zip(one.bytes_after) {
            Some((files, bytes)) => writeln!(
                out,
                "{} files of {} bytes are {files} of {} bytes",
                one.files_before,
                grouped(one.bytes_before),
                grouped(bytes)
            ),
            None => writeln!(out, "{} files of {} bytes", one.files_before, grouped(one.bytes_before)),
        };
    }
    if all.is_empty() {
        out.push_str("nothing to merge\n");
    }
    out
}

/// What was erased, or would be.
pub(super) fn erased(all: &[Erased]) -> String {
    let mut out = String::new();
    for one in all {
        let did = if one.act.is_some() { "erased" } else { "has run out" };
        let _ = writeln!(
            out,
            "{}/{}  entries {} to {}: {did}: {} records, {} readings{}",
            one.topic,
            one.partition,
            one.first_seq,
            one.next_seq,
            grouped(one.records),
            grouped(one.readings),
            if one.held > 0 { format!("; {} more are held", grouped(one.held)) } else { String::new() }
        );
    }
    if all.is_empty() {
        out.push_str("nothing has run out\n");
    }
    out
}

/// Holds that stand.
pub(super) fn held(all: &[Held]) -> String {
    let mut out = String::new();
    for Held { topic, standing: Standing { hold, partitions } } in all {
        let time = |us: Option<i64>| {
            let time = us.and_then(chrono::DateTime::from_timestamp_micros);
            time.map_or_else(|| "…".to_owned(), |time| time.to_rfc3339())
        };
        let _ = writeln!(
            out,
            "{}  {topic}, {} partitions: {} from {} until {}, by {}: {}",
            hold.id,
            partitions.len(),
            hold.machines,
            time(hold.from_us),
            time(hold.until_us),
            hold.by,
            hold.reason
        );
    }
    if all.is_empty() {
        out.push_str("nothing is held\n");
    }
    out
}

/// Files that were collected, or would be.
pub(super) fn collected(all: &[Found], dry_run: bool) -> String {
    let mut out = String::new();
    for found in all.iter().take(SHOWN_MAX) {
        let why = match found.superseded_by {
            Some(act) => format!("act {act} stands in its place"),
            None => "nothing names it".to_owned(),
        };
        let _ = writeln!(out, "{}  {} bytes: {why}", found.path, grouped(found.bytes));
    }
    if all.len() > SHOWN_MAX {
        let _ = writeln!(out, "… and {} more; --json lists all", all.len() - SHOWN_MAX);
    }
    let bytes = all.iter().map(|found| found.bytes).sum();
    let did = if dry_run { "would go" } else { "are gone" };
    let _ = writeln!(out, "{} files of {} bytes {did}", grouped(all.len() as u64), grouped(bytes));
    out
}

/// Logs as they stand.
pub(super) fn delta(all: &[Updated], archive: &ArchiveUrl) -> String {
    let mut out = String::new();
    for one in all {
        let _ = writeln!(
            out,
            "{archive}/{}  version {}: {} files added, {} removed; {} files, {} rows",
            one.table,
            one.version,
            one.added,
            one.removed,
            grouped(one.files as u64),
            grouped(one.rows)
        );
    }
    out
}
