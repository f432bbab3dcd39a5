//! The archive, as a rebuild of the views asks for it.

use std::sync::Arc;

use stillwell_aggregate::fold::Origin;
use stillwell_aggregate::rebuild::history::{Batch, Extent, Filter, History, HistoryError, Stretch};
use stillwell_ingest::history;
use stillwell_ingest::store::ArchiveStore;
use stillwell_schema::{OffsetRange, TopicPartition};
use stillwell_source::series::SeriesTable;

/// An archive of the write side.
pub(crate) struct Archive(pub(crate) Arc<dyn ArchiveStore>);

/// A walk along one of its lanes.
struct Walk(history::Stretch);

fn own(filter: &Filter) -> history::Filter {
    history::Filter { machines: filter.machines.clone(), from_us: filter.from_us }
}

impl History for Archive {
    fn extents(&self, as_of_us: Option<i64>, filter: &Filter) -> Result<Vec<Extent>, HistoryError> {
        let extent =
            |history::Extent { lane, range, erased_until_us }| Extent { lane, range, erased_until_us };
        Ok(history::extents(&*self.0, as_of_us, &own(filter))?.into_iter().map(extent).collect())
    }

    fn open(
        &self,
        lane: &TopicPartition,
        range: OffsetRange,
        filter: &Filter,
    ) -> Result<Box<dyn Stretch>, HistoryError> {
        let walk = history::Stretch::open(Arc::clone(&self.0), lane.clone(), range, own(filter))?;
        Ok(Box::new(Walk(walk)))
    }
}

impl Stretch for Walk {
    fn next(&mut self, table: &mut SeriesTable) -> Result<Option<Batch>, HistoryError> {
        let batch = self.0.next(table)?;
        Ok(batch.map(|history::Batch { columns, records, next }| {
            let origin = |(offset, kafka_time_ms)| Origin::new(offset, kafka_time_ms);
            Batch { columns, origins: records.into_iter().map(origin).collect(), next }
        }))
    }
}
