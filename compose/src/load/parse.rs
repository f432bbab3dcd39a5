//! Words of the command line to values.

use std::time::Duration;

/// `500ms`, `1s`, `10m`, `2h`, `1d`; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return Err(format!("{unit:?} is no unit of time; use ms, s, m, h or d")),
    };
    let number: f64 = number.parse().map_err(|_| "say a duration such as 500ms, 1s or 2h".to_owned())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|error| error.to_string())
}

/// A moment in RFC 3339, as µs UTC.
pub(crate) fn time_us(text: &str) -> Result<i64, String> {
    let time = chrono::DateTime::parse_from_rfc3339(text);
    time.map(|time| time.timestamp_micros()).map_err(|_| "say a time such as 2026-01-05T06:00:00Z".to_owned())
}

/// A number from 0 to 1.
pub(crate) fn probability(text: &str) -> Result<f64, String> {
    let p: f64 = text.parse().map_err(|_| "say a number from 0 to 1".to_owned())?;
    if (0.0..=1.0).contains(&p) { Ok(p) } else { Err("a probability lies between 0 and 1".to_owned()) }
}

/// `key=value`.
pub(crate) fn property(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("say key=value, such as security.protocol=SSL")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, ms) in [("500ms", 500), ("1s", 1000), ("1.5m", 90_000), ("2h", 7_200_000), ("3", 3000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "h", "5 weeks", "-1s", "1e400s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
