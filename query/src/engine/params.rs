//! Parameters `$1`, `$2`, … from JSON.

use datafusion::common::{ParamValues, ScalarValue};
use datafusion::logical_expr::LogicalPlan;
use serde_json::Value;

use crate::error::QueryError;

/// Puts `params` in the places of a plan, cast to the types that the places have.
pub(crate) fn bind(plan: LogicalPlan, params: &[Value]) -> Result<LogicalPlan, QueryError> {
    let places = plan.get_parameter_types()?;
    if places.is_empty() {
        return if params.is_empty() {
            Ok(plan)
        } else {
            Err(QueryError::statement(format!("{} parameters given, the statement has none", params.len())))
        };
    }
    let values = params.iter().enumerate().map(|(at, value)| {
        let name = format!("${}", at + 1);
        let place = places.get(&name).and_then(Option::as_ref);
        let value =
            scalar(value).map_err(|what| QueryError::statement(format!("parameter {name}: {what}")))?;
        match place {
            Some(data_type) => value.cast_to(data_type).map_err(|error| {
                QueryError::statement(format!(
                    "parameter {name}: {value} is not {data_type}: {}",
                    error.message()
                ))
            }),
            None => Ok(value),
        }
    });
    let values = values.collect::<Result<Vec<_>, _>>()?;
    let missing = places.keys().find(|name| {
        !name
            .strip_prefix('$')
            .and_then(|n| n.parse().ok())
            .is_some_and(|n: usize| n >= 1 && n <= values.len())
    });
    if let Some(name) = missing {
        return Err(QueryError::statement(format!("parameter {name} has no value, {} given", values.len())));
    }
    Ok(plan.with_param_values(ParamValues::from(values))?)
}

fn scalar(value: &Value) -> Result<ScalarValue, &'static str> {
    Ok(match value {
        Value::Null => ScalarValue::Null,
        Value::Bool(truth) => ScalarValue::Boolean(Some(*truth)),
        Value::String(text) => ScalarValue::Utf8(Some(text.clone())),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => ScalarValue::Int64(Some(integer)),
            (None, Some(float)) => ScalarValue::Float64(Some(float)),
            (None, None) => return Err("the number does not fit"),
        },
        Value::Array(_) | Value::Object(_) => {
            return Err("only numbers, text, true, false and null can be given");
        }
    })
}
