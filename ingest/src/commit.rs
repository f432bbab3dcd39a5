//! The commit: the one way by which a batch becomes part of the archive.
//!
//! ```text
//!            away: wait                       away: wait
//!            ┌──┐                               ┌──┐
//!            ▼  │       exists, unknown         ▼  │     other
//! start ─▶ Store ─▶ Create ───────────────▶ ReadBack ─────────▶ Fenced
//!             stored  │ ▲                      │ │
//!             created │ └──── absent: wait ────┘ │ own
//!                     ▼                          ▼
//!                 Committed ◀────────────────────┘
//! ```
//! Recovery, by what a crash leaves behind:
//!
//! | crash | the archive holds | the next writer |
//! |---|---|---|
//! | before or in `Store` | nothing, or files that no entry names | starts at the old head; the files are collected by age |
//! | before the creation in `Create` | files that no entry names | the same |
//! | after the creation | a whole commit | starts at the new head |
//! | a writer that lost its lane goes on | its own files | it reads other bytes, or finds the name taken: fenced |

use std::sync::Arc;

use bytes::Bytes;
use stillwell_schema::{Head, SignedEntry, TopicPartition, paths};
use stillwell_source::backoff::{Backoff, Retry};
use stillwell_source::budget::Claim;

use crate::store::{ArchiveStore, Creation, StoreError};
use crate::workers::{Workers, on_store};
use crate::writer::EncodedFile;

/// Where a commit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The data files are being stored.
    Store,
    /// The entry is being created: the only commit point.
    Create,
    /// Whether it was created is unknown: its name is read back.
    ReadBack,
    /// It is part of the archive.
    Committed,
    /// Another writer's entry has its place.
    Fenced,
}

/// What a step of a commit met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// All files are durable.
    Stored,
    /// The entry was created and is durable.
    Created,
    /// There is an entry of that name.
    Exists,
    /// The creation failed in a way that may have come after the fact.
    Unknown,
    /// The entry read back is this commit's own.
    Own,
    /// It is another writer's.
    Other,
    /// There is none.
    Absent,
    /// The store did not answer, or refused in a way that passes.
    Away,
}

impl State {
    /// All legal transitions.
    #[must_use]
    pub fn after(self, event: Event) -> Option<Self> {
        Some(match (self, event) {
            (Self::Store, Event::Away) => Self::Store,
            (Self::Store, Event::Stored) => Self::Create,
            (Self::Create, Event::Created) => Self::Committed,
            (Self::Create, Event::Exists | Event::Unknown) => Self::ReadBack,
            (Self::ReadBack, Event::Away) => Self::ReadBack,
            (Self::ReadBack, Event::Absent) => Self::Create,
            (Self::ReadBack, Event::Own) => Self::Committed,
            (Self::ReadBack, Event::Other) => Self::Fenced,
            _ => return None,
        })
    }
}

/// How a commit ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Durable; the lane's head is now this.
    Committed(Head),
    /// Another writer went ahead; nothing of this commit is in the archive.
    Fenced,
}

/// A commit under way.
pub struct Commit {
    store: Arc<dyn ArchiveStore>,
    workers: Arc<dyn Workers>,
    /// Path and bytes of each, in memory once, however long a put of it takes.
    files: Vec<(String, Bytes)>,
    claim: Option<Arc<Claim>>,
    path: String,
    entry: SignedEntry,
    backoff: Backoff,
}

impl Commit {
    /// The commit of `files` by `entry`.
    #[must_use]
    pub fn new(
        store: Arc<dyn ArchiveStore>,
        workers: Arc<dyn Workers>,
        files: Vec<EncodedFile>,
        entry: SignedEntry,
        retry: Retry,
    ) -> Self {
        let lane = TopicPartition::new(&*entry.entry.topic, entry.entry.partition);
        let path = paths::entry(&lane, entry.entry.seq);
        // Lanes that wait for the same disk must not come back in step; their entries' hashes differ.
        let seed = entry.sha256.bytes().fold(0u64, |seed, b| seed.rotate_left(5) ^ u64::from(b));
        let files = files.into_iter().map(|file| (file.file.path, Bytes::from(file.bytes))).collect();
        Self { store, workers, files, claim: None, path, entry, backoff: Backoff::new(retry, seed) }
    }

    /// Holds `claim` as long as its files are in memory: a put that hangs has them beyond the commit's own end.
    #[must_use]
    pub fn holding(self, claim: Claim) -> Self {
        Self { claim: Some(Arc::new(claim)), ..self }
    }

    /// Runs to its end. `waiting` hears of each error that is waited out. Dropping the future half way leaves
    /// what a crash would.
    ///
    /// # Errors
    /// [`StoreError`] of the permanent kind; the outcome is then unknown and the head to be read anew.
    pub async fn run(mut self, mut waiting: impl FnMut(&StoreError) + Send) -> Result<Outcome, StoreError> {
        let mut state = State::Store;
        loop {
            let step = match state {
                State::Store => self.store_files().await,
                State::Create => self.create().await,
                State::ReadBack => self.read_back().await,
                State::Committed => return Ok(Outcome::Committed(self.entry.head())),
                State::Fenced => return Ok(Outcome::Fenced),
            };
            let event = match (step, state) {
                (Ok(event), _) => event,
                (Err(error), _) if !error.is_transient() => return Err(error),
                (Err(error), State::Create) => {
                    waiting(&error);
                    Event::Unknown
                }
                (Err(error), _) => {
                    waiting(&error);
                    Event::Away
                }
            };
            if matches!(event, Event::Away | Event::Absent) {
                self.backoff.wait().await;
            }
            state = state.after(event).expect("each step meets only events of its own state");
        }
    }

    /// Both at once, each durable by itself. Both are waited for, whatever becomes of one: a put still under way
    /// could cut short what the next attempt has stored under the same name.
    async fn store_files(&self) -> Result<Event, StoreError> {
        let puts = (0..self.files.len()).map(|i| {
            let ((path, bytes), claim) = (self.files[i].clone(), self.claim.clone());
            on_store(&*self.workers, &self.store, move |store| {
                let _held = claim;
                store.put_shared(&path, &bytes)
            })
        });
        let stored: Result<(), _> = futures::future::join_all(puts).await.into_iter().collect();
        stored.map(|()| Event::Stored)
    }

    async fn create(&self) -> Result<Event, StoreError> {
        let (path, bytes) = (self.path.clone(), self.entry.bytes.clone());
        let creation =
            on_store(&*self.workers, &self.store, move |store| store.put_if_absent(&path, &bytes)).await?;
        Ok(match creation {
            Creation::Created => Event::Created,
            Creation::AlreadyExists => Event::Exists,
        })
    }

    async fn read_back(&self) -> Result<Event, StoreError> {
        let path = self.path.clone();
        let found = on_store(&*self.workers, &self.store, move |store| store.read_back(&path)).await?;
        Ok(match found {
            None => Event::Absent,
            Some(bytes) if bytes == self.entry.bytes => Event::Own,
            Some(_) => Event::Other,
        })
    }
}
