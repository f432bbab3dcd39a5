//! What the commands on evidence print, for people.

use std::fmt::{Display, Write};
use std::path::Path;

use chrono::{DateTime, SecondsFormat};
use stillwell_ingest::export::{Manifest, Plan, check};
use stillwell_ingest::keys::rotation::{self, Rotation};
use stillwell_ingest::keys::{self};
use stillwell_ingest::proof::Proof;
use stillwell_ingest::verify::{LaneReport, Report};
use stillwell_schema::Entry;
use stillwell_schema::checkpoint::SignedCheckpoint;
use stillwell_schema::key_change::KeyRing;

use crate::load::grouped;

/// Problems shown of one lane; the JSON report has more.
const SHOWN_MAX: usize = 20;

/// A verification.
pub(super) fn report(report: &Report) -> String {
    let mut out = String::new();
    for lane in &report.lanes {
        lane_lines(&mut out, lane);
    }
    for problem in &report.problems {
        let _ = writeln!(out, "WRONG  {problem}");
    }
    let keys = match &report.key {
        Some(key) => format!("signatures held against key {}…", &key[..16]),
        None => "signatures taken as they are: give --public-key to hold them against a key you trust".into(),
    };
    let totals = [
        (report.total(|lane| lane.entries), "entries"),
        (report.total(|lane| lane.records), "records"),
        (report.total(|lane| lane.readings), "readings"),
        (report.total(|lane| lane.bytes), "bytes read"),
        (report.checkpoints, "checkpoints"),
    ];
    let totals: Vec<String> = totals.iter().map(|(n, what)| format!("{} {what}", grouped(*n))).collect();
    let _ = writeln!(out, "{}", totals.join(", "));
    let _ = writeln!(out, "{keys}");
    let orphans = report.total(|lane| lane.orphans);
    if orphans > 0 {
        let _ = writeln!(
            out,
            "{orphans} files that no entry names: left by crashes, no damage; collected by age"
        );
    }
    let problems = report.total(|lane| lane.problems_total) + report.problems.len() as u64;
    let verdict = match report.sound {
        true => format!("sound, at level {}", report.level.name()),
        false => format!("NOT SOUND: {problems} problems, at level {}", report.level.name()),
    };
    let _ = writeln!(out, "{verdict}");
    out
}

fn lane_lines(out: &mut String, lane: &LaneReport) {
    let range =
        lane.range.map_or("nothing".into(), |range| format!("offsets {} to {}", range.first, range.next));
    let verdict = if lane.problems_total == 0 { "sound" } else { "WRONG" };
    let _ = write!(
        out,
        "{verdict}  {}/{}: {range}, {} entries",
        lane.topic,
        lane.partition,
        grouped(lane.entries)
    );
    for (n, what) in [
        (lane.undecodable, "undecodable"),
        (lane.not_delivered, "offsets without a record"),
        (lane.lost, "LOST to the topic's retention"),
        (lane.erased_records, "erased by retention"),
    ] {
        if n > 0 {
            let _ = write!(out, ", {} {what}", grouped(n));
        }
    }
    out.push('\n');
    if let Some(compared) = &lane.kafka {
        let (same, gone, ahead) = (grouped(compared.same), grouped(compared.gone), grouped(compared.ahead));
        let _ = writeln!(
            out,
            "       kafka: {same} records are the same, {gone} are no longer there, {ahead} offsets to come"
        );
    }
    for lost in &lane.losses {
        let _ = writeln!(out, "       lost: offsets {} to {}", lost.first, lost.next);
    }
    for problem in lane.problems.iter().take(SHOWN_MAX) {
        let _ = writeln!(out, "       {problem}");
    }
    if lane.problems_total > SHOWN_MAX as u64 {
        let more = lane.problems_total - SHOWN_MAX as u64;
        let _ = writeln!(out, "       and {more} more; --json lists them");
    }
}

/// Why nothing was verified.
#[allow(clippy::print_stderr)]
pub(super) fn not_verified(error: &dyn Display) {
    eprintln!("stillwell: not verified: {error}");
}

/// Says that a proof is of one reading of several.
#[allow(clippy::print_stderr)]
pub(super) fn others(matches: usize, proof: &Proof) {
    if matches > 1 {
        let (partition, offset) = (proof.record.partition, proof.record.offset);
        eprintln!(
            "stillwell: {matches} readings are of that time; this proves the one of record {partition}:{offset} \
             (--record picks another)"
        );
    }
}

/// Says that a record's format is read by records before it.
#[allow(clippy::print_stderr)]
pub(super) fn by_itself() {
    eprintln!(
        "stillwell: records of this format are read by records before them; this proves what the record says by itself, \
         and the archive may know more of it, such as a unit"
    );
}

/// A proof that holds.
pub(super) fn proven(proof: &Proof, entry: &Entry) -> String {
    let (reading, record) = (&proof.reading, &proof.record);
    let value = match (&reading.value, &reading.text) {
        (Some(value), _) => value.to_string(),
        (None, Some(text)) => format!("{text:?}"),
        (None, None) => "no value".into(),
    };
    let unit = plain(reading.unit.as_deref().unwrap_or_default());
    format!(
        "the proof holds\n  reading  {} {} = {value} {unit} at {}\n  record   {}/{} offset {}, in Kafka at {}\n  \
         entry    {} of its lane, one of {} records, written {}\n  signed   {}\n",
        plain(&reading.machine),
        plain(&reading.sensor),
        time(reading.time_us),
        plain(&record.topic),
        record.partition,
        record.offset,
        time(record.timestamp_ms.saturating_mul(1000)),
        entry.seq,
        proof.leaves,
        time(entry.written_us),
        entry.key,
    )
}

