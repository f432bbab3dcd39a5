//! What came of a redrive, told.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::json;

use super::filter::LetterPlace;

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) redriven: u64,
    /// Of these, those that were not decoded before.
    pub(super) unchecked: u64,
    /// By class, with an example.
    failed: BTreeMap<String, (u64, String)>,
    pub(super) quarantined: u64,
    pub(super) done_before: u64,
    pub(super) quarantined_before: u64,
    pub(super) duplicates: u64,
}

impl Report {
    pub(super) fn failed(&self) -> u64 {
        self.failed.values().map(|(count, _)| count).sum()
    }

    pub(super) fn fail(&mut self, place: LetterPlace, class: &str, message: &str) {
        let example = || (0, format!("letter {place}: {message}"));
        self.failed.entry(class.to_owned()).or_insert_with(example).0 += 1;
    }

    pub(super) fn json(&self, dry_run: bool) -> String {
        let failed: BTreeMap<_, _> = self.failed.iter().map(|(class, (count, _))| (class, count)).collect();
        let passed = if dry_run { "would_pass" } else { "redriven" };
        let object = json!({
            "dry_run": dry_run, passed: self.redriven, "unchecked": self.unchecked, "failed": failed,
            "quarantined": self.quarantined, "redriven_before": self.done_before,
            "quarantined_before": self.quarantined_before, "duplicates": self.duplicates,
        });
        format!("{object}\n")
    }

    pub(super) fn text(&self, dry_run: bool) -> String {
        let words = if dry_run {
            ["would pass now", "would still fail", "would be quarantined"]
        } else {
            ["were sent again", "still fail", "are now in quarantine"]
        };
        let mut out = format!("{} letters {}\n", self.redriven, words[0]);
        if self.unchecked > 0 {
            let _ = writeln!(out, "  {} of them unchecked, as only their lane knows births", self.unchecked);
        }
        if !self.failed.is_empty() {
            out += &format!("{} {}:\n", self.failed(), words[1]);
        }
        for (class, (count, example)) in &self.failed {
            let _ = writeln!(out, "  {count} {class}, such as {example}");
        }
        for (count, what) in [
            (self.quarantined, words[2]),
            (self.done_before, "were sent again before"),
            (self.quarantined_before, "were in quarantine before; raise --max-attempts to try them again"),
            (self.duplicates, "are duplicates: other letters stand for their records"),
        ] {
            if count > 0 {
                let _ = writeln!(out, "{count} {what}");
            }
        }
        out
    }

    /// What was committed counts.
    pub(super) fn add(&mut self, some: Self) {
        self.redriven += some.redriven;
        self.unchecked += some.unchecked;
        self.quarantined += some.quarantined;
        self.done_before += some.done_before;
        self.quarantined_before += some.quarantined_before;
        self.duplicates += some.duplicates;
        for (class, (count, example)) in some.failed {
            self.failed.entry(class).or_insert((0, example)).0 += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_passes_and_what_does_not_and_why() {
        let mut report = Report { redriven: 2, unchecked: 2, ..Report::default() };
        let failed = BTreeMap::from([("syntax".to_owned(), (3, "letter 4: no".to_owned()))]);
        report.add(Report { failed, quarantined: 1, redriven: 1, ..Report::default() });
        let text = report.text(true);
        let expected = "3 letters would pass now\n  2 of them unchecked, as only their lane knows births\n\
            3 would still fail:\n  3 syntax, such as letter 4";
        assert!(text.contains(expected), "{text}");
        let parsed: serde_json::Value = serde_json::from_str(&report.json(false)).unwrap();
        assert_eq!((&parsed["redriven"], &parsed["failed"]["syntax"]), (&json!(3), &json!(3)));
    }
}
