//! The audit topic beside a dead letter topic: what was done about which letter, by whom, when and why. One JSON
//! object a record, keyed by the letter's place, written in one transaction with what it tells of.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use stillwell_schema::TopicPartition;
use stillwell_source::dead_letters::letter::Letter;
use stillwell_source::settings::KafkaSettings;
use tokio_util::sync::CancellationToken;

use super::filter::LetterPlace;
use super::{AuditArgs, dead_letter_topics, put, read};
use crate::config::Config;
use crate::topics;

/// What was done about a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// It was sent to its topic again.
    Redriven,
    /// It was tried and still cannot be read.
    Failed,
    /// It had its attempts, and is left alone.
    Quarantined,
}

impl Outcome {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Redriven => "redriven",
            Self::Failed => "failed",
            Self::Quarantined => "quarantined",
        }
    }
}

/// A record's place in a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) offset: i64,
}

/// One record of the audit topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Audit {
    pub(super) outcome: Outcome,
    /// When, RFC 3339.
    pub(super) at: String,
    pub(super) by: String,
    pub(super) reason: String,
    /// Which letter.
    pub(super) letter: Place,
    /// Where its record stood that could not be read.
    pub(super) source: Place,
    /// The digest of that record, as [`digest`] has it.
    pub(super) record: String,
    /// Where that record stood before it was ever sent again.
    pub(super) origin: Place,
    /// The how manieth attempt at the record this was, over all rounds; of a quarantined one, how many it had.
    pub(super) attempt: u32,
    /// The class of the error: today's where it failed, the letter's else.
    pub(super) class: String,
    /// Today's error, where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

/// Bytes of a digest that are kept.
const DIGEST_BYTES: usize = 16;

/// What a letter's record was, for records that stood in one place one after the other, as their topic was made
/// anew. The Kafka time is no part of it: a letter has its own where the record had none.
pub(super) fn digest(letter: &Letter) -> String {
    let mut hash = Sha256::new();
    for part in [&letter.key, &letter.value] {
        // A part that is missing is not an empty one, and no byte counts for the other part.
        hash.update(part.as_ref().map_or(u64::MAX, |part| part.len() as u64).to_le_bytes());
        hash.update(part.as_deref().unwrap_or_default());
    }
    hex::encode(&hash.finalize()[..DIGEST_BYTES])
}

/// A record that could not be read. It may have several letters: letters go out before what they are of is
/// committed, so a stage that is killed in between sends them once more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Source {
    lane: TopicPartition,
    offset: i64,
    record: String,
}

impl Source {
    /// The record of a letter.
    pub(super) fn of(letter: &Letter) -> Self {
        let (lane, offset) = &letter.source;
        Self { lane: lane.clone(), offset: offset.0, record: digest(letter) }
    }

    fn noted(audit: &Audit) -> Self {
        let Place { topic, partition, offset } = &audit.source;
        let lane = TopicPartition::new(topic.as_str(), *partition);
        Self { lane, offset: *offset, record: audit.record.clone() }
    }
}

/// What was done about one letter so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Past {
    pub(super) source: Option<Source>,
    pub(super) failed: u32,
    pub(super) is_redriven: bool,
    pub(super) is_quarantined: bool,
    /// Another letter of the same record stands for it.
    pub(super) is_duplicate: bool,
}

/// The past of all letters.
#[derive(Debug, Default)]
pub(super) struct Pasts {
    letters: HashMap<LetterPlace, Past>,
    /// The records that were sent again, by whichever of their letters.
    redriven: HashSet<Source>,
}

impl Pasts {
    fn take(&mut self, audit: &Audit) {
        let place = LetterPlace { partition: audit.letter.partition, offset: audit.letter.offset };
        let source = Source::noted(audit);
        if audit.outcome == Outcome::Redriven {
            self.redriven.insert(source.clone());
        }
        let past = self.letters.entry(place).or_default();
        if past.source.as_ref().is_some_and(|known| *known != source) {
            // The dead letter topic was made anew since, and another letter stands there now.
            *past = Past::default();
        }
        past.source = Some(source);
        match audit.outcome {
            Outcome::Redriven => past.is_redriven = true,
            Outcome::Failed => past.failed += 1,
            Outcome::Quarantined => past.is_quarantined = true,
        }
    }

    /// What was done about this letter; what was done about another that stood in its place does not count.
    pub(super) fn of(&self, place: LetterPlace, letter: &Letter) -> Past {
        let source = Source::of(letter);
        let its = self.letters.get(&place).filter(|past| past.source.as_ref() == Some(&source));
        let mut past = its.cloned().unwrap_or_default();
        past.is_duplicate = !past.is_redriven && self.redriven.contains(&source);
        past
    }
}

