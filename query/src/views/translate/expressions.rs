//! Expressions over a view's columns: what is grouped by, and what is aggregated.

use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{BinaryExpr, Case, Expr, Operator};

use super::{filter, identifier, integer, literal, quote, times};

/// An expression that means the same on both sides.
pub(super) struct Translated {
    /// As ClickHouse reads it; whole numbers may be unsigned there.
    pub(super) sql: String,
    /// As the engine has it, but that a time is one of microseconds, whatever finer unit it is read in.
    pub(super) data_type: DataType,
}

impl Translated {
    /// As an operand that has the engine's own type in ClickHouse too.
    fn typed(&self) -> Option<String> {
        match self.data_type {
            DataType::Int64 => Some(format!("toInt64({})", self.sql)),
            DataType::Float64 | DataType::Utf8 => Some(self.sql.clone()),
            _ => None,
        }
    }
}

/// What is grouped by; none where ClickHouse might make other groups of it.
#[must_use]
pub(crate) fn group(expr: &Expr, schema: &SchemaRef) -> Option<String> {
    let translated = expression(expr, schema)?;
    let columns = expr.column_refs();
    // The sides may differ in whether zeros of both signs, or NaNs, are one group. Grafana's groups are floats made
    // of times, which have neither.
    let is_number =
        |name: &str| schema.field_with_name(name).is_ok_and(|field| *field.data_type() == DataType::Float64);
    let numbers = columns.iter().any(|column| is_number(&column.name));
    // A whole number alone is a place in the list of columns to ClickHouse.
    (!columns.is_empty() && !numbers).then_some(translated.sql)
}

/// `expr` over a view with `schema`; none where ClickHouse might not mean the same.
pub(super) fn expression(expr: &Expr, schema: &SchemaRef) -> Option<Translated> {
    match expr {
        Expr::Alias(alias) => expression(&alias.expr, schema),
        Expr::Column(column) => self::column(&column.name, schema),
        Expr::Literal(..) => constant(expr),
        Expr::Cast(cast) => widened(expression(&cast.expr, schema)?, cast.field.data_type()),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            arithmetic(&expression(left, schema)?, *op, &expression(right, schema)?)
        }
        Expr::Case(case) => chosen(case, schema),
        Expr::ScalarFunction(ScalarFunction { func, args }) => function(func.name(), args, schema),
        _ => None,
    }
}

fn column(name: &str, schema: &SchemaRef) -> Option<Translated> {
    let data_type = schema.field_with_name(name).ok()?.data_type().clone();
    let plain = matches!(
        data_type,
        DataType::Utf8
            | DataType::Int32
            | DataType::Int64
            | DataType::UInt32
            | DataType::Float64
            | DataType::Timestamp(TimeUnit::Microsecond, Some(_))
    );
    plain.then(|| Translated { sql: identifier(name), data_type })
}

fn constant(expr: &Expr) -> Option<Translated> {
    let value = literal(expr)?;
    let sql = match value {
        ScalarValue::Utf8(Some(text)) => quote(text),
        ScalarValue::Float64(Some(number)) if number.is_finite() => format!("{number:?}"),
        _ => integer(value)?.to_string(),
    };
    Some(Translated { sql, data_type: value.data_type() })
}

/// A cast that loses nothing.
fn widened(inner: Translated, to: &DataType) -> Option<Translated> {
    let from = inner.data_type.clone();
    let function = match (&from, to) {
        (from, to) if from == to => return Some(inner),
        (
            DataType::Timestamp(TimeUnit::Microsecond, Some(_)),
            DataType::Timestamp(TimeUnit::Nanosecond, Some(_)),
        ) => return Some(inner),
        (DataType::Int32 | DataType::UInt32, DataType::Int64) => "toInt64",
        (DataType::UInt32, DataType::UInt64) => "toUInt64",
        // Both sides round what a float cannot hold to the nearest that it can, ties to even.
        (DataType::Int32 | DataType::Int64 | DataType::UInt32, DataType::Float64) => "toFloat64",
        _ => return None,
    };
    Some(Translated { sql: format!("{function}({})", inner.sql), data_type: to.clone() })
}

/// Floats follow IEEE 754 on both sides, and whole numbers wrap around; whole numbers are not divided, as the engine
/// has an error where the divisor is zero.
fn arithmetic(left: &Translated, op: Operator, right: &Translated) -> Option<Translated> {
    let data_type = left.data_type.clone();
    let numbers = matches!(data_type, DataType::Int64 | DataType::Float64);
    let symbol = match op {
        Operator::Plus => "+",
        Operator::Minus => "-",
        Operator::Multiply => "*",
        Operator::Divide if data_type == DataType::Float64 => "/",
        _ => return None,
    };
    if !numbers || data_type != right.data_type {
        return None;
    }
    Some(Translated { sql: format!("({} {symbol} {})", left.typed()?, right.typed()?), data_type })
}

/// `CASE WHEN … THEN … ELSE … END`, whose values are all of one type or NULL.
fn chosen(case: &Case, schema: &SchemaRef) -> Option<Translated> {
    if case.expr.is_some() {
        return None;
    }
    let mut sql = "CASE".to_owned();
    let mut types = Vec::new();
    for (when, then) in &case.when_then_expr {
        let (then, data_type) = choice(then, schema)?;
        sql += &format!(" WHEN {} THEN {then}", filter(when, schema)?);
        types.extend(data_type);
    }
    if let Some(otherwise) = &case.else_expr {
        let (otherwise, data_type) = choice(otherwise, schema)?;
        sql += &format!(" ELSE {otherwise}");
        types.extend(data_type);
    }
    let data_type = types.pop()?;
    let alike = types.iter().all(|other| *other == data_type);
    alike.then(|| Translated { sql: sql + " END", data_type })
}

/// One value of a CASE, and its type unless it is NULL.
fn choice(expr: &Expr, schema: &SchemaRef) -> Option<(String, Option<DataType>)> {
    match expr {
        Expr::Literal(value, _) if value.is_null() => Some(("NULL".to_owned(), None)),
        _ => {
            let value = expression(expr, schema)?;
            Some((value.typed()?, Some(value.data_type)))
        }
    }
}

fn function(name: &str, args: &[Expr], schema: &SchemaRef) -> Option<Translated> {
    match (name, args) {
        ("floor", [of]) => {
            let Translated { sql, data_type } = expression(of, schema)?;
            (data_type == DataType::Float64).then(|| Translated { sql: format!("floor({sql})"), data_type })
        }
        ("date_bin", [width, time]) => times::bin(width, time, None, schema),
        ("date_bin", [width, time, origin]) => times::bin(width, time, Some(origin), schema),
        ("date_trunc", [unit, time]) => times::truncated(unit, time, schema),
        ("date_part", [part, time]) => times::part(part, time, schema),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
