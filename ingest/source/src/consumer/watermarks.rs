//! Looks at the ends of the logs from aside, so that lag is known without disturbing the polling.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::gauge;
use rdkafka::consumer::{BaseConsumer, Consumer};
use stillwell_schema::TopicPartition;
use tokio_util::sync::CancellationToken;

use super::doubt::Marks;

const EVERY: Duration = Duration::from_secs(1);
const WITHIN: Duration = Duration::from_secs(2);

/// What is watched of one lane.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    pub(super) lane: TopicPartition,
    /// The log's end, set here.
    pub(super) end: Arc<AtomicI64>,
    /// What was received, set by the polling thread.
    pub(super) received: Arc<AtomicI64>,
    /// Both of the log's ends, set here.
    pub(super) marks: Arc<Marks>,
}

/// The lanes that are watched now.
pub(super) type Watchlist = Arc<Mutex<Vec<Watched>>>;

/// What the watch shows to the polling thread.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    /// The lanes that are watched now.
    pub(super) lanes: Watchlist,
    /// How often Kafka has answered.
    pub(super) answers: Arc<AtomicU64>,
}

/// Watches on a thread of its own until `stop`.
pub(super) fn watch(
    client: Arc<BaseConsumer>,
    (stage, topic): (&'static str, String),
    watch: Watch,
    stop: CancellationToken,
) {
    let thread = std::thread::Builder::new().name(format!("ends-{stage}"));
    let spawned = thread.spawn(move || {
        while !stop.is_cancelled() {
            look(&client, stage, &topic, &watch, &stop);
            // Errors pile up in the client unless they are fetched; the polling thread has its own.
            while client.poll(Duration::ZERO).is_some() {}
            std::thread::sleep(EVERY);
        }
    });
    if let Err(error) = spawned {
        tracing::warn!(%error, stage, "the logs' ends are not watched");
    }
}

fn look(client: &BaseConsumer, stage: &'static str, topic: &str, watch: &Watch, stop: &CancellationToken) {
    let watched = watch.lanes.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if watched.is_empty() && client.fetch_metadata(Some(topic), WITHIN).is_ok() {
        watch.answers.fetch_add(1, Ordering::Relaxed);
    }
    for Watched { lane, end, received, marks } in watched {
        if stop.is_cancelled() {
            return;
        }
        let Ok((low, high)) = client.fetch_watermarks(&lane.topic, lane.partition, WITHIN) else { continue };
        watch.answers.fetch_add(1, Ordering::Relaxed);
        end.store(high, Ordering::Relaxed);
        marks.set(low, high);
        let received = received.load(Ordering::Relaxed);
        let (topic, partition) = (lane.topic.to_string(), lane.partition.to_string());
        #[allow(clippy::cast_precision_loss, reason = "gauges are floats; offsets stay below 2^53")]
        {
            gauge!("stillwell_lag_records", "stage" => stage, "topic" => topic.clone(), "partition" => partition.clone())
                .set((high - received).max(0) as f64);
            gauge!("stillwell_watermark_offset", "stage" => stage, "topic" => topic, "partition" => partition,
                "mark" => "received")
            .set(received as f64);
        }
    }
}
