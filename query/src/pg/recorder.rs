//! Outcomes and durations of statements on the wire, in the metrics that HTTP has too.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use datafusion_postgres::pgwire::api::results::{Response, SendableRowStream};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::data::DataRow;
use futures::{Stream, StreamExt, stream};

use super::errors::{ours, wire_error};

/// Counts one statement when it is dropped.
pub(super) struct Recorder {
    started: Instant,
    outcome: &'static str,
}

impl Recorder {
    /// A statement whose outcome, if nothing else is said, is that its client cancelled it or took no more of it.
    pub(super) fn new(started: Instant) -> Self {
        Self { started, outcome: "cancelled" }
    }

    /// One more statement of the same message.
    pub(super) fn another(&self) -> Self {
        Self::new(self.started)
    }

    /// Counts nothing: it was no statement that runs.
    pub(super) fn forget(self) {
        std::mem::forget(self);
    }

    /// Counts a failure and gives it the form that clients know.
    pub(super) fn failed(mut self, error: PgWireError, text: Option<&str>) -> PgWireError {
        match ours(error) {
            Ok(error) => {
                self.outcome = error.outcome();
                wire_error(&error, text)
            }
            Err(other) => {
                self.outcome = "statement";
                other
            }
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        metrics::counter!("stillwell_sql_total", "outcome" => self.outcome).increment(1);
        metrics::histogram!("stillwell_sql_seconds").record(self.started.elapsed().as_secs_f64());
    }
}

/// Lets the rows of an answer count when they end.
pub(super) fn recorded(response: Response, mut recorder: Recorder) -> Response {
    let Response::Query(mut response) = response else {
        recorder.outcome = "ok";
        return response;
    };
    let rows = std::mem::replace(&mut response.data_rows, Box::pin(stream::empty()));
    response.data_rows = Box::pin(Rows { rows, recorder: Some(recorder) });
    Response::Query(response)
}

struct Rows {
    rows: SendableRowStream,
    recorder: Option<Recorder>,
}

impl Stream for Rows {
    type Item = PgWireResult<DataRow>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = std::task::ready!(self.rows.poll_next_unpin(cx));
        Poll::Ready(match next {
            Some(Err(error)) => Some(Err(match self.recorder.take() {
                Some(recorder) => recorder.failed(error, None),
                None => error,
            })),
            None => {
                if let Some(mut recorder) = self.recorder.take() {
                    recorder.outcome = "ok";
                }
                None
            }
            row => row,
        })
    }
}
