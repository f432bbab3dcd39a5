//! What is held of the registry: its versions, how fresh they are, and their tables' rows.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use stillwell_schema::machines::MachineRegistry;

use super::tables::Shown;

/// How fresh a copy is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Freshness {
    /// The registry's topic was read to its end at this time, µs UTC; none where it never was.
    pub(super) read_until_us: Option<i64>,
    /// When the copy was made, µs UTC; none where none was.
    pub(super) copied_us: Option<i64>,
}

impl Freshness {
    /// For how long the registry may have said something else, s.
    #[allow(clippy::cast_precision_loss, reason = "seconds are shown as floats")]
    pub(super) fn age_s(self, now_us: i64) -> Option<f64> {
        self.read_until_us.map(|read_us| now_us.saturating_sub(read_us).max(0) as f64 / 1e6)
    }
}

/// A copy. Its parts are shared, so that one that is only fresher costs nothing.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) registry: Arc<MachineRegistry>,
    pub(super) freshness: Freshness,
    /// What the server's copy was told by when this was taken from it; none of a copy from a file.
    pub(super) fingerprint: Option<u64>,
    /// The `read_until_us` that the file has, or could not be given.
    pub(super) filed_us: Option<i64>,
    /// Rows of `machines_history`.
    pub(super) history: RecordBatch,
    /// Rows of `machine_sensors`.
    pub(super) sensors: RecordBatch,
}

impl Held {
    /// Nothing yet.
    pub(super) fn empty() -> Self {
        Self {
            registry: Arc::default(),
            freshness: Freshness::default(),
            fingerprint: None,
            filed_us: None,
            history: RecordBatch::new_empty(Shown::History.schema()),
            sensors: RecordBatch::new_empty(Shown::Sensors.schema()),
        }
    }

    /// A copy of these versions.
    pub(super) fn of(registry: MachineRegistry, freshness: Freshness) -> Result<Self, ArrowError> {
        Ok(Self {
            history: super::tables::history(&registry)?,
            sensors: super::tables::sensors(&registry)?,
            registry: Arc::new(registry),
            freshness,
            fingerprint: None,
            filed_us: None,
        })
    }
}
