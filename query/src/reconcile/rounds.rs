//! Goes through the hours while the read side runs: each round the newest ones, and some older ones in turn.

use std::io;
use std::sync::Arc;

use metrics::{counter, gauge};
use stillwell_schema::health::{Board, State};
use tokio_util::sync::CancellationToken;

use super::notes::Notes;
use super::results::Results;
use super::{HOUR_US, Outcome, Pace, Reconciler};
use crate::error::QueryError;
use crate::settings::ReconcileSettings;

/// Its name on the board.
const PART: &str = "query/reconcile";

/// Hours of each round: the current one and that before, which change; and older ones, which late data may.
const NEWEST: usize = 2;
const OLDER: usize = 4;

/// Compares, round after round, one hour at a time.
pub(crate) struct Rounds {
    reconciler: Reconciler,
    results: Arc<Results>,
    settings: ReconcileSettings,
    board: Board,
}

impl Rounds {
    pub(crate) fn new(
        reconciler: Reconciler,
        results: Arc<Results>,
        settings: ReconcileSettings,
        board: Board,
    ) -> Self {
        Self { reconciler, results, settings, board }
    }

    /// Runs until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        if let Some(interval) = self.settings.interval {
            self.board.set(PART, State::Ok, "nothing is compared yet");
            let rounds = async {
                let (mut notes, mut turn) = (None, Turn::default());
                loop {
                    tokio::time::sleep(interval).await;
                    let round = self.round(&mut notes, &mut turn).await;
                    self.show(round);
                }
            };
            stop.run_until_cancelled(rounds).await;
            self.board.remove(PART);
        } else {
            stop.cancelled().await;
        }
    }

    /// Compares the hours of a round; false where another process of this data folder does so.
    async fn round(&self, notes: &mut Option<Notes>, turn: &mut Turn) -> Result<bool, QueryError> {
        if notes.is_none() && !self.take_notes(notes).await {
            return Ok(false);
        }
        let now_us = self.reconciler.clock.now_us();
        let look_back_us = i64::try_from(self.settings.look_back.as_micros()).unwrap_or(i64::MAX);
        let from_us = now_us.saturating_sub(look_back_us);
        let hours = self.reconciler.hours_within(from_us, now_us.saturating_add(HOUR_US)).await?;
        for hour_us in turn.next(&hours) {
            let outcomes = self.reconciler.check(hour_us, None, Pace::Half).await?;
            counter!("stillwell_reconciled_hours_total").increment(1);
            self.results.put(hour_us, outcomes.clone());
            self.keep(notes, outcomes).await;
        }
        Ok(true)
    }

    /// Takes over the file of what was found; false where another process has it. What cannot be kept is compared
    /// all the same.
    async fn take_notes(&self, notes: &mut Option<Notes>) -> bool {
        let Some(path) = self.settings.file.clone() else { return true };
        match blocking(move || Notes::open(&path)).await {
            Ok(None) => return false,
            Ok(Some((opened, known))) => {
                for (hour_us, outcomes) in known {
                    self.results.put(hour_us, outcomes);
                }
                *notes = Some(opened);
            }
            Err(error) => not_kept(&error),
        }
        true
    }

    async fn keep(&self, notes: &mut Option<Notes>, found: Vec<Outcome>) {
        let Some(mut open) = notes.take() else { return };
        let results = Arc::clone(&self.results);
        let kept = blocking(move || {
            let kept = open.append(&found, || results.all());
            Ok((open, kept))
        });
        match kept.await {
            Ok((open, kept)) => {
                *notes = Some(open);
                if let Err(error) = kept {
                    not_kept(&error);
                }
            }
            Err(error) => not_kept(&error),
        }
    }

    fn show(&self, round: Result<bool, QueryError>) {
        let (differing, newest) = self.results.differing();
        #[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
        gauge!("stillwell_reconcile_differences").set(differing as f64);
        let (state, detail) = match (round, newest) {
            (_, Some(newest)) => (State::Failed, difference(differing, &newest)),
            (Err(QueryError::Internal(reason)), None) => (State::Failed, reason),
            (Err(error), None) => (State::Waiting, error.to_string()),
            (Ok(true), None) => (State::Ok, String::new()),
            (Ok(false), None) => (State::Ok, "another process of this data folder compares".to_owned()),
        };
        self.board.set(PART, state, detail);
    }
}

fn difference(differing: usize, newest: &Outcome) -> String {
    let hour = chrono::DateTime::from_timestamp_micros(newest.hour_us);
    let hour = hour.map_or_else(|| format!("{} µs", newest.hour_us), |hour| hour.to_rfc3339());
    format!(
        "views and archive differ in {differing} machine-hours, such as {} at {hour} ({}); the table reconciliation \
         lists them, and `stillwell rebuild readings_1h` makes the views anew from the archive",
        newest.machine, newest.detail
    )
}

fn not_kept(error: &io::Error) {
    tracing::warn!(%error, "what was compared is not kept over a restart; is the data folder writable?");
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Whose turn it is among the older hours.
#[derive(Debug, Default)]
struct Turn {
    /// The last one that was compared.
    last_us: Option<i64>,
}

impl Turn {
    /// The hours of the next round, of `hours`, the newest first.
    fn next(&mut self, hours: &[i64]) -> Vec<i64> {
        let (newest, older) = hours.split_at(hours.len().min(NEWEST));
        let after = self.last_us.map_or(0, |last| older.partition_point(|&hour| hour >= last));
        let after = if after == older.len() { 0 } else { after };
        let now = &older[after..older.len().min(after + OLDER)];
        self.last_us = now.last().copied().or(self.last_us);
        [newest, now].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_hours_have_every_round_and_the_others_their_turn() {
        let hours: Vec<i64> = (0..9).rev().collect();
        let mut turn = Turn::default();
        assert_eq!(turn.next(&hours), [8, 7, 6, 5, 4, 3]);
        assert_eq!(turn.next(&hours), [8, 7, 2, 1, 0]);
        // An hour later, the one before last is old, and has its turn with the others.
        let hours: Vec<i64> = (1..10).rev().collect();
        assert_eq!(turn.next(&hours), [9, 8, 7, 6, 5, 4]);
        assert_eq!(turn.next(&[]), [0i64; 0]);
        assert_eq!(turn.next(&[3]), [3]);
    }

    #[test]
    fn the_board_names_what_differs_and_what_mends_it() {
        let mut outcome =
            super::super::results::tests::outcome(0, "press-07", super::super::Verdict::Differs);
        outcome.detail = "oil: 3 readings, the archive holds 4".into();
        let text = difference(2, &outcome);
        assert!(
            text.contains("2 machine-hours") && text.contains("press-07 at 1970-01-01T00:00:00"),
            "{text}"
        );
        assert!(text.contains("stillwell rebuild"), "{text}");
    }
}
