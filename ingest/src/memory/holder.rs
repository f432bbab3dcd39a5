//! One lane's side of the memory: its decoder, its open batch, and the batch on its way.

use std::sync::{Arc, PoisonError};

use stillwell_source::budget::{Claim, Part};
use tokio::sync::Notify;

use super::Memory;
use super::conflicts::{Asked, Conflict, Flushed};
use super::encoders::{self, Turn, Work};
use super::flown::{Flown, Slowest};
use super::open::Key;

/// What a lane holds in its open batch and its decoder.
#[derive(Debug)]
pub(crate) struct Holder {
    memory: Arc<Memory>,
    key: Key,
    wake: Arc<Notify>,
    claim: Option<Claim>,
    /// For its decoder, and of no lane: a lane that holds that alone gets its chunk as one that holds nothing.
    decoder: Claim,
    flying: Option<Arc<Flown>>,
    slowest: Slowest,
}

impl Holder {
    pub(super) fn new(memory: Arc<Memory>, key: Key, wake: Arc<Notify>) -> Self {
        let decoder = memory.budget.hold(None, Part::Decoders, 0);
        Self { memory, key, wake, claim: None, decoder, flying: None, slowest: Slowest::default() }
    }

    /// What the lane's decoder knows holds `bytes` now.
    pub(crate) fn set_decoder(&mut self, bytes: usize) {
        self.decoder.turn(Part::Decoders, bytes);
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
        let flown = Arc::new(Flown::new());
        self.flying = Some(Arc::clone(&flown));
        Load { memory: Arc::clone(&self.memory), claim, flown }
    }

    /// The batch on its way is committed, or never will be.
    pub(crate) fn landed(&mut self) {
        if let Some(flown) = self.flying.take() {
            self.slowest = flown.slowest();
        }
        self.memory.open().landed(&self.key);
        self.memory.relieve();
    }

    /// What the batch that landed last took longest for.
    pub(crate) fn slowest(&self) -> Slowest {
        self.slowest
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
    flown: Arc<Flown>,
}

impl Load {
    /// Waits for a turn at encoding.
    pub(crate) async fn encoding(self, work: Work) -> Encoding {
        let Self { memory, mut claim, flown } = self;
        let need = encoders::need(work, claim.bytes());
        flown.asks();
        let turn = memory.encoders.turn(need).await;
        flown.encodes();
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
        claim.leave_lane();
        claim
    }
}
