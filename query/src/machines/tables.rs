//! The copy as tables of SQL: their columns, and their rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use stillwell_schema::machines::{MachineRegistry, MachineVersion, Moment, Sensor};

use super::Machines;
use super::held::Held;

/// What a table shows of the copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Each machine as it is now.
    Now,
    /// Every version.
    History,
    /// The sensors of every version.
    Sensors,
    /// The registry itself.
    Registry,
}

impl Shown {
    /// All tables.
    pub(crate) const ALL: [Self; 4] = [Self::Now, Self::History, Self::Sensors, Self::Registry];

    /// The table's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Now => "machines",
            Self::History => "machines_history",
            Self::Sensors => "machine_sensors",
            Self::Registry => "machines_registry",
        }
    }

    /// Its columns.
    pub(crate) fn schema(self) -> SchemaRef {
        let text = |name: &str| Field::new(name, DataType::Utf8, false);
        let time = |name: &str| {
            Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false)
        };
        let count = |name: &str| Field::new(name, DataType::Int64, false);
        let maybe = |name: &str| Field::new(name, DataType::Float64, true);
        let (from, until) = (time("valid_from"), time("valid_until").with_nullable(true));
        Arc::new(Schema::new(match self {
            Self::Now => {
                vec![text("machine"), text("site"), text("line"), text("model"), from, count("sensors")]
            }
            Self::History => vec![text("machine"), text("site"), text("line"), text("model"), from, until],
            Self::Sensors => vec![
                text("machine"),
                text("sensor"),
                text("unit"),
                maybe("low"),
                maybe("high"),
                text("description"),
                from,
                until,
            ],
            Self::Registry => vec![
                count("versions"),
                time("read_until").with_nullable(true),
                time("copied_at").with_nullable(true),
                maybe("age_s"),
            ],
        }))
    }

    /// Its rows at `now_us`, µs UTC.
    fn rows(self, held: &Held, now_us: i64) -> Result<RecordBatch, ArrowError> {
        match self {
            Self::Now => now(&held.registry, now_us),
            Self::History => Ok(held.history.clone()),
            Self::Sensors => Ok(held.sensors.clone()),
            Self::Registry => registry(held, now_us),
        }
    }
}

/// One of the tables.
#[derive(Debug)]
pub(crate) struct MachineTable {
    machines: Arc<Machines>,
    shown: Shown,
}

impl MachineTable {
    pub(crate) fn new(machines: Arc<Machines>, shown: Shown) -> Self {
        Self { machines, shown }
    }
}

#[async_trait]
impl TableProvider for MachineTable {
    fn schema(&self) -> SchemaRef {
        self.shown.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let rows = self.shown.rows(&self.machines.held(), self.machines.clock.now_us())?;
        MemTable::try_new(self.schema(), vec![vec![rows]])?.scan(state, projection, filters, limit).await
    }
}

/// Rows of `machines`.
fn now(registry: &MachineRegistry, now_us: i64) -> Result<RecordBatch, ArrowError> {
    let versions: Vec<&MachineVersion> = registry.at(now_us).collect();
    let mut columns = names(&versions);
    columns.push(times(versions.iter().map(|version| Some(version.valid_from.us()))));
    let counts = versions.iter().map(|version| i64::try_from(version.sensors.len()).unwrap_or(i64::MAX));
    columns.push(Arc::new(Int64Array::from_iter_values(counts)));
    RecordBatch::try_new(Shown::Now.schema(), columns)
}

/// Rows of `machines_history`.
pub(super) fn history(registry: &MachineRegistry) -> Result<RecordBatch, ArrowError> {
    let (versions, until): (Vec<&MachineVersion>, Vec<Option<Moment>>) = registry.history().unzip();
    let mut columns = names(&versions);
    columns.push(times(versions.iter().map(|version| Some(version.valid_from.us()))));
    columns.push(times(until.iter().map(|until| until.map(Moment::us))));
    RecordBatch::try_new(Shown::History.schema(), columns)
}

/// Rows of `machine_sensors`.
pub(super) fn sensors(registry: &MachineRegistry) -> Result<RecordBatch, ArrowError> {
    type One<'a> = (&'a MachineVersion, Option<Moment>, &'a String, &'a Sensor);
    let rows: Vec<One<'_>> = registry
        .history()
        .flat_map(|(version, until)| {
            version.sensors.iter().map(move |(name, sensor)| (version, until, name, sensor))
        })
        .collect();
    let limits = |of: fn(&Sensor) -> Option<f64>| -> ArrayRef {
        Arc::new(rows.iter().map(|(.., sensor)| of(sensor)).collect::<Float64Array>())
    };
    let columns = vec![
        texts(rows.iter().map(|(version, ..)| version.machine.as_str())),
        texts(rows.iter().map(|(_, _, name, _)| name.as_str())),
        texts(rows.iter().map(|(.., sensor)| sensor.unit.as_str())),
        limits(|sensor| sensor.low),
        limits(|sensor| sensor.high),
        texts(rows.iter().map(|(.., sensor)| sensor.description.as_str())),
        times(rows.iter().map(|(version, ..)| Some(version.valid_from.us()))),
        times(rows.iter().map(|(_, until, ..)| until.map(Moment::us))),
    ];
    RecordBatch::try_new(Shown::Sensors.schema(), columns)
}

/// The row of `machines_registry`.
fn registry(held: &Held, now_us: i64) -> Result<RecordBatch, ArrowError> {
    let versions = i64::try_from(held.registry.len()).unwrap_or(i64::MAX);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values([versions])),
        times([held.freshness.read_until_us].into_iter()),
        times([held.freshness.copied_us].into_iter()),
        Arc::new([held.freshness.age_s(now_us)].into_iter().collect::<Float64Array>()),
    ];
    RecordBatch::try_new(Shown::Registry.schema(), columns)
}

/// Machine, site, line and model.
fn names(versions: &[&MachineVersion]) -> Vec<ArrayRef> {
    let column = |of: fn(&MachineVersion) -> &str| texts(versions.iter().map(move |&version| of(version)));
    vec![
        column(|version| version.machine.as_str()),
        column(|version| version.site.as_str()),
        column(|version| version.line.as_str()),
        column(|version| version.model.as_str()),
    ]
}

fn texts<'a>(values: impl Iterator<Item = &'a str>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn times(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}
