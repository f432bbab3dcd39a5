//! Our schema and times in Delta's words.

use arrow::datatypes::{DataType, Schema};
use serde_json::{Value, json};

/// The `schemaString` of a schema.
pub(super) fn of(schema: &Schema) -> Value {
    let fields: Vec<Value> = schema
        .fields()
        .iter()
        .map(|field| {
            let kind = match field.data_type() {
                DataType::Utf8 => "string",
                DataType::Float64 => "double",
                DataType::Int32 => "integer",
                DataType::Timestamp(..) => "timestamp",
                // Delta has no unsigned integers.
                _ => "long",
            };
            json!({ "name": field.name(), "type": kind, "nullable": field.is_nullable(), "metadata": {} })
        })
        .collect();
    json!({ "type": "struct", "fields": fields })
}

/// A time of statistics: RFC 3339 with milliseconds, UTC; none for years beyond four digits. Days to dates by
/// Howard Hinnant's `civil_from_days`.
pub(super) fn millis(time_us: i64) -> Option<String> {
    let (days, us) = (time_us.div_euclid(86_400_000_000), time_us.rem_euclid(86_400_000_000));
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (ms, s) = (us / 1_000 % 1_000, us / 1_000_000);
    let (hour, minute, second) = (s / 3_600, s / 60 % 60, s % 60);
    (0..10_000)
        .contains(&year)
        .then(|| format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        let check = |us: i64, expected: &str| assert_eq!(millis(us).unwrap_or_default(), expected);
        check(0, "1970-01-01T00:00:00.000Z");
        check(-1, "1969-12-31T23:59:59.999Z");
        check(951_826_154_123_456, "2000-02-29T12:09:14.123Z");
        check(1_795_000_000_000_000, "2026-11-18T11:06:40.000Z");
        check(4_107_542_399_999_999, "2100-02-28T23:59:59.999Z");
        check(i64::MAX, "");
        check(i64::MIN, "");
    }
}
