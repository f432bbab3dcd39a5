//! The ClickHouse server, spoken to by HTTP.

use std::sync::Arc;
use std::time::Duration;

use clickhouse::query::BytesCursor;
use clickhouse::{RowOwned, RowRead};
use serde::Deserialize;
use stillwell_schema::TopicPartition;
use stillwell_schema::machines::version::sensors_of;
use stillwell_schema::machines::{MachineVersion, Moment};
use thiserror::Error;

use super::translate::identifier;
use crate::settings::{ClickHouseSettings, Limits};

/// The setting that ends a query at the server.
const TIME_MAX: &str = "max_execution_time";

/// Memory of one question's groups, or of what it sorts, bytes, past which they go to the server's disk; and of a whole
/// question.
const GROUPS_BYTES_MAX: &str = "268435456";
const QUESTION_BYTES_MAX: &str = "1073741824";

/// Disk that one question may take at the server, bytes.
const DISK_BYTES_MAX: &str = "4294967296";

/// Characters of a server's message that are handed on.
const MESSAGE_CHARS_MAX: usize = 600;

/// Why a view does not answer.
#[derive(Clone, Debug, Error)]
pub enum ViewsError {
    /// The server is away, or has no views yet.
    #[error("views are unavailable: {0}; the archive tables still answer")]
    Unavailable(Arc<str>),
    /// The server refused the query.
    #[error("the views' server refused the query: {0}")]
    Refused(Arc<str>),
    /// What arrived is not what the view promises.
    #[error("view {view} answered unexpectedly: {what}")]
    Answer {
        /// Which.
        view: &'static str,
        /// What is wrong.
        what: Arc<str>,
    },
}

impl From<clickhouse::error::Error> for ViewsError {
    fn from(error: clickhouse::error::Error) -> Self {
        let text = chain(&error);
        // Unknown table, database or user: the read side's writer has not made them yet, or they are wrong.
        let missing = ["UNKNOWN_TABLE", "UNKNOWN_DATABASE", "AUTHENTICATION_FAILED"];
        match error {
            clickhouse::error::Error::BadResponse(_) if !missing.iter().any(|code| text.contains(code)) => {
                Self::Refused(text.into())
            }
            _ => Self::Unavailable(text.into()),
        }
    }
}

/// An error with its causes, cut to a length that fits a message.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(at) = source {
        let cause = at.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = at.source();
    }
    text.chars().take(MESSAGE_CHARS_MAX).collect()
}

/// Whole seconds, rounded up: 0 would mean no end at all.
fn seconds(time: Duration) -> String {
    let whole = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    whole.max(1).to_string()
}

/// What the read side's writer says of one partition.
#[derive(Clone, Debug, PartialEq, Eq, clickhouse::Row, Deserialize)]
pub struct Positions {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Next offset not yet visible in the views.
    pub position: i64,
    /// Next offset not yet received.
    pub received: i64,
    /// End of the partition as last seen.
    pub end: i64,
    /// Readings folded so far.
    pub readings: u64,
    /// When this was written, µs UTC.
    pub updated_us: i64,
}

impl Positions {
    /// Whether it is about this lane.
    pub(crate) fn is_of(&self, lane: &TopicPartition) -> bool {
        self.partition == lane.partition && self.topic == *lane.topic
    }
}

/// What tells whether the server's copy of the machine registry has changed, and how old it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clickhouse::Row, Deserialize)]
pub(crate) struct MachinesMark {
    /// The same as long as no version changes.
    pub(crate) fingerprint: u64,
    /// When the registry's topic was last read to its end, µs UTC; none where it never was.
    pub(crate) read_until_us: Option<i64>,
}

/// A version of a machine as the server has it.
#[derive(clickhouse::Row, Deserialize)]
pub(crate) struct MachineRow {
    machine: String,
    site: String,
    line: String,
    model: String,
    valid_from_us: i64,
    /// JSON.
    sensors: String,
}

impl MachineRow {
    /// The version.
    pub(crate) fn version(self) -> Result<MachineVersion, ViewsError> {
        let Self { machine, site, line, model, valid_from_us, sensors } = self;
        let wrong = |what: String| ViewsError::Answer { view: "machines_history", what: what.into() };
        let valid_from =
            Moment::from_us(valid_from_us).ok_or_else(|| wrong(format!("{valid_from_us} µs is no time")))?;
        let sensors = sensors_of(&sensors).map_err(|error| wrong(error.to_string()))?;
        Ok(MachineVersion { machine, site, line, model, valid_from, sensors })
    }
}

