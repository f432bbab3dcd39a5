//! One process of the group: the real stage, with its lanes fed from the logs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use stillwell_ingest::stage::{Ingest, Shared};
use stillwell_ingest::store::ArchiveStore;
use stillwell_ingest::{DeadLetterError, DeadLetterSink};
use stillwell_schema::health::Board;
use stillwell_schema::{Clock, Offset, TopicPartition};
use stillwell_source::chunk::RecordRef;
use stillwell_source::dead_letters::{KafkaError, Waiting};
use stillwell_source::decode::DecodeError;
use stillwell_source::settings::TopicSettings;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::consumer;
use crate::oracle::signing_key;
use crate::store::Store;
use crate::workers::{Life, Simulated};
use crate::world::{TOPIC, World};

/// How long the consumer waits for a lane that was taken away.
const RELEASED_WITHIN: Duration = Duration::from_secs(10);

/// A stopping process is killed after that.
const STOPPED_WITHIN: Duration = Duration::from_secs(35);

pub(crate) struct Process {
    pub(crate) world: Arc<World>,
    pub(crate) life: Arc<Life>,
    pub(crate) stage: Arc<Ingest<Letters>>,
    pub(crate) display: mpsc::UnboundedSender<(TopicPartition, Offset)>,
    lanes: Mutex<BTreeMap<i32, Held>>,
}

/// A partition that the process has.
pub(crate) struct Held {
    signals: Signals,
    task: JoinHandle<()>,
}

/// What a consumer is told.
#[derive(Clone, Default)]
pub(crate) struct Signals {
    /// The partition went to another.
    pub(crate) revoked: CancellationToken,
    /// The process ends in order.
    pub(crate) stop: CancellationToken,
}

impl Process {
    pub(crate) fn start(world: &Arc<World>, store: &Arc<Store>, name: String) -> Arc<Self> {
        world.note(format_args!("{name} starts"));
        let life = Arc::new(Life::new(name.clone()));
        let topic = TopicSettings::new(TOPIC);
        let stage = Ingest::new(Shared {
            store: Arc::clone(store) as Arc<dyn ArchiveStore>,
            workers: Arc::new(Simulated { world: Arc::clone(world), life: Arc::clone(&life) }),
            key: signing_key(),
            writer: name,
            clock: Arc::new(Skewed { world: Arc::clone(world), by_us: world.below(600_000_000) as i64 }),
            random: Mutex::new(StdRng::seed_from_u64(world.below(u64::MAX))),
            board: Board::default(),
            topics: [(TOPIC.to_owned(), topic)].into(),
            dead_letters: Letters { world: Arc::clone(world), life: Arc::clone(&life) },
            limits: world.habits.limits,
        });
        let (display, shown) = mpsc::unbounded_channel();
        tokio::spawn(watch_positions(Arc::clone(world), Arc::clone(store), shown));
        Arc::new(Self {
            world: Arc::clone(world),
            life,
            stage: Arc::new(stage),
            display,
            lanes: Mutex::default(),
        })
    }

    /// Gives it a partition.
    pub(crate) async fn assign(self: &Arc<Self>, partition: i32) {
        self.release(partition).await;
        self.world.note(format_args!("{} gets {partition}", self.life.name));
        let signals = Signals::default();
        let task = tokio::spawn(consumer::consume(Arc::clone(self), partition, signals.clone()));
        self.life.owns(task.abort_handle());
        self.lanes.lock().unwrap().insert(partition, Held { signals, task });
    }

    /// Takes a partition away, and waits for its lane as long as the consumer does.
    pub(crate) async fn release(&self, partition: i32) {
        if let Some(held) = self.lose_sight(partition) {
            self.tell(held).await;
        }
    }

    /// The group thinks that the partition is not the process' any more, which goes on until it is told.
    pub(crate) fn lose_sight(&self, partition: i32) -> Option<Held> {
        let held = self.lanes.lock().unwrap().remove(&partition);
        if held.is_some() {
            self.world.note(format_args!("{} loses {partition}", self.life.name));
        }
        held
    }

    pub(crate) async fn tell(&self, mut held: Held) {
        held.signals.revoked.cancel();
        if timeout(RELEASED_WITHIN, &mut held.task).await.is_err() && !self.life.is_frozen() {
            held.task.abort();
        }
    }

    /// Ends in order: what was received is made durable. False where a lane did not end in time.
    pub(crate) async fn stop(&self) -> bool {
        self.world.note(format_args!("{} is to stop", self.life.name));
        self.world.counts.add("orderly stops", 1);
        let lanes = std::mem::take(&mut *self.lanes.lock().unwrap());
        lanes.values().for_each(|held| held.signals.stop.cancel());
        let mut all = true;
        for held in lanes.into_values() {
            all &= timeout(STOPPED_WITHIN, held.task).await.is_ok();
        }
        all
    }
}

/// Holds each position told to Kafka against the archive as it is then.
async fn watch_positions(
    world: Arc<World>,
    store: Arc<Store>,
    mut shown: mpsc::UnboundedReceiver<(TopicPartition, Offset)>,
) {
    while let Some((lane, Offset(next))) = shown.recv().await {
        world.note(format_args!("acknowledged {lane} up to {next}"));
        let archived = store.archived(lane.partition);
        if archived.is_none_or(|archived| archived < next) {
            world.fail(format!("{lane} acknowledged up to {next}, archived {archived:?}"));
        }
        let mut all = world.acknowledged.lock().unwrap();
        let highest = all.entry(lane.partition).or_insert(next);
        *highest = (*highest).max(next);
    }
}

/// A process' clock, which goes before the store's by minutes.
struct Skewed {
    world: Arc<World>,
    by_us: i64,
}

impl Clock for Skewed {
    fn now_us(&self) -> i64 {
        self.world.now_us() + self.by_us
    }
}

/// Takes dead letters, now and then only after a while, and refuses few for good.
pub(crate) struct Letters {
    world: Arc<World>,
    life: Arc<Life>,
}

impl DeadLetterSink for Letters {
    async fn send(
        &self,
        _: &str,
        lane: &TopicPartition,
        failed: &[(RecordRef<'_>, &DecodeError)],
        waiting: Waiting<'_>,
    ) -> Result<(), DeadLetterError> {
        let world = &self.world;
        while !world.is_calm() && world.chance(10) {
            waiting(&KafkaError::Canceled);
            sleep(Duration::from_millis(world.below(20_000))).await;
        }
        sleep(world.delay()).await;
        self.life.moves().await;
        let letters = failed.iter().map(|(record, _)| (lane.partition, record.offset.0));
        world.letters.lock().unwrap().extend(letters);
        world.counts.add("dead letters", failed.len() as u64);
        if world.chance(3) {
            let (letters, offset) = (failed.len(), failed[0].0.offset);
            return Err(DeadLetterError { refused: 1, letters, offset, error: KafkaError::Canceled });
        }
        Ok(())
    }
}
