//! Filters, groups and aggregates in ClickHouse's SQL. What is translated means the same on both sides;
//! everything else stays with the plan.
//!
//! Two differences are bridged: the engine orders NaN above all numbers where ClickHouse compares it false with
//! everything, and the engine may compare times in nanoseconds where the views hold microseconds. One is left: a zero's
//! sign, which the engine heeds and ClickHouse does not.

mod aggregates;
mod expressions;
mod times;

use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{InList, Like};
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Operator};

pub(crate) use self::aggregates::aggregate;
pub(crate) use self::expressions::group;

/// `filter` over a view with `schema`; none where ClickHouse might not mean the same.
#[must_use]
pub fn filter(filter: &Expr, schema: &SchemaRef) -> Option<String> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
            let (left, right) = (self::filter(left, schema)?, self::filter(right, schema)?);
            Some(format!("({left} {op} {right})"))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            if let Some(operand) = Operand::of(left, schema) {
                return comparison(&operand, *op, right);
            }
            comparison(&Operand::of(right, schema)?, op.swap()?, left)
        }
        Expr::Not(inner) => Some(format!("NOT ({})", self::filter(inner, schema)?)),
        Expr::IsNull(inner) => Some(format!("isNull({})", Operand::of(inner, schema)?.sql())),
        Expr::IsNotNull(inner) => Some(format!("isNotNull({})", Operand::of(inner, schema)?.sql())),
        Expr::Between(Between { expr, negated, low, high }) => {
            let operand = Operand::of(expr, schema)?;
            let low = comparison(&operand, Operator::GtEq, low)?;
            let high = comparison(&operand, Operator::LtEq, high)?;
            Some(format!("{}({low} AND {high})", not(*negated)))
        }
        Expr::InList(InList { expr, list, negated }) => {
            among(&Operand::of(expr, schema)?, list).map(|among| format!("{}({among})", not(*negated)))
        }
        Expr::Like(Like { negated, expr, pattern, escape_char: None, case_insensitive: false }) => {
            let operand = Operand::of(expr, schema)?;
            let pattern = literal(pattern)?.try_as_str()??;
            // The two sides read a backslash before an ordinary character differently.
            let plain = operand.data_type == DataType::Utf8 && !pattern.contains('\\');
            plain.then(|| format!("{}({} LIKE {})", not(*negated), operand.sql(), quote(pattern)))
        }
        _ => None,
    }
}

/// A column's name, quoted.
#[must_use]
pub fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

/// A text literal.
pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Whether a column has one of these values. Names are looked up: a dashboard asks for hundreds.
fn among(operand: &Operand, list: &[Expr]) -> Option<String> {
    if list.is_empty() {
        return None;
    }
    // Of nothing, ClickHouse's IN is false where it is unknown here.
    if operand.data_type == DataType::Utf8 && !operand.is_nullable {
        let text = |value| Some(quote(literal(value)?.try_as_str()??));
        let texts: Vec<String> = list.iter().map(text).collect::<Option<_>>()?;
        return Some(format!("{} IN ({})", operand.sql(), texts.join(", ")));
    }
    let one = |value| comparison(operand, Operator::Eq, value);
    let any: Vec<String> = list.iter().map(one).collect::<Option<_>>()?;
    Some(any.join(" OR "))
}

fn not(negated: bool) -> &'static str {
    if negated { "NOT " } else { "" }
}

/// A column, or a column of times read in nanoseconds.
struct Operand {
    name: String,
    data_type: DataType,
    is_nullable: bool,
}

impl Operand {
    fn of(expr: &Expr, schema: &SchemaRef) -> Option<Self> {
        match expr {
            Expr::Column(column) => {
                let field = schema.field_with_name(&column.name).ok()?;
                let (data_type, is_nullable) = (field.data_type().clone(), field.is_nullable());
                Some(Self { name: column.name.clone(), data_type, is_nullable })
            }
            // Finer time units lose nothing, so the comparison is the column's own.
            Expr::Cast(cast) => {
                let operand = Self::of(&cast.expr, schema)?;
                let to_nanos =
                    matches!(cast.field.data_type(), DataType::Timestamp(TimeUnit::Nanosecond, Some(_)));
                (operand.is_time() && to_nanos).then_some(operand)
            }
            _ => None,
        }
    }

    fn is_time(&self) -> bool {
        matches!(self.data_type, DataType::Timestamp(..))
    }

    fn sql(&self) -> String {
        identifier(&self.name)
    }
}

fn literal(expr: &Expr) -> Option<&ScalarValue> {
    match expr {
        Expr::Literal(value, _) if !value.is_null() => Some(value),
        _ => None,
    }
}

fn comparison(operand: &Operand, op: Operator, value: &Expr) -> Option<String> {
    let symbol = symbol(op)?;
    let column = operand.sql();
    let value = literal(value)?;
    match &operand.data_type {
        DataType::Utf8 => Some(format!("{column} {symbol} {}", quote(value.try_as_str()??))),
        DataType::Timestamp(..) => time(&column, op, value),
        DataType::Int32 | DataType::Int64 | DataType::UInt32 => {
            Some(format!("{column} {symbol} {}", integer(value)?))
        }
        DataType::Float64 => {
            let ScalarValue::Float64(Some(number)) = value else { return None };
            let plain = format!("{column} {symbol} {number:?}");
            let above = matches!(op, Operator::Gt | Operator::GtEq);
            let sql = if above { format!("({plain} OR isNaN({column}))") } else { plain };
            number.is_finite().then_some(sql)
        }
        _ => None,
    }
}

fn symbol(op: Operator) -> Option<&'static str> {
    Some(match op {
        Operator::Eq => "=",
        Operator::NotEq => "!=",
        Operator::Lt => "<",
        Operator::LtEq => "<=",
        Operator::Gt => ">",
        Operator::GtEq => ">=",
        _ => return None,
    })
}

fn integer(value: &ScalarValue) -> Option<i64> {
    Some(match value {
        ScalarValue::Int8(Some(n)) => (*n).into(),
        ScalarValue::Int16(Some(n)) => (*n).into(),
        ScalarValue::Int32(Some(n)) => (*n).into(),
        ScalarValue::Int64(Some(n)) => *n,
        ScalarValue::UInt8(Some(n)) => (*n).into(),
        ScalarValue::UInt16(Some(n)) => (*n).into(),
        ScalarValue::UInt32(Some(n)) => (*n).into(),
        ScalarValue::UInt64(Some(n)) => i64::try_from(*n).ok()?,
        _ => return None,
    })
}

/// Compares a column of microseconds with a time of any unit, rounding nanoseconds to the side that keeps the
/// comparison's meaning.
fn time(column: &str, op: Operator, value: &ScalarValue) -> Option<String> {
    let micros = match value {
        ScalarValue::TimestampSecond(Some(t), Some(_)) => t.checked_mul(1_000_000)?,
        ScalarValue::TimestampMillisecond(Some(t), Some(_)) => t.checked_mul(1_000)?,
        ScalarValue::TimestampMicrosecond(Some(t), Some(_)) => *t,
        ScalarValue::TimestampNanosecond(Some(t), Some(_)) => {
            let whole = t.rem_euclid(1_000) == 0;
            let floor = t.div_euclid(1_000);
            match op {
                Operator::LtEq | Operator::Gt => floor,
                Operator::Lt | Operator::GtEq => floor + i64::from(!whole),
                _ if whole => floor,
                _ => return None,
            }
        }
        _ => return None,
    };
    Some(format!("{column} {} fromUnixTimestamp64Micro({micros}, 'UTC')", symbol(op)?))
}

#[cfg(test)]
mod tests;
