//! The polling thread.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::gauge;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use stillwell_schema::health::State;
use stillwell_schema::{Offset, TopicPartition};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::client::{Client, Rebalance, config};
use super::lanes::Lanes;
use super::watermarks::{Watchlist, watch};
use super::{ConsumerError, ConsumerSettings};
use crate::budget::Budget;
use crate::lane::Stage;

/// How long one poll waits for a record.
const POLL: Duration = Duration::from_millis(20);
/// How often lanes are tended and the clock is read.
const TEND: Duration = Duration::from_millis(10);
/// How many records may come between two looks at the clock.
const RECORDS_BETWEEN_LOOKS: u32 = 64;
const DISPLAY: Duration = Duration::from_secs(1);

/// Polls until `stop`, then lets every lane flush.
pub(super) fn run<S: Stage>(
    client: Client,
    settings: ConsumerSettings,
    stage: Arc<S>,
    budget: Budget,
    runtime: &Handle,
    stop: &CancellationToken,
) -> Result<(), ConsumerError> {
    let watched = Watchlist::default();
    watch(&config(&settings)?, settings.stage, Arc::clone(&watched), stop.child_token());
    let (display, mut positions) = mpsc::unbounded_channel();
    let mut weather = Weather { settings: settings.clone(), away: false };
    let stage_name = settings.stage;
    let mut lanes = Lanes::new(settings, stage, budget.clone(), runtime.clone(), display, watched);
    let (mut now, mut tended, mut displayed) = (Instant::now(), Instant::now(), Instant::now());
    let mut records = 0;
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
            Some(Err(error)) => weather.error(&error, &mut lanes, &client)?,
            None => {}
        }
        while let Some(rebalance) = client.context().next_rebalance() {
            match rebalance {
                Rebalance::Assign(partitions) => lanes.assign(&client, partitions),
                Rebalance::Revoke(partitions) => lanes.revoke(&client, &partitions),
            }
        }
        if now.duration_since(tended) >= TEND {
            lanes.tend(&client);
            tended = now;
        }
        if now.duration_since(displayed) >= DISPLAY {
            show_positions(&client, &mut positions);
            #[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
            gauge!("stillwell_memory_budget_used_bytes", "stage" => stage_name)
                .set(budget.used_bytes() as f64);
            displayed = now;
        }
    }
    lanes.stop();
    show_positions(&client, &mut positions);
    client.context().close();
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

/// Whether Kafka is there, said once a change.
struct Weather {
    settings: ConsumerSettings,
    away: bool,
}

impl Weather {
    #[inline]
    fn fine(&mut self) {
        if self.away {
            self.away = false;
            tracing::info!(stage = self.settings.stage, "kafka is back");
            self.settings.board.set(self.settings.stage, State::Ok, "");
        }
    }

    fn error<S: Stage>(
        &mut self,
        error: &KafkaError,
        lanes: &mut Lanes<S>,
        client: &Client,
    ) -> Result<(), ConsumerError> {
        match error {
            KafkaError::MessageConsumption(
                RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange,
            ) => {
                tracing::error!(%error, stage = self.settings.stage, "an offset is out of range; lanes start over");
                lanes.reopen_all(client);
            }
            KafkaError::MessageConsumptionFatal(_) => return Err(error.clone().into()),
            _ if !self.away => {
                self.away = true;
                let stage = self.settings.stage;
                tracing::warn!(%error, stage, "kafka is away; waiting for it");
                self.settings.board.set(stage, State::Waiting, format!("kafka is away: {error}"));
            }
            _ => {}
        }
        Ok(())
    }
}
