//! Writes a checkpoint every hour, and at an orderly stop.

use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use metrics::{counter, gauge};
use stillwell_schema::Clock;
use tokio_util::sync::CancellationToken;

use crate::evidence::{self, EvidenceError};
use crate::store::ArchiveStore;
use crate::workers::{Workers, on_store};

/// What writing checkpoints takes.
pub(crate) struct Checkpoints {
    pub(crate) store: Arc<dyn ArchiveStore>,
    pub(crate) workers: Arc<dyn Workers>,
    pub(crate) key: SigningKey,
    pub(crate) writer: String,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) every: Duration,
}

impl Checkpoints {
    /// Until `stop`.
    pub(crate) async fn run(&self, stop: &CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.every) => self.write(self.every / 2).await,
            }
        }
    }

    /// Writes one, unless another process of the same archive has just done so.
    pub(crate) async fn write(&self, not_within: Duration) {
        let (key, writer, now_us) = (self.key.clone(), self.writer.clone(), self.clock.now_us());
        let since_us = now_us.saturating_sub(i64::try_from(not_within.as_micros()).unwrap_or(i64::MAX));
        let written =
            on_store(&*self.workers, &self.store, move |store| match evidence::last_checkpoint(store)? {
                // One from a clock that is ahead must not keep the others from being written.
                Some(last) if (since_us + 1..=now_us).contains(&last.body.written_us) => Ok(Some(last)),
                _ => evidence::checkpoint(store, &key, &writer, now_us),
            });
        match written.await {
            Ok(Some(signed)) => show(signed.body.written_us),
            // Nothing is archived yet, or whoever was first has written the same.
            Ok(None) | Err(EvidenceError::Raced { .. }) => {}
            Err(error) => {
                counter!("stillwell_errors_total", "stage" => "ingest", "kind" => "checkpoint").increment(1);
                tracing::error!(%error, "no checkpoint was written; it is tried again at the next full interval");
            }
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "gauges are floats; microseconds of centuries stay below 2^53")]
fn show(written_us: i64) {
    gauge!("stillwell_checkpoint_time_seconds").set(written_us as f64 / 1e6);
}
