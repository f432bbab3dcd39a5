//! Sends letters that today's decoder can read to their topics again, each exactly once.
//!
//! The order is what makes it exact: first the [`Sender`] takes over, which aborts what a killed redrive left
//! open; then the audit topic is read to its end, which is now all that was ever done; only then is anything sent,
//! each letter in one transaction with its audit record.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use chrono::DateTime;
use clap::Args;
use stillwell_schema::Clock;
use stillwell_source::columns::ReadingColumns;
use stillwell_source::dead_letters::letter::Letter;
use stillwell_source::decode::{DecodeError, DecodeFault, Decoder};
use stillwell_source::scan::{End, Scan};
use stillwell_source::series::SeriesTable;
use stillwell_source::settings::KafkaSettings;
use tokio_util::sync::CancellationToken;

use super::audit::{self, Audit, Outcome, Past, Place, Source};
use super::filter::{Filter, LetterPlace};
use super::print::Decoders;
use super::report::Report;
use super::sender::{Deed, Sender};
use super::{WhereArgs, dead_letter_topics, put, read};
use crate::config::Config;
use crate::{decode as decoding, stages, topics};

/// Letters of a transaction: a transaction costs some ten milliseconds, and readers wait for its end.
const LETTERS_MAX: usize = 500;
/// Bytes of a transaction's letters, which are held in memory until it is committed.
const BYTES_MAX: usize = 8 << 20;
/// The class of letters whose topic does not exist.
const NO_TOPIC: &str = "no_topic";
/// Classes of what lacks a Sparkplug birth. A lane may have seen it since; a decoder that begins here has not.
const LACKS_BIRTH: [&str; 2] = ["unresolved_alias", "unknown_datatype"];
/// Stopping is noticed within this.
const NAP: Duration = Duration::from_millis(50);
/// Between two lines of progress.
const LINE_EVERY: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
Examples:
  stillwell dlq redrive --dry-run                      what would pass now, what would not, and why
  stillwell dlq redrive --reason 'time_unit was wrong until 14:00'
  stillwell dlq redrive --class bad_time --since 2h --rate 200 --reason 'gateway 7 mended'

A letter is sent with its record's own bytes, key, headers and Kafka time, and with headers
that name where it stood first. It is archived once more, and its readings reach the views as
late data. Killed and run again, it sends nothing twice, and of several letters of one record
(a stage was killed behind the first) it sends one. Letters that still cannot be read stay, and
after --max-attempts tries they are quarantined: left alone, until --max-attempts is raised.
Sparkplug messages that lacked their birth (unresolved_alias, unknown_datatype) are sent unchecked,
as only their lane knows births: have the nodes send these anew first, or the same letters come
again. Each sending counts as a try.
Ctrl-C stops between two transactions. Exits with 2 where letters stay.";

/// `redrive`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct RedriveArgs {
    /// Send and note nothing: only say what would come of it
    #[arg(long)]
    dry_run: bool,
    /// Why, for the audit record
    #[arg(long, value_name = "TEXT", required_unless_present = "dry_run")]
    reason: Option<String>,
    /// Who, for the audit record
    #[arg(long, value_name = "NAME", env = "USER", default_value = "unknown")]
    by: String,
    /// Letters a second at the most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Letters sent at the most, the oldest first
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Tries of a record, over all rounds, after which it is quarantined
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    max_attempts: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    place: WhereArgs,
}

/// What is to be done about a letter.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// It was sent again before.
    Done,
    /// Another letter of the same record stands for it.
    Duplicate,
    /// It is in quarantine.
    Quarantined,
    /// It has had its attempts.
    Quarantine,
    /// It can be read.
    Redrive,
    /// Only its lane can say whether it can be read.
    Unchecked,
    /// It still cannot.
    Fails(DecodeError),
}

