//! Sagas: operations of several steps, each with a compensation, that end whole or undone whatever dies on the way.
//!
//! Reading order: a [`Saga`] names its steps, what each does and what undoes it; a [`Log`] keeps what was planned and
//! what became of it; [`Progress`] is what a log amounts to; a [`Driver`] takes the next step until there is none.
//!
//! **Invariant:** a step is begun only when those before it are done, and compensated only when those after it are;
//! a line is in the log before each step and after it. A step that was begun may have been done in part or whole, so
//! it is done again (or compensated): each is written so that a repetition changes nothing.
//!
//! One process drives a saga at a time, by a lease that it renews while it lives. A lease says nothing of a process
//! that stands still, so two may act at once for as long as the one that lost it has not looked: that the steps are
//! idempotent and the log is in order is what makes it harmless.

use std::future::Future;

use serde_json::Value;
use thiserror::Error;

use crate::error::AggregateError;

mod driver;
mod lease;
mod log;
mod progress;
mod stored;

pub use driver::{Die, Driver, Moment, Watch};
pub use lease::Lease;
pub use log::{Answer, Event, Line, Log};
pub use progress::{Phase, Progress};
pub use stored::StoredLog;

/// What a step does, later.
pub trait Act<T>: Future<Output = Result<T, StepError>> + Send {}

impl<T, F: Future<Output = Result<T, StepError>> + Send> Act<T> for F {}

/// An operation. All of its methods can be called again, in another process, after any of them was cut short.
pub trait Saga: Sync {
    /// The names of its steps, in order.
    fn steps(&self) -> &[&'static str];

    /// Does a step, by its place; what it gives is kept in the log.
    fn forward(&self, step: usize) -> impl Act<Value>;

    /// Undoes a step, whether it was done whole, in part or not at all.
    fn compensate(&self, step: usize) -> impl Act<Value>;

    /// Whether it can be undone as things are; asked before the first compensation.
    fn may_undo(&self) -> impl Act<()>;

    /// Removes what is kept for an undo only.
    fn forget(&self) -> impl Act<Value>;
}

/// Why a step was not done.
#[derive(Debug, Error)]
pub enum StepError {
    /// ClickHouse or the views.
    #[error(transparent)]
    Aggregate(#[from] AggregateError),
    /// What the step reads or writes elsewhere.
    #[error("{0}")]
    Elsewhere(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It waits for a decision; nothing is wrong.
    #[error("{0}")]
    Paused(String),
    /// It cannot be done as things are; the message names the remedy.
    #[error("{0}")]
    Refused(String),
}

/// Why a saga did not go on.
#[derive(Debug, Error)]
pub enum SagaError {
    /// The log cannot be read or written.
    #[error(transparent)]
    Log(#[from] AggregateError),
    /// A step was not done.
    #[error(
        "step {step} of {saga}: {source}; `stillwell saga resume {saga}` goes on, `stillwell saga undo {saga}` takes it back"
    )]
    Step {
        /// The saga.
        saga: String,
        /// The step.
        step: String,
        /// Why.
        source: Box<StepError>,
    },
    /// It waits for a decision.
    #[error("{saga}: {why}")]
    Paused {
        /// The saga.
        saga: String,
        /// For which.
        why: String,
    },
    /// It is not to be undone or forgotten.
    #[error("{saga} stays as it is: {why}")]
    Refused {
        /// The saga.
        saga: String,
        /// Why, and what mends it.
        why: String,
    },
    /// There is none of this name.
    #[error("there is no saga {0}; `stillwell saga list` shows all")]
    Unknown(String),
    /// Another of this name was begun before.
    #[error("a saga {0} is there already")]
    Taken(String),
    /// Another process drives it.
    #[error(
        "{saga} is driven by {owner}, last seen {age_s} s ago; if that process is gone, try again in {left_s} s"
    )]
    Driven {
        /// The saga.
        saga: String,
        /// By whom.
        owner: String,
        /// Since when it was not seen, s.
        age_s: i64,
        /// After how long it counts as gone, s.
        left_s: i64,
    },
    /// Another process has taken it over.
    #[error("{0} was taken over by another process")]
    Lost(String),
    /// It was asked to stop.
    #[error(
        "{0} was stopped on the way; `stillwell saga resume {0}` goes on, `stillwell saga undo {0}` takes it back"
    )]
    Stopped(String),
}

#[cfg(test)]
mod tests;
