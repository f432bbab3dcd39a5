//! The table `pipeline_watermarks`: how far each table of readings is, partition by partition.
//!
//! | column | from | meaning |
//! |---|---|---|
//! | `topic`, `partition` | | which lane |
//! | `view` | | `readings` for the archive, or one of the views |
//! | `received` | views | next offset that the views' writer has not received |
//! | `durable` | archive | next offset that is not archived |
//! | `visible` | either | next offset that statements over `view` do not see |
//! | `end_offset` | views | end of the partition as last seen |
//! | `updated` | either | when `visible` last moved |
//!
//! `received` and `end_offset` are told with each flush: while the views' server is away they stand still here, as it
//! cannot be told, and the writer's metric `stillwell_watermark_offset` goes on.
//!
//! What one side alone knows is null while it does not answer: the table itself answers always.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use serde::Deserialize;
use stillwell_schema::TopicPartition;

use crate::archive::{Catalogue, Snapshot, seen};
use crate::engine::leaf::held;
use crate::views::Views;
use crate::views::schemas::{count, nullable, text, time};

/// Its name, here and as the view behind it.
pub(crate) const NAME: &str = "pipeline_watermarks";

/// The archive's table of readings.
const ARCHIVE: &str = "readings";
const VIEWS: [&str; 7] =
    ["readings_10s", "readings_1m", "readings_1h", "readings_1d", "fleet_1m", "fleet_1h", "fleet_1d"];

/// A server that does not say how far it is within this time counts as away.
const VIEWS_TIME_MAX: Duration = Duration::from_secs(2);

/// What the views' server says of one view and partition.
#[derive(Clone, Debug, clickhouse::Row, Deserialize)]
struct Seen {
    topic: String,
    partition: i32,
    view: String,
    received: i64,
    visible: Option<i64>,
    end: i64,
    updated_us: i64,
}

/// A row of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Row {
    received: Option<i64>,
    durable: Option<i64>,
    visible: Option<i64>,
    end: Option<i64>,
    updated_us: Option<i64>,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Watermarks {
    catalogue: Arc<Catalogue>,
    views: Views,
    schema: SchemaRef,
}

impl Watermarks {
    pub(crate) fn new(catalogue: Arc<Catalogue>, views: Views) -> Self {
        Self { catalogue, views, schema: schema() }
    }

    async fn views(&self) -> Option<Vec<Seen>> {
        let sql = format!(
            "SELECT topic, partition, view, received, visible, end_offset AS end, \
             toUnixTimestamp64Micro(updated) AS updated_us FROM {}",
            self.views.path(NAME)
        );
        let asked = tokio::time::timeout(VIEWS_TIME_MAX, self.views.rows::<Seen>(&sql)).await;
        asked.ok()?.ok()
    }
}

#[async_trait]
impl TableProvider for Watermarks {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (archive, views) = tokio::join!(seen(state, &self.catalogue), self.views());
        let rows = rows(archive.ok().as_ref(), views.as_deref());
        held(batch(&self.schema, &rows)?, projection)
    }
}

/// Both sides together, by lane and view.
fn rows(archive: Option<&Snapshot>, views: Option<&[Seen]>) -> BTreeMap<(TopicPartition, String), Row> {
    let mut rows = BTreeMap::<_, Row>::new();
    for seen in views.into_iter().flatten() {
        let lane = TopicPartition::new(seen.topic.as_str(), seen.partition);
        let row = Row {
            received: Some(seen.received),
            durable: None,
            visible: seen.visible,
            end: Some(seen.end),
            updated_us: Some(seen.updated_us),
        };
        rows.insert((lane, seen.view.clone()), row);
    }
    for head in archive.into_iter().flat_map(Snapshot::heads) {
        let durable = Some(head.range.next.0);
        let mut end = None;
        for view in VIEWS {
            let row = rows.entry((head.lane.clone(), view.to_owned())).or_default();
            row.durable = durable;
            end = end.max(row.end);
        }
        let updated_us = Some(head.written_us);
        let row = Row { received: None, durable, visible: durable, end, updated_us };
        rows.insert((head.lane.clone(), ARCHIVE.to_owned()), row);
    }
    rows
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("topic"),
        Field::new("partition", DataType::Int32, false),
        text("view"),
        nullable(count("received")),
        nullable(count("durable")),
        nullable(count("visible")),
        nullable(count("end_offset")),
        nullable(time("updated")),
    ]))
}

fn batch(schema: &SchemaRef, rows: &BTreeMap<(TopicPartition, String), Row>) -> Result<RecordBatch> {
    let column =
        |of: fn(&Row) -> Option<i64>| -> ArrayRef { Arc::new(rows.values().map(of).collect::<Int64Array>()) };
    let updated: TimestampMicrosecondArray = rows.values().map(|row| row.updated_us).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows.keys().map(|(lane, _)| &*lane.topic))),
        Arc::new(Int32Array::from_iter_values(rows.keys().map(|(lane, _)| lane.partition))),
        Arc::new(StringArray::from_iter_values(rows.keys().map(|(_, view)| view))),
        column(|row| row.received),
        column(|row| row.durable),
        column(|row| row.visible),
        column(|row| row.end),
        Arc::new(updated.with_timezone("UTC")),
    ];
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(view: &str, visible: Option<i64>) -> Seen {
        let (topic, view) = ("t".to_owned(), view.to_owned());
        Seen { topic, partition: 3, view, received: 9, visible, end: 12, updated_us: 7 }
    }

    #[test]
    fn views_alone_say_what_they_know() {
        let rows = rows(None, Some(&[said("readings_10s", Some(8)), said("readings_1h", None)]));
        let lane = TopicPartition::new("t", 3);
        let of = |view: &str| rows[&(lane.clone(), view.to_owned())].clone();
        let row =
            Row { received: Some(9), durable: None, visible: Some(8), end: Some(12), updated_us: Some(7) };
        assert_eq!(of("readings_10s"), row);
        assert_eq!(of("readings_1h"), Row { visible: None, ..row });
        assert_eq!(rows.len(), 2);
        let batch = batch(&schema(), &rows).unwrap();
        assert_eq!((batch.num_rows(), batch.num_columns()), (2, 8));
    }

    #[test]
    fn without_either_side_there_are_no_rows() {
        assert_eq!(batch(&schema(), &rows(None, None)).unwrap().num_rows(), 0);
    }
}
