//! Where views are kept: every question and every write that a lane has for its store, behind one trait, so that
//! a model can stand in the place of ClickHouse where failures and crashes are played through.
//!
//! **What a store promises:** of the rows of one key the one of the highest version is read, of equal versions
//! the one that was written last; a write that was answered is kept; of one that was not, any part may be.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use clickhouse::Row;
use serde::Deserialize;
use stillwell_schema::TopicPartition;

use crate::error::AggregateError;
use crate::lateness::LatenessRow;
use crate::scoring::restore::Rows as MachineRows;
use crate::window::{TABLES, TOTALS};

mod clickhouse_http;

pub(crate) use clickhouse_http::{ClickHouse, identifier, is, quote};

/// The tables that hold the windows of each width, and their totals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets {
    windows: [Arc<str>; 4],
    totals: [Option<Arc<str>>; 4],
}

impl Default for Targets {
    fn default() -> Self {
        Self { windows: TABLES.map(Arc::from), totals: TOTALS.map(|table| table.map(Arc::from)) }
    }
}

impl Targets {
    /// With another table in the place of the first one of a width or of its totals, by that one's name; a name that is
    /// not known is left out.
    #[must_use]
    pub fn with(mut self, first: &str, table: &str) -> Self {
        if let Some(at) = TABLES.iter().position(|name| *name == first) {
            self.windows[at] = table.into();
        }
        if let Some(at) = TOTALS.iter().position(|name| *name == Some(first)) {
            self.totals[at] = Some(table.into());
        }
        self
    }

    /// The table of a width, by its index.
    #[must_use]
    pub fn table(&self, width: usize) -> &Arc<str> {
        &self.windows[width]
    }

    /// The table of a width's totals, where those are kept.
    #[must_use]
    pub fn totals(&self, width: usize) -> Option<&Arc<str>> {
        self.totals[width].as_ref()
    }

    /// What a lane writes of the first so many widths: their windows, and their totals.
    pub(crate) fn written(&self, widths: usize) -> impl Iterator<Item = Arc<str>> {
        self.windows[..widths].iter().chain(self.totals[..widths].iter().flatten()).cloned()
    }
}

/// Where a lane stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Row, Deserialize)]
pub struct Standing {
    /// The next offset to show.
    pub position: i64,
    /// Readings folded so far.
    pub readings: u64,
    /// Late ones among them.
    pub late: u64,
}

/// How far a table is.
#[derive(Clone, Debug, PartialEq, Eq, Row, Deserialize)]
pub struct TablePosition {
    /// The table.
    pub table_name: String,
    /// Everything of the lane below this is in it.
    pub position: i64,
}

/// What is kept of a series.
#[derive(Clone, Debug, PartialEq, Row, Deserialize)]
pub struct SeriesRow {
    pub(crate) machine: String,
    pub(crate) sensor: String,
    pub(crate) kind: String,
    pub(crate) unit: String,
    pub(crate) time: i64,
    pub(crate) value: Option<f64>,
    pub(crate) text: Option<String>,
    pub(crate) quality: u32,
    pub(crate) score: Option<f64>,
    pub(crate) early_from: Option<i64>,
    pub(crate) early_until: Option<i64>,
}

/// The largest time of a series where windows of all widths are complete up to `version`.
#[derive(Clone, Debug, PartialEq, Eq, Row, Deserialize)]
pub struct HighRow {
    pub(crate) machine: String,
    pub(crate) sensor: String,
    pub(crate) version: i64,
    pub(crate) high: i64,
}

/// What is kept of a machine of which series were refused.
#[derive(Clone, Debug, PartialEq, Eq, Row, Deserialize)]
pub struct RefusedRow {
    pub(crate) machine: String,
    pub(crate) series: u64,
    pub(crate) readings: u64,
    pub(crate) since: i64,
}

/// A window's name within its table and lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WindowKey<'a> {
    pub(crate) machine: &'a str,
    pub(crate) sensor: &'a str,
    pub(crate) start_us: i64,
}

/// A window as it is kept.
#[derive(Clone, Debug, PartialEq, Row, Deserialize)]
pub struct WindowRow {
    pub(crate) machine: String,
    pub(crate) sensor: String,
    pub(crate) start: i64,
    pub(crate) version: i64,
    pub(crate) count: u64,
    pub(crate) sum: f64,
    pub(crate) m2: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) first: f64,
    pub(crate) first_time: i64,
    pub(crate) last: f64,
    pub(crate) last_time: i64,
    pub(crate) area_last: f64,
    pub(crate) area_linear: f64,
    pub(crate) increase: f64,
    pub(crate) resets: u64,
    pub(crate) disordered: u64,
    pub(crate) bad: u64,
    pub(crate) late: u64,
    pub(crate) score: f32,
    pub(crate) histogram: Vec<(i32, u64)>,
    pub(crate) state_count: u64,
    pub(crate) state_first: String,
    pub(crate) state_first_time: i64,
    pub(crate) state_last: String,
    pub(crate) state_last_time: i64,
    pub(crate) transitions: u64,
    pub(crate) state_disordered: u64,
    pub(crate) held: Vec<(String, i64)>,
}

/// An answer of a store, later.
pub(crate) trait Answer<T>: Future<Output = Result<T, AggregateError>> + Send {}

impl<T, F: Future<Output = Result<T, AggregateError>> + Send> Answer<T> for F {}

/// What a lane asks of its store.
pub(crate) trait Store: Clone + Send + Sync + 'static {
    /// The tables that windows are written into.
    fn targets(&self) -> impl Answer<Targets>;

    /// Where a lane stands; none where it has never stored anything.
    fn standing(&self, lane: &TopicPartition) -> impl Answer<Option<Standing>>;

    /// How far each table is for a lane.
    fn positions(&self, lane: &TopicPartition) -> impl Answer<Vec<TablePosition>>;

    /// What is kept of a lane's series.
    fn series(&self, lane: &TopicPartition) -> impl Answer<Vec<SeriesRow>>;

    /// The largest times of a lane's series: those of a table that was built, or without a name the lane's own.
    fn highs(&self, lane: &TopicPartition, table: &str) -> impl Answer<Vec<HighRow>>;

    /// These windows of a lane, of one width, as far as they are there.
    fn windows(
        &self,
        lane: &TopicPartition,
        width: usize,
        table: &str,
        keys: &[WindowKey<'_>],
    ) -> impl Answer<Vec<WindowRow>>;

    /// What is kept of a lane's machines.
    fn machines(&self, lane: &TopicPartition) -> impl Answer<MachineRows>;

    /// What is kept of how late a lane's machines are.
    fn lateness(&self, lane: &TopicPartition) -> impl Answer<Vec<LatenessRow>>;

    /// What a lane's owners before have refused.
    fn refused(&self, lane: &TopicPartition) -> impl Answer<Vec<RefusedRow>>;

    /// Writes Native blocks into a table.
    fn insert(&self, table: &str, blocks: Vec<Bytes>) -> impl Answer<()>;
}
