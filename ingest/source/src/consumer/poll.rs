//! The polling thread.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::gauge;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use stillwell_schema::{Offset, TopicPartition};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::client::{Client, Member, Rebalance};
use super::lanes::{Lanes, Sources};
use super::lookup::ends_client;
use super::properties::{ahead_bytes, config_within};
use super::watermarks::{Watch, watch};
use super::weather::Weather;
use super::{ConsumerError, ConsumerSettings};
use crate::budget::{Budget, Part};
use crate::lane::Stage;

/// How long one poll waits for a record.
const POLL: Duration = Duration::from_millis(20);
/// How often lanes are tended and the clock is read.
const TEND: Duration = Duration::from_millis(10);
/// How many records may come between two looks at the clock.
const RECORDS_BETWEEN_LOOKS: u32 = 64;
const DISPLAY: Duration = Duration::from_secs(1);
/// Displays between two nudges.
const NUDGE_EVERY: u32 = 10;

/// Polls until `stop`, then lets every lane flush.
pub(super) fn run<S: Stage>(
    client: Client,
    settings: ConsumerSettings,
    stage: Arc<S>,
    budget: Budget,
    runtime: &Handle,
    stop: &CancellationToken,
) -> Result<(), ConsumerError> {
    let client = Member(client);
    let config = config_within(&settings.kafka, &settings.group, budget.bytes_max())?;
    let ends = ends_client(&config)?;
    let watched = Watch::default();
    let topic = settings.topics.first().map(|topic| topic.name.clone()).unwrap_or_default();
    watch(Arc::clone(&ends), (settings.stage, topic), watched.clone(), stop.child_token());
    let (display, mut positions) = mpsc::unbounded_channel();
    let mut weather = Weather::new(&settings, Arc::clone(&watched.answers));
    let stage_name = settings.stage;
    let sources = Sources { stage, ends, watched: watched.lanes, ahead_bytes: ahead_bytes(&config) };
    let mut lanes = Lanes::new(settings, sources, budget.clone(), runtime.clone(), display);
    let (mut now, mut tended, mut displayed) = (Instant::now(), Instant::now(), Instant::now());
    let (mut records, mut displays) = (0, 0);
    while !stop.is_cancelled() {
        let polled = client.poll(POLL);
        records += 1;
        if polled.is_none() || records >= RECORDS_BETWEEN_LOOKS {
            records = 0;
            now = Instant::now();
        }
        match polled {
            Some(Ok(message)) => {
                weather.fine();
                lanes.take(&client, &message, now);
            }
            Some(Err(error)) => take_error(&error, &mut weather, &mut lanes, &client)?,
            None => {}
        }
        while let Some(rebalance) = client.context().next_rebalance() {
            match rebalance {
                Rebalance::Assign(partitions) => {
                    if !partitions.is_empty() {
                        weather.fine();
                    }
                    lanes.assign(&client, partitions);
                }
                Rebalance::Revoke(partitions) => lanes.revoke(&client, &partitions),
            }
        }
        if now.duration_since(tended) >= TEND {
            lanes.tend(&client);
            tended = now;
        }
        if now.duration_since(displayed) >= DISPLAY {
            show_positions(&client, &mut positions);
            weather.look(now);
            displays += 1;
            if displays % NUDGE_EVERY == 0 {
                lanes.nudge(&client);
            }
            show_memory(stage_name, &budget);
            displayed = now;
        }
    }
    lanes.stop();
    show_positions(&client, &mut positions);
    Ok(())
}

/// Commits the newest position of each lane, for lag display alone: a failure costs nothing but that.
fn show_positions(client: &Client, positions: &mut mpsc::UnboundedReceiver<(TopicPartition, Offset)>) {
    let mut newest = HashMap::new();
    while let Ok((lane, offset)) = positions.try_recv() {
        newest.insert(lane, offset);
    }
    let mut list = TopicPartitionList::new();
    for (lane, offset) in newest {
        let added = list.add_partition_offset(&lane.topic, lane.partition, rdkafka::Offset::Offset(offset.0));
        debug_assert!(added.is_ok());
    }
    if list.count() > 0
        && let Err(error) = client.commit(&list, CommitMode::Async)
    {
        tracing::debug!(%error, "positions are not displayed");
    }
}

/// Says what the stage holds of its budget, in all and by part.
#[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
fn show_memory(stage: &'static str, budget: &Budget) {
    gauge!("stillwell_memory_budget_bytes", "stage" => stage).set(budget.bytes_max() as f64);
    gauge!("stillwell_memory_budget_used_bytes", "stage" => stage).set(budget.used_bytes() as f64);
    gauge!("stillwell_memory_peak_bytes", "stage" => stage).set(budget.peak_bytes() as f64);
    for part in Part::ALL {
        gauge!("stillwell_memory_used_bytes", "stage" => stage, "part" => part.name())
            .set(budget.used_by(part) as f64);
    }
}

/// What an error of polling asks for.
fn take_error<S: Stage>(
    error: &KafkaError,
    weather: &mut Weather,
    lanes: &mut Lanes<S>,
    client: &Client,
) -> Result<(), ConsumerError> {
    use RDKafkaErrorCode as Code;
    match error {
        KafkaError::MessageConsumption(Code::AutoOffsetReset | Code::OffsetOutOfRange) => {
            tracing::warn!(%error, stage = weather.stage(), "an offset is out of range; looking whose");
            lanes.doubt_all();
        }
        KafkaError::MessageConsumption(Code::BadMessage | Code::BadCompression | Code::NotImplemented) => {
            weather.damage(error, Instant::now());
            lanes.be_wary();
        }
        KafkaError::MessageConsumptionFatal(_) => {
            return Err(match client.client().fatal_error() {
                Some((Code::FencedInstanceId, _)) => ConsumerError::Fenced,
                Some((code, reason)) => ConsumerError::Fatal { code, reason },
                None => error.clone().into(),
            });
        }
        _ => weather.trouble(error),
    }
    Ok(())
}
