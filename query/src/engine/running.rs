//! What one statement runs under: its end, its cancellation, and its place among those that run.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use datafusion::error::DataFusionError;
use thiserror::Error;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::QueryError;

/// Why a statement was cut off.
#[derive(Clone, Copy, Debug, Error)]
pub enum Cut {
    /// Its time is up.
    #[error("the statement took longer than {0:?}")]
    Time(Duration),
    /// Its client cancelled it, or went.
    #[error("the statement was cancelled")]
    Cancelled,
}

impl From<Cut> for DataFusionError {
    fn from(cut: Cut) -> Self {
        Self::External(Box::new(cut))
    }
}

/// A place among the statements that run at once.
#[derive(Debug)]
pub(crate) struct Slot {
    _permit: OwnedSemaphorePermit,
}

impl Slot {
    pub(crate) fn new(permit: OwnedSemaphorePermit) -> Self {
        metrics::gauge!("stillwell_sql_running").increment(1.0);
        Self { _permit: permit }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        metrics::gauge!("stillwell_sql_running").decrement(1.0);
    }
}

/// One statement, or the statements that came in one message. It travels as an extension of the session's config
/// to where the plan is made and run.
#[derive(Debug)]
pub(crate) struct Running {
    time: Duration,
    ends: Instant,
    cancelled: CancellationToken,
    slot: Mutex<Option<Arc<Slot>>>,
}

impl Running {
    pub(crate) fn new(
        time: Duration,
        ends: Instant,
        cancelled: CancellationToken,
        slot: Option<Slot>,
    ) -> Self {
        Self { time, ends, cancelled, slot: Mutex::new(slot.map(Arc::new)) }
    }

    /// The time that is left.
    pub(crate) fn left(&self) -> Duration {
        self.ends.saturating_duration_since(Instant::now())
    }

    /// What cancels it.
    pub(crate) fn cancelled(&self) -> &CancellationToken {
        &self.cancelled
    }

    /// The slot, shared with each stream that runs.
    pub(crate) fn slot(&self) -> Option<Arc<Slot>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Leaves the slot to the streams that share it: the last of them frees it.
    pub(crate) fn leave(&self) {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Waits until it has to end.
    pub(crate) fn cut(&self) -> impl Future<Output = Cut> + Send + 'static {
        let (time, ends, cancelled) = (self.time, self.ends, self.cancelled.clone());
        async move {
            tokio::select! {
                () = tokio::time::sleep_until(ends) => Cut::Time(time),
                () = cancelled.cancelled() => Cut::Cancelled,
            }
        }
    }

    /// Runs `work`, but not beyond the end.
    pub(crate) async fn cap<T>(
        &self,
        work: impl Future<Output = Result<T, QueryError>>,
    ) -> Result<T, QueryError> {
        tokio::select! {
            biased;
            cut = self.cut() => Err(cut.into()),
            done = work => done,
        }
    }
}