/// Attempts first: a letter that had them all is not even decoded.
fn judge(
    letter: &Letter,
    past: &Past,
    attempts_max: u32,
    decode: impl FnOnce() -> anyhow::Result<Result<(), DecodeError>>,
) -> anyhow::Result<Verdict> {
    if past.is_redriven {
        return Ok(Verdict::Done);
    }
    if past.is_duplicate {
        return Ok(Verdict::Duplicate);
    }
    if letter.attempts + past.failed >= attempts_max {
        return Ok(if past.is_quarantined { Verdict::Quarantined } else { Verdict::Quarantine });
    }
    if LACKS_BIRTH.contains(&letter.class.as_str()) {
        return Ok(Verdict::Unchecked);
    }
    Ok(match decode()? {
        Ok(()) => Verdict::Redrive,
        Err(error) if LACKS_BIRTH.contains(&error.class) => Verdict::Unchecked,
        Err(error) => Verdict::Fails(error),
    })
}

/// Redrives; the exit code is 2 where letters stay.
///
/// # Errors
/// Where Kafka is away or refuses, or something that decoding needs is away.
pub(super) fn run(args: &RedriveArgs, config: &Config, stop: &CancellationToken) -> anyhow::Result<u8> {
    let (kafka, clock) = (args.place.kafka(config)?, stages::clock());
    let mut report = Report::default();
    let mut outcome = Ok(End::Whole);
    for topic in dead_letter_topics(config, args.filter.topic.as_deref())? {
        let run = Run {
            args,
            kafka: &kafka,
            clock: &*clock,
            stop,
            topic: &topic,
            sender: None,
            decoders: Decoders::new(config),
            partitions: HashMap::new(),
            seen: HashSet::new(),
            batch: Batch::default(),
            report: &mut report,
            shown: Instant::now(),
        };
        outcome = run.through();
        if !matches!(outcome, Ok(End::Whole)) {
            break;
        }
    }
    let text = if args.json { report.json(args.dry_run) } else { report.text(args.dry_run) };
    put(&mut std::io::stdout().lock(), &text)?;
    if outcome? == End::Stopped {
        read::note("stopped; the same command goes on from here and sends nothing twice");
        return Ok(2);
    }
    let left = report.failed() + report.quarantined + report.quarantined_before;
    Ok(if left > 0 { 2 } else { 0 })
}

/// Deeds for the next transaction.
#[derive(Default)]
struct Batch {
    deeds: Vec<Deed>,
    bytes: usize,
    report: Report,
}

/// A redrive of one dead letter topic.
struct Run<'a> {
    args: &'a RedriveArgs,
    kafka: &'a KafkaSettings,
    clock: &'a dyn Clock,
    stop: &'a CancellationToken,
    topic: &'a str,
    sender: Option<Sender>,
    decoders: Decoders<'a>,
    /// The partitions of the source topics; none of one that does not exist.
    partitions: HashMap<String, Option<Vec<i32>>>,
    /// The records of which a letter was looked at.
    seen: HashSet<Source>,
    batch: Batch,
    report: &'a mut Report,
    shown: Instant,
}

