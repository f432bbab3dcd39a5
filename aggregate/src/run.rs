//! Puts the parts together.

use std::sync::Arc;
use std::time::Duration;

use stillwell_schema::Clock;
use stillwell_schema::health::{Board, State};
use stillwell_source::budget::Budget;
use stillwell_source::consumer::{self, ConsumerSettings};
use stillwell_source::halt::Halts;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::error::AggregateError;
use crate::flush::{Flusher, SNAPSHOTS_MAX};
use crate::machines::Follower;
use crate::scoring::Scorer;
use crate::settings::AggregateSettings;
use crate::stage::{Aggregate, Alerting, FEW_SERIES, Intervals, Room};
use crate::store::{ClickHouse, Store, Targets};

/// Enough for one pass over the caches' worth of readings, little enough to be prompt.
const CHUNK_BYTES: usize = 1 << 20;
const CHUNK_AGE: Duration = Duration::from_millis(20);
/// How often it is looked where windows are written.
const LOOK: Duration = Duration::from_secs(1);

/// Runs the aggregator until `stop`: everything received by then is stored first. The tables must be there
/// ([`crate::migrate`]).
///
/// # Errors
/// [`AggregateError`] where it cannot go on at all; what passes by itself is shown on `board` and waited out.
pub async fn run(
    settings: AggregateSettings,
    clock: Arc<dyn Clock>,
    board: Board,
    stop: CancellationToken,
) -> Result<(), AggregateError> {
    let store = ClickHouse::new(&settings.clickhouse);
    let (snapshots, waiting) = mpsc::channel(SNAPSHOTS_MAX);
    let flusher = Flusher::new(store.clone(), board.clone(), Arc::clone(&clock));
    let mut flusher = tokio::spawn(flusher.run(waiting));
    let (targets, known) = watch::channel(Targets::default());
    let looking = tokio::spawn(look(store.clone(), targets));
    let follower = Follower {
        kafka: settings.kafka.clone(),
        topic: settings.machines_topic,
        store: store.clone(),
        board: board.clone(),
        clock: Arc::clone(&clock),
    };
    let aggregate = Aggregate {
        store,
        topics: settings.topics.clone(),
        scorer: Arc::new(Scorer::new(settings.scoring, Arc::clone(&clock))),
        alerting: Alerting {
            kafka: settings.kafka.clone(),
            topic: settings.alerts_topic,
            group: settings.group.clone(),
            board: board.clone(),
        },
        snapshots,
        intervals: Intervals {
            fine: settings.flush_interval,
            coarse: settings.coarse_flush_interval,
            few_series: FEW_SERIES,
        },
        targets: known,
        board: board.clone(),
        room: Room::new(settings.windows_bytes_max),
        limits: settings.series,
        series: Arc::default(),
        halts: Halts::new("aggregate"),
    };
    let consumer = ConsumerSettings {
        kafka: settings.kafka,
        topics: settings.topics,
        group: settings.group,
        stage: "aggregate",
        chunk_bytes: CHUNK_BYTES,
        chunk_age: CHUNK_AGE,
        board: board.clone(),
    };
    board.set("aggregate", State::Ok, "");
    let budget = Budget::new(settings.memory_bytes);
    let stop = stop.child_token();
    // It waits for what is away by itself, and stops nobody.
    tokio::spawn(follower.run(stop.clone()));
    let consumer = consumer::run(consumer, Arc::new(aggregate), budget, clock, stop.clone());
    tokio::pin!(consumer);
    let ended = tokio::select! {
        ended = &mut consumer => ended.map_err(AggregateError::from),
        // It ends by itself only after the lanes; else no lane can store anything any more.
        written = &mut flusher => {
            stop.cancel();
            let ended = consumer.await.map_err(AggregateError::from);
            written.map_err(|_| AggregateError::Stopped).and(ended)
        }
    };
    // The lanes are gone, and with them the flusher's queue.
    flusher.abort();
    looking.abort();
    stop.cancel();
    board.remove("aggregate");
    ended
}

/// Tells the lanes where windows are written. A lane that writes to where they were harms nobody, so an answer that
/// does not come can wait.
pub(crate) async fn look(store: impl Store, targets: watch::Sender<Targets>) {
    loop {
        tokio::time::sleep(LOOK).await;
        if let Ok(now) = store.targets().await {
            targets.send_if_modified(|known| std::mem::replace(known, now.clone()) != now);
        }
    }
}
