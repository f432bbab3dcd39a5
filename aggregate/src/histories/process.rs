//! One process: the real stage with its real flusher, and its lanes fed from the logs.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use stillwell_schema::health::Board;
use stillwell_schema::{Clock, Offset};
use stillwell_source::chunk::RecordChunk;
use stillwell_source::halt::Halts;
use stillwell_source::lane::{DisplayCommit, Lane, LaneEnd, Stage};
use stillwell_source::settings::{KafkaSettings, TopicSettings};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::life::Life;
use super::store::Model;
use super::world::{TOPIC, World, lane_id};
use crate::flush::{Flusher, SNAPSHOTS_MAX};
use crate::fold::SeriesLimits;
use crate::run::look;
use crate::scoring::Scorer;
use crate::settings::ScoringSettings;
use crate::stage::{Aggregate, Alerting, Intervals, Room};
use crate::store::Targets;

/// How long the consumer waits for a lane that was taken away.
const RELEASED_WITHIN: Duration = Duration::from_secs(10);

/// A stopping process is killed after that.
const STOPPED_WITHIN: Duration = Duration::from_secs(35);

/// Between two tries of a lane that could not go on.
const AGAIN: Duration = Duration::from_millis(500);

/// Chunks that wait for their lane.
const CHUNKS_MAX: usize = 2;

/// Records of a chunk.
const RECORDS_MAX: u64 = 25;

/// Scores nothing; all histories share it, as it has a thread.
static SCORER: LazyLock<Arc<Scorer>> = LazyLock::new(|| {
    let settings = ScoringSettings { enabled: false, ..ScoringSettings::default() };
    Arc::new(Scorer::new(settings, Arc::new(Never)))
});

struct Never;

impl Clock for Never {
    fn now_us(&self) -> i64 {
        0
    }
}

pub(super) struct Process {
    pub(super) world: Arc<World>,
    pub(super) life: Arc<Life>,
    stage: Aggregate<Model>,
    lanes: Mutex<BTreeMap<i32, Held>>,
}

/// A partition that the process has.
pub(super) struct Held {
    signals: Signals,
    lane: AbortHandle,
    /// Ends with the lane.
    ended: JoinHandle<()>,
}

/// What a consumer is told.
#[derive(Clone, Default)]
struct Signals {
    /// The partition went to another.
    revoked: CancellationToken,
    /// The process ends in order.
    stop: CancellationToken,
}

impl Process {
    pub(super) fn start(world: &Arc<World>, name: String) -> Arc<Self> {
        world.note(format_args!("{name} starts"));
        let life = Arc::new(Life::new(name));
        let store = Model { world: Arc::clone(world), life: Arc::clone(&life) };
        let board = Board::default();
        let kafka = KafkaSettings { brokers: String::new(), properties: BTreeMap::new() };
        let clock = Arc::clone(world) as Arc<dyn Clock>;
        let (snapshots, waiting) = mpsc::channel(SNAPSHOTS_MAX);
        let flusher = Flusher::new(store.clone(), board.clone(), clock);
        own(world, &life, flusher.run(waiting));
        let (targets, known) = watch::channel(Targets::default());
        own(world, &life, look(store.clone(), targets));
        let habits = &world.habits;
        let stage = Aggregate {
            store,
            topics: vec![TopicSettings::new(TOPIC)],
            scorer: Arc::clone(&SCORER),
            alerting: Alerting { kafka, topic: String::new(), group: String::new(), board: board.clone() },
            snapshots,
            intervals: Intervals { fine: habits.fine, coarse: habits.coarse, few_series: habits.few_series },
            targets: known,
            board,
            room: Room::new(habits.windows_bytes_max),
            limits: SeriesLimits::NONE,
            series: Arc::default(),
            halts: Halts::new("aggregate"),
        };
        Arc::new(Self { world: Arc::clone(world), life, stage, lanes: Mutex::default() })
    }

    /// Gives it a partition.
    pub(super) async fn assign(self: &Arc<Self>, partition: i32) {
        self.release(partition).await;
        self.world.note(format_args!("{} gets {partition}", self.life.name));
        let signals = Signals::default();
        let consumer = consume(Arc::clone(self), partition, signals.clone());
        let (lane, ended) = own(&self.world, &self.life, consumer);
        self.lanes.lock().unwrap().insert(partition, Held { signals, lane, ended });
    }

