//! Sweeps a lane in the background when its time has come.

use std::sync::Arc;

use stillwell_schema::{Head, TopicPartition};

use crate::gc::{self, Scope, Timetable};
use crate::stage::Shared;
use crate::workers::{Answer, JobKind};

/// A commit of our own that has landed.
pub(super) struct Commit<'a> {
    /// When it began.
    pub(super) launched_us: i64,
    /// The head after it.
    pub(super) head: &'a Head,
}

/// Collects what dead writers of `lane` left, if that is due.
pub(super) fn if_due<D>(
    shared: &Shared<D>,
    timetable: &Arc<Timetable>,
    lane: &TopicPartition,
    commit: Commit<'_>,
) {
    let Some(sweep) = timetable.begin(lane, shared.clock.now_us()) else { return };
    // Not by the time of its landing: this process may have slept since its entry was created, while a
    // successor that follows it has stored files and not come to its own creation yet.
    let before_us = commit.launched_us - gc::AGE_US;
    let (store, timetable) = (Arc::clone(&shared.store), Arc::clone(timetable));
    let (lane, head) = (lane.clone(), commit.head.clone());
    let job = move || -> Answer {
        let scope = Scope { from: &sweep.from, head: &head, before_us };
        match gc::collect(&*store, &lane, scope) {
            Ok(files) => {
                if files > 0 {
                    tracing::info!(%lane, files, "collected files that no entry names");
                }
                timetable.done(&lane, head);
            }
            Err(error) => tracing::warn!(%lane, %error, "unnamed files were not collected"),
        }
        // Nobody waits; others may sweep from here on.
        Box::new(move || drop(sweep))
    };
    shared.workers.take(JobKind::Store, Box::new(job));
}
