//! Where a lane starts: its stage's position, held against the log's two ends.
//!
//! A position beyond the log's end belongs to another log: the topic was made anew, or cut. As it grows, its end
//! comes to pass the position, and the two logs would be spliced without a word. So such a lane stays refused
//! for the life of the process, however far its log has grown since. A process that is started later knows
//! nothing of it: the operator has settled the matter by then, as the refusal asks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use stillwell_schema::health::State;
use stillwell_schema::{Offset, TopicPartition};
use tokio::time::timeout;

use crate::lane::Stage;

/// A stage answers within seconds, or is asked again.
const POSITION_WITHIN: Duration = Duration::from_secs(15);
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// Where a lane starts, and the log's ends when it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) offset: Offset,
    pub(super) low: i64,
    pub(super) high: i64,
}

impl Start {
    /// Where Kafka is read from: what lies below fell to retention.
    pub(super) fn fetched(self) -> Offset {
        Offset(self.offset.0.max(self.low))
    }
}

/// Why a lane cannot start now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) state: State,
    pub(super) detail: String,
}

impl Refusal {
    /// It passes by itself.
    pub(super) fn waiting(detail: String) -> Self {
        Self { state: State::Waiting, detail }
    }
}

/// A client that asks for the logs' ends. It is no member of the group, so that anyone may hold it, and no
/// question waits behind the polling.
pub(super) fn ends_client(config: &ClientConfig) -> KafkaResult<Arc<BaseConsumer>> {
    let mut config = config.clone();
    config.remove("group.id").remove("group.instance.id");
    config.create().map(Arc::new)
}

/// Asks the stage, then Kafka.
pub(super) async fn start_of<S: Stage>(
    stage: Arc<S>,
    ends: Arc<BaseConsumer>,
    group: String,
    id: TopicPartition,
) -> Result<Start, Refusal> {
    if let Some(detail) = refused_for_good(&group, &id) {
        return Err(Refusal { state: State::Failed, detail });
    }
    let position = match timeout(POSITION_WITHIN, stage.position(&id)).await {
        Ok(Ok(position)) => position,
        Ok(Err(error)) => {
            return Err(if S::is_transient(&error) {
                Refusal::waiting(format!("its position is not known: {error}"))
            } else {
                Refusal { state: State::Failed, detail: error.to_string() }
            });
        }
        Err(_) => {
            return Err(Refusal::waiting("its position is not known: the store does not answer".into()));
        }
    };
    let asked = {
        let id = id.clone();
        move || ends.fetch_watermarks(&id.topic, id.partition, ENDS_WITHIN)
    };
    match tokio::task::spawn_blocking(asked).await {
        Ok(Ok((low, high))) => judge(position, low, high).map_err(|position| Refusal {
            state: State::Failed,
            detail: refuse_for_good(&group, &id, position, high),
        }),
        Ok(Err(error)) => {
            Err(Refusal::waiting(format!("kafka does not say where its log begins and ends: {error}")))
        }
        Err(error) => Err(Refusal::waiting(error.to_string())),
    }
}

/// A new lane starts at the log's beginning. A position below that is kept: what is missing becomes a gap.
/// One beyond the end belongs to another log and is given back.
fn judge(position: Option<Offset>, low: i64, high: i64) -> Result<Start, Offset> {
    let offset = position.unwrap_or(Offset(low));
    if offset.0 > high { Err(offset) } else { Ok(Start { offset, low, high }) }
}

/// Lanes of a group that are refused for the life of the process, and why.
static REFUSED: Mutex<BTreeMap<(String, TopicPartition), String>> = Mutex::new(BTreeMap::new());

/// Refuses a lane whose `position` lies beyond its log's end from now on; says why.
pub(super) fn refuse_for_good(group: &str, id: &TopicPartition, position: Offset, high: i64) -> String {
    let detail = format!(
        "stored position {position} lies beyond the topic's end {high}: the topic was made anew or cut; give it another name, or start with an empty store, then restart this process"
    );
    let mut refused = REFUSED.lock().unwrap_or_else(PoisonError::into_inner);
    refused.entry((group.to_owned(), id.clone())).or_insert(detail).clone()
}

fn refused_for_good(group: &str, id: &TopicPartition) -> Option<String> {
    let refused = REFUSED.lock().unwrap_or_else(PoisonError::into_inner);
    refused.get(&(group.to_owned(), id.clone())).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_starts_at_its_position_or_at_the_beginning() {
        let start = |offset| Ok(Start { offset: Offset(offset), low: 10, high: 20 });
        assert_eq!(judge(None, 10, 20), start(10));
        assert_eq!(judge(Some(Offset(15)), 10, 20), start(15));
        assert_eq!(judge(Some(Offset(20)), 10, 20), start(20));
    }

    #[test]
    fn a_position_that_fell_to_retention_is_kept_for_the_gap() {
        let start = judge(Some(Offset(3)), 10, 20).unwrap();
        assert_eq!((start.offset, start.fetched()), (Offset(3), Offset(10)));
    }

    #[test]
    fn a_position_beyond_the_end_is_of_another_log() {
        assert_eq!(judge(Some(Offset(21)), 10, 20), Err(Offset(21)));
    }

    #[test]
    fn a_topic_made_anew_stays_refused_however_far_it_grows() {
        let [lane, other] = [0, 1].map(|partition| TopicPartition::new("lookup-remade", partition));
        assert_eq!(refused_for_good("group", &lane), None);
        let detail = refuse_for_good("group", &lane, Offset(21), 20);
        assert!(detail.contains("beyond the topic's end 20"), "{detail}");
        assert_eq!(refuse_for_good("group", &lane, Offset(21), 7), detail);
        assert_eq!(refused_for_good("group", &lane), Some(detail));
        assert_eq!(refused_for_good("group", &other), None);
        assert_eq!(refused_for_good("other group", &lane), None);
    }
}
