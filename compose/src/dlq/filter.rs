//! Which letters are meant.

use std::ops::Range;

use clap::Args;
use regex::Regex;
use stillwell_schema::Clock;
use stillwell_source::dead_letters::letter::Letter;

use crate::load::parse::{duration, time_us};

/// Letters are meant that fit all that is said; without anything, all are.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Which letters")]
pub(super) struct Filter {
    /// The topic that the record was in; without it, all of the config's
    #[arg(long, value_name = "NAME")]
    pub(super) topic: Option<String>,
    /// The class of the error, such as syntax or missing_field
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// The partition that the record was in
    #[arg(long, value_name = "N")]
    partition: Option<i32>,
    /// The record's offset there: A..B (B excluded), A.., ..B or one
    #[arg(long, value_name = "A..B", value_parser = offsets)]
    offset: Option<Range<i64>>,
    /// The record's Kafka time at the earliest: a moment (2026-01-05T06:00:00Z), or so long ago (2h)
    #[arg(long, value_name = "WHEN", value_parser = when)]
    since: Option<When>,
    /// The record's Kafka time before this; likewise
    #[arg(long, value_name = "WHEN", value_parser = when)]
    until: Option<When>,
    /// The error's message: a text in it, or a regular expression
    #[arg(long, value_name = "REGEX", value_parser = message)]
    message: Option<Regex>,
}

/// A moment, or a time before now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    At(i64),
    Ago(i64),
}

impl When {
    fn us(self, clock: &dyn Clock) -> i64 {
        match self {
            Self::At(us) => us,
            Self::Ago(us) => clock.now_us() - us,
        }
    }
}

impl Filter {
    /// Whether a letter is meant.
    pub(super) fn fits(&self, letter: &Letter, clock: &dyn Clock) -> bool {
        let (lane, offset) = &letter.source;
        let time_us = letter.timestamp_ms.saturating_mul(1000);
        self.topic.as_ref().is_none_or(|topic| *lane.topic == **topic)
            && self.class.as_ref().is_none_or(|class| letter.class == *class)
            && self.partition.is_none_or(|partition| lane.partition == partition)
            && self.offset.as_ref().is_none_or(|range| range.contains(&offset.0))
            && self.since.is_none_or(|since| time_us >= since.us(clock))
            && self.until.is_none_or(|until| time_us < until.us(clock))
            && self.message.as_ref().is_none_or(|message| message.is_match(&letter.message))
    }
}

/// A letter's place in its dead letter topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct LetterPlace {
    /// Partition, nearly always 0.
    pub(super) partition: i32,
    /// Offset.
    pub(super) offset: i64,
}

impl std::fmt::Display for LetterPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.partition {
            0 => write!(f, "{}", self.offset),
            partition => write!(f, "{partition}:{}", self.offset),
        }
    }
}

/// `17` or `0:17`.
pub(super) fn letter(text: &str) -> Result<LetterPlace, String> {
    let (partition, offset) = text.split_once(':').unwrap_or(("0", text));
    match (partition.parse(), offset.parse()) {
        (Ok(partition), Ok(offset)) => Ok(LetterPlace { partition, offset }),
        _ => Err("say an offset such as 17, or partition and offset as in 0:17".to_owned()),
    }
}

fn offsets(text: &str) -> Result<Range<i64>, String> {
    let number = |text: &str| text.parse::<i64>().map_err(|_| "say A..B, A.., ..B or one offset".to_owned());
    let Some((first, next)) = text.split_once("..") else {
        let one = number(text)?;
        return Ok(one..one.saturating_add(1));
    };
    let first = if first.is_empty() { 0 } else { number(first)? };
    let next = if next.is_empty() { i64::MAX } else { number(next)? };
    Ok(first..next)
}

fn when(text: &str) -> Result<When, String> {
    if let Ok(at) = time_us(text) {
        return Ok(When::At(at));
    }
    match duration(text) {
        Ok(ago) => Ok(When::Ago(i64::try_from(ago.as_micros()).unwrap_or(i64::MAX))),
        Err(_) => Err("say a moment such as 2026-01-05T06:00:00Z, or a time ago such as 2h".to_owned()),
    }
}

fn message(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| error.to_string())
}

#[cfg(test)]
pub(super) mod tests {
    use clap::Parser;
    use stillwell_schema::{Offset, TopicPartition};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        filter: Filter,
    }

    struct At(i64);

    impl Clock for At {
        fn now_us(&self) -> i64 {
            self.0
        }
    }

    pub(in super::super) fn letter_at(offset: i64) -> Letter {
        let source = (TopicPartition::new("readings", 3), Offset(offset));
        Letter {
            origin: source.clone(),
            source,
            attempts: 0,
            timestamp_ms: 10_000,
            class: "bad_time".to_owned(),
            message: "bad_time: no time at byte 4".to_owned(),
            key: None,
            value: Some(b"{\"a\":1}".to_vec()),
            headers: Vec::new(),
        }
    }

    #[test]
    fn a_letter_is_meant_where_it_fits_all_that_is_said() {
        let cases: [(&[&str], bool); 14] = [
            (&[], true),
            (&["--topic", "readings", "--partition", "3", "--class", "bad_time"], true),
            (&["--topic", "mes"], false),
            (&["--partition", "0"], false),
            (&["--class", "syntax"], false),
            (&["--offset", "17"], true),
            (&["--offset", "10..17"], false),
            (&["--offset", "17.."], true),
            (&["--offset", "..18"], true),
            (&["--message", "no time"], true),
            (&["--message", "^bad_.*byte [0-9]$"], true),
            (&["--message", "yes"], false),
            (&["--since", "5s", "--until", "1970-01-01T00:00:11Z"], true),
            (&["--since", "4s"], false),
        ];
        for (words, expected) in cases {
            let line =
                Line::try_parse_from([&["dlq"][..], words].concat()).map_err(|e| e.to_string()).unwrap();
            assert_eq!(line.filter.fits(&letter_at(17), &At(15_000_000)), expected, "{words:?}");
        }
        for words in [["--offset", "a..b"], ["--since", "soon"], ["--message", "("]] {
            assert!(Line::try_parse_from([&["dlq"][..], &words].concat()).is_err(), "{words:?}");
        }
        assert_eq!(letter("17").unwrap().to_string(), "17");
        assert_eq!(letter("2:17").unwrap().to_string(), "2:17");
    }
}
