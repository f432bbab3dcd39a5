//! What can go wrong, and what it asks of the caller.

use clickhouse::error::Error;
use stillwell_schema::health::State;
use stillwell_source::consumer::ConsumerError;
use stillwell_source::halt::Halted;
use thiserror::Error;

/// Why the aggregator, or one lane of it, cannot go on.
#[derive(Debug, Error)]
pub enum AggregateError {
    /// ClickHouse does not answer or refuses.
    #[error("clickhouse: {}", first_line(.0))]
    ClickHouse(#[from] Error),
    /// A migration that was applied is not the one of this version.
    #[error(
        "migration {name} was applied with other contents; this database belongs to another version of stillwell"
    )]
    Migration {
        /// The migration's file.
        name: String,
    },
    /// Another process has taken over the migrations meanwhile.
    #[error(
        "another process prepares clickhouse, as this one was silent for too long; start again when it is done"
    )]
    Overtaken,
    /// A statement of a migration has a form that no layout but that of one server knows.
    #[error(
        "this statement cannot be laid out over a cluster or with a storage policy: {sql}; \
         write it in a form that the migrations' parser knows"
    )]
    Statement {
        /// The statement.
        sql: String,
    },
    /// Windows are written elsewhere than when the lane began, which thus begins again.
    #[error("windows are written elsewhere now")]
    Moved,
    /// The topic is not one of the settings'.
    #[error("topic {0} is not in the config")]
    UnknownTopic(String),
    /// Kafka.
    #[error("{0}")]
    Consumer(#[from] ConsumerError),
    /// The alerts' producer.
    #[error("alerts: {0}")]
    Alerts(#[from] rdkafka::error::KafkaError),
    /// Most of what was read since the last snapshot cannot be decoded.
    #[error(transparent)]
    Halted(Box<Halted>),
    /// The writer of the views has stopped.
    #[error("the writer of the views has stopped")]
    Stopped,
}

/// Refusals of a server that pass by themselves, or with its load.
const PASSING: &[&str] = &[
    "(ABORTED)",
    "(ALL_CONNECTION_TRIES_FAILED)",
    "(KEEPER_EXCEPTION)",
    "(MEMORY_LIMIT_EXCEEDED)",
    "(NETWORK_ERROR)",
    "(NOT_ENOUGH_SPACE)",
    "(NO_FREE_CONNECTION)",
    "(QUERY_WAS_CANCELLED)",
    "(QUOTA_EXCEEDED)",
    "(SERVER_OVERLOADED)",
    "(SOCKET_TIMEOUT)",
    "(TABLE_IS_READ_ONLY)",
    "(TIMEOUT_EXCEEDED)",
    "(TOO_MANY_PARTS)",
    "(TOO_MANY_SIMULTANEOUS_QUERIES)",
];

impl AggregateError {
    /// What a part that tries again after this error says of itself: whether it will go on by itself, or needs
    /// an operator.
    pub(crate) fn state(&self) -> State {
        let passes = match self {
            Self::ClickHouse(Error::Network(_) | Error::TimedOut) | Self::Consumer(_) | Self::Alerts(_) => {
                true
            }
            // What a proxy says in the server's place is not an exception of the server.
            Self::ClickHouse(Error::BadResponse(text)) => {
                !text.contains("DB::Exception") || PASSING.iter().any(|code| text.contains(code))
            }
            _ => false,
        };
        if passes { State::Waiting } else { State::Failed }
    }
}

/// A server's error may carry a whole binary body: its first line says it.
fn first_line(error: &Error) -> String {
    const CHARACTERS_MAX: usize = 400;
    let text = error.to_string();
    text.lines().next().unwrap_or_default().chars().take(CHARACTERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_waited_for_and_the_rest_is_shown() {
        let refused = |text: &str| AggregateError::from(Error::BadResponse(text.to_owned())).state();
        let full = "Code: 241. DB::Exception: Memory limit exceeded. (MEMORY_LIMIT_EXCEEDED)";
        assert_eq!(refused(full), State::Waiting);
        assert_eq!(refused("<html>502 Bad Gateway</html>"), State::Waiting);
        assert_eq!(AggregateError::from(Error::TimedOut).state(), State::Waiting);
        let deep = "Code: 168. DB::Exception: AST is too big. Maximum: 50000. (TOO_BIG_AST)";
        assert_eq!(refused(deep), State::Failed);
        assert_eq!(AggregateError::Stopped.state(), State::Failed);
    }
}
