//! Sweeps a lane in the background when its time has come.

use std::sync::Arc;

use stillwell_schema::{Head, TopicPartition};

use crate::gc::{self, Scope, Timetable};
use crate::stage::Shared;
use crate::workers::{Answer, JobKind};

/// Collects what dead writers of `lane` left, if that is due; `head` is of a commit of our own, just made.
pub(super) fn if_due<D>(shared: &Shared<D>, timetable: &Arc<Timetable>, lane: &TopicPartition, head: &Head) {
    let now_us = shared.clock.now_us();
    let Some(sweep) = timetable.begin(lane, now_us) else { return };
    let (store, timetable) = (Arc::clone(&shared.store), Arc::clone(timetable));
    let (lane, head) = (lane.clone(), head.clone());
    let job = move || -> Answer {
        let scope = Scope { from: &sweep.from, head: &head, before_us: now_us - gc::AGE_US };
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
