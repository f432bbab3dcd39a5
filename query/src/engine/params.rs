//! Parameters `$1`, `$2`, … from JSON.
//!
//! A value is cast to the type that its place has; a cast that would change it is refused. Where a time is
//! wanted, a text is RFC 3339 (or what a SQL literal may be) and an integer is µs since 1970 UTC.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::logical_expr::LogicalPlan;
use serde_json::Value;

use crate::error::QueryError;

/// Puts `params` in the places of a plan, cast to the types that the places have.
pub(crate) fn bind(plan: LogicalPlan, params: &[Value]) -> Result<LogicalPlan, QueryError> {
    let places = plan.get_parameter_types()?;
    let expected = places.keys().map(|name| number(name)).try_fold(0, |most, n| n.map(|n| most.max(n)))?;
    if params.len() != expected {
        let message = format!("the statement has {expected} parameters, {} were given", params.len());
        return Err(QueryError::statement(message));
    }
    if places.is_empty() {
        return Ok(plan);
    }
    let values = params.iter().enumerate().map(|(at, value)| {
        let name = format!("${}", at + 1);
        let place = places.get(&name).and_then(Option::as_ref);
        let bound = scalar(value).and_then(|scalar| match place {
            Some(data_type) => fit(scalar, data_type),
            None => Ok(scalar),
        });
        bound.map_err(|what| QueryError::statement(format!("parameter {name}: {what}")))
    });
    let values = values.collect::<Result<Vec<_>, _>>()?;
    Ok(plan.with_param_values(ParamValues::from(values))?)
}

fn number(place: &str) -> Result<usize, QueryError> {
    let number = place.strip_prefix('$').and_then(|digits| digits.parse().ok()).filter(|n| *n > 0);
    number.ok_or_else(|| {
        QueryError::statement(format!("parameter {place} has no number; write parameters as $1, $2, …"))
    })
}

fn scalar(value: &Value) -> Result<ScalarValue, String> {
    Ok(match value {
        Value::Null => ScalarValue::Null,
        Value::Bool(truth) => ScalarValue::Boolean(Some(*truth)),
        Value::String(text) => ScalarValue::Utf8(Some(text.clone())),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(integer), _, _) => ScalarValue::Int64(Some(integer)),
            (None, Some(integer), _) => ScalarValue::UInt64(Some(integer)),
            (None, None, Some(float)) => ScalarValue::Float64(Some(float)),
            (None, None, None) => return Err("the number does not fit".to_owned()),
        },
        Value::Array(_) | Value::Object(_) => {
            return Err("only numbers, text, true, false and null can be given".to_owned());
        }
    })
}

/// Casts `value`; numbers must come out as they went in.
fn fit(value: ScalarValue, data_type: &DataType) -> Result<ScalarValue, String> {
    let misfit = |why: &str| Err(format!("{value} is not {data_type}{why}"));
    let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let from = value.data_type();
    let as_given = match (&from, data_type) {
        (DataType::Int64, DataType::Timestamp(..)) => value.cast_to(&micros),
        (DataType::Float64, DataType::Timestamp(..)) => {
            return misfit("; a time is text or an integer of µs");
        }
        (DataType::Boolean, to) if to.is_numeric() || to.is_temporal() => return misfit(""),
        _ => Ok(value.clone()),
    };
    let cast = as_given.and_then(|given| given.cast_to(data_type));
    let cast = match cast {
        Ok(cast) => cast,
        Err(error) => return misfit(&format!(": {}", error.message())),
    };
    let exact = from.is_integer() || (from.is_floating() && !data_type.is_floating());
    let numbers = exact && data_type.is_numeric();
    if numbers && cast.cast_to(&from).ok().as_ref() != Some(&value) {
        return misfit(", it would be rounded");
    }
    Ok(cast)
}
