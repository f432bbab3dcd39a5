//! Waits for a commit, and says what it waits for: an error that passes, or a store that takes long.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};

use metrics::{Gauge, counter, gauge};
use stillwell_schema::TopicPartition;
use stillwell_schema::health::State;
use tokio::time::{Instant, sleep};

use crate::commit::{Commit, Outcome};
use crate::dead::DeadLetterSink;
use crate::stage::Shared;
use crate::store::StoreError;

/// Runs a commit to its end. While the store refuses or is silent, the lane takes in one more batch, or its part of
/// one where all lanes together hold much ([`crate::memory`]), and then pauses; `/health` and
/// `stillwell_store_wait_seconds` say so, and both end with the wait.
///
/// # Errors
/// [`StoreError`] of the permanent kind.
pub(super) async fn run<D: DeadLetterSink>(
    shared: &Shared<D>,
    lane: &TopicPartition,
    commit: Commit,
) -> Result<Outcome, StoreError> {
    let began = Instant::now();
    // The first error's words say more than that it takes long.
    let told = AtomicBool::new(false);
    let waits = Waits(gauge!("stillwell_store_wait_seconds", "topic" => lane.topic.to_string(),
        "partition" => lane.partition.to_string()));
    let mut committed = pin!(commit.run(|error| {
        told.store(true, Ordering::Relaxed);
        counter!("stillwell_errors_total", "stage" => "ingest", "kind" => "store").increment(1);
        waits.0.set(began.elapsed().as_secs_f64());
        shared.show(lane, State::Waiting, error.to_string());
    }));
    loop {
        tokio::select! {
            biased;
            outcome = &mut committed => return outcome,
            // As long as the longest wait between two attempts: sooner, a busy disk would look like an outage.
            () = sleep(shared.limits.retry.most) => {}
        }
        waits.0.set(began.elapsed().as_secs_f64());
        if !told.load(Ordering::Relaxed) {
            let seconds = began.elapsed().as_secs();
            let detail = format!(
                "the archive's store takes long: {seconds} s for one commit so far; look at its disk or the network to it, it goes on by itself"
            );
            shared.show(lane, State::Waiting, detail);
        }
    }
}

/// How long a lane's commit has been waiting: nothing, once it is over or given up.
struct Waits(Gauge);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.set(0.0);
    }
}
