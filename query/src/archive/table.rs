//! The tables `readings` and `records`: scans over exactly the files that entries name.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Result, ScalarValue, Statistics, project_schema};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::DataFusionError;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use stillwell_schema::columns;
use stillwell_schema::paths::FileKind;
use tokio::sync::OnceCell;

use super::STORE_URL;
use super::catalogue::{ArchiveError, Catalogue};
use super::commits::{Commit, File, Snapshot};
use super::files::Files;
use super::places::Places;
use super::prune;
use super::restore::{self, RestoreExec};
use super::rows::RowsExec;

/// Statistics of single files let a scan skip files while it runs. They are worth their memory (kilobytes a file)
/// only where few files are left.
const FILE_STATISTICS_MAX: usize = 256;

/// Text is handed on as views into the decoded pages: the same text, without a copy per row.
pub(super) static READINGS: LazyLock<SchemaRef> = LazyLock::new(|| as_views(&columns::READINGS));
static RECORDS: LazyLock<SchemaRef> = LazyLock::new(|| as_views(&columns::RECORDS));
/// What a file of records holds: older ones lack the template, which then is null.
static STORED_RECORDS: LazyLock<SchemaRef> = LazyLock::new(|| as_views(&columns::STORED_RECORDS));

fn as_views(schema: &Schema) -> SchemaRef {
    let view = |field: &Arc<Field>| match field.data_type() {
        DataType::Utf8 => Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8View)),
        DataType::Binary => Arc::new(field.as_ref().clone().with_data_type(DataType::BinaryView)),
        _ => Arc::clone(field),
    };
    Arc::new(Schema::new(schema.fields().iter().map(view).collect::<Vec<_>>()))
}

/// Holds one moment of the archive for all scans of a statement, so that a join sees one state.
#[derive(Debug, Default)]
pub struct Pin(OnceCell<Snapshot>);

impl Pin {
    pub(crate) async fn snapshot(&self, catalogue: &Catalogue) -> Result<Snapshot, ArchiveError> {
        self.0.get_or_try_init(|| catalogue.refresh()).await.cloned()
    }

    /// What the statement's scans saw; none where it read no archive table.
    #[must_use]
    pub fn seen(&self) -> Option<&Snapshot> {
        self.0.get()
    }
}

/// What the scans of a statement see of the archive.
pub(crate) async fn seen(state: &dyn Session, catalogue: &Catalogue) -> Result<Snapshot, ArchiveError> {
    match state.config().get_extension::<Pin>() {
        Some(pin) => pin.snapshot(catalogue).await,
        None => catalogue.refresh().await,
    }
}

/// One of the archive's two tables.
#[derive(Debug)]
pub struct ArchiveTable {
    catalogue: Arc<Catalogue>,
    kind: FileKind,
}

impl ArchiveTable {
    /// The table of one kind of file.
    #[must_use]
    pub fn new(catalogue: Arc<Catalogue>, kind: FileKind) -> Self {
        Self { catalogue, kind }
    }

    /// The scan of exactly these commits' files, as columns of `schema`.
    fn scan_files(
        &self,
        files: &Files,
        partitions: usize,
        schema: &SchemaRef,
        projection: Option<&Vec<usize>>,
        commits: &[Arc<Commit>],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let each = commits.len() <= FILE_STATISTICS_MAX;
        let listed = commits.iter().filter_map(|commit| file(commit, self.kind, each.then_some(schema)));
        let groups = FileGroup::new(listed.collect()).split_files(partitions);
        let source = Arc::new(files.source(schema));
        let scan = FileScanConfigBuilder::new(ObjectStoreUrl::parse(STORE_URL)?, source)
            .with_file_groups(groups)
            .with_statistics(statistics(commits, self.kind, schema))
            .with_projection_indices(projection.cloned())?
            .with_limit(limit);
        Ok(DataSourceExec::from_data_source(scan.build()))
    }
}

