//! The polling thread.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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

use super::client::{Client, Member, Rebalance, config};
use super::lanes::{Lanes, Sources};
use super::lookup::ends_client;
use super::watermarks::{Watch, watch};
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
    let ends = ends_client(&config(&settings)?)?;
    let watched = Watch::default();
    let topic = settings.topics.first().map(|topic| topic.name.clone()).unwrap_or_default();
    watch(Arc::clone(&ends), (settings.stage, topic), watched.clone(), stop.child_token());
    let (display, mut positions) = mpsc::unbounded_channel();
    let mut weather =
        Weather { settings: settings.clone(), trouble: None, answers: Arc::clone(&watched.answers) };
    let stage_name = settings.stage;
    let sources = Sources { stage, ends, watched: watched.lanes };
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
            Some(Err(error)) => weather.error(&error, &mut lanes, &client)?,
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
            weather.look();
            displays += 1;
            if displays % NUDGE_EVERY == 0 {
                lanes.nudge(&client);
            }
            #[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
            gauge!("stillwell_memory_budget_used_bytes", "stage" => stage_name)
                .set(budget.used_bytes() as f64);
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

/// Whether Kafka is there, said once a change.
struct Weather {
    settings: ConsumerSettings,
    trouble: Option<Trouble>,
    /// How often Kafka has answered the watch.
    answers: Arc<AtomicU64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// Not reached when it had answered so often; another answer or a record ends it.
    Away { answers: u64 },
    /// It answers, and says no; a record or an assignment ends it.
    Refused,
}

impl Trouble {
    fn of(code: Option<RDKafkaErrorCode>, answers: u64) -> Self {
        use RDKafkaErrorCode as Code;
        match code {
            Some(
                Code::UnknownTopicOrPartition
                | Code::UnknownTopic
                | Code::InvalidTopic
                | Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::ClusterAuthorizationFailed,
            ) => Self::Refused,
            _ => Self::Away { answers },
        }
    }

    /// One answer may have been under way before the trouble, the next was not.
    fn is_over(self, answers: u64) -> bool {
        matches!(self, Self::Away { answers: then } if answers >= then + 2)
    }
}

impl Weather {
    #[inline]
    fn fine(&mut self) {
        if self.trouble.is_some() {
            self.trouble = None;
            tracing::info!(stage = self.settings.stage, "kafka is back");
            self.settings.board.set(self.settings.stage, State::Ok, "");
        }
    }

    /// A topic may be quiet for hours: that Kafka is back is seen without a record too.
    fn look(&mut self) {
        if self.trouble.is_some_and(|trouble| trouble.is_over(self.answers.load(Ordering::Relaxed))) {
            self.fine();
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
            KafkaError::MessageConsumptionFatal(_) => {
                return Err(match client.client().fatal_error() {
                    Some((RDKafkaErrorCode::FencedInstanceId, _)) => ConsumerError::Fenced,
                    Some((code, reason)) => ConsumerError::Fatal { code, reason },
                    None => error.clone().into(),
                });
            }
            _ => self.trouble(error),
        }
        Ok(())
    }

    fn trouble(&mut self, error: &KafkaError) {
        let trouble = Trouble::of(error.rdkafka_error_code(), self.answers.load(Ordering::Relaxed));
        let before = self.trouble.replace(trouble);
        if before.is_some_and(|before| (before == Trouble::Refused) == (trouble == Trouble::Refused)) {
            return;
        }
        let stage = self.settings.stage;
        let detail = match trouble {
            Trouble::Away { .. } => format!("kafka is away: {error}"),
            Trouble::Refused => format!("kafka refuses: {error}; check the topics and the rights to them"),
        };
        tracing::warn!(stage, detail, "waiting for kafka");
        self.settings.board.set(stage, State::Waiting, detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_ends_with_an_answer_that_was_asked_for_after_it() {
        let away = Trouble::of(Some(RDKafkaErrorCode::AllBrokersDown), 7);
        assert!(!away.is_over(7));
        assert!(!away.is_over(8));
        assert!(away.is_over(9));
    }

    #[test]
    fn a_refusal_does_not_end_because_kafka_answers() {
        assert!(!Trouble::of(Some(RDKafkaErrorCode::UnknownTopicOrPartition), 0).is_over(100));
    }
}
