//! Aggregates in ClickHouse's SQL.
//!
//! Three differences are bridged: an aggregate of nothing is NULL to the engine and zero to ClickHouse, hence
//! `-OrNull`; a mean of whole numbers is one of floats to the engine; and the engine's NaN is above all numbers.

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams, NullTreatment};

use super::expressions::{Translated, expression};
use super::{filter, literal};

/// An aggregate over a view with `schema`, whose columns `finite` hold no NaN; none where ClickHouse might not mean the
/// same.
#[must_use]
pub(crate) fn aggregate(expr: &Expr, schema: &SchemaRef, finite: &[&str]) -> Option<String> {
    let function = match expr {
        Expr::Alias(alias) => return aggregate(&alias.expr, schema, finite),
        Expr::AggregateFunction(function) => function,
        _ => return None,
    };
    let AggregateFunction { func, params } = function;
    let AggregateFunctionParams { args, distinct, filter: only, order_by, null_treatment } = params;
    let [arg] = args.as_slice() else { return None };
    if !order_by.is_empty() || *null_treatment == Some(NullTreatment::IgnoreNulls) {
        return None;
    }
    let rows = match only {
        Some(only) => Rows::That(filter(only, schema)?),
        None => Rows::All,
    };
    match (func.name(), *distinct) {
        // A constant counts the rows.
        ("count", false) if literal(arg).is_some() => Some(rows.of("count", "")),
        ("count", false) => Some(rows.of("count", &expression(arg, schema)?.sql)),
        ("count", true) => distinct_values(&expression(arg, schema)?, &rows),
        ("sum", false) => sum(&expression(arg, schema)?, &rows),
        ("avg", false) => mean(&expression(arg, schema)?, &rows),
        ("min", false) if is_one_of(arg, finite) => Some(rows.of("minOrNull", &expression(arg, schema)?.sql)),
        ("max", false) if is_one_of(arg, finite) => Some(rows.of("maxOrNull", &expression(arg, schema)?.sql)),
        ("min", false) => least(&expression(arg, schema)?, &rows),
        ("max", false) => greatest(&expression(arg, schema)?, &rows),
        _ => None,
    }
}

fn is_one_of(expr: &Expr, columns: &[&str]) -> bool {
    match expr {
        Expr::Alias(alias) => is_one_of(&alias.expr, columns),
        Expr::Column(column) => columns.contains(&column.name.as_str()),
        _ => false,
    }
}

/// The rows of a group that are aggregated.
enum Rows {
    All,
    That(String),
}

impl Rows {
    /// `function` of an argument, or of none where that is empty, over these rows.
    fn of(&self, function: &str, arg: &str) -> String {
        match self {
            Self::All => format!("{function}({arg})"),
            Self::That(condition) if arg.is_empty() => format!("{function}If({condition})"),
            Self::That(condition) => format!("{function}If({arg}, {condition})"),
        }
    }

    /// Those of them that pass `condition` too.
    fn and(&self, condition: &str) -> Self {
        match self {
            Self::All => Self::That(condition.to_owned()),
            Self::That(other) => Self::That(format!("{condition} AND {other}")),
        }
    }
}

/// Distinct values, exactly; the sides may differ in which floats are distinct.
fn distinct_values(arg: &Translated, rows: &Rows) -> Option<String> {
    (arg.data_type != DataType::Float64).then(|| rows.of("uniqExact", &arg.sql))
}

fn sum(arg: &Translated, rows: &Rows) -> Option<String> {
    let numbers = matches!(arg.data_type, DataType::Int64 | DataType::UInt64 | DataType::Float64);
    numbers.then(|| rows.of("sumOrNull", &arg.sql))
}

fn mean(arg: &Translated, rows: &Rows) -> Option<String> {
    (arg.data_type == DataType::Float64).then(|| rows.of("avgOrNull", &arg.sql))
}

/// The least is NaN only where there is nothing else.
fn least(arg: &Translated, rows: &Rows) -> Option<String> {
    if arg.data_type != DataType::Float64 {
        return Some(rows.of("minOrNull", &arg.sql));
    }
    let (numbers, nans) = numbers_and_nans(arg, rows);
    let least = numbers.of("minOrNull", &arg.sql);
    Some(format!("ifNull({least}, if({} > 0, nan, NULL))", nans.of("count", "")))
}

/// The greatest is NaN where there is one.
fn greatest(arg: &Translated, rows: &Rows) -> Option<String> {
    if arg.data_type != DataType::Float64 {
        return Some(rows.of("maxOrNull", &arg.sql));
    }
    let (numbers, nans) = numbers_and_nans(arg, rows);
    Some(format!("if({} > 0, nan, {})", nans.of("count", ""), numbers.of("maxOrNull", &arg.sql)))
}

fn numbers_and_nans(arg: &Translated, rows: &Rows) -> (Rows, Rows) {
    let is_nan = format!("isNaN({})", arg.sql);
    (rows.and(&format!("NOT {is_nan}")), rows.and(&is_nan))
}

#[cfg(test)]
mod tests;
