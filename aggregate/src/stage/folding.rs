//! A lane's readings on their way into its windows: decoded, folded and scored, with what they touch brought first.

use std::time::Duration;

use metrics::counter;
use stillwell_schema::health::State;
use stillwell_source::backoff::{Backoff, Retry};
use stillwell_source::chunk::RecordChunk;
use stillwell_source::compute::compute;
use stillwell_source::decode::{Decoded, Stalled, decode_chunk};
use stillwell_source::waiting::Waiting;
use tokio::time::Instant;

use super::{LaneTask, Work, elsewhere, part};
use crate::error::AggregateError;
use crate::fold::{Missing, Origin};
use crate::reload;
use crate::scoring::LaneScoring;
use crate::store::Store;

/// Between two tries of reading back.
const RETRY: Duration = Duration::from_millis(500);

impl<S: Store> LaneTask<'_, S> {
    /// Goes on with the records that wait, if it is time.
    pub(super) async fn try_again(&mut self) -> Result<(), AggregateError> {
        let Some(waiting) = self.waiting.take_if(|waiting| waiting.is_due()) else { return Ok(()) };
        let (rest, backoff) = waiting.into_parts();
        self.fold(rest, backoff).await?;
        if self.waiting.is_none() {
            self.shared.board.set(&part(&self.lane.id), State::Ok, "");
        }
        Ok(())
    }

    /// Decodes a chunk, brings what it touches, folds and scores it. What cannot be decoded for now waits.
    pub(super) async fn fold(
        &mut self,
        mut chunk: RecordChunk,
        backoff: Backoff,
    ) -> Result<(), AggregateError> {
        let Some(mut work) = self.work.take() else { return Err(AggregateError::Stopped) };
        let first = chunk.range().first;
        let (mut work, chunk, decoded, stalled, groups, missing) = compute(move || {
            let (decoded, stalled) = match decode_chunk(&mut *work.decoder, &chunk, &mut work.table) {
                Ok(decoded) => (decoded, None),
                Err(stalled) => {
                    let Stalled { decoded, at, error } = *stalled;
                    (decoded, Some((chunk.split_off(at), error)))
                }
            };
            let (groups, missing) = work.fold.gather(&decoded.columns, &work.table);
            (work, chunk, decoded, stalled, groups, missing)
        })
        .await;
        if let Some((rest, error)) = stalled {
            counter!("stillwell_errors_total", "stage" => "aggregate", "kind" => "decode").increment(1);
            let fresh = Waiting::backoff(Retry::default(), &self.lane.id);
            // What another record waits for is waited for from the first.
            let backoff = if rest.range().first > first { fresh } else { backoff };
            let waiting = self.waiting.insert(Waiting::new(rest, &error, backoff));
            self.shared.board.set(&part(&self.lane.id), State::Waiting, waiting.reason());
        }
        let next = chunk.range().next.0;
        if !self.bring(&missing, &mut work).await? {
            // Revoked: what was folded of this lane is of no use any more.
            return Ok(());
        }
        let (lane, mut tally) = (self.lane.id.clone(), std::mem::take(&mut self.tally));
        let (mut work, tally, readings) = compute(move || {
            let Decoded { columns, failures } = &decoded;
            tally.take(&chunk, failures);
            let origins = Origin::all(&chunk);
            work.fold.apply(&origins, columns, &groups, &work.table);
            let Work { table, fold, scoring, lateness, .. } = &mut *work;
            lateness.take(&origins, columns, table);
            scoring.take(&lane, &origins, columns, table, fold);
            (work, tally, decoded.columns.len())
        })
        .await;
        self.tally = tally;
        self.send_alerts(&mut work.scoring, next);
        let Some(work) = self.score_rest(work).await? else { return Ok(()) };
        self.work = Some(work);
        let is_suspect = self.tally.is_suspect(self.share_max);
        self.suspect_since = self.suspect_since.or_else(|| Some(Instant::now())).filter(|_| is_suspect);
        self.position = next;
        self.pace.changed(readings);
        counter!("stillwell_readings_total", "stage" => "aggregate").increment(readings as u64);
        Ok(())
    }

    /// Sends out what the records below `position` have raised.
    fn send_alerts(&mut self, scoring: &mut LaneScoring, position: i64) {
        if self.alerts.is_none() && scoring.may_alert() {
            self.alerts = Some(self.shared.alerting.open(&self.lane.id));
        }
        let raised = scoring.take_alerts();
        if let Some(alerts) = self.alerts.as_mut().filter(|_| !raised.is_empty()) {
            alerts.raise(raised, position);
        }
    }

    /// Folds scores in whose windows had left memory: a row may be longer than these stay. None where the lane is
    /// revoked meanwhile.
    async fn score_rest(&self, mut work: Box<Work>) -> Result<Option<Box<Work>>, AggregateError> {
        let missing = work.fold.missing_for_scores();
        if missing.is_empty() {
            return Ok(Some(work));
        }
        if !self.bring(&missing, &mut work).await? {
            return Ok(None);
        }
        work.fold.score_rest();
        Ok(Some(work))
    }

    /// Reads back what late data touches, for as long as it takes: the lane cannot go on without. False where
    /// the lane is revoked meanwhile.
    ///
    /// # Errors
    /// [`AggregateError::Moved`] where windows are written elsewhere meanwhile: what is asked for may be gone.
    async fn bring(&self, missing: &[Missing], work: &mut Work) -> Result<bool, AggregateError> {
        let (mut targets, now) = (self.targets.clone(), work.targets.clone());
        let (store, id, board) = (&self.shared.store, &self.lane.id, &self.shared.board);
        let bring = async {
            let mut waited = false;
            for some in reload::statements(missing) {
                while let Err(error) =
                    reload::windows(store, id, &work.targets, some, &mut work.fold, &work.table).await
                {
                    board.set(&part(id), error.state(), error.to_string());
                    waited = true;
                    tokio::time::sleep(RETRY).await;
                }
            }
            if waited {
                board.set(&part(id), State::Ok, "");
            }
        };
        tokio::select! {
            biased;
            () = self.lane.revoked.cancelled() => Ok(false),
            () = bring => Ok(true),
            () = elsewhere(&mut targets, &now) => Err(AggregateError::Moved),
        }
    }
}