impl Run<'_> {
    fn through(mut self) -> anyhow::Result<End> {
        if !self.args.dry_run {
            let audit = vec![topics::Wanted::audit(self.topic)];
            tokio::runtime::Handle::current().block_on(topics::make(self.kafka, audit))?;
            self.sender = Some(Sender::connect(self.kafka, self.topic)?);
        }
        let pasts = audit::pasts(self.kafka, self.topic, self.stop)?;
        let (kafka, topic, stop) = (self.kafka, self.topic, self.stop);
        let end = read::letters(kafka, topic, stop, |place, letter| {
            if stop.is_cancelled() || self.is_enough() {
                return Ok(ControlFlow::Break(()));
            }
            if self.args.filter.fits(&letter, self.clock) {
                let mut past = pasts.of(place, &letter);
                past.is_duplicate |= !self.seen.insert(Source::of(&letter));
                self.take(place, letter, &past)?;
            }
            Ok(ControlFlow::Continue(()))
        });
        match end {
            Err(error) if read::is_missing(&error, topic) => Ok(End::Whole),
            Ok(_) if !stop.is_cancelled() => {
                self.commit()?;
                Ok(End::Whole)
            }
            // What is gathered and not sent is not counted either.
            end => end.map(|_| End::Stopped),
        }
    }

    fn is_enough(&self) -> bool {
        let sent = self.report.redriven + self.batch.report.redriven;
        self.args.limit.is_some_and(|limit| sent >= limit)
    }

    fn take(&mut self, place: LetterPlace, letter: Letter, past: &Past) -> anyhow::Result<()> {
        let decoders = &mut self.decoders;
        let verdict = judge(&letter, past, self.args.max_attempts, || {
            decode(decoders.of(&letter.origin.0.topic)?, &letter, place)
        })?;
        let tried = letter.attempts + past.failed;
        let is_unchecked = verdict == Verdict::Unchecked;
        let report = &mut self.batch.report;
        match verdict {
            Verdict::Done => report.done_before += 1,
            Verdict::Quarantined => report.quarantined_before += 1,
            Verdict::Duplicate => report.duplicates += 1,
            Verdict::Quarantine => {
                report.quarantined += 1;
                self.note(place, &letter, Outcome::Quarantined, tried, None);
            }
            Verdict::Fails(error) => {
                report.fail(place, error.class, &error.message);
                self.note(place, &letter, Outcome::Failed, tried + 1, Some(&error));
            }
            Verdict::Redrive | Verdict::Unchecked => {
                let Some(partition) = self.partition(&letter)? else {
                    // It says nothing of the record, so it is no attempt at it.
                    let message = no_topic(&letter.origin.0.topic);
                    self.batch.report.fail(place, NO_TOPIC, &message);
                    return Ok(());
                };
                self.batch.report.redriven += 1;
                self.batch.report.unchecked += u64::from(is_unchecked);
                self.note(place, &letter, Outcome::Redriven, tried + 1, None);
                self.batch.bytes += letter.memory_bytes();
                if let Some(deed) = self.batch.deeds.last_mut() {
                    deed.letter = Some((letter, partition));
                }
            }
        }
        let most = self.args.rate.map_or(LETTERS_MAX, |rate| LETTERS_MAX.min(rate as usize));
        if self.batch.deeds.len() >= most || self.batch.bytes >= BYTES_MAX {
            self.commit()?;
        }
        Ok(())
    }

    fn note(
        &mut self,
        letter_place: LetterPlace,
        letter: &Letter,
        outcome: Outcome,
        attempt: u32,
        error: Option<&DecodeError>,
    ) {
        let place = |(lane, offset): &(stillwell_schema::TopicPartition, stillwell_schema::Offset)| Place {
            topic: lane.topic.to_string(),
            partition: lane.partition,
            offset: offset.0,
        };
        let at = DateTime::from_timestamp_micros(self.clock.now_us()).unwrap_or_default();
        let audit = Audit {
            outcome,
            at: at.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
            by: self.args.by.clone(),
            reason: self.args.reason.clone().unwrap_or_default(),
            letter: Place {
                topic: self.topic.to_owned(),
                partition: letter_place.partition,
                offset: letter_place.offset,
            },
            source: place(&letter.source),
            record: audit::digest(letter),
            origin: place(&letter.origin),
            attempt,
            class: error.map_or_else(|| letter.class.clone(), |error| error.class.to_owned()),
            error: error.map(ToString::to_string),
        };
        self.batch.deeds.push(Deed { audit, letter: None });
    }

    /// The partition that a record was in first, so that it stands behind its own machine's other records; its
    /// key's where the topic has that partition no longer. None where there is no such topic.
    fn partition(&mut self, letter: &Letter) -> anyhow::Result<Option<Option<i32>>> {
        let lane = &letter.origin.0;
        let topic = lane.topic.to_string();
        if !self.partitions.contains_key(&topic) {
            let partitions = match Scan::new(self.kafka, &topic)?.partitions().map_err(anyhow::Error::new) {
                Err(error) if read::is_missing(&error, &topic) => None,
                partitions => Some(partitions?),
            };
            self.partitions.insert(topic.clone(), partitions);
        }
        let is_there = |partitions: &Vec<i32>| partitions.contains(&lane.partition).then_some(lane.partition);
        Ok(self.partitions[&topic].as_ref().map(is_there))
    }

    /// Does what is gathered, and waits as long as the rate asks for.
    fn commit(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        let Batch { deeds, report, .. } = std::mem::take(&mut self.batch);
        if let Some(sender) = self.sender.as_ref().filter(|_| !deeds.is_empty()) {
            sender.send(&deeds)?;
        }
        self.report.add(report);
        if self.shown.elapsed() >= LINE_EVERY {
            self.shown = Instant::now();
            let Report { redriven, .. } = *self.report;
            read::note(&format!("{redriven} letters pass so far, {} fail", self.report.failed()));
        }
        if let (Some(rate), true) = (self.args.rate, self.sender.is_some()) {
            let sent = deeds.iter().filter(|deed| deed.letter.is_some()).count();
            #[allow(clippy::cast_precision_loss, reason = "a transaction holds few letters")]
            let least = Duration::from_secs_f64(sent as f64 / f64::from(rate));
            while began.elapsed() < least && !self.stop.is_cancelled() {
                std::thread::sleep(NAP.min(least.saturating_sub(began.elapsed())));
            }
        }
        Ok(())
    }
}