/// What was done about the letters of a dead letter topic so far.
///
/// # Errors
/// Where the audit topic cannot be read to its end: then nobody knows, and nothing may be sent again.
pub(super) fn pasts(kafka: &KafkaSettings, letters: &str, stop: &CancellationToken) -> anyhow::Result<Pasts> {
    let mut pasts = Pasts::default();
    each(kafka, letters, stop, |audit, _| {
        pasts.take(&audit);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(pasts)
}

fn each(
    kafka: &KafkaSettings,
    letters: &str,
    stop: &CancellationToken,
    mut each: impl FnMut(Audit, &str) -> anyhow::Result<ControlFlow<()>>,
) -> anyhow::Result<()> {
    let topic = topics::audit(letters);
    let done = read::records(kafka, &topic, None, stop, |place, record| {
        let text = std::str::from_utf8(record.value.unwrap_or_default());
        let text = text.with_context(|| format!("offset {place} of {topic} is no audit record"))?;
        let audit = serde_json::from_str(text)
            .with_context(|| format!("offset {place} of {topic} is no audit record; who wrote it?"))?;
        each(audit, text)
    });
    match done {
        Err(error) if read::is_missing(&error, &topic) => Ok(()),
        done => {
            if stop.is_cancelled() {
                anyhow::bail!("stopped while {topic} was read; nothing was done");
            }
            done.map(|_| ())
        }
    }
}

/// Prints the audit records.
///
/// # Errors
/// Where they cannot be read.
pub(super) fn print(args: &AuditArgs, config: &Config, stop: &CancellationToken) -> anyhow::Result<u8> {
    let kafka = args.place.kafka(config)?;
    let mut out = std::io::stdout().lock();
    for topic in dead_letter_topics(config, args.topic.as_deref())? {
        each(&kafka, &topic, stop, |audit, text| {
            if args.topic.as_ref().is_some_and(|topic| audit.source.topic != *topic) {
                return Ok(ControlFlow::Continue(()));
            }
            let line = if args.json { format!("{text}\n") } else { line(&audit) };
            Ok(if put(&mut out, &line)? { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
    }
    Ok(0)
}

fn line(audit: &Audit) -> String {
    let Audit { outcome, at, by, reason, letter, source, attempt, class, error, .. } = audit;
    let error = error.as_ref().map(|error| format!("; {error}")).unwrap_or_default();
    format!(
        "{at}  {:11}  letter {}  {}/{} {}  attempt {attempt}  {class}  {by}: {reason}{error}\n",
        outcome.name(),
        letter.offset,
        source.topic,
        source.partition,
        source.offset,
    )
}

#[cfg(test)]
mod tests {
    use super::super::filter::tests::letter_at;
    use super::*;

    fn audit(outcome: Outcome, offset: i64) -> Audit {
        let place = |topic: &str, partition, offset| Place { topic: topic.to_owned(), partition, offset };
        Audit {
            outcome,
            at: "2026-01-05T06:00:00Z".to_owned(),
            by: "mara".to_owned(),
            reason: "the clock's unit".to_owned(),
            letter: place("readings.dlq", 0, 5),
            source: place("readings", 3, offset),
            record: digest(&letter_at(offset)),
            origin: place("readings", 3, offset),
            attempt: 1,
            class: "bad_time".to_owned(),
            error: None,
        }
    }

    #[test]
    fn the_past_of_a_letter_is_counted_and_that_of_another_in_its_place_is_not() {
        let place = LetterPlace { partition: 0, offset: 5 };
        let mut pasts = Pasts::default();
        pasts.take(&audit(Outcome::Failed, 16));
        pasts.take(&audit(Outcome::Redriven, 16));
        assert_eq!(pasts.of(place, &letter_at(17)), Past::default());
        pasts.take(&audit(Outcome::Failed, 17));
        pasts.take(&audit(Outcome::Failed, 17));
        let past = pasts.of(place, &letter_at(17));
        assert_eq!((past.failed, past.is_redriven), (2, false));
        pasts.take(&audit(Outcome::Redriven, 17));
        assert!(pasts.of(place, &letter_at(17)).is_redriven);
        assert_eq!(pasts.of(LetterPlace { partition: 0, offset: 6 }, &letter_at(18)), Past::default());
    }

    #[test]
    fn a_second_letter_of_a_record_that_was_sent_again_is_a_duplicate() {
        let [first, second] = [5, 6].map(|offset| LetterPlace { partition: 0, offset });
        let mut pasts = Pasts::default();
        pasts.take(&audit(Outcome::Failed, 17));
        assert!(!pasts.of(second, &letter_at(17)).is_duplicate);
        pasts.take(&audit(Outcome::Redriven, 17));
        let past = pasts.of(first, &letter_at(17));
        assert_eq!((past.is_redriven, past.is_duplicate), (true, false));
        let past = pasts.of(second, &letter_at(17));
        assert_eq!((past.is_redriven, past.is_duplicate), (false, true));
        assert!(!pasts.of(second, &letter_at(18)).is_duplicate);
        let anew = Letter { value: Some(b"another, of a topic made anew".to_vec()), ..letter_at(17) };
        assert_eq!([first, second].map(|place| pasts.of(place, &anew)), [Past::default(), Past::default()]);
    }

    #[test]
    fn a_digest_tells_key_from_value_and_none_from_empty() {
        fn of(key: Option<&[u8]>, value: Option<&[u8]>) -> String {
            let [key, value] = [key, value].map(|part| part.map(<[u8]>::to_vec));
            digest(&Letter { key, value, ..letter_at(1) })
        }
        let digests = [
            of(None, Some(b"ab")),
            of(Some(b""), Some(b"ab")),
            of(Some(b"a"), Some(b"b")),
            of(Some(b"ab"), None),
            of(Some(b"ab"), Some(b"")),
        ];
        let different: HashSet<&String> = digests.iter().collect();
        assert_eq!(different.len(), digests.len());
        assert_eq!(of(None, Some(b"ab")), digests[0]);
    }

    #[test]
    fn an_audit_record_says_who_why_and_what() {
        let audit = audit(Outcome::Redriven, 17);
        let text = serde_json::to_string(&audit).unwrap();
        assert_eq!(serde_json::from_str::<Audit>(&text).unwrap(), audit);
        let line = line(&audit);
        for part in ["redriven", "letter 5", "readings/3 17", "mara: the clock's unit"] {
            assert!(line.contains(part), "{line}");
        }
    }
}
