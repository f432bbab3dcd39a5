//! Times that are grouped by: the bin that a column's time falls into, its truncation, and its seconds since 1970.
//!
//! A view's times are whole microseconds, so bins of whole microseconds round those down. A time that nanoseconds
//! cannot count to (beyond 2262) has its bin here, where the engine has NULL or an error.

use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;

use super::expressions::Translated;
use super::{Operand, literal};

const SECOND_US: i64 = 1_000_000;
const DAY_US: i64 = 86_400 * SECOND_US;

/// 29 December 1969, from which weeks are counted: a Monday.
const MONDAY_US: i64 = -3 * DAY_US;

/// `date_bin`: bins of `width` from `origin` on, which is 1970 where there is none.
pub(super) fn bin(
    width: &Expr,
    time: &Expr,
    origin: Option<&Expr>,
    schema: &SchemaRef,
) -> Option<Translated> {
    let origin_us = match origin {
        Some(origin) => instant_us(literal(origin)?)?,
        None => 0,
    };
    rounded_down(time, width_us(literal(width)?)?, origin_us, schema)
}

/// `date_trunc` to units of one length: months, quarters and years have none.
pub(super) fn truncated(unit: &Expr, time: &Expr, schema: &SchemaRef) -> Option<Translated> {
    let unit = literal(unit)?.try_as_str()??.to_lowercase();
    let (width_us, origin_us) = match unit.as_str() {
        "millisecond" => (SECOND_US / 1_000, 0),
        "second" => (SECOND_US, 0),
        "minute" => (60 * SECOND_US, 0),
        "hour" => (3_600 * SECOND_US, 0),
        "day" => (DAY_US, 0),
        "week" => (7 * DAY_US, MONDAY_US),
        _ => return None,
    };
    // Days of another zone begin at other times.
    if !is_in_utc(time) {
        return None;
    }
    rounded_down(time, width_us, origin_us, schema)
}

fn is_in_utc(time: &Expr) -> bool {
    match time {
        Expr::Column(_) => true,
        Expr::Cast(cast) => {
            let zone = match cast.field.data_type() {
                DataType::Timestamp(_, Some(zone)) => Some(&**zone),
                _ => None,
            };
            matches!(zone, Some("UTC" | "+00:00")) && is_in_utc(&cast.expr)
        }
        _ => false,
    }
}

/// `date_part('epoch', …)`, which Grafana's `$__timeGroup` is made with.
pub(super) fn part(part: &Expr, time: &Expr, schema: &SchemaRef) -> Option<Translated> {
    let is_epoch = literal(part)?.try_as_str()??.eq_ignore_ascii_case("epoch");
    // Seconds made of nanoseconds may differ from these in the last bit.
    let is_column = matches!(time, Expr::Column(_));
    let sql = format!("({} / {SECOND_US})", microseconds(time, schema)?);
    (is_epoch && is_column).then_some(Translated { sql, data_type: DataType::Float64 })
}

fn rounded_down(time: &Expr, width_us: i64, origin_us: i64, schema: &SchemaRef) -> Option<Translated> {
    let us = microseconds(time, schema)?;
    let since = if origin_us == 0 { us.clone() } else { format!("{us} - {origin_us}") };
    // The width is signed: ClickHouse takes remainders by an unsigned number without heed of the sign.
    let sql = format!("fromUnixTimestamp64Micro({us} - positiveModulo({since}, toInt64({width_us})), 'UTC')");
    let data_type = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Some(Translated { sql, data_type })
}

/// A column's times in µs since 1970 UTC.
fn microseconds(time: &Expr, schema: &SchemaRef) -> Option<String> {
    let column = Operand::of(time, schema).filter(Operand::is_time)?;
    Some(format!("toUnixTimestamp64Micro({})", column.sql()))
}

fn instant_us(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::TimestampMicrosecond(Some(us), Some(_)) => Some(*us),
        ScalarValue::TimestampNanosecond(Some(ns), Some(_)) if ns % 1_000 == 0 => Some(ns / 1_000),
        _ => None,
    }
}

/// A width in µs that the engine takes too.
fn width_us(value: &ScalarValue) -> Option<i64> {
    let (days, ns) = match value {
        ScalarValue::IntervalMonthDayNano(Some(width)) if width.months == 0 => {
            (width.days, width.nanoseconds)
        }
        ScalarValue::IntervalDayTime(Some(width)) => (width.days, i64::from(width.milliseconds) * 1_000_000),
        _ => return None,
    };
    let width_ns = i64::from(days).checked_mul(DAY_US * 1_000)?.checked_add(ns)?;
    (width_ns > 0 && width_ns % 1_000 == 0).then_some(width_ns / 1_000)
}
