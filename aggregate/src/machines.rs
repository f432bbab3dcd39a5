//! Keeps the copy of the machine registry in ClickHouse: follows the registry's topic, and writes every version as an
//! absolute row whose version is the offset of the record that said so.
//!
//! Each process reads the topic whole at its start and then what is new, so a row that several write, or one writes
//! again, is the same row. What was taken back while nobody looked leaves no trace in the topic once it is compacted:
//! after the first reading, rows that the topic knows nothing of are taken back ([`rows::strays`]).
//!
//! Nothing here stops the aggregator. A broker or a ClickHouse that is away is waited for, and the board's part
//! [`PART`] says so; a record that says nothing is passed over, counted and logged.

mod copy;
mod rows;

use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use stillwell_schema::Clock;
use stillwell_schema::health::{Board, State};
use stillwell_source::backoff::{Backoff, Retry};
use stillwell_source::scan::ScanError;
use stillwell_source::settings::KafkaSettings;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::alerts::blocking;
use crate::error::AggregateError;
use crate::store::{ClickHouse, Store};
use copy::{Found, LocalCopy};

/// Its name on the board.
const PART: &str = "aggregate/machines";
/// Between two looks at the topic: machines change seldom, and nobody waits for them longer than that.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What each wait's randomness starts from; nobody else waits for the registry here.
const SEED: u64 = 0;

/// The registry's follower.
pub(crate) struct Follower {
    /// Where Kafka is.
    pub(crate) kafka: KafkaSettings,
    /// The registry's topic; empty where there is none.
    pub(crate) topic: String,
    /// Where the copy is kept.
    pub(crate) store: ClickHouse,
    /// Where it says how it is.
    pub(crate) board: Board,
    /// When the topic was read.
    pub(crate) clock: Arc<dyn Clock>,
}

/// Why a look came to nothing.
#[derive(Debug, Error)]
enum Trouble {
    #[error(transparent)]
    Store(#[from] AggregateError),
    #[error(transparent)]
    Log(#[from] ScanError),
    #[error(
        "topic {topic} ends at {end} and was read to {position} before: it was made anew or cut; give it another name in [machines], or empty machine_rows and machine_registry_state, then restart this process"
    )]
    MadeAnew { topic: String, end: i64, position: i64 },
    #[error(
        "the last record of {key} in topic {topic} is at {offset}, and was at {stored} before: the topic was made anew; give it another name in [machines], or empty machine_rows and machine_registry_state, then restart this process"
    )]
    Another { topic: String, key: String, offset: i64, stored: i64 },
    #[error(
        "topic {topic} begins at {low} and knows nothing of the {versions} versions that were read from it before: its records have expired; set its cleanup.policy to compact, and publish the registry again by `stillwell machines import`"
    )]
    Expired { topic: String, low: i64, versions: usize },
}

impl Trouble {
    fn state(&self) -> State {
        match self {
            Self::Store(error) => error.state(),
            Self::Log(ScanError::Settings(_) | ScanError::BeyondEnd { .. } | ScanError::Damaged { .. })
            | Self::MadeAnew { .. }
            | Self::Another { .. }
            | Self::Expired { .. } => State::Failed,
            Self::Log(_) => State::Waiting,
        }
    }
}

impl Follower {
    /// Follows the topic until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        if self.topic.is_empty() {
            return;
        }
        match LocalCopy::new(&self.kafka, &self.topic) {
            Ok(copy) => self.follow(copy, &stop).await,
            Err(error) => self.board.set(PART, State::Failed, error.to_string()),
        }
    }

    async fn follow(&self, mut copy: LocalCopy, stop: &CancellationToken) {
        let (mut backoff, mut read_us) = (Self::backoff(), None);
        while !stop.is_cancelled() {
            let looked_us = self.clock.now_us();
            let looked;
            (copy, looked) = self.look(copy, looked_us, stop).await;
            let wait = match looked {
                Ok(found) => {
                    self.board.set(PART, State::Ok, found.detail(&self.topic));
                    (backoff, read_us) = (Self::backoff(), Some(looked_us));
                    LOOK_EVERY
                }
                Err(trouble) => {
                    self.board.set(PART, trouble.state(), trouble.to_string());
                    backoff.next_wait()
                }
            };
            self.measure(&copy, read_us);
            stop.run_until_cancelled(tokio::time::sleep(wait)).await;
        }
        // A consumer takes its time to close.
        blocking(move || drop(copy)).await;
    }

    /// Reads what is new and writes what ClickHouse does not have of it.
    async fn look(
        &self,
        mut copy: LocalCopy,
        now_us: i64,
        stop: &CancellationToken,
    ) -> (LocalCopy, Result<Found, Trouble>) {
        let stopping = stop.clone();
        let (copy_back, read) = blocking(move || {
            let read = copy.read(&stopping);
            (copy, read)
        })
        .await;
        copy = copy_back;
        let written = match read {
            Ok(found) => self.write(&mut copy, found, now_us).await,
            Err(error) => Err(error.into()),
        };
        (copy, written)
    }

    async fn write(&self, copy: &mut LocalCopy, found: Found, now_us: i64) -> Result<Found, Trouble> {
        let (store, topic) = (&self.store, self.topic.as_str());
        if !copy.is_compared() {
            let marks = rows::marks(store, topic).await?;
            match found {
                Found::NoTopic if marks.is_empty() => return Ok(found),
                Found::NoTopic => return Err(ScanError::NoTopic(self.topic.clone()).into()),
                // What was read is not all: it cannot be compared.
                Found::Stopped => return Ok(found),
                Found::Whole => {}
            }
            copy.check(&marks)?;
            let stored = rows::stored(store, topic).await?;
            copy.compare(&stored)?;
        }
        for some in rows::blocks(topic, copy.pending(), now_us) {
            store.insert("machine_rows", vec![some]).await?;
        }
        if found == Found::Whole && copy.is_mark_due() {
            store.insert("machine_registry_state", vec![rows::mark(topic, copy.next(), now_us)]).await?;
            copy.marked();
        }
        Ok(found)
    }

    #[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
    fn measure(&self, copy: &LocalCopy, read_us: Option<i64>) {
        gauge!("stillwell_machine_versions", "stage" => "aggregate").set(copy.versions() as f64);
        if let Some(read_us) = read_us {
            let age_s = (self.clock.now_us() - read_us).max(0) as f64 / 1e6;
            gauge!("stillwell_machines_age_seconds", "stage" => "aggregate").set(age_s);
        }
    }

    fn backoff() -> Backoff {
        Backoff::new(Retry::default(), SEED)
    }
}