fn no_topic(topic: &str) -> String {
    format!("topic {topic} does not exist any more; create it and redrive again (this was no attempt)")
}

fn decode(
    decoder: &mut dyn Decoder,
    letter: &Letter,
    place: LetterPlace,
) -> anyhow::Result<Result<(), DecodeError>> {
    if letter.value.is_none() {
        return Ok(Err(DecodeError::new("no_value", 0, "record has no value")));
    }
    let (chunk, mut table) = (letter.record(), SeriesTable::default());
    let mut columns = ReadingColumns::default();
    match decoding::patiently(|| decoder.decode(&chunk.record(0), 0, &mut table, &mut columns)) {
        Ok(()) => Ok(Ok(())),
        Err(DecodeFault::Data(error)) => Ok(Err(error)),
        Err(DecodeFault::Transient(error)) => {
            anyhow::bail!("letter {place} cannot be decoded now: {error}; run the same command again later")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::filter::tests::letter_at;
    use super::*;

    #[test]
    fn a_letter_is_sent_once_tried_so_often_and_then_left_alone() {
        let passes = || Ok(Ok(()));
        let fails = || Ok(Err(DecodeError::new("syntax", 0, "no")));
        let undecoded = || -> anyhow::Result<Result<(), DecodeError>> { panic!("it is not to be decoded") };
        let past = |failed| Past { failed, ..Past::default() };
        let letter = |attempts| Letter { attempts, ..letter_at(1) };
        assert_eq!(judge(&letter(0), &past(0), 3, passes).unwrap(), Verdict::Redrive);
        assert_eq!(judge(&letter(1), &past(1), 3, passes).unwrap(), Verdict::Redrive);
        assert!(matches!(judge(&letter(0), &past(2), 3, fails).unwrap(), Verdict::Fails(_)));
        for (attempts, failed) in [(0, 3), (3, 0), (2, 1)] {
            assert_eq!(judge(&letter(attempts), &past(failed), 3, undecoded).unwrap(), Verdict::Quarantine);
        }
        let lacks = |class: &'static str| Ok(Err(DecodeError::new(class, 0, "no birth")));
        let alias = Letter { class: "unresolved_alias".to_owned(), ..letter(1) };
        assert_eq!(judge(&alias, &past(1), 3, undecoded).unwrap(), Verdict::Unchecked);
        assert_eq!(judge(&alias, &past(2), 3, undecoded).unwrap(), Verdict::Quarantine);
        let untyped = judge(&letter(0), &past(0), 3, || lacks("unknown_datatype"));
        assert_eq!(untyped.unwrap(), Verdict::Unchecked);
        let quarantined = Past { is_quarantined: true, ..past(3) };
        assert_eq!(judge(&letter(0), &quarantined, 3, undecoded).unwrap(), Verdict::Quarantined);
        assert_eq!(judge(&letter(0), &quarantined, 4, passes).unwrap(), Verdict::Redrive);
        let redriven = Past { is_redriven: true, ..past(0) };
        assert_eq!(judge(&letter(0), &redriven, 3, undecoded).unwrap(), Verdict::Done);
        let duplicate = Past { is_duplicate: true, ..past(3) };
        assert_eq!(judge(&letter(0), &duplicate, 3, undecoded).unwrap(), Verdict::Duplicate);
        // The letter itself was sent, whatever others its record has.
        let redriven = Past { is_redriven: true, ..duplicate };
        assert_eq!(judge(&letter(0), &redriven, 3, undecoded).unwrap(), Verdict::Done);
    }
}