#[async_trait]
impl TableProvider for ArchiveTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(match self.kind {
            FileKind::Readings => &READINGS,
            FileKind::Records => &RECORDS,
        })
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Inexact: files and pages are skipped, rows are filtered by the plan.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = self.schema();
        let snapshot = seen(state, &self.catalogue).await;
        let snapshot = snapshot.map_err(|error| DataFusionError::External(Box::new(error)))?;
        if filters.is_empty() && projection.is_some_and(Vec::is_empty) {
            let rows = usize::try_from(snapshot.rows(self.kind)).unwrap_or(usize::MAX);
            return Ok(Arc::new(RowsExec::new(limit.map_or(rows, |limit| limit.min(rows)))));
        }
        let commits = prune::prune(state, &schema, self.kind, snapshot.holding(self.kind), filters)?;
        if commits.is_empty() {
            return Ok(Arc::new(EmptyExec::new(project_schema(&schema, projection)?)));
        }
        let (files, partitions) = (Files::of(state)?, state.config().target_partitions());
        let Some(stored) = restore::stored(self.kind, projection)? else {
            return self.scan_files(&files, partitions, &schema, projection, &commits, limit);
        };
        let scan = self.scan_files(&files, partitions, &STORED_RECORDS, Some(&stored), &commits, limit)?;
        let (schema, places) = (project_schema(&schema, projection)?, Arc::new(Places::of(&snapshot)));
        Ok(Arc::new(RestoreExec::new(scan, schema, places, Arc::new(files))))
    }
}

fn file(commit: &Arc<Commit>, kind: FileKind, statistics_of: Option<&SchemaRef>) -> Option<PartitionedFile> {
    let file = commit.file(kind)?;
    let listed = PartitionedFile::new(&*file.path, file.bytes);
    Some(match statistics_of {
        Some(schema) => {
            listed.with_statistics(Arc::new(statistics(std::slice::from_ref(commit), kind, schema)))
        }
        None => listed,
    })
}

/// What the entries say of these files together.
fn statistics(commits: &[Arc<Commit>], kind: FileKind, schema: &SchemaRef) -> Statistics {
    let files = || commits.iter().filter_map(|commit| commit.file(kind));
    let sum = |of: fn(&File) -> u64| {
        Precision::Exact(usize::try_from(files().map(of).sum::<u64>()).unwrap_or(usize::MAX))
    };
    Statistics {
        num_rows: sum(|file| file.rows),
        total_byte_size: sum(|file| file.bytes).to_inexact(),
        column_statistics: schema.fields().iter().map(|field| column(commits, kind, field.name())).collect(),
    }
}

/// Only times are exact: the first and last offset of a range may be gaps, and a file may hold a machine that
/// its entry does not list.
fn column(commits: &[Arc<Commit>], kind: FileKind, name: &str) -> ColumnStatistics {
    let mut column = ColumnStatistics::new_unknown();
    let known = match name {
        "time" => kind == FileKind::Readings,
        "partition" | "offset" => true,
        _ => false,
    };
    let Some((smallest, largest)) = known.then(|| extremes(commits, name)).flatten() else { return column };
    let precision = if name == "offset" { Precision::Inexact } else { Precision::Exact };
    (column.min_value, column.max_value) = (precision(smallest), precision(largest));
    column.null_count = Precision::Exact(0);
    column
}

/// The smallest and largest value of a column in all commits; none if a commit does not know.
fn extremes(commits: &[Arc<Commit>], name: &str) -> Option<(ScalarValue, ScalarValue)> {
    let mut both: Option<(ScalarValue, ScalarValue)> = None;
    for commit in commits {
        let (min, max) = prune::bounds(commit, name)?;
        if min.is_null() || max.is_null() {
            return None;
        }
        both = Some(match both {
            Some((least, most)) => {
                (if min < least { min } else { least }, if max > most { max } else { most })
            }
            None => (min, max),
        });
    }
    both
}
