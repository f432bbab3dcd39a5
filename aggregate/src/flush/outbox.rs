//! Snapshots whose rows are stored and whose alerts are not out yet: each waits for its own lane's alone.

use std::future::pending;

use tokio::task::JoinSet;

use super::Snapshot;
use crate::stage::Awaited;

/// They.
#[derive(Default)]
pub(super) struct Outbox(JoinSet<Option<Snapshot>>);

impl Outbox {
    /// Takes a snapshot in.
    pub(super) fn put(&mut self, snapshot: Snapshot, awaited: Awaited) {
        self.0.spawn(out(snapshot, awaited));
    }

    /// The next snapshot whose alerts are out; never, while there is none. Nothing is lost where the wait is given up.
    pub(super) async fn next(&mut self) -> Snapshot {
        loop {
            match self.0.join_next().await {
                None => pending().await,
                Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
                // Its lane is gone, whose successor replays it.
                Some(Ok(None)) => {}
                Some(Ok(Some(snapshot))) => return snapshot,
            }
        }
    }
}

async fn out(snapshot: Snapshot, mut awaited: Awaited) -> Option<Snapshot> {
    awaited.out().await.then_some(snapshot)
}
