//! Why a batch goes, and what that says of the user's freshness, file size and memory.

use std::time::Duration;

use metrics::{counter, histogram};
use stillwell_schema::health::State;
use tokio::time::Instant;

use super::{Open, Writer};
use crate::dead::DeadLetterSink;
use crate::memory::{Asked, Flushed, Slowest};

/// An entry lists its gaps, one for every transaction of a transactional topic: so many keep it below 1 MiB.
const GAPS_MAX: usize = 10_000;

/// Each record that cannot be decoded holds its error in memory until it is committed and is a dead letter to
/// be sent before that: so many take some 10 MB and seconds.
const FAILURES_MAX: usize = 50_000;

/// A batch that goes less late than this is no sign that freshness cannot be had.
const LATE_MIN: Duration = Duration::from_secs(1);

/// Why a batch goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Its first record is as old as it may be.
    Freshness,
    /// It makes a file as large as asked for.
    Size,
    /// It holds what it may, or others need what it holds.
    Memory,
    /// It has as many gaps as an entry may list.
    Gaps,
    /// It has as many records that cannot be decoded as it may.
    Failures,
    /// The lane ends.
    Stop,
}

impl Reason {
    fn name(self) -> &'static str {
        match self {
            Self::Freshness => "freshness",
            Self::Size => "size",
            Self::Memory => "memory",
            Self::Gaps => "gaps",
            Self::Failures => "failures",
            Self::Stop => "stop",
        }
    }
}

/// Why a commit takes long, and what mends it.
fn remedy(slowest: Slowest) -> &'static str {
    match slowest {
        Slowest::DeadLetters => {
            "sending the dead letters before them takes longer than that; look at kafka and the dead letter topic"
        }
        Slowest::Turn => {
            "batches wait longer than that for their turn at encoding; raise [ingest] memory_bytes_max or give the process more CPU"
        }
        Slowest::Commit => "commits take longer than that; give the process more CPU or a quicker store",
    }
}

impl<D: DeadLetterSink> Writer<D> {
    /// Why the open batch takes no more, if it does not.
    pub(super) fn full(&self) -> Option<Reason> {
        let batch = &self.open.as_ref()?.batch;
        if batch.payload_bytes() >= self.shared.limits.file_bytes {
            Some(Reason::Size)
        } else if batch.gaps() >= GAPS_MAX {
            Some(Reason::Gaps)
        } else if batch.failures() >= FAILURES_MAX {
            Some(Reason::Failures)
        } else if self.holder.is_full(batch.memory_bytes()) {
            Some(Reason::Memory)
        } else {
            None
        }
    }

    /// Says how a batch came to go: small files for the sake of freshness in the metrics alone, those for want of
    /// memory in the log too, and freshness that cannot be had on the board, until the batch is committed.
    pub(super) fn say_flush(&self, open: &Open, reason: Reason) {
        let (limits, bytes) = (&self.shared.limits, open.batch.payload_bytes());
        counter!("stillwell_flushes_total", "reason" => reason.name()).increment(1);
        #[allow(clippy::cast_precision_loss, reason = "histograms are floats")]
        histogram!("stillwell_batch_bytes").record(bytes as f64);
        let now = Instant::now();
        let late = now.saturating_duration_since(open.due);
        let left = open.due.saturating_duration_since(now);
        let age = limits.flush_interval.saturating_sub(left) + late;
        self.say_conflict(Flushed { by_memory: reason == Reason::Memory, bytes, age });
        if late > limits.flush_interval.max(LATE_MIN) {
            let detail = format!(
                "readings are archived {:.1} s later than flush_interval_ms asks for, as {}, or raise flush_interval_ms",
                late.as_secs_f64(),
                remedy(self.holder.slowest())
            );
            self.shared.show(&self.id, State::Waiting, detail);
        }
    }

    fn say_conflict(&self, flushed: Flushed) {
        let limits = &self.shared.limits;
        let (freshness, file_bytes, memory_bytes) =
            (limits.flush_interval, limits.file_bytes, limits.memory_bytes);
        let asked = Asked { freshness, file_bytes, memory_bytes };
        let Some(conflict) = self.holder.note(flushed, asked, self.shared.clock.now_us()) else { return };
        tracing::warn!(
            files = conflict.files,
            short = conflict.short,
            bytes = conflict.bytes,
            file_bytes_max = file_bytes,
            memory_bytes_max = memory_bytes,
            "{} of the last {} files were cut short by memory, at {} bytes of records on average; raise [ingest] memory_bytes_max to {}, or lower file_bytes_max to {}",
            conflict.short,
            conflict.files,
            conflict.bytes,
            conflict.memory_bytes,
            conflict.bytes,
        );
    }
}
