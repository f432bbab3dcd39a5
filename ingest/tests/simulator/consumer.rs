//! A partition in a process' hands, as the consumer treats it: looked up, opened, fed, closed, opened again.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use stillwell_ingest::IngestError;
use stillwell_ingest::evidence::EvidenceError;
use stillwell_ingest::manifest::ManifestError;
use stillwell_schema::Offset;
use stillwell_source::chunk::RecordChunk;
use stillwell_source::lane::{DisplayCommit, Lane, LaneEnd, Stage};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::log::Cursor;
use crate::process::{Process, Signals};
use crate::world::lane_id;

const POSITION_WITHIN: Duration = Duration::from_secs(15);
const REOPEN_MIN: Duration = Duration::from_millis(200);
const REOPEN_MAX: Duration = Duration::from_secs(10);
const CHUNKS_WAITING_MAX: usize = 4;
/// How often a chunk that waits for memory looks for it.
const MEMORY_LOOK: Duration = Duration::from_millis(50);

type Running = JoinHandle<Result<LaneEnd, IngestError>>;

/// Why a lane is fed no more.
enum Ended {
    /// By itself.
    Itself(Result<Result<LaneEnd, IngestError>, tokio::task::JoinError>),
    Revoked,
    Stopped,
    /// Retention overtook it.
    OutOfRange,
}

/// Keeps a lane open until it is told otherwise.
pub(crate) async fn consume(process: Arc<Process>, partition: i32, signals: Signals) {
    let mut wait = REOPEN_MIN;
    loop {
        let again = tokio::select! {
            biased;
            () = told(&process, &signals) => return,
            position = position(&process, partition) => position,
        };
        if let Some((start, low)) = again {
            let opened = tokio::time::Instant::now();
            if !live(&process, partition, &signals, start, low).await {
                return;
            }
            if opened.elapsed() > REOPEN_MAX {
                wait = REOPEN_MIN;
            }
        }
        tokio::select! {
            biased;
            () = told(&process, &signals) => return,
            () = sleep(wait) => wait = (wait * 2).min(REOPEN_MAX),
        }
    }
}

async fn told(process: &Process, signals: &Signals) {
    tokio::select! {
        biased;
        () = signals.revoked.cancelled() => {}
        () = signals.stop.cancelled() => {}
    }
    process.life.moves().await;
}

/// Where the lane starts and its log's low end; none where that cannot be told now.
async fn position(process: &Process, partition: i32) -> Option<(i64, i64)> {
    process.life.moves().await;
    let id = lane_id(partition);
    let position = match timeout(POSITION_WITHIN, process.stage.position(&id)).await {
        Ok(Ok(position)) => position,
        Ok(Err(error)) => {
            judge(process, &error);
            return None;
        }
        Err(_) => return None,
    };
    process.life.moves().await;
    let log = process.world.log(partition);
    let (low, end) = (log.low(), log.end());
    let start = position.map_or(low, |next| next.0);
    if start > end {
        process.world.fail(format!("{id} is archived up to {start}, but its log ends at {end}"));
        return None;
    }
    Some((start, low))
}

