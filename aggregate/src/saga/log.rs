//! The lines of sagas, and where they are kept.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::lease::Lease;
use crate::error::AggregateError;

/// What happened to a saga or a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The saga is to be done; the detail says all that it takes.
    Planned,
    /// A step is begun.
    Started,
    /// It is done; the detail says what came of it.
    Done,
    /// A step was not done; it may be tried again.
    Failed,
    /// The saga is to be undone; or, of a step, its compensation is begun.
    Compensating,
    /// A step is undone.
    Compensated,
    /// All steps are done.
    Finished,
    /// All steps are undone.
    Undone,
    /// What was kept for an undo is gone.
    Forgotten,
}

impl Event {
    const ALL: [Self; 9] = [
        Self::Planned,
        Self::Started,
        Self::Done,
        Self::Failed,
        Self::Compensating,
        Self::Compensated,
        Self::Finished,
        Self::Undone,
        Self::Forgotten,
    ];

    /// Its name, as it is kept.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Started => "started",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Compensating => "compensating",
            Self::Compensated => "compensated",
            Self::Finished => "finished",
            Self::Undone => "undone",
            Self::Forgotten => "forgotten",
        }
    }

    /// The event of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.name() == name)
    }
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// The saga.
    pub saga: String,
    /// Number of the line within its saga, from 0. Two processes may write one number.
    pub seq: u64,
    /// The step; empty where the whole saga is meant.
    pub step: String,
    /// What happened.
    pub event: Event,
    /// What there is to say of it.
    pub detail: Value,
    /// Who did it or asked for it.
    pub by: String,
    /// Why.
    pub why: String,
    /// When, µs UTC.
    pub at_us: i64,
}

/// What a log answers, later.
pub trait Answer<T>: Future<Output = Result<T, AggregateError>> + Send {}

impl<T, F: Future<Output = Result<T, AggregateError>> + Send> Answer<T> for F {}

/// Where lines and leases are kept.
pub trait Log: Sync {
    /// The lines of one saga, in order.
    fn lines(&self, saga: &str) -> impl Answer<Vec<Line>>;

    /// Adds a line.
    fn append(&self, line: Line) -> impl Answer<()>;

    /// Who drives a saga; none where nobody ever did.
    fn lease(&self, saga: &str) -> impl Answer<Option<Lease>>;

    /// States who drives it: of several, the lease of the highest `beat` holds, of equal ones the last.
    fn hold(&self, saga: &str, lease: Lease) -> impl Answer<()>;
}
