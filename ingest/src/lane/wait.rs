//! A lane of the write side that cannot decode for now.

use metrics::counter;
use stillwell_schema::health::State;
use stillwell_source::backoff::Backoff;
use stillwell_source::chunk::RecordChunk;
use stillwell_source::decode::TransientError;
use stillwell_source::waiting::Waiting;

use super::Writer;
use crate::dead::DeadLetterSink;

impl<D: DeadLetterSink> Writer<D> {
    /// Lays `rest` aside until it is tried again.
    pub(super) fn wait_with(&mut self, rest: RecordChunk, error: &TransientError, backoff: Backoff) {
        counter!("stillwell_errors_total", "stage" => "ingest", "kind" => "decode").increment(1);
        tracing::debug!(lane = %self.id, offset = rest.range().first.0, %error, "decoding waits");
        self.waiting = Some(Waiting::new(rest, error, backoff));
        self.show_waiting();
    }

    /// Says what the lane waits for, if it does.
    pub(super) fn show_waiting(&self) {
        if let Some(waiting) = &self.waiting {
            self.shared.show(&self.id, State::Waiting, waiting.reason());
        }
    }
}