/// The server of the views.
#[derive(Clone)]
pub struct Views {
    client: clickhouse::Client,
    database: String,
}

impl std::fmt::Debug for Views {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Views").field("database", &self.database).finish_non_exhaustive()
    }
}

impl Views {
    /// Speaks to the server that `settings` name, which is not asked before the first query.
    #[must_use]
    pub fn new(settings: &ClickHouseSettings, limits: &Limits) -> Self {
        let client = clickhouse::Client::default()
            .with_url(&settings.url)
            .with_user(&settings.user)
            .with_password(&settings.password)
            // 2: nothing is changed but the settings that come with the query. It also makes the server end a
            // query whose client went.
            .with_setting("readonly", "2")
            .with_setting(TIME_MAX, seconds(limits.time))
            .with_setting("max_threads", "2")
            // A row's partition follows from its key, so each partition is merged by itself; and conditions on keys may
            // come before the merge.
            .with_setting("do_not_merge_across_partitions_select_final", "1")
            .with_setting("optimize_move_to_prewhere_if_final", "1")
            // Many groups go to the disk, and no question takes the memory that the writer needs.
            .with_setting("max_bytes_before_external_group_by", GROUPS_BYTES_MAX)
            .with_setting("max_bytes_before_external_sort", GROUPS_BYTES_MAX)
            .with_setting("max_memory_usage", QUESTION_BYTES_MAX)
            .with_setting("max_temporary_data_on_disk_size_for_query", DISK_BYTES_MAX)
            // An answer may wait for that of another view of the same statement.
            .with_setting("http_send_timeout", seconds(limits.time))
            .with_setting("cancel_http_readonly_queries_on_client_close", "1")
            .with_setting("output_format_arrow_string_as_string", "1")
            .with_setting("output_format_arrow_low_cardinality_as_dictionary", "0")
            .with_setting("output_format_arrow_compression_method", "none");
        Self { client, database: settings.database.clone() }
    }

    /// A view's full name, quoted.
    pub(crate) fn path(&self, view: &str) -> String {
        format!("{}.{}", identifier(&self.database), identifier(view))
    }

    /// Runs a query whose answer is an Arrow stream, within `time`; dropping the cursor cancels it.
    pub(crate) fn arrow(&self, sql: &str, time: Option<Duration>) -> Result<BytesCursor, ViewsError> {
        let query = self.client.query_raw(sql);
        let query = match time {
            Some(time) => query.with_setting(TIME_MAX, seconds(time)),
            None => query,
        };
        Ok(query.fetch_bytes("ArrowStream")?)
    }

    /// The rows of a query of the house's own.
    pub(crate) async fn rows<T>(&self, sql: &str) -> Result<Vec<T>, ViewsError>
    where
        T: RowOwned + RowRead,
    {
        Ok(self.client.query_raw(sql).fetch_all::<T>().await?)
    }

    /// How far the views are.
    ///
    /// # Errors
    /// [`ViewsError`].
    pub async fn positions(&self) -> Result<Vec<Positions>, ViewsError> {
        let sql = format!(
            "SELECT topic, partition, position, received, end_offset AS end, readings, \
             toUnixTimestamp64Micro(updated) AS updated_us FROM {} ORDER BY topic, partition",
            self.path("pipeline_positions")
        );
        self.rows::<Positions>(&sql).await
    }

    /// How fresh the server's copy of the machine registry is.
    pub(crate) async fn machines_mark(&self) -> Result<MachinesMark, ViewsError> {
        let sql = format!(
            "SELECT fingerprint, toUnixTimestamp64Micro(read_until) AS read_until_us FROM {}",
            self.path("machines_registry")
        );
        Ok(self.client.query_raw(&sql).fetch_one::<MachinesMark>().await?)
    }

    /// Every version of every machine.
    pub(crate) async fn machines(&self) -> Result<Vec<MachineRow>, ViewsError> {
        let sql = format!(
            "SELECT machine, site, line, model, toUnixTimestamp64Micro(valid_from) AS valid_from_us, sensors FROM {}",
            self.path("machines_history")
        );
        Ok(self.client.query_raw(&sql).fetch_all::<MachineRow>().await?)
    }
}
