//! Puts the write side together and runs it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use rand::SeedableRng;
use rand::rngs::{StdRng, SysRng};
use stillwell_schema::Clock;
use stillwell_schema::health::{Board, State};
use stillwell_source::consumer::{self, ConsumerSettings};
use stillwell_source::dead_letters::DeadLetters;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::checkpoints::Checkpoints;
use crate::error::IngestError;
use crate::evidence::{self, EvidenceError};
use crate::gc;
use crate::keys::{self, rotation};
use crate::settings::IngestSettings;
use crate::stage::{Ingest, Limits, Shared};
use crate::store::{self, ArchiveStore};
use crate::workers::Threads;
use stillwell_source::backoff::{Backoff, Retry};

/// A chunk is the unit of decoding: large enough that handing it over costs nothing,
const CHUNK_BYTES: usize = 1 << 20;

/// young enough that decoding keeps pace with arrival.
const CHUNK_AGE: Duration = Duration::from_millis(100);

/// Runs the write side until `stop` is cancelled and everything received is durable.
///
/// # Errors
/// [`IngestError`] where it cannot start or go on at all; what passes by itself is shown on `board` and
/// waited out.
pub async fn run(
    settings: IngestSettings,
    clock: Arc<dyn Clock>,
    board: Board,
    stop: CancellationToken,
) -> Result<(), IngestError> {
    board.set("ingest", State::Starting, "opening the archive");
    let done = start(settings, clock, board.clone(), stop).await;
    match &done {
        Ok(()) => board.remove("ingest"),
        Err(error) => board.set("ingest", State::Failed, error.to_string()),
    }
    done
}

async fn start(
    settings: IngestSettings,
    clock: Arc<dyn Clock>,
    board: Board,
    stop: CancellationToken,
) -> Result<(), IngestError> {
    let Some(opened) = open_when_there(&settings, &*clock, &board, &stop).await? else { return Ok(()) };
    let Opened { store, key, random } = opened;
    let IngestSettings { kafka, topics, group, .. } = settings;
    let dead_letters = DeadLetters::new(&kafka).map_err(|e| IngestError::DeadLetters(e.to_string()))?;
    let limits = Limits {
        flush_interval: settings.flush_interval,
        file_bytes: settings.file_bytes,
        memory_bytes: settings.memory_bytes,
        retry: Retry::default(),
    };
    let checkpoints = Arc::new(Checkpoints {
        store,
        workers: Arc::new(Threads),
        key,
        writer: format!("stillwell-ingest/{}", Uuid::new_v4()),
        clock: Arc::clone(&clock),
        every: settings.checkpoint_interval,
    });
    let mut ingest = Ingest::new(Shared {
        store: Arc::clone(&checkpoints.store),
        workers: Arc::clone(&checkpoints.workers),
        key: checkpoints.key.clone(),
        writer: checkpoints.writer.clone(),
        clock: Arc::clone(&clock),
        random: Mutex::new(random),
        board: board.clone(),
        topics: topics.iter().map(|topic| (topic.name.clone(), topic.clone())).collect(),
        dead_letters,
        limits,
    });
    if let Some(compaction) = settings.compaction {
        ingest = ingest.compacting(compaction);
    }
    let consumer = ConsumerSettings {
        kafka,
        topics,
        group,
        stage: "ingest",
        chunk_bytes: CHUNK_BYTES,
        chunk_age: CHUNK_AGE,
        board: board.clone(),
    };
    board.set("ingest", State::Ok, "");
    let budget = ingest.budget();
    let over = stop.child_token();
    let running = async {
        let done = consumer::run(consumer, Arc::new(ingest), budget, clock, stop).await;
        over.cancel();
        done
    };
    let (done, ()) = futures::future::join(running, checkpoints.run(&over)).await;
    done?;
    checkpoints.write(Duration::ZERO).await;
    Ok(())
}

/// What the write side stands on.
struct Opened {
    store: Arc<dyn ArchiveStore>,
    key: SigningKey,
    random: StdRng,
}

/// The archive, probed, and the key; none where `stop` came while they were away.
async fn open_when_there(
    settings: &IngestSettings,
    clock: &dyn Clock,
    board: &Board,
    stop: &CancellationToken,
) -> Result<Option<Opened>, IngestError> {
    let mut backoff = Backoff::new(Retry::default(), u64::from(std::process::id()));
    loop {
        let (settings, before_us) = (settings.clone(), clock.now_us() - gc::AGE_US);
        let opened = match tokio::task::spawn_blocking(move || open(&settings, before_us)).await {
            Ok(opened) => opened,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        match opened {
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, "the archive is away");
                board.set("ingest", State::Waiting, error.to_string());
            }
            opened => return opened.map(Some),
        }
        tokio::select! {
            () = backoff.wait() => {}
            () = stop.cancelled() => return Ok(None),
        }
    }
}

fn open(settings: &IngestSettings, swept_before_us: i64) -> Result<Opened, IngestError> {
    let store = store::open(&settings.archive, &settings.archive_options)?;
    store::probe(&*store, &settings.archive.to_string())?;
    store::sweep(&*store, swept_before_us)?;
    if settings.key_file.exists() {
        rotation::settle(&settings.key_file, &*store)?;
    }
    if !settings.key_file.exists()
        && let Some(expected) = evidence::current_key(&*store)?
    {
        // A key made now would sign what no verification takes.
        let found = format!("none (there is no {})", settings.key_file.display());
        return Err(EvidenceError::ForeignKey { expected, found }.into());
    }
    let key = keys::load_or_create(&settings.key_file, &mut SysRng)?;
    evidence::check_key(&*store, &key)?;
    let random = StdRng::try_from_rng(&mut SysRng).map_err(|e| IngestError::Random(e.to_string()))?;
    Ok(Opened { store, key, random })
}
