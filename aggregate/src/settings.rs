//! How the aggregator is set up. Plain data, made by the binary from its config.

use std::fmt;
use std::time::Duration;

use stillwell_source::settings::{KafkaSettings, TopicSettings};

use crate::fold::SeriesLimits;

/// A ClickHouse server, by its HTTP interface.
#[derive(Clone, PartialEq, Eq)]
pub struct ClickHouseSettings {
    /// `http://host:port`.
    pub url: String,
    /// User.
    pub user: String,
    /// Password; empty for none.
    pub password: String,
    /// The database of the tables.
    pub database: String,
}

impl fmt::Debug for ClickHouseSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}/{}", self.user, self.url, self.database)
    }
}

/// The scorer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScoringSettings {
    /// Whether rows are scored.
    pub enabled: bool,
    /// Rows of a machine that its model is trained on, from its first on.
    pub commissioning_rows: usize,
    /// Readings of a machine whose times fall into the same interval form a row.
    pub row_interval: Duration,
}

impl Default for ScoringSettings {
    fn default() -> Self {
        Self { enabled: true, commissioning_rows: 400, row_interval: Duration::from_secs(1) }
    }
}

/// The aggregator.
#[derive(Clone, Debug)]
pub struct AggregateSettings {
    /// Where Kafka is.
    pub kafka: KafkaSettings,
    /// What is read.
    pub topics: Vec<TopicSettings>,
    /// The consumer group, `stillwell-aggregate`.
    pub group: String,
    /// Where the views are kept.
    pub clickhouse: ClickHouseSettings,
    /// Where alerts go.
    pub alerts_topic: String,
    /// The topic of the machine registry; empty where there is none.
    pub machines_topic: String,
    /// The scorer.
    pub scoring: ScoringSettings,
    /// How often the views of 10 s and the last readings are brought up to date.
    pub flush_interval: Duration,
    /// How often those of longer windows are, where they are many.
    pub coarse_flush_interval: Duration,
    /// Bounds of series.
    pub series: SeriesLimits,
    /// Memory for windows, over all lanes: beyond it those go that were not in use lately.
    pub windows_bytes_max: usize,
    /// Memory for records in flight, over all lanes.
    pub memory_bytes: usize,
}
