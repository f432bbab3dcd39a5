//! Goes through a topic from aside, with progress on stderr.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use stillwell_schema::Offset;
use stillwell_source::chunk::RecordRef;
use stillwell_source::dead_letters::letter::Letter;
use stillwell_source::scan::{End, Patience, Progress, Scan, ScanError, Stretch};
use stillwell_source::settings::KafkaSettings;
use tokio_util::sync::CancellationToken;

use super::filter::LetterPlace;

/// Between two lines where stderr is no terminal; a short look is done before the first.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Hands every letter of the topic to `each`, which may break off.
///
/// # Errors
/// Where the topic cannot be read, or `each` fails.
pub(super) fn letters(
    kafka: &KafkaSettings,
    topic: &str,
    stop: &CancellationToken,
    mut each: impl FnMut(LetterPlace, Letter) -> anyhow::Result<ControlFlow<()>>,
) -> anyhow::Result<End> {
    let mut foreign = 0u64;
    let end = records(kafka, topic, None, stop, |place, record| match Letter::parse(record) {
        Some(letter) => each(place, letter),
        None => {
            foreign += 1;
            Ok(ControlFlow::Continue(()))
        }
    })?;
    if foreign > 0 {
        note(&format!("{foreign} records of {topic} are no dead letters of ours and were passed over"));
    }
    Ok(end)
}

/// Hands every record of the topic, or the one at a place, to `each`.
///
/// # Errors
/// As [`letters`].
pub(super) fn records(
    kafka: &KafkaSettings,
    topic: &str,
    only: Option<LetterPlace>,
    stop: &CancellationToken,
    mut each: impl FnMut(LetterPlace, &RecordRef<'_>) -> anyhow::Result<ControlFlow<()>>,
) -> anyhow::Result<End> {
    let scan = Scan::new(kafka, topic)?;
    let stretches = match only {
        None => scan.whole()?,
        Some(LetterPlace { partition, offset }) => {
            vec![Stretch { partition, from: Offset(offset), to: Offset(offset + 1) }]
        }
    };
    let (mut failure, mut shown) = (None, Shown::new(topic));
    let end = scan.read(
        &stretches,
        Patience::default(),
        stop,
        |chunk| {
            let partition = chunk.lane().partition;
            for record in chunk.records() {
                let place = LetterPlace { partition, offset: record.offset.0 };
                match each(place, &record) {
                    Ok(ControlFlow::Continue(())) => {}
                    Ok(ControlFlow::Break(())) => return ControlFlow::Break(()),
                    Err(error) => {
                        failure = Some(error);
                        return ControlFlow::Break(());
                    }
                }
            }
            ControlFlow::Continue(())
        },
        |progress| shown.at(progress),
    );
    shown.finish();
    match failure {
        Some(error) => Err(error),
        None => Ok(end?),
    }
}

/// Whether that very topic is missing: a dead letter topic that nothing was ever sent to, an audit topic before the
/// first redrive, or a source topic that was deleted.
pub(super) fn is_missing(error: &anyhow::Error, topic: &str) -> bool {
    matches!(error.downcast_ref(), Some(ScanError::NoTopic(missing)) if missing == topic)
}

#[allow(clippy::print_stderr)]
pub(super) fn note(line: &str) {
    eprintln!("stillwell: {line}");
}

/// A bar on a terminal, else a line every five seconds.
struct Shown<'a> {
    topic: &'a str,
    bar: Option<ProgressBar>,
    last: Instant,
}

impl<'a> Shown<'a> {
    fn new(topic: &'a str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:30} {percent:>3}%  {msg}");
            ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { topic, bar, last: Instant::now() }
    }

    fn at(&mut self, progress: &Progress) {
        let Progress { offsets, offsets_total, records, .. } = *progress;
        match &self.bar {
            Some(bar) => {
                bar.set_length(offsets_total);
                bar.set_position(offsets);
                bar.set_message(format!("{records} records of {}", self.topic));
            }
            None if self.last.elapsed() >= LINE_EVERY => {
                self.last = Instant::now();
                note(&format!("{offsets} of {offsets_total} offsets of {} read", self.topic));
            }
            None => {}
        }
    }

    fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_is_missing_is_not_taken_for_another() {
        let error = anyhow::Error::new(ScanError::NoTopic("readings".to_owned()));
        assert!(is_missing(&error, "readings"));
        assert!(!is_missing(&error, "readings.dlq"));
        assert!(!is_missing(&anyhow::anyhow!("away"), "readings"));
    }
}