    /// Takes a partition away, and waits for its lane as long as the consumer does. What it has on its way is
    /// still written.
    pub(super) async fn release(&self, partition: i32) {
        if let Some(held) = self.lose_sight(partition) {
            self.tell(held).await;
        }
    }

    /// The group thinks that the partition is not the process' any more, which goes on until it is told.
    pub(super) fn lose_sight(&self, partition: i32) -> Option<Held> {
        let held = self.lanes.lock().unwrap().remove(&partition);
        if held.is_some() {
            self.world.note(format_args!("{} loses {partition}", self.life.name));
        }
        held
    }

    pub(super) async fn tell(&self, mut held: Held) {
        held.signals.revoked.cancel();
        if timeout(RELEASED_WITHIN, &mut held.ended).await.is_err() {
            held.lane.abort();
        }
    }

    /// Ends in order: what was received is stored, if the store lets it.
    pub(super) async fn stop(&self) {
        self.world.note(format_args!("{} is to stop", self.life.name));
        self.world.counts.add("orderly stops", 1);
        let lanes = std::mem::take(&mut *self.lanes.lock().unwrap());
        lanes.values().for_each(|held| held.signals.stop.cancel());
        for held in lanes.into_values() {
            // A lane that does not end in time is killed with its process.
            let _ = timeout(STOPPED_WITHIN, held.ended).await;
        }
    }
}

/// Runs a task of a process until that dies; gives what ends it, and what ends with it. A panic in it fails the
/// history.
fn own(
    world: &Arc<World>,
    life: &Arc<Life>,
    task: impl Future<Output = ()> + Send + 'static,
) -> (AbortHandle, JoinHandle<()>) {
    let task = tokio::spawn(task);
    let abort = task.abort_handle();
    life.owns(abort.clone());
    let (world, name) = (Arc::clone(world), life.name.clone());
    let ended = tokio::spawn(async move {
        if task.await.is_err_and(|error| error.is_panic()) {
            world.fail(format!("{name} panicked"));
        }
    });
    (abort, ended)
}

/// What the consumer does for one partition: asks where to begin, runs the lane, and again where it begins anew.
async fn consume(process: Arc<Process>, partition: i32, signals: Signals) {
    let Signals { revoked, stop } = signals;
    let id = lane_id(partition);
    while !revoked.is_cancelled() && !stop.is_cancelled() {
        let Some(position) = revoked.run_until_cancelled(process.stage.position(&id)).await else { return };
        let Ok(position) = position else {
            sleep(AGAIN).await;
            continue;
        };
        let log = process.world.log(partition);
        let start = position.unwrap_or(Offset(log.first));
        if start > Offset(log.end()) || start < Offset(log.first) {
            process.world.fail(format!("partition {partition} goes on at {start}"));
            return;
        }
        process.world.note(format_args!("{}: {partition} from {start}", process.life.name));
        let (feeder, chunks) = mpsc::channel(CHUNKS_MAX);
        let (shown, _) = mpsc::unbounded_channel();
        let lane = Lane {
            id: id.clone(),
            start,
            chunks,
            revoked: revoked.child_token(),
            display: DisplayCommit::new(id.clone(), shown),
            end: Arc::new(AtomicI64::new(log.end())),
            received: Arc::default(),
        };
        let feeding = stop.run_until_cancelled(feed(&process.world, partition, start.0, feeder));
        let running = Box::pin(process.stage.run(lane));
        match tokio::join!(running, feeding).0 {
            Ok(LaneEnd::Done) => {}
            Ok(LaneEnd::Restart) => process.world.counts.add("lanes begun anew", 1),
            Err(error) => {
                process.world.note(format_args!("{}: {partition}: {error}", process.life.name));
                sleep(AGAIN).await;
            }
        }
    }
}

/// Feeds a lane what has arrived, until it takes no more.
async fn feed(world: &World, partition: i32, first: i64, feeder: mpsc::Sender<RecordChunk>) {
    let log = world.log(partition);
    let mut arrived = log.arrived.subscribe();
    let mut at = first;
    loop {
        tokio::select! {
            biased;
            () = feeder.closed() => return,
            more = arrived.wait_for(|arrived| *arrived > at) => if more.is_err() { return },
        }
        if world.chance(40) {
            sleep(Duration::from_millis(world.below(world.habits.pause_ms))).await;
        }
        let records = i64::try_from(1 + world.below(RECORDS_MAX)).unwrap();
        let next = (at + records).min(*arrived.borrow());
        if feeder.send(log.chunk(partition, at, next)).await.is_err() {
            return;
        }
        at = next;
    }
}