/// Runs the lane; false where the partition is not ours any more.
async fn live(process: &Arc<Process>, partition: i32, signals: &Signals, start: i64, low: i64) -> bool {
    let (chunks, received) = mpsc::channel(CHUNKS_WAITING_MAX);
    let revoked = CancellationToken::new();
    let id = lane_id(partition);
    let lane = Lane {
        id: id.clone(),
        start: Offset(start),
        chunks: received,
        revoked: revoked.clone(),
        display: DisplayCommit::new(id.clone(), process.display.clone()),
        end: Arc::<AtomicI64>::default(),
        received: Arc::<AtomicI64>::default(),
    };
    process.world.note(format_args!("{} opens {id} at {start}", process.life.name));
    let stage = Arc::clone(&process.stage);
    let mut running = tokio::spawn(async move { stage.run(lane).await });
    process.life.owns(running.abort_handle());
    let mut cursor = Cursor { next: start, earliest: low };
    let (ended, goes_on) = match feed(process, partition, signals, &mut cursor, &chunks, &mut running).await {
        Ended::Itself(ended) => (ended, true),
        Ended::Revoked => {
            revoked.cancel();
            drop(chunks);
            (running.await, false)
        }
        Ended::Stopped => {
            drop(chunks);
            (running.await, false)
        }
        Ended::OutOfRange => {
            process.world.counts.add("lanes overtaken by retention", 1);
            drop(chunks);
            (running.await, true)
        }
    };
    match ended {
        Ok(Ok(end)) => {
            process.world.note(format_args!("{} closes {id}: {end:?}", process.life.name));
            process.world.counts.add("lanes fenced", u64::from(end == LaneEnd::Restart));
        }
        Ok(Err(error)) => judge(process, &error),
        Err(error) if error.is_panic() => process.world.fail(format!("{id} panicked: {error}")),
        Err(_) => return false,
    }
    goes_on
}

async fn feed(
    process: &Process,
    partition: i32,
    signals: &Signals,
    cursor: &mut Cursor,
    chunks: &mpsc::Sender<RecordChunk>,
    running: &mut Running,
) -> Ended {
    loop {
        let delivered = tokio::select! {
            biased;
            () = told(process, signals) => {
                return if signals.revoked.is_cancelled() { Ended::Revoked } else { Ended::Stopped };
            }
            ended = &mut *running => return Ended::Itself(ended),
            delivered = deliver(process, partition, cursor, chunks) => delivered,
        };
        if !delivered {
            return Ended::OutOfRange;
        }
    }
}

/// Hands the lane its next chunk, once there is one and room for it; false where it can have none.
async fn deliver(
    process: &Process,
    partition: i32,
    cursor: &mut Cursor,
    chunks: &mpsc::Sender<RecordChunk>,
) -> bool {
    let (world, log) = (&process.world, process.world.log(partition));
    let Ok(room) = chunks.reserve().await else { return std::future::pending().await };
    sleep(Duration::from_millis(world.below(200))).await;
    log.grows_beyond(cursor.next).await;
    process.life.moves().await;
    if cursor.next.max(cursor.earliest) < log.low() {
        return false;
    }
    if world.chance(world.habits.repeats) {
        let back = cursor.next - world.below(6) as i64;
        if back >= log.low() && back >= cursor.earliest {
            world.counts.add("repeated deliveries", u64::from(back < cursor.next));
            cursor.next = back;
        }
    }
    if let Some(chunk) = log.read(partition, cursor, 1 + world.below(8)) {
        room.send(claimed(process, chunk).await);
    }
    true
}

/// The chunk with its share of the memory, once there is room.
async fn claimed(process: &Process, mut chunk: RecordChunk) -> RecordChunk {
    let budget = process.stage.budget();
    loop {
        if let Some(claim) = budget.try_claim(chunk.lane(), chunk.memory_bytes()) {
            chunk.hold(claim);
            return chunk;
        }
        process.world.counts.add("chunks that wait for memory", 1);
        sleep(MEMORY_LOOK).await;
        process.life.moves().await;
    }
}

/// The store's errors are its own; any other of these would stop a lane for good.
fn judge(process: &Process, error: &IngestError) {
    process.world.note(format_args!("{}: {error}", process.life.name));
    let passes = match error {
        IngestError::Store(_)
        | IngestError::Manifest(ManifestError::Store(_))
        | IngestError::Evidence(EvidenceError::Store(_)) => true,
        // The archive was empty, so that the lane was to start at the log's low end; meanwhile a zombie that knew
        // a lower one has begun it.
        IngestError::Ahead { .. } => true,
        _ => false,
    };
    if !passes {
        process.world.fail(format!("{} stands still: {error}", process.life.name));
    }
}
