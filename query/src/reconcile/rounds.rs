//! Goes through the hours while the read side runs: each round the newest ones, some older ones in turn, and some of
//! those that differ, whatever their age, so that what was mended is seen.

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

/// Hours of each round that differed when they were last compared.
const DIFFERING: usize = 4;

/// What a round asks.
pub(crate) trait Hours: Send + Sync {
    /// The hours that start within `from_us..until_us` and may hold something, the newest first.
    fn within(
        &self,
        from_us: i64,
        until_us: i64,
    ) -> impl Future<Output = Result<Vec<i64>, QueryError>> + Send;

    /// Compares an hour.
    fn check(&self, hour_us: i64) -> impl Future<Output = Result<Vec<Outcome>, QueryError>> + Send;

    /// Now, µs UTC.
    fn now_us(&self) -> i64;
}

impl Hours for Reconciler {
    async fn within(&self, from_us: i64, until_us: i64) -> Result<Vec<i64>, QueryError> {
        self.hours_within(from_us, until_us).await
    }

    async fn check(&self, hour_us: i64) -> Result<Vec<Outcome>, QueryError> {
        Reconciler::check(self, hour_us, None, Pace::Half).await
    }

    fn now_us(&self) -> i64 {
        self.clock.now_us()
    }
}

/// Compares, round after round, one hour at a time.
pub(crate) struct Rounds<H = Reconciler> {
    hours: H,
    results: Arc<Results>,
    settings: ReconcileSettings,
    board: Board,
}

impl<H: Hours> Rounds<H> {
    pub(crate) fn new(hours: H, results: Arc<Results>, settings: ReconcileSettings, board: Board) -> Self {
        Self { hours, results, settings, board }
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

    /// Compares the hours of a round; false where another process of this data folder does so. One that cannot be
    /// compared holds up no other.
    ///
    /// # Errors
    /// The first one, when all others are compared.
    async fn round(&self, notes: &mut Option<Notes>, turn: &mut Turn) -> Result<bool, QueryError> {
        if notes.is_none() && !self.take_notes(notes).await {
            return Ok(false);
        }
        let now_us = self.hours.now_us();
        let look_back_us = i64::try_from(self.settings.look_back.as_micros()).unwrap_or(i64::MAX);
        let from_us = now_us.saturating_sub(look_back_us);
        let hours = self.hours.within(from_us, now_us.saturating_add(HOUR_US)).await?;
        let mut failed = None;
        for hour_us in turn.next(&hours, &self.results.differing_hours()) {
            match self.hours.check(hour_us).await {
                Ok(outcomes) => {
                    counter!("stillwell_reconciled_hours_total").increment(1);
                    self.results.put(hour_us, outcomes.clone());
                    self.keep(notes, hour_us, outcomes).await;
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(true), Err)
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

    async fn keep(&self, notes: &mut Option<Notes>, hour_us: i64, found: Vec<Outcome>) {
        let Some(mut open) = notes.take() else { return };
        let results = Arc::clone(&self.results);
        let kept = blocking(move || {
            let kept = open.append(hour_us, &found, || results.known());
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
    let remedy = match newest.lacking {
        0 => {
            "`stillwell rebuild readings_1h` makes the view anew from the archive, `stillwell rebuild fleet_1h` its totals"
        }
        _ => {
            "here the archive lacks readings that the views have, which a rebuild would lose: has retention erased \
             them? `stillwell verify` says whether the archive is whole"
        }
    };
    format!(
        "views and archive differ in {differing} machine-hours, such as {} at {hour} ({}); the table reconciliation \
         lists them; {remedy}",
        newest.machine, newest.detail
    )
}

fn not_kept(error: &io::Error) {
    tracing::warn!(%error, "what was compared is not kept over a restart; is the data folder writable?");
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Whose turn it is.
#[derive(Debug, Default)]
struct Turn {
    older: Cursor,
    differing: Cursor,
}

impl Turn {
    /// The hours of the next round, of `hours` and of those that differ, both the newest first.
    fn next(&mut self, hours: &[i64], differing: &[i64]) -> Vec<i64> {
        let (newest, older) = hours.split_at(hours.len().min(NEWEST));
        let mut now = [newest, self.older.next(older, OLDER)].concat();
        let differing: Vec<i64> = differing.iter().copied().filter(|hour| !now.contains(hour)).collect();
        now.extend(self.differing.next(&differing, DIFFERING));
        now
    }
}

/// A place in hours that come and go.
#[derive(Debug, Default)]
struct Cursor {
    /// The last one that was compared.
    last_us: Option<i64>,
}

impl Cursor {
    /// The next `count` of `hours`, the newest first, and from the newest on again after the last.
    fn next<'a>(&mut self, hours: &'a [i64], count: usize) -> &'a [i64] {
        let after = self.last_us.map_or(0, |last| hours.partition_point(|&hour| hour >= last));
        let after = if after == hours.len() { 0 } else { after };
        let now = &hours[after..hours.len().min(after + count)];
        self.last_us = now.last().copied().or(self.last_us);
        now
    }
}

#[cfg(test)]
mod tests;
