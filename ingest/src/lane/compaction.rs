//! Compacts a lane in the background when its time has come.

use std::sync::Arc;

use metrics::counter;
use stillwell_schema::TopicPartition;

use crate::life::LifeError;
use crate::life::compact::{Policy, Schedule, compact};
use crate::life::ledger::Pen;
use crate::stage::Shared;
use crate::workers::{Answer, JobKind};

/// Merges small files of `lane`, if that is due. One lane of a process is compacted at a time, by one thread.
pub(super) fn if_due<D>(shared: &Shared<D>, schedule: &Arc<Schedule>, lane: &TopicPartition) {
    let now_us = shared.clock.now_us();
    let Some(turn) = schedule.begin(lane, now_us) else { return };
    let pen = Pen {
        store: Arc::clone(&shared.store),
        key: shared.key.clone(),
        writer: shared.writer.clone(),
        clock: Arc::clone(&shared.clock),
    };
    let (lane, settings) = (lane.clone(), schedule.settings());
    let job = move || -> Answer {
        let policy = Policy {
            file_bytes_target: settings.file_bytes_target,
            before_us: now_us - i64::try_from(settings.after.as_micros()).unwrap_or(i64::MAX),
            pieces_min: PIECES_MIN,
            level: settings.level,
        };
        let compacted = compact(&pen, &lane, policy, &|_| (), &mut |merged| {
            counter!("stillwell_compactions_total").increment(1);
            counter!("stillwell_compacted_bytes_total", "of" => "before").increment(merged.bytes_before);
            let after = merged.bytes_after.unwrap_or_default();
            counter!("stillwell_compacted_bytes_total", "of" => "after").increment(after);
            let (files, bytes) = (merged.files_before, merged.bytes_before);
            tracing::info!(%lane, files, bytes, bytes_after = after, "merged small files");
            true
        });
        match compacted {
            Ok(()) => {}
            // The other process did the same work.
            Err(LifeError::Raced(_)) => tracing::info!(%lane, "another process compacts this lane"),
            Err(error) => {
                tracing::warn!(%lane, %error, "the lane was not compacted; it is tried again later");
            }
        }
        // Nobody waits; other lanes may be compacted from here on.
        Box::new(move || drop(turn))
    };
    shared.workers.take(JobKind::Store, Box::new(job));
}

/// A run that is not full is merged where it saves so many files at least.
const PIECES_MIN: usize = 16;
