//! Scores rows of machines.

use std::sync::Arc;

use stillwell_schema::{Clock, TopicPartition};
use stillwell_source::chunk::RecordChunk;
use stillwell_source::columns::ReadingColumns;
use stillwell_source::series::SeriesTable;

use crate::alerts::Alert;
use crate::client::Store;
use crate::error::AggregateError;
use crate::fold::LaneFold;
use crate::settings::ScoringSettings;
use crate::snapshot::Part;

pub(crate) struct Scorer {}

impl Scorer {
    pub(crate) fn new(_settings: ScoringSettings, _clock: Arc<dyn Clock>) -> Self {
        Self {}
    }

    pub(crate) async fn open(
        &self,
        _store: &Store,
        _lane: &TopicPartition,
        _position: i64,
    ) -> Result<LaneScoring, AggregateError> {
        Ok(LaneScoring {})
    }
}

pub(crate) struct LaneScoring {}

impl LaneScoring {
    pub(crate) fn take(
        &mut self,
        _lane: &TopicPartition,
        _chunk: &RecordChunk,
        _columns: &ReadingColumns,
        _table: &SeriesTable,
        _fold: &mut LaneFold,
    ) {
    }

    pub(crate) fn snapshot(
        &mut self,
        _lane: &TopicPartition,
        _position: i64,
        _parts: &mut Vec<Part>,
    ) -> Vec<Alert> {
        Vec::new()
    }
}
