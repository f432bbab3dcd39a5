//! How a session is set up: tables, options, shared memory and disk.

use std::sync::Arc;

use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider};
use datafusion::datasource::{ViewTable as PlannedView, provider_as_source};
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::context::{SessionContext, SessionState};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::logical_expr::{LogicalPlanBuilder, col};
use datafusion::prelude::SessionConfig;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_postgres::datafusion_pg_catalog::setup_pg_catalog;
use stillwell_schema::paths::FileKind;

use super::deadline::CappedPlanner;
use super::push::PushAggregates;
use crate::archive::{ArchiveTable, Catalogue, STORE_URL, open};
use crate::error::QueryError;
use crate::lineage;
use crate::machines::{MachineTable, Machines, Shown};
use crate::settings::{Limits, QuerySettings};
use crate::views::{ViewTable, Views, schemas};
use crate::watermarks::{self, Watermarks};

/// The catalogue's name in SQL, which PostgreSQL clients see as the database.
const CATALOG: &str = "stillwell";
const SCHEMA: &str = "public";

/// Plans run on a small machine beside the writers: few partitions, batches of the usual size.
const PARTITIONS: usize = 2;
const BATCH_ROWS: usize = 8_192;

/// Parquet footers kept between statements.
const FOOTERS_BYTES_MAX: usize = 32 << 20;

/// What statements spill to disk, at most.
const SPILL_BYTES_MAX: u64 = 4 << 30;

/// Memory, disk and store, shared by all sessions.
pub(super) fn runtime(settings: &QuerySettings) -> Result<Arc<RuntimeEnv>, QueryError> {
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(settings.limits.memory_bytes)))
        .with_max_temp_directory_size(SPILL_BYTES_MAX)
        .with_metadata_cache_limit(FOOTERS_BYTES_MAX)
        .build_arc()?;
    let url = ObjectStoreUrl::parse(STORE_URL)?;
    runtime.register_object_store(url.as_ref(), open(settings)?);
    Ok(runtime)
}

/// A session over all tables.
pub(super) fn state(
    limits: &Limits,
    runtime: Arc<RuntimeEnv>,
    catalogue: &Arc<Catalogue>,
    views: &Views,
    machines: &Arc<Machines>,
) -> Result<SessionState, QueryError> {
    let mut state = SessionStateBuilder::new()
        .with_default_features()
        .with_config(config())
        .with_runtime_env(runtime)
        .with_optimizer_rule(Arc::new(PushAggregates))
        .with_query_planner(Arc::new(CappedPlanner { time: limits.time }))
        .build();
    let database = MemoryCatalogProvider::new();
    database.register_schema(SCHEMA, Arc::new(tables(catalogue, views, machines)?))?;
    state.catalog_list().register_catalog(CATALOG.to_owned(), Arc::new(database));
    lineage::register(&mut state, catalogue, views);
    Ok(state)
}

fn config() -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true)
        .with_target_partitions(PARTITIONS)
        .with_batch_size(BATCH_ROWS)
        .with_parquet_bloom_filter_pruning(true)
        .with_parquet_page_index_pruning(true);
    let options = config.options_mut();
    options.execution.time_zone = Some("UTC".to_owned());
    options.execution.parquet.pushdown_filters = true;
    options.execution.parquet.reorder_filters = true;
    options.sql_parser.collect_spans = true;
    options.sql_parser.dialect = datafusion::common::config::Dialect::PostgreSQL;
    config
}

fn tables(
    catalogue: &Arc<Catalogue>,
    views: &Views,
    machines: &Arc<Machines>,
) -> Result<MemorySchemaProvider, QueryError> {
    let tables = MemorySchemaProvider::new();
    for kind in [FileKind::Readings, FileKind::Records] {
        let table = ArchiveTable::new(Arc::clone(catalogue), kind);
        tables.register_table(kind.name().to_owned(), Arc::new(table))?;
    }
    tables.register_table("dead_letters".to_owned(), Arc::new(dead_letters(catalogue)?))?;
    for view in schemas::all() {
        let name = view.name.to_owned();
        tables.register_table(name, Arc::new(ViewTable::new(views.clone(), view)))?;
    }
    for shown in Shown::ALL {
        let table = MachineTable::new(Arc::clone(machines), shown);
        tables.register_table(shown.name().to_owned(), Arc::new(table))?;
    }
    let watermarks = Watermarks::new(Arc::clone(catalogue), views.clone());
    tables.register_table(watermarks::NAME.to_owned(), Arc::new(watermarks))?;
    Ok(tables)
}

/// Where the tables of a session are kept.
pub(super) fn tables_of(state: &SessionState) -> Result<Arc<dyn SchemaProvider>, QueryError> {
    let database = state.catalog_list().catalog(CATALOG);
    let tables = database.and_then(|database| database.schema(SCHEMA));
    tables.ok_or_else(|| QueryError::Internal(format!("the session has no schema {CATALOG}.{SCHEMA}")))
}

/// The records that did not decode; files without any are never opened.
fn dead_letters(catalogue: &Arc<Catalogue>) -> Result<PlannedView, QueryError> {
    let records = provider_as_source(Arc::new(ArchiveTable::new(Arc::clone(catalogue), FileKind::Records)));
    let plan = LogicalPlanBuilder::scan(FileKind::Records.name(), records, None)?
        .filter(col("error_class").is_not_null())?
        .build()?;
    let definition = "SELECT * FROM records WHERE error_class IS NOT NULL";
    Ok(PlannedView::new(plan, Some(definition.to_owned())))
}

/// Adds what PostgreSQL clients ask of a database.
pub(super) fn with_pg_catalog(state: SessionState) -> Result<SessionState, QueryError> {
    let context = SessionContext::new_with_state(state);
    setup_pg_catalog(&context, CATALOG, EmptyContextProvider).map_err(|error| QueryError::from(*error))?;
    Ok(context.state())
}
