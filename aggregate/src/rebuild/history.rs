//! The archive, as far as a rebuild asks for it. All methods block.

use stillwell_schema::{OffsetRange, TopicPartition};
use stillwell_source::columns::ReadingColumns;
use stillwell_source::series::SeriesTable;

use crate::fold::Origin;

/// What goes wrong in an archive.
pub type HistoryError = Box<dyn std::error::Error + Send + Sync>;

/// How far a lane goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The lane.
    pub lane: TopicPartition,
    /// The offsets that are there.
    pub range: OffsetRange,
    /// Source time, µs UTC, before which readings were erased that are meant; none where none were.
    pub erased_until_us: Option<i64>,
}

/// Which readings are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Patterns of machines (see [`stillwell_schema::pattern`]); all where there is none.
    pub machines: Vec<String>,
    /// From this source time on, µs UTC: what came later says what was late.
    pub from_us: Option<i64>,
}

/// Readings of whole records, in the order of offset and index.
#[derive(Debug, Default)]
pub struct Batch {
    /// The readings, over the series table that was handed in.
    pub columns: ReadingColumns,
    /// The records that they came in.
    pub origins: Vec<Origin>,
    /// Everything that is meant below this offset has been shown.
    pub next: i64,
}

/// The archive.
pub trait History: Send + Sync + 'static {
    /// How far each lane goes: now, or as it was durable at a moment, µs UTC.
    ///
    /// # Errors
    /// Says what is wrong and what mends it.
    fn extents(&self, as_of_us: Option<i64>, filter: &Filter) -> Result<Vec<Extent>, HistoryError>;

    /// The readings of a lane between two offsets.
    ///
    /// # Errors
    /// Says what is wrong and what mends it.
    fn open(
        &self,
        lane: &TopicPartition,
        range: OffsetRange,
        filter: &Filter,
    ) -> Result<Box<dyn Stretch>, HistoryError>;
}

/// A walk along a lane.
pub trait Stretch: Send {
    /// The next readings; nothing after the last. New series are added to `table`, the same at each call.
    ///
    /// # Errors
    /// Says what is wrong and what mends it.
    fn next(&mut self, table: &mut SeriesTable) -> Result<Option<Batch>, HistoryError>;
}
