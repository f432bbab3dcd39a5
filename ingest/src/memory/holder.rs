//! One lane's side of the memory: its open batch, and the batch on its way.

use std::sync::{Arc, PoisonError};

use stillwell_source::budget::{Claim, Part};
use tokio::sync::Notify;

use super::Memory;
use super::conflicts::{Asked, Conflict, Flushed};
use super::encoders::{self, Turn, Work};
use super::open::Key;

/// What a lane holds in its open batch.
#[derive(Debug)]
pub(crate) struct Holder {
    memory: Arc<Memory>,
    key: Key,
    wake: Arc<Notify>,
    claim: Option<Claim>,
}

impl Holder {
    pub(super) fn new(memory: Arc<Memory>, key: Key, wake: Arc<Notify>) -> Self {
        Self { memory, key, wake, claim: None }
    }

    /// Whether the open batch, which holds `bytes`, takes no more.
    pub(crate) fn is_full(&self, bytes: usize) -> bool {
        self.memory.is_full(&self.key, bytes)
    }

    /// The open batch holds `bytes` now, with what `chunk` was claimed for; where that is too much for all, the
    /// largest of all lanes goes.
    pub(crate) fn set_open(&mut self, bytes: usize, chunk: Option<Arc<Claim>>) {
        let before = self.claim.as_ref().map_or(0, Claim::bytes);
        match &mut self.claim {
            Some(claim) => claim.turn(Part::Batches, bytes),
            None => self.claim = Some(self.hold(Part::Batches, bytes)),
        }
        if let Some(chunk) = chunk {
            chunk.became(bytes.saturating_sub(before));
        }
        self.memory.open().set(&self.key, bytes);
        self.memory.relieve();
    }

    /// Counts records that are laid aside.
    pub(crate) fn lay_aside(&self, bytes: usize) -> Claim {
        self.hold(Part::Chunks, bytes)
    }

    fn hold(&self, part: Part, bytes: usize) -> Claim {
        self.memory.budget.hold(Some(&self.key.0), part, bytes)
    }

    /// Waits until that may be otherwise: the open batch is to go for the sake of all lanes, or there is room for it
    /// to grow. It may have come to nothing by then.
    pub(crate) async fn told(&self) {
        self.wake.notified().await;
    }

    /// The open batch, which holds `bytes`, is on its way.
    pub(crate) fn launch(&mut self, bytes: usize) -> Load {
        let mut claim = self.claim.take().unwrap_or_else(|| self.hold(Part::Encoders, bytes));
        claim.turn(Part::Encoders, bytes);
        self.memory.open().launched(&self.key);
        Load { memory: Arc::clone(&self.memory), claim }
    }

    /// The batch on its way is committed, or never will be.
    pub(crate) fn landed(&self) {
        self.memory.open().landed(&self.key);
        self.memory.relieve();
    }

    /// Takes note of how a batch came to go; what is to be said of it, if it is time.
    pub(crate) fn note(&self, flushed: Flushed, asked: Asked, now_us: i64) -> Option<Conflict> {
        let mut conflicts = self.memory.conflicts.lock().unwrap_or_else(PoisonError::into_inner);
        conflicts.note(flushed, asked, now_us)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.memory.open().leave(&self.key);
    }
}

/// What a batch on its way holds.
#[derive(Debug)]
pub(crate) struct Load {
    memory: Arc<Memory>,
    claim: Claim,
}

impl Load {
    /// Waits for a turn at encoding.
    pub(crate) async fn encoding(self, work: Work) -> Encoding {
        let Self { memory, mut claim } = self;
        let need = encoders::need(work, claim.bytes());
        let turn = memory.encoders.turn(need).await;
        claim.turn(Part::Encoders, claim.bytes() + need);
        Encoding { claim, _turn: turn }
    }
}

/// What a batch holds while it is encoded.
#[derive(Debug)]
pub(crate) struct Encoding {
    claim: Claim,
    _turn: Turn,
}

impl Encoding {
    /// It is encoded, as files of `bytes`; the claim for them is held until they are committed.
    pub(crate) fn done(self, bytes: usize) -> Claim {
        let Self { mut claim, .. } = self;
        claim.turn(Part::Files, bytes);
        claim
    }
}
