//! The readings of one series in one window, and where each comes from: its file and row as they are today, the
//! entry that committed it, and the trace of its record.
//!
//! | column | meaning |
//! |---|---|
//! | topic, partition, offset, index, time, value, text, quality | as in `readings` |
//! | file | the file of readings that holds it today, relative to the archive's root |
//! | row | its row in there, from 0 |
//! | seq | the manifest entry that committed its offset, also where a merged file stands for it |
//! | trace_id | of its record's `traceparent` header; null where there is none |
//!
//! The scan reads the rows of that series and window alone; [`trace`] adds the last two columns, where they are asked
//! for: [`entries`] finds the entry, [`traceparents`] reads the header.

mod entries;
mod trace;
mod traceparents;

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, Result, ScalarValue, project_schema};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::DataFusionError;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableType, col, lit};
use datafusion::parquet::arrow::RowNumber;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use stillwell_schema::paths::FileKind;

use self::trace::{Sources, TraceExec};
use super::STORE_URL;
use super::catalogue::Catalogue;
use super::commits::Commit;
use super::files::Files;
use super::places::Places;
use super::prune;
use super::table::{READINGS, seen};

const FILE: &str = "file";
const ROW: &str = "row";
const SEQ: &str = "seq";
const TRACE_ID: &str = "trace_id";

/// The columns of `readings` that are handed on.
const OF_READINGS: [&str; 8] = ["topic", "partition", "offset", "index", "time", "value", "text", "quality"];

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let of_readings = READINGS.fields().iter().filter(|field| OF_READINGS.contains(&field.name().as_str()));
    let mut fields: Vec<_> = of_readings.cloned().collect();
    fields.push(Arc::new(Field::new(FILE, DataType::Utf8, false)));
    fields.push(Arc::new(Field::new(ROW, DataType::Int64, false)));
    fields.push(Arc::new(Field::new(SEQ, DataType::Int64, false)));
    fields.push(Arc::new(Field::new(TRACE_ID, DataType::Utf8, true)));
    Arc::new(Schema::new(fields))
});

/// The readings of a series with times in a range.
#[derive(Debug)]
pub(crate) struct WindowReadings {
    catalogue: Arc<Catalogue>,
    machine: String,
    sensor: String,
    times_us: Range<i64>,
}

impl WindowReadings {
    /// Those of this machine's sensor with these times, µs UTC.
    pub(crate) fn new(
        catalogue: Arc<Catalogue>,
        machine: impl Into<String>,
        sensor: impl Into<String>,
        times_us: Range<i64>,
    ) -> Self {
        Self { catalogue, machine: machine.into(), sensor: sensor.into(), times_us }
    }

    /// Which readings they are.
    fn condition(&self) -> Expr {
        let time = |us| lit(ScalarValue::TimestampMicrosecond(Some(us), Some("UTC".into())));
        let text = |text: &str| lit(ScalarValue::Utf8View(Some(text.to_owned())));
        col("machine")
            .eq(text(&self.machine))
            .and(col("sensor").eq(text(&self.sensor)))
            .and(col("time").gt_eq(time(self.times_us.start)))
            .and(col("time").lt(time(self.times_us.end)))
    }

    /// Exactly the readings that are wanted, with their files and rows.
    fn scan_files(
        state: &dyn Session,
        files: &Files,
        commits: &[Arc<Commit>],
        condition: Expr,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = TableSchema::builder(Arc::clone(&READINGS))
            .with_table_partition_cols(vec![Arc::new(Field::new(FILE, DataType::Utf8, false))])
            .with_virtual_columns(vec![Arc::new(
                Field::new(ROW, DataType::Int64, false).with_extension_type(RowNumber),
            )])
            .build();
        let mut wanted = Vec::with_capacity(OF_READINGS.len() + 2);
        for name in OF_READINGS.into_iter().chain([FILE, ROW]) {
            wanted.push(schema.table_schema().index_of(name)?);
        }
        let columns = DFSchema::try_from(Arc::clone(&READINGS))?;
        let source = files.source_of(schema).with_pushdown_filters(true);
        let source = source.with_predicate(state.create_physical_expr(condition, &columns)?);
        let listed = commits.iter().filter_map(|commit| {
            let file = commit.file(FileKind::Readings)?;
            let listed = PartitionedFile::new(&*file.path, file.bytes);
            Some(listed.with_partition_values(vec![ScalarValue::from(&*file.path)]))
        });
        let groups = FileGroup::new(listed.collect()).split_files(state.config().target_partitions());
        let scan = FileScanConfigBuilder::new(ObjectStoreUrl::parse(STORE_URL)?, Arc::new(source))
            .with_file_groups(groups)
            .with_projection_indices(Some(wanted))?
            .with_limit(limit);
        Ok(DataSourceExec::from_data_source(scan.build()))
    }
}

#[async_trait]
impl TableProvider for WindowReadings {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&SCHEMA)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let snapshot = seen(state, &self.catalogue).await;
        let snapshot = snapshot.map_err(|error| DataFusionError::External(Box::new(error)))?;
        let (schema, kind) = (project_schema(&SCHEMA, projection)?, FileKind::Readings);
        let condition = self.condition();
        let filters = std::slice::from_ref(&condition);
        let commits = prune::prune(state, &READINGS, kind, snapshot.holding(kind), filters)?;
        if commits.is_empty() {
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let files = Files::of(state)?;
        let scan = Self::scan_files(state, &files, &commits, condition, limit)?;
        let (catalogue, places) = (Arc::clone(&self.catalogue), Places::of(&snapshot));
        Ok(Arc::new(TraceExec::new(scan, schema, Arc::new(Sources { catalogue, places, files }))))
    }
}
