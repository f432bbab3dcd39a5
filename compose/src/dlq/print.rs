//! Shows letters: a table, JSON lines, or one whole.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::ControlFlow;

use anyhow::{Context, bail};
use base64::Engine;
use chrono::DateTime;
use serde_json::{Value, json};
use stillwell_source::dead_letters::letter::Letter;
use stillwell_source::decode::{Decoder, remedy};
use stillwell_source::scan::ScanError;
use tokio_util::sync::CancellationToken;

use super::audit::{self, Past};
use super::filter::LetterPlace;
use super::{ListArgs, ShowArgs, dead_letter_topics, only_topic, put, read};
use crate::config::Config;
use crate::{decode, stages};

/// Characters of a message in the table.
const MESSAGE_CHARS: usize = 60;
/// Bytes a line of a hex dump.
const HEX_BYTES: usize = 16;

const COLUMNS: [&str; 8] = ["letter", "time", "topic", "partition", "offset", "class", "state", "message"];

/// Lists letters; the exit code is 0 whatever there is.
///
/// # Errors
/// Where they cannot be read.
pub(super) fn list(args: &ListArgs, config: &Config, stop: &CancellationToken) -> anyhow::Result<u8> {
    let (kafka, clock) = (args.place.kafka(config)?, stages::clock());
    let (mut rows, mut is_cut) = (Vec::new(), false);
    for topic in dead_letter_topics(config, args.filter.topic.as_deref())? {
        let pasts = audit::pasts(&kafka, &topic, stop)?;
        let done = read::letters(&kafka, &topic, stop, |place, letter| {
            if !args.filter.fits(&letter, &*clock) {
                return Ok(ControlFlow::Continue(()));
            }
            if rows.len() == args.limit {
                is_cut = true;
                return Ok(ControlFlow::Break(()));
            }
            let past = pasts.of(place, &letter);
            rows.push((place, letter, past));
            Ok(ControlFlow::Continue(()))
        });
        match done {
            Err(error) if read::is_missing(&error, &topic) => {}
            done => {
                done?;
            }
        }
    }
    let text = if args.json {
        rows.iter().map(|(place, letter, past)| format!("{}\n", json(*place, letter, past))).collect()
    } else {
        table(&rows)
    };
    put(&mut std::io::stdout().lock(), &text)?;
    if is_cut {
        read::note("there are more letters; raise --limit, or say which with the filters");
    }
    Ok(0)
}

/// Shows one letter.
///
/// # Errors
/// Where there is none.
pub(super) fn show(args: &ShowArgs, config: &Config, stop: &CancellationToken) -> anyhow::Result<u8> {
    let kafka = args.place.kafka(config)?;
    let topic = only_topic(config, args.topic.as_deref())?;
    let pasts = audit::pasts(&kafka, &topic, stop)?;
    let mut found = None;
    let read = read::records(&kafka, &topic, Some(args.letter), stop, |place, record| {
        if place == args.letter {
            found = Some(Letter::parse(record));
        }
        Ok(ControlFlow::Continue(()))
    });
    if let Err(error) = read
        && !matches!(error.downcast_ref(), Some(ScanError::BeyondEnd { .. }))
    {
        return Err(error);
    }
    let letter = match found {
        Some(Some(letter)) => letter,
        Some(None) => bail!("offset {} of {topic} is no dead letter of ours", args.letter),
        None => bail!("{topic} has no letter at {}; `stillwell dlq list` shows those it has", args.letter),
    };
    let past = pasts.of(args.letter, &letter);
    let text = if args.json {
        format!("{}\n", json(args.letter, &letter, &past))
    } else {
        whole(args.letter, &letter, &past, &mut Decoders::new(config))?
    };
    put(&mut std::io::stdout().lock(), &text)?;
    Ok(0)
}

/// Today's decoders of the config's topics.
pub(super) struct Decoders<'a> {
    config: &'a Config,
    open: HashMap<String, Box<dyn Decoder>>,
}

impl<'a> Decoders<'a> {
    pub(super) fn new(config: &'a Config) -> Self {
        Self { config, open: HashMap::new() }
    }

