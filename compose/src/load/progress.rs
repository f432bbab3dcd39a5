//! How far a load is: a bar on a terminal, else a line every five seconds, both on stderr.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

const LINE_EVERY: Duration = Duration::from_secs(5);
/// The bar is not worth more than this many updates.
const BAR_EVERY: Duration = Duration::from_millis(100);

/// Progress of a load.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
    started: Instant,
    shown: Instant,
}

impl Progress {
    /// `steps` is what [`Progress::at`] counts to, if that is known.
    pub(super) fn new(steps: Option<u64>, quiet: bool) -> Self {
        let started = Instant::now();
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| bar(steps));
        Self { bar, quiet, started, shown: started }
    }

    /// Shows, if it is time again, that `step` is reached and `readings` are sent; `what` is asked for only
    /// then.
    pub(super) fn at(&mut self, step: u64, readings: u64, what: impl FnOnce() -> String) {
        let every = if self.bar.is_some() { BAR_EVERY } else { LINE_EVERY };
        if self.quiet || self.shown.elapsed() < every {
            return;
        }
        self.shown = Instant::now();
        let line = format!("{} readings, {}/s  {}", grouped(readings), grouped(self.rate(readings)), what());
        match &self.bar {
            Some(bar) => {
                bar.set_position(step);
                bar.set_message(line);
            }
            None => eprintln!("{line}"),
        }
    }

    /// Ends; what came of it is the caller's to say.
    pub(super) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }

    pub(super) fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn rate(&self, readings: u64) -> u64 {
        (readings as f64 / self.seconds().max(0.001)) as u64
    }
}

fn bar(steps: Option<u64>) -> ProgressBar {
    let (bar, template) = match steps {
        Some(steps) => (ProgressBar::new(steps), "{bar:30} {percent:>3}%  {msg}"),
        None => (ProgressBar::new_spinner(), "{spinner} {elapsed_precise}  {msg}"),
    };
    // The templates are constants, so that a failure is one of the tests below.
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_parse() {
        for template in ["{bar:30} {percent:>3}%  {msg}", "{spinner} {elapsed_precise}  {msg}"] {
            assert!(ProgressStyle::with_template(template).is_ok());
        }
    }

    #[test]
    fn digits_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