/// Proofs of a file that were checked, and how many of them do not hold.
pub(super) fn proven_lines(lines: u64, wrong: u64) -> String {
    match wrong {
        0 => format!("all {} proofs hold\n", grouped(lines)),
        _ => format!("{} of {} proofs DO NOT HOLD\n", grouped(wrong), grouped(lines)),
    }
}

/// What an export would hold.
pub(super) fn planned(plan: &Plan) -> String {
    format!(
        "{} readings from {} records of {} lanes would be exported\n",
        grouped(plan.readings),
        grouped(plan.records),
        grouped(plan.lanes)
    )
}

/// A pack that was written.
pub(super) fn exported(manifest: &Manifest, out: &Path, is_trusted: bool) -> String {
    let bytes = manifest.files.iter().map(|file| file.bytes).sum();
    let mut text = format!(
        "{} readings of {} machines from {} records are in {}, {} bytes\n  signed   {}\n",
        grouped(manifest.readings),
        grouped(manifest.machines.len() as u64),
        grouped(manifest.records),
        out.display(),
        grouped(bytes),
        manifest.key
    );
    if !is_trusted {
        text += "           by the archive's own word: --public-key holds it against a key that you trust\n";
    }
    let _ = writeln!(text, "  read     {}", out.join("README.html").display());
    let _ =
        writeln!(text, "  check    stillwell verify-proof --public-key archive.pub.pem {}", out.display());
    text
}

/// A pack that was checked.
pub(super) fn pack(report: &check::Report) -> String {
    let mut out = String::new();
    let query = &report.manifest.query;
    let (from, to) = (time(query.from_us), time(query.to_us));
    let _ = writeln!(out, "machines {}, from {from} to {to}", plain(&query.machines.join(", ")));
    for problem in report.problems.iter().take(SHOWN_MAX) {
        let _ = writeln!(out, "WRONG  {}", plain(&problem.to_string()));
    }
    if report.problems_total > SHOWN_MAX as u64 {
        let _ =
            writeln!(out, "       and {} more; --json lists them", report.problems_total - SHOWN_MAX as u64);
    }
    for note in &report.notes {
        let _ = writeln!(out, "OPEN   {}", plain(note));
    }
    let totals = [
        (report.readings, "readings"),
        (report.records, "records proven"),
        (report.entries, "entries"),
        (report.erasures, "erasures"),
    ];
    let totals: Vec<String> = totals.iter().map(|(n, what)| format!("{} {what}", grouped(*n))).collect();
    let _ = writeln!(out, "{}", totals.join(", "));
    let _ = writeln!(out, "signatures held against key {}…", &report.key[..16]);
    let verdict = match (report.sound, report.readings_open) {
        (false, _) => format!("the pack DOES NOT HOLD; problems: {}", grouped(report.problems_total)),
        (true, 0) if report.is_open() => {
            "the pack holds: each reading is what a signed record says; but not all of it was checked"
                .to_owned()
        }
        (true, 0) => "the pack holds: each reading is what a signed record says".to_owned(),
        (true, open) => format!(
            "what was checked of the pack holds, but {} readings were not held against their records: OPEN says why",
            grouped(open)
        ),
    };
    let _ = writeln!(out, "{verdict}");
    out
}

/// Text that others wrote, with all that could move a terminal's cursor or turn its writing shown as its number.
pub(crate) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                out.extend(c.escape_unicode());
            }
            c if c.is_control() => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// A checkpoint that was written to a file.
#[allow(clippy::print_stderr)]
pub(super) fn checkpoint(signed: &SignedCheckpoint, path: &Path) {
    let (seq, lanes) = (signed.body.seq, signed.body.lanes.len());
    eprintln!(
        "stillwell: checkpoint {seq} over {lanes} lanes, of {}, is in {}; keep it where the archive's writers cannot \
         reach it",
        time(signed.body.written_us),
        path.display()
    );
}

/// The keys of an archive.
pub(super) fn keys(path: &Path, ring: Option<&KeyRing>) -> anyhow::Result<String> {
    let key = keys::load(path)?;
    let mut out = format!("key file  {}\npublic    {}\n", path.display(), rotation::public(&key));
    let _ = writeln!(out, "          {}", keys::public_path(path).display());
    match ring {
        None => out += "changes   none yet\n",
        Some(ring) => {
            for (i, key) in ring.keys().iter().enumerate() {
                let _ = writeln!(out, "{}  {key}", if i == 0 { "first   " } else { "then    " });
            }
        }
    }
    if !rotation::is_current(ring, &key) {
        out += "WRONG: the archive names a newer key than the one in the file; restore that one\n";
    }
    Ok(out)
}

/// A rotation that was done.
pub(super) fn rotated(done: &Rotation, path: &Path, public: &Path) -> String {
    format!(
        "the archive's key is now {}\n  private  {}\n  public   {}\n  retired  {}\nRestart what writes into the archive. \
         Give the new public key to those who verify; the old one still leads to it.\nDestroy the retired private key \
         once nothing signs with it any more.\n",
        done.new,
        path.display(),
        public.display(),
        done.retired.display()
    )
}

fn time(us: i64) -> String {
    let time = DateTime::from_timestamp_micros(us);
    time.map_or_else(|| format!("{us} µs"), |time| time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_moves_no_cursor() {
        let text = "press\u{1b}[2J\u{202e}-7\n\u{9b}31mö";
        assert_eq!(plain(text), "press\\u{1b}[2J\\u{202e}-7\\u{a}\\u{9b}31mö");
    }
}