    /// The decoder of a topic, to which the next record is the first of a table.
    ///
    /// # Errors
    /// Where the config does not have it.
    pub(super) fn of(&mut self, topic: &str) -> anyhow::Result<&mut dyn Decoder> {
        if !self.open.contains_key(topic) {
            let decoder = stages::decoder(self.config, topic).with_context(|| {
                format!("letters of {topic} can be decoded only with its [[topic]] in the config")
            })?;
            self.open.insert(topic.to_owned(), decoder);
        }
        let decoder = self.open.get_mut(topic).context("it was just put there")?;
        decoder.new_table();
        Ok(&mut **decoder)
    }
}

fn time(ms: i64) -> String {
    let time = DateTime::from_timestamp_millis(ms).filter(|_| ms >= 0);
    time.map_or_else(|| "-".to_owned(), |time| time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

/// What became of a letter.
fn state(letter: &Letter, past: &Past) -> String {
    match past {
        Past { is_redriven: true, .. } => "redriven".to_owned(),
        Past { is_duplicate: true, .. } => "duplicate".to_owned(),
        Past { is_quarantined: true, .. } => "quarantined".to_owned(),
        Past { failed, .. } => match letter.attempts + failed {
            0 => "-".to_owned(),
            tried => format!("tried {tried}"),
        },
    }
}

fn table(rows: &[(LetterPlace, Letter, Past)]) -> String {
    let mut lines = vec![COLUMNS.map(str::to_owned)];
    for (place, letter, past) in rows {
        let (lane, offset) = &letter.source;
        let message: String =
            letter.message.chars().filter(|c| !c.is_control()).take(MESSAGE_CHARS).collect();
        lines.push([
            place.to_string(),
            time(letter.timestamp_ms),
            lane.topic.to_string(),
            lane.partition.to_string(),
            offset.to_string(),
            letter.class.clone(),
            state(letter, past),
            message,
        ]);
    }
    let width = |i: usize| lines.iter().map(|line| line[i].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    let mut out = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        out += cells.collect::<Vec<_>>().join("  ").trim_end();
        out.push('\n');
    }
    out
}

/// Text where bytes are text, else `{"base64": …}`.
fn bytes(bytes: Option<&[u8]>) -> Value {
    match bytes {
        None => Value::Null,
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => json!(text),
            Err(_) => json!({ "base64": base64::engine::general_purpose::STANDARD.encode(bytes) }),
        },
    }
}

fn json(place: LetterPlace, letter: &Letter, past: &Past) -> Value {
    let (lane, offset) = &letter.source;
    let (first, first_offset) = &letter.origin;
    let headers: Vec<Value> =
        letter.headers.iter().map(|(name, value)| json!([name, bytes(value.as_deref())])).collect();
    json!({
        "letter": { "partition": place.partition, "offset": place.offset },
        "topic": &*lane.topic,
        "partition": lane.partition,
        "offset": offset.0,
        "origin": { "topic": &*first.topic, "partition": first.partition, "offset": first_offset.0 },
        "timestamp_ms": letter.timestamp_ms,
        "class": letter.class,
        "message": letter.message,
        "attempts": letter.attempts + past.failed,
        "state": state(letter, past),
        "key": bytes(letter.key.as_deref()),
        "value": bytes(letter.value.as_deref()),
        "headers": headers,
    })
}

fn whole(
    place: LetterPlace,
    letter: &Letter,
    past: &Past,
    decoders: &mut Decoders<'_>,
) -> anyhow::Result<String> {
    let (lane, offset) = &letter.source;
    let mut out = String::new();
    writeln!(out, "letter    {place}  ({})", state(letter, past))?;
    writeln!(out, "record    {} partition {} offset {offset}", lane.topic, lane.partition)?;
    if letter.origin != letter.source {
        let (lane, offset) = &letter.origin;
        writeln!(out, "origin    {} partition {} offset {offset}", lane.topic, lane.partition)?;
    }
    writeln!(out, "time      {}", time(letter.timestamp_ms))?;
    writeln!(out, "attempts  {}", letter.attempts + past.failed)?;
    match &letter.key {
        Some(key) => writeln!(out, "key       {}", key.escape_ascii())?,
        None => writeln!(out, "key       none")?,
    }
    for (name, value) in &letter.headers {
        let value = value.as_ref().map_or("none".to_owned(), |value| value.escape_ascii().to_string());
        writeln!(out, "header    {}: {value}", name.escape_debug())?;
    }
    writeln!(out, "\nerror     {}", letter.message)?;
    let value = letter.value.as_deref();
    if let (Some(value), Some(at)) = (value, letter.at()) {
        out += &decode::excerpt(value, at);
    }
    writeln!(out, "remedy    {}", remedy(&letter.class))?;
    match value {
        None => out += "\nvalue: none\n",
        Some(value) => {
            writeln!(out, "\nvalue, {} bytes", value.len())?;
            out += &content(value);
        }
    }
    out += "\ntoday\n";
    let chunk = letter.record();
    if value.is_none() {
        out += "cannot be read: record has no value\n";
        return Ok(out);
    }
    match decoders.of(&lane.topic) {
        Ok(decoder) => out += &decode::explained(decoder, &chunk.record(0)),
        Err(error) => writeln!(out, "not known: {error:#}")?,
    }
    Ok(out)
}

/// Text as it is, anything else as a hex dump.
fn content(value: &[u8]) -> String {
    let is_plain = |text: &&str| text.chars().all(|c| !c.is_control() || c == '\n' || c == '\t' || c == '\r');
    if let Some(text) = std::str::from_utf8(value).ok().filter(is_plain) {
        return format!("{text}\n");
    }
    let line = |(n, bytes): (usize, &[u8])| {
        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String = bytes
            .iter()
            .map(|byte| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '·' })
            .collect();
        format!("{:08x}  {:47}  {text}\n", n * HEX_BYTES, hex.join(" "))
    };
    value.chunks(HEX_BYTES).enumerate().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::super::filter::tests::letter_at;
    use super::*;

    const PLACE: LetterPlace = LetterPlace { partition: 0, offset: 9 };

    #[test]
    fn a_table_has_a_line_a_letter() {
        let long = Letter { message: "x".repeat(100) + "\n", attempts: 2, ..letter_at(18) };
        let redriven = Past { is_redriven: true, ..Past::default() };
        let text = table(&[(PLACE, letter_at(17), redriven), (PLACE, long, Past::default())]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[0].starts_with("letter  time"), "{text}");
        assert!(
            lines[1].contains("readings  3          17      bad_time  redriven  bad_time: no time"),
            "{text}"
        );
        assert!(lines[2].contains("tried 2") && lines[2].ends_with(&"x".repeat(60)), "{text}");
    }

    #[test]
    fn one_letter_is_shown_whole_with_its_error_and_what_is_made_of_it_today() {
        let config = Config::default();
        let mut decoders = Decoders::new(&config);
        let text = whole(PLACE, &letter_at(17), &Past::default(), &mut decoders).unwrap();
        for part in
            ["letter    9", "readings partition 3 offset 17", "{\"a\":1}\n        ^", "today\ncannot be read"]
        {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
        let good = br#"{"machine":"m","sensor":"s","time":1,"value":1}"#;
        let letter = Letter { value: Some(good.to_vec()), ..letter_at(17) };
        let text = whole(PLACE, &letter, &Past::default(), &mut decoders).unwrap();
        assert!(text.contains("1 reading"), "{text}");
        let none = Letter { value: None, ..letter_at(17) };
        assert!(whole(PLACE, &none, &Past::default(), &mut decoders).unwrap().contains("no value"));
    }

    #[test]
    fn bytes_are_shown_as_text_or_in_hex_and_never_lost() {
        assert_eq!(content("größe\n".as_bytes()), "größe\n\n");
        let dump = content(&[0, 255, b'a']);
        assert!(dump.starts_with("00000000  00 ff 61 ") && dump.ends_with("··a\n"), "{dump:?}");
        assert_eq!(bytes(Some(&[255])), json!({ "base64": "/w==" }));
        assert_eq!((bytes(None), bytes(Some(b""))), (Value::Null, json!("")));
    }
}
