//! Counts letters by class, by topic and by hour.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use chrono::DateTime;
use serde_json::json;
use stillwell_source::dead_letters::letter::Letter;
use tokio_util::sync::CancellationToken;

use super::{HistogramArgs, dead_letter_topics, put, read};
use crate::config::Config;
use crate::stages;

/// Columns of the longest bar.
const BAR: u64 = 40;

#[derive(Debug, Default)]
struct Counts {
    letters: u64,
    class: BTreeMap<String, u64>,
    topic: BTreeMap<String, u64>,
    hour: BTreeMap<String, u64>,
}

impl Counts {
    fn take(&mut self, letter: &Letter) {
        self.letters += 1;
        *self.class.entry(letter.class.clone()).or_default() += 1;
        *self.topic.entry(letter.source.0.topic.to_string()).or_default() += 1;
        let time = DateTime::from_timestamp_millis(letter.timestamp_ms).filter(|_| letter.timestamp_ms >= 0);
        let hour = time.map_or_else(|| "no time".to_owned(), |t| t.format("%Y-%m-%dT%H:00Z").to_string());
        *self.hour.entry(hour).or_default() += 1;
    }

    fn json(&self) -> String {
        let Self { letters, class, topic, hour } = self;
        format!("{}\n", json!({ "letters": letters, "class": class, "topic": topic, "hour": hour }))
    }

    fn text(&self) -> String {
        let mut out = format!("{} letters\n", self.letters);
        for (name, counts) in [("class", &self.class), ("topic", &self.topic), ("hour", &self.hour)] {
            if !counts.is_empty() {
                out += &format!("\nby {name}\n{}", bars(counts, name != "hour"));
            }
        }
        out
    }
}

/// Bars in the order of the names, or the longest first.
fn bars(counts: &BTreeMap<String, u64>, by_count: bool) -> String {
    let mut rows: Vec<_> = counts.iter().collect();
    if by_count {
        rows.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    }
    let most = rows.iter().map(|(_, count)| **count).max().unwrap_or(1).max(1);
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    let digits = most.to_string().len();
    let bar = |count: u64| {
        let columns = (count * BAR).div_ceil(most);
        "█".repeat(usize::try_from(columns).unwrap_or_default())
    };
    rows.iter()
        .map(|(name, count)| format!("  {name:width$}  {count:>digits$}  {}\n", bar(**count)))
        .collect()
}

/// Counts and prints.
///
/// # Errors
/// Where the letters cannot be read.
pub(super) fn run(args: &HistogramArgs, config: &Config, stop: &CancellationToken) -> anyhow::Result<u8> {
    let (kafka, clock) = (args.place.kafka(config)?, stages::clock());
    let mut counts = Counts::default();
    for topic in dead_letter_topics(config, args.filter.topic.as_deref())? {
        let done = read::letters(&kafka, &topic, stop, |_, letter| {
            if args.filter.fits(&letter, &*clock) {
                counts.take(&letter);
            }
            Ok(ControlFlow::Continue(()))
        });
        match done {
            Err(error) if read::is_missing(&error, &topic) => {}
            done => {
                done?;
            }
        }
    }
    put(&mut std::io::stdout().lock(), &if args.json { counts.json() } else { counts.text() })?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::super::filter::tests::letter_at;
    use super::*;

    #[test]
    fn letters_are_counted_in_three_ways() {
        let mut counts = Counts::default();
        for (offset, class, ms) in [(1, "syntax", 0), (2, "bad_time", 3_600_000), (3, "bad_time", -1)] {
            counts.take(&Letter { class: class.to_owned(), timestamp_ms: ms, ..letter_at(offset) });
        }
        let parsed: serde_json::Value = serde_json::from_str(&counts.json()).unwrap();
        assert_eq!(parsed["class"], json!({ "bad_time": 2, "syntax": 1 }));
        assert_eq!(parsed["topic"], json!({ "readings": 3 }));
        let hours = json!({ "1970-01-01T00:00Z": 1, "1970-01-01T01:00Z": 1, "no time": 1 });
        assert_eq!(parsed["hour"], hours);
        let text = counts.text();
        let whole = "█".repeat(40);
        let half = "█".repeat(20);
        assert!(text.contains(&format!("  bad_time  2  {whole}\n  syntax    1  {half}\n")), "{text}");
    }
}
