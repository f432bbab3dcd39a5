//! What each part says of itself: the board behind `/health`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

/// The state of one part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Works.
    Ok,
    /// Not ready yet.
    Starting,
    /// Waits for something outside (store, broker, disk space) and goes on by itself.
    Waiting,
    /// Needs an operator.
    Failed,
}

/// What a part says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Its state.
    pub state: State,
    /// Why, where it is not ok: what is wrong and what mends it.
    pub detail: String,
}

/// A board that all parts of a process write and `/health` reads. Parts are named `stage` or
/// `stage/topic/partition`.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<BTreeMap<String, Status>>>);

impl Board {
    /// Sets what `part` says now.
    pub fn set(&self, part: &str, state: State, detail: impl Into<String>) {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.insert(part.to_owned(), Status { state, detail: detail.into() });
    }

    /// Takes a part off the board.
    pub fn remove(&self, part: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(part);
    }

    /// All parts now.
    #[must_use]
    pub fn read(&self) -> BTreeMap<String, Status> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The worst state on the board; an empty board is starting.
    #[must_use]
    pub fn worst(&self) -> State {
        self.read().values().map(|s| s.state).max().unwrap_or(State::Starting)
    }
}
