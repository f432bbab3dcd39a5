//! The page that explains a pack to people, and the script that checks it without stillwell.

use std::fmt::Write;

use super::rows::time_text;
use super::{Manifest, names};

/// `check.py`.
pub(super) const SCRIPT: &str = include_str!("check.py");

/// `README.html`, with `{{name}}` where a value goes.
const PAGE: &str = include_str!("page.html");

/// Machines listed; the manifest has all.
const MACHINES_SHOWN: usize = 200;

/// The page of a pack whose other files are those of `manifest`.
pub(super) fn page(manifest: &Manifest) -> String {
    let query = &manifest.query;
    let patterns = query.machines.join(", ");
    let span = [time_text(query.from_us), time_text(query.to_us)];
    let values = [
        ("title", format!("{patterns}, {} to {}", span[0], span[1])),
        ("patterns", patterns),
        ("from", span[0].clone()),
        ("to", span[1].clone()),
        ("topic", query.topic.clone().unwrap_or_else(|| "all".to_owned())),
        ("readings", manifest.readings.to_string()),
        ("records", manifest.records.to_string()),
        ("archive", manifest.archive.clone()),
        ("key", manifest.key.clone()),
        ("made", time_text(manifest.made_us)),
        ("version", manifest.stillwell.clone()),
    ];
    let mut values: Vec<(&str, String)> =
        values.into_iter().map(|(name, text)| (name, escaped(&text))).collect();
    values.extend([("machines", machines(manifest)), ("lanes", lanes(manifest)), ("files", files(manifest))]);
    filled(&values)
}

/// The page with each value at its place. What a value says is not looked into again.
fn filled(values: &[(&str, String)]) -> String {
    let mut page = String::new();
    let mut rest = PAGE;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").unwrap_or((after, ""));
        page.push_str(before);
        page.extend(values.iter().find(|(known, _)| *known == name).map(|(_, text)| text.as_str()));
        rest = after;
    }
    page + rest
}

fn machines(manifest: &Manifest) -> String {
    let mut out = String::new();
    for one in manifest.machines.iter().take(MACHINES_SHOWN) {
        let machine = escaped(&one.machine);
        let _ = writeln!(out, "<tr><td>{machine}</td><td class=\"n\">{}</td></tr>", one.readings);
    }
    if let Some(more) = manifest.machines.len().checked_sub(MACHINES_SHOWN).filter(|more| *more > 0) {
        let _ = writeln!(out, "<tr><td>and {more} more, in manifest.json</td><td></td></tr>");
    }
    out
}

fn lanes(manifest: &Manifest) -> String {
    let mut out = String::new();
    for lane in &manifest.lanes {
        let _ = writeln!(
            out,
            "<tr><td>{}/{}</td><td>{} to {}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            escaped(&lane.topic),
            lane.partition,
            lane.first_seq,
            lane.next_seq.saturating_sub(1),
            lane.records,
            lane.erasures
        );
    }
    out
}

fn files(manifest: &Manifest) -> String {
    let mut out = String::new();
    for file in &manifest.files {
        let _ = writeln!(
            out,
            "<tr><td><code>{}</code></td><td>{}</td><td class=\"n\">{}</td><td><code>{}</code></td></tr>",
            escaped(&file.name),
            meaning(&file.name),
            file.bytes,
            file.sha256
        );
    }
    out
}

/// What a file of a pack holds.
fn meaning(name: &str) -> &'static str {
    match name {
        names::READINGS => "the readings, by machine, sensor and time",
        names::CSV => "the same as text",
        names::RECORDS => "the records that they came from, whole",
        names::PROOFS => "for each record its way to a signed entry",
        names::ENTRIES => "the signed entries",
        names::ERASURES => "signed statements of what retention erased among them",
        names::KEYS => "the signed changes of the archive's key",
        names::CHECKPOINT => "the newest signed statement of where every lane ends",
        names::PUBLIC_KEY => "the archive's public key",
        names::SCRIPT => "checks the proofs, and what the CSV names, without stillwell",
        _ => "",
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::{FORMAT, MachineCount, Query};

    #[test]
    fn every_value_has_its_place_and_no_name_becomes_markup() {
        let manifest = Manifest {
            format: FORMAT,
            stillwell: "1".into(),
            made_us: 0,
            archive: "{{key}}".into(),
            key: "00ff".into(),
            query: Query { topic: None, machines: vec!["<b>*".into()], from_us: 0, to_us: 1 },
            readings: 1,
            records: 1,
            machines: vec![MachineCount { machine: "<b>1".into(), readings: 1 }],
            lanes: Vec::new(),
            files: Vec::new(),
        };
        let page = page(&manifest);
        assert!(!page.contains("<b>*") && page.contains("&lt;b&gt;1"), "{page}");
        assert_eq!(page.matches("{{").count(), 1, "the archive's own name stands as it is: {page}");
        assert!(page.contains("1970-01-01T00:00:00Z") && !page.contains("<script"), "{page}");
    }
}
