//! Puts the write side together and runs it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::{StdRng, SysRng};
use stillwell_schema::Clock;
use stillwell_schema::health::{Board, State};
use stillwell_source::budget::Budget;
use stillwell_source::consumer::{self, ConsumerSettings};
use stillwell_source::dead_letters::DeadLetters;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::checkpoints::Checkpoints;
use crate::error::IngestError;
use crate::gc;
use crate::keys::{self, rotation};
use crate::settings::IngestSettings;
use crate::stage::{Ingest, Limits, Shared};
use crate::store::LocalStore;
use crate::workers::Threads;
use stillwell_source::backoff::Retry;

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
    let IngestSettings { kafka, topics, group, archive, key_file, .. } = settings;
    let swept_before_us = clock.now_us() - gc::AGE_US;
    let opened = tokio::task::spawn_blocking(move || -> Result<_, IngestError> {
        let store = LocalStore::open(&archive)?;
        store.sweep(swept_before_us)?;
        if key_file.exists() {
            rotation::settle(&key_file, &store)?;
        }
        let key = keys::load_or_create(&key_file, &mut SysRng)?;
        let random = StdRng::try_from_rng(&mut SysRng).map_err(|e| IngestError::Random(e.to_string()))?;
        Ok((store, key, random))
    });
    let (store, key, random) = match opened.await {
        Ok(opened) => opened?,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    };
    let dead_letters = DeadLetters::new(&kafka).map_err(|e| IngestError::DeadLetters(e.to_string()))?;
    let limits = Limits {
        flush_interval: settings.flush_interval,
        file_bytes: settings.file_bytes,
        memory_bytes: settings.memory_bytes,
        retry: Retry::default(),
    };
    let checkpoints = Arc::new(Checkpoints {
        store: Arc::new(store),
        workers: Arc::new(Threads),
        key,
        writer: format!("stillwell-ingest/{}", Uuid::new_v4()),
        clock: Arc::clone(&clock),
        every: settings.checkpoint_interval,
    });
    let ingest = Ingest::new(Shared {
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
    let budget = Budget::new(settings.memory_bytes);
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
