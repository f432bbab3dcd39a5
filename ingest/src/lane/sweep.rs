//! Keeps a lane in order in the background, when its time has come: sweeps and compacts it.

use std::sync::Arc;

use stillwell_schema::{Head, TopicPartition};

use super::compaction;
use crate::gc::{self, Scope, Timetable};
use crate::life::ledger::read_view;
use crate::stage::Shared;
use crate::workers::{Answer, JobKind};

/// A commit of our own that has landed.
pub(super) struct Commit<'a> {
    /// When it began.
    pub(super) launched_us: i64,
    /// The head after it.
    pub(super) head: &'a Head,
}

/// Merges small files of `lane` and collects what no reader of it is shown, where that is due.
pub(super) fn if_due<D>(
    shared: &Shared<D>,
    timetable: &Arc<Timetable>,
    lane: &TopicPartition,
    commit: Commit<'_>,
) {
    if let Some(schedule) = timetable.compactions() {
        compaction::if_due(shared, schedule, lane);
    }
    let Some(sweep) = timetable.begin(lane, shared.clock.now_us()) else { return };
    // Not by the time of its landing: this process may have slept since its entry was created, while a
    // successor that follows it has stored files and not come to its own creation yet.
    let launched_us = commit.launched_us;
    let (store, timetable) = (Arc::clone(&shared.store), Arc::clone(timetable));
    let (lane, head) = (lane.clone(), commit.head.clone());
    let job = move || -> Answer {
        let collected = read_view(&*store, &lane).and_then(|view| {
            let scope = Scope {
                from: &sweep.from,
                head: &head,
                view: &view,
                before_us: launched_us - gc::AGE_US,
                superseded_before_us: launched_us - gc::SUPERSEDED_AGE_US,
            };
            gc::collect(&*store, &lane, scope)
        });
        match collected {
            Ok(files) => {
                if files > 0 {
                    tracing::info!(%lane, files, "collected files that no reader is shown");
                }
                timetable.done(&lane, head);
            }
            Err(error) => tracing::warn!(%lane, %error, "files that no reader is shown were not collected"),
        }
        // Nobody waits; others may sweep from here on.
        Box::new(move || drop(sweep))
    };
    shared.workers.take(JobKind::Store, Box::new(job));
}
