//! Polls Kafka and hands each partition's records to its lane.
//!
//! One OS thread polls; it waits for a stage only where a lane is taken away, and for a moment where no other
//! lane could go on either. Reading order: [`properties`] sets the Kafka client up and [`client`] makes it and
//! takes note of rebalances; [`poll`] is the thread's loop, and [`weather`] says whether Kafka is there;
//! [`lanes`] opens, feeds and closes lanes, each in its [`slot`]; [`lookup`] finds where one starts; [`feed`]
//! cuts its records, with their [`headers`], into chunks and [`held`] keeps those that the stage has no room
//! for; [`watermarks`] looks at the logs' ends from aside, and [`doubt`] holds a lane against them after an
//! error that may be its own.
//!
//! What the protocol needs is not left to the user's properties: no automatic commit or reset, checked CRCs,
//! committed records only, cooperative rebalancing ([`properties::PROTOCOL`]). [`check_properties`] says so
//! before anything is started.
//!
//! A killed process' partitions come back to the group after `session.timeout.ms`. With the property
//! `group.instance.id` (one per process, the same at each start) a process that is started again within that
//! time takes its partitions over at once; such a member does not leave the group when it stops, so the others
//! get its partitions only after that time. Of two processes with one id the older ends with
//! [`ConsumerError::Fenced`].

use std::sync::Arc;
use std::time::Duration;

use stillwell_schema::Clock;
use stillwell_schema::health::Board;
use tokio_util::sync::CancellationToken;

use crate::budget::Budget;
use crate::lane::Stage;
use crate::settings::{KafkaSettings, TopicSettings};

mod client;
mod doubt;
pub(crate) mod feed;
pub(crate) mod headers;
mod held;
mod lanes;
mod lookup;
mod poll;
pub(crate) mod properties;
mod slot;
mod watermarks;
mod weather;

pub use properties::check_properties;

/// How a stage consumes.
#[derive(Clone, Debug)]
pub struct ConsumerSettings {
    /// Where Kafka is.
    pub kafka: KafkaSettings,
    /// What is read.
    pub topics: Vec<TopicSettings>,
    /// The stage's own consumer group.
    pub group: String,
    /// `ingest` or `aggregate`: the `stage` label of this consumer's metrics.
    pub stage: &'static str,
    /// A chunk is handed on when it holds this many bytes, or fewer where there are many lanes,
    pub chunk_bytes: usize,
    /// or when its first record is this old.
    pub chunk_age: Duration,
    /// Where it says how it is.
    pub board: Board,
}

/// Why consuming ended.
#[derive(Debug, thiserror::Error)]
pub enum ConsumerError {
    /// librdkafka refused the settings or cannot go on.
    #[error("kafka consumer: {0}")]
    Kafka(#[from] rdkafka::error::KafkaError),
    /// A property that the protocol needs was set by the user.
    #[error("[kafka] {0} is fixed by the commit protocol; remove it from the config")]
    FixedProperty(String),
    /// Another process took this one's place in the group.
    #[error("another process reads with the same [kafka] group.instance.id; give each process its own")]
    Fenced,
    /// librdkafka cannot go on; a new client may.
    #[error("kafka consumer: {code}: {reason}")]
    Fatal {
        /// What happened.
        code: rdkafka::types::RDKafkaErrorCode,
        /// In librdkafka's words.
        reason: String,
    },
    /// The polling thread could not be started.
    #[error("cannot start the polling thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Runs `stage` over all partitions that the group gives us, until `stop` is cancelled and every lane has
/// flushed. What librdkafka reads ahead, and the chunks that are being cut, are part of `budget`.
///
/// # Errors
/// [`ConsumerError`] where Kafka refuses for good; a broker that is away is waited for.
pub async fn run<S: Stage>(
    settings: ConsumerSettings,
    stage: Arc<S>,
    budget: Budget,
    _clock: Arc<dyn Clock>,
    stop: CancellationToken,
) -> Result<(), ConsumerError> {
    let client = client::connect(&settings, budget.bytes_max())?;
    let names: Vec<&str> = settings.topics.iter().map(|topic| topic.name.as_str()).collect();
    rdkafka::consumer::Consumer::subscribe(&client, &names)?;
    let runtime = tokio::runtime::Handle::current();
    let (ended, end) = tokio::sync::oneshot::channel();
    let name = format!("poll-{}", settings.stage);
    std::thread::Builder::new().name(name).spawn(move || {
        let outcome = poll::run(client, settings, stage, budget, &runtime, &stop);
        // The receiver is gone only if the whole stage was dropped.
        let _ = ended.send(outcome);
    })?;
    match end.await {
        Ok(outcome) => outcome,
        // The thread's panic has been reported by its hook; the stage is started again.
        Err(_) => Err(std::io::Error::other("it panicked").into()),
    }
}
