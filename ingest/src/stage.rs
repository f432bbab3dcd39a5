//! The write side as a stage: where its lanes start, and what they share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use metrics::gauge;
use rand::Rng;
use rand::rngs::StdRng;
use stillwell_schema::health::{Board, State};
use stillwell_schema::{Clock, Head, Offset, TopicPartition};
use stillwell_source::backoff::Retry;
use stillwell_source::budget::Budget;
use stillwell_source::halt::Halts;
use stillwell_source::lane::{Lane, LaneEnd, Stage};
use stillwell_source::settings::TopicSettings;
use uuid::Uuid;

use crate::dead::DeadLetterSink;
use crate::error::IngestError;
use crate::evidence::{self, EvidenceError};
use crate::gc::Timetable;
use crate::keys::rotation;
use crate::lane;
use crate::life::compact::Settings;
use crate::manifest::{find_head, read_entry};
use crate::memory::Memory;
use crate::store::ArchiveStore;
use crate::workers::{Workers, on_store};

/// The write side's lanes.
pub struct Ingest<D> {
    shared: Arc<Shared<D>>,
    memory: Arc<Memory>,
    sweeps: Arc<Timetable>,
    halts: Halts,
}

/// What all lanes of a write side use.
pub struct Shared<D> {
    /// Where the archive lies.
    pub store: Arc<dyn ArchiveStore>,
    /// Who does what blocks or computes.
    pub workers: Arc<dyn Workers>,
    /// Signs the entries.
    pub key: SigningKey,
    /// Who writes, as entries state it: a name and a UUID made at process start.
    pub writer: String,
    /// Dates the entries.
    pub clock: Arc<dyn Clock>,
    /// Makes files' names unique: seeded by the system, or by a simulator.
    pub random: Mutex<StdRng>,
    /// Where lanes say how they are.
    pub board: Board,
    /// The topics by name.
    pub topics: BTreeMap<String, TopicSettings>,
    /// Where undecodable records go.
    pub dead_letters: D,
    /// The bounds of a batch.
    pub limits: Limits,
}

/// The bounds of a batch, and of waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A batch is committed when its first record is this old.
    pub flush_interval: Duration,
    /// A batch is committed when it holds this many bytes of keys, values and headers.
    pub file_bytes: usize,
    /// Memory for all that is not committed, over all lanes: where it runs short, the largest open batch is committed.
    pub memory_bytes: usize,
    /// Waits between attempts at a store that is away.
    pub retry: Retry,
}

impl<D> Ingest<D> {
    /// A write side without lanes yet.
    #[must_use]
    pub fn new(shared: Shared<D>) -> Self {
        Self {
            memory: Arc::new(Memory::new(shared.limits.memory_bytes)),
            shared: Arc::new(shared),
            sweeps: Arc::default(),
            halts: Halts::new("ingest"),
        }
    }

    /// The budget that all its lanes share, for the consumer that feeds them.
    #[must_use]
    pub fn budget(&self) -> Budget {
        self.memory.budget().clone()
    }

    /// The same, which also compacts its lanes.
    #[must_use]
    pub fn compacting(self, settings: Settings) -> Self {
        Self { sweeps: Arc::new(Timetable::compacting(settings)), ..self }
    }
}

impl<D: DeadLetterSink> Stage for Ingest<D> {
    type Error = IngestError;

    async fn position(&self, lane: &TopicPartition) -> Result<Option<Offset>, IngestError> {
        self.halts.check(lane).map_err(IngestError::Halted)?;
        let head = self.shared.head(lane).await.inspect_err(|error| self.shared.show_error(lane, error))?;
        Ok(head.next)
    }

    fn is_transient(error: &IngestError) -> bool {
        error.is_transient()
    }

    async fn run(&self, lane: Lane) -> Result<LaneEnd, IngestError> {
        let id = lane.id.clone();
        let holder = self.memory.enter(&id);
        let end = lane::run(Arc::clone(&self.shared), lane, holder, Arc::clone(&self.sweeps)).await;
        match &end {
            Ok(LaneEnd::Done) => {
                self.shared.board.remove(&part(&id));
                measure(&id, None);
            }
            Ok(LaneEnd::Restart) => {
                self.shared.show(&id, State::Starting, "another writer went ahead; starting over");
            }
            Err(IngestError::Halted(halted)) => {
                self.shared.show(&id, State::Failed, halted.to_string());
                self.halts.add(halted.clone());
            }
            Err(error) => self.shared.show_error(&id, error),
        }
        end
    }
}

impl<D> Shared<D> {
    pub(crate) async fn head(&self, lane: &TopicPartition) -> Result<Head, IngestError> {
        let (lane, key) = (lane.clone(), self.key.clone());
        let head = on_store(&*self.workers, &self.store, move |store| {
            // A key that was replaced must not sign again: within a lane, verification lets none come back.
            let ring = evidence::key_ring(store)?;
            if !rotation::is_current(ring.as_ref(), &key) {
                return Err(IngestError::KeyReplaced);
            }
            let head = find_head(store, &lane)?;
            // Where no change names the archive's key, the lane's own last entry does.
            if let (None, Some(last)) = (ring, head.seq.checked_sub(1))
                && let Some(signed) = read_entry(store, &lane, last)?
                && signed.entry.key != rotation::public(&key)
            {
                let (expected, found) = (signed.entry.key, rotation::public(&key));
                return Err(EvidenceError::ForeignKey { expected, found }.into());
            }
            Ok(head)
        });
        head.await
    }

    /// A UUID that no other batch has.
    pub(crate) fn unique(&self) -> Uuid {
        let mut bytes = [0; 16];
        self.random.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    pub(crate) fn show(&self, lane: &TopicPartition, state: State, detail: impl Into<String>) {
        self.board.set(&part(lane), state, detail);
        measure(lane, Some(state));
    }

    pub(crate) fn show_error(&self, lane: &TopicPartition, error: &IngestError) {
        let state = if error.is_transient() { State::Waiting } else { State::Failed };
        self.show(lane, state, error.to_string());
    }
}

/// Says a lane's state in the metrics: 1 for the one it is in, 0 for the others. None where it is another
/// process's by now.
fn measure(lane: &TopicPartition, now: Option<State>) {
    for (state, name) in STATES {
        gauge!("stillwell_lane_state", "stage" => "ingest", "topic" => lane.topic.to_string(),
            "partition" => lane.partition.to_string(), "state" => name)
        .set(f64::from(u8::from(now == Some(state))));
    }
}

const STATES: [(State, &str); 4] = [
    (State::Ok, "ok"),
    (State::Starting, "starting"),
    (State::Waiting, "waiting"),
    (State::Failed, "failed"),
];

/// A lane's name on the board.
fn part(lane: &TopicPartition) -> String {
    format!("ingest/{lane}")
}
