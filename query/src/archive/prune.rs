//! Leaves out files that a filter rules out, by what their entries say: topic, partition, offsets, times,
//! machines, and whether a record inside failed to decode.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt64Array};
use arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::logical_expr::{Expr, utils::conjunction};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use stillwell_schema::paths::FileKind;

use super::commits::Commit;

/// The commits of which a row may pass all `filters`.
pub(crate) fn prune(
    state: &dyn Session,
    schema: &SchemaRef,
    kind: FileKind,
    commits: Vec<Arc<Commit>>,
    filters: &[Expr],
) -> Result<Vec<Arc<Commit>>> {
    let Some(filter) = conjunction(filters.iter().cloned()) else { return Ok(commits) };
    let columns = DFSchema::try_from(Arc::clone(schema))?;
    let filter = state.create_physical_expr(filter, &columns)?;
    let predicate = PruningPredicateBuilder::new().with_file_schema(Arc::clone(schema)).try_build(filter)?;
    let keep = predicate.prune(&Entries { kind, commits: &commits })?;
    Ok(commits.into_iter().zip(keep).filter_map(|(commit, keep)| keep.then_some(commit)).collect())
}

struct Entries<'a> {
    kind: FileKind,
    commits: &'a [Arc<Commit>],
}

impl Entries<'_> {
    fn scalars(&self, of: impl Fn(&Commit) -> ScalarValue) -> Option<ArrayRef> {
        ScalarValue::iter_to_array(self.commits.iter().map(|commit| of(commit))).ok()
    }

    fn rows(&self, commit: &Commit) -> u64 {
        commit.file(self.kind).map_or(0, |file| file.rows)
    }
}

/// The smallest and largest value of a column in a commit, where the entry knows it.
pub(crate) fn bounds(commit: &Commit, column: &str) -> Option<(ScalarValue, ScalarValue)> {
    let both = |value: ScalarValue| Some((value.clone(), value));
    match column {
        "topic" => both(ScalarValue::Utf8View(Some(commit.lane.topic.to_string()))),
        "partition" => both(ScalarValue::Int32(Some(commit.lane.partition))),
        "offset" => {
            let last = (commit.range.next.0 - 1).max(commit.range.first.0);
            Some((ScalarValue::Int64(Some(commit.range.first.0)), ScalarValue::Int64(Some(last))))
        }
        "time" => {
            let utc = |us| ScalarValue::TimestampMicrosecond(us, Some("UTC".into()));
            let (min, max) = commit.time_us.unzip();
            Some((utc(min), utc(max)))
        }
        "machine" => {
            let machines = commit.machines.as_deref();
            let name = |at: Option<&String>| ScalarValue::Utf8View(at.cloned());
            Some((name(machines.and_then(<[_]>::first)), name(machines.and_then(<[_]>::last))))
        }
        _ => None,
    }
}

impl PruningStatistics for Entries<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        bounds(self.commits.first()?, &column.name)?;
        self.scalars(|commit| bounds(commit, &column.name).map_or(ScalarValue::Null, |(min, _)| min))
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        bounds(self.commits.first()?, &column.name)?;
        self.scalars(|commit| bounds(commit, &column.name).map_or(ScalarValue::Null, |(_, max)| max))
    }

    fn num_containers(&self) -> usize {
        self.commits.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let nulls: UInt64Array = match column.name.as_str() {
            "error_class" | "error" if self.kind == FileKind::Records => self
                .commits
                .iter()
                .map(|commit| Some(self.rows(commit).saturating_sub(commit.undecodable)))
                .collect(),
            "topic" | "partition" | "offset" | "time" | "machine" | "sensor" => {
                self.commits.iter().map(|_| Some(0)).collect()
            }
            _ => return None,
        };
        Some(Arc::new(nulls))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(self.commits.iter().map(|commit| Some(self.rows(commit))).collect::<UInt64Array>()))
    }

    /// Machines are listed one by one, which bounds alone would not use.
    fn contained(&self, column: &Column, values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        if column.name != "machine" {
            return None;
        }
        let names: Vec<&str> =
            values.iter().map(|value| value.try_as_str().flatten()).collect::<Option<_>>()?;
        let found = |machines: &[String]| {
            let any = names.iter().any(|name| machines.binary_search_by(|m| m.as_str().cmp(name)).is_ok());
            let all = machines.iter().all(|machine| names.contains(&machine.as_str()));
            match (any, all) {
                (false, _) => Some(false),
                (true, true) => Some(true),
                (true, false) => None,
            }
        };
        Some(self.commits.iter().map(|commit| commit.machines.as_deref().and_then(found)).collect())
    }
}
