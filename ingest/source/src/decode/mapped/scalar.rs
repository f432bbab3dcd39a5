//! What stands at a place of a foreign record, and what it means as a value, a time, a quality or a name.

use std::borrow::Cow;
use std::collections::BTreeMap;

use stillwell_schema::quality::{BAD, GOOD, UNCERTAIN};

use crate::decode::json::time;
use crate::settings::TimeUnit;

/// One plain value.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::decode) enum Scalar<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Unsigned(u64),
    Float(f64),
    Text(Cow<'a, str>),
    /// A timestamp, µs UTC.
    Time(i64),
    /// Something else, by its name.
    Other(&'static str),
}

/// f64 has every integer below this.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

impl<'a> Scalar<'a> {
    /// The same, borrowed.
    pub(in crate::decode) fn borrowed(&self) -> Scalar<'_> {
        match self {
            Self::Text(text) => Scalar::Text(Cow::Borrowed(text)),
            Self::Null => Scalar::Null,
            Self::Bool(yes) => Scalar::Bool(*yes),
            Self::Int(int) => Scalar::Int(*int),
            Self::Unsigned(int) => Scalar::Unsigned(*int),
            Self::Float(float) => Scalar::Float(*float),
            Self::Time(us) => Scalar::Time(*us),
            Self::Other(what) => Scalar::Other(what),
        }
    }

    /// As a measured value; integers beyond 2^53 are rounded.
    #[allow(clippy::cast_precision_loss, reason = "a reading's value is an f64")]
    pub(super) fn value(&self) -> Option<f64> {
        match *self {
            Self::Bool(yes) => Some(f64::from(u8::from(yes))),
            Self::Int(int) => Some(int as f64),
            Self::Unsigned(int) => Some(int as f64),
            Self::Float(float) => Some(float),
            Self::Null | Self::Text(_) | Self::Time(_) | Self::Other(_) => None,
        }
    }

    /// As text, as in a name.
    pub(super) fn into_text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Text(text) => Some(text),
            Self::Bool(yes) => Some(Cow::Borrowed(if yes { "true" } else { "false" })),
            Self::Int(int) => Some(Cow::Owned(int.to_string())),
            Self::Unsigned(int) => Some(Cow::Owned(int.to_string())),
            Self::Float(float) => Some(Cow::Owned(float.to_string())),
            Self::Null | Self::Time(_) | Self::Other(_) => None,
        }
    }

    /// As a source time, µs UTC.
    pub(in crate::decode) fn time_us(&self, unit: TimeUnit) -> Option<i64> {
        match self {
            Self::Time(us) => time::from_epoch(*us, TimeUnit::Micros),
            Self::Int(epoch) => time::from_epoch(*epoch, unit),
            Self::Unsigned(epoch) => time::from_epoch(i64::try_from(*epoch).ok()?, unit),
            Self::Float(epoch) => from_float(*epoch, unit),
            Self::Text(text) => match text.parse() {
                Ok(epoch) => time::from_epoch(epoch, unit),
                Err(_) => time::from_text(text),
            },
            Self::Null | Self::Bool(_) | Self::Other(_) => None,
        }
    }

    /// As an OPC UA status code: by `codes` first.
    pub(super) fn quality(&self, codes: &BTreeMap<String, u32>) -> Option<u32> {
        if !codes.is_empty()
            && let Some(code) = self.clone().into_text().and_then(|text| codes.get(&*text).copied())
        {
            return Some(code);
        }
        match self {
            Self::Int(code) => u32::try_from(*code).ok(),
            Self::Unsigned(code) => u32::try_from(*code).ok(),
            Self::Bool(true) => Some(GOOD),
            Self::Bool(false) => Some(BAD),
            Self::Text(word) if word.eq_ignore_ascii_case("good") => Some(GOOD),
            Self::Text(word) if word.eq_ignore_ascii_case("uncertain") => Some(UNCERTAIN),
            Self::Text(word) if word.eq_ignore_ascii_case("bad") => Some(BAD),
            _ => None,
        }
    }

    /// What it is, for people.
    pub(super) fn what(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "true or false",
            Self::Int(_) | Self::Unsigned(_) | Self::Float(_) => "a number",
            Self::Text(_) => "text",
            Self::Time(_) => "a time",
            Self::Other(what) => what,
        }
    }
}

/// An epoch with a fraction, such as Python's `time.time()`, to the nearest microsecond.
#[allow(clippy::cast_possible_truncation, reason = "bounded before")]
fn from_float(epoch: f64, unit: TimeUnit) -> Option<i64> {
    let us = match unit {
        TimeUnit::Seconds => epoch * 1e6,
        TimeUnit::Millis => epoch * 1e3,
        TimeUnit::Micros => epoch,
        // Beyond 2^53 a float's nanoseconds are no more than some 200 ns off.
        TimeUnit::Nanos => epoch / 1e3,
    };
    if !us.is_finite() || us.abs() > 1024.0 * WHOLE_MAX {
        return None;
    }
    time::from_epoch(us.round() as i64, TimeUnit::Micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_in_many_forms() {
        let check =
            |scalar: Scalar<'_>, unit, expected| assert_eq!(scalar.time_us(unit), expected, "{scalar:?}");
        let text = |text: &'static str| Scalar::Text(Cow::Borrowed(text));
        check(Scalar::Int(1_795_000_000), TimeUnit::Seconds, Some(1_795_000_000_000_000));
        check(Scalar::Float(1_795_000_000.123_456), TimeUnit::Seconds, Some(1_795_000_000_123_456));
        check(text("1795000000"), TimeUnit::Seconds, Some(1_795_000_000_000_000));
        check(text("1970-01-01T00:00:01Z"), TimeUnit::Nanos, Some(1_000_000));
        check(text("soon"), TimeUnit::Nanos, None);
        check(Scalar::Time(5), TimeUnit::Seconds, Some(5));
        check(Scalar::Float(f64::NAN), TimeUnit::Seconds, None);
        check(Scalar::Float(1e300), TimeUnit::Seconds, None);
        check(Scalar::Unsigned(u64::MAX), TimeUnit::Nanos, None);
        check(Scalar::Bool(true), TimeUnit::Seconds, None);
    }

    #[test]
    fn qualities_are_codes_words_or_what_the_mapping_says() {
        let codes = BTreeMap::from([("192".to_owned(), GOOD), ("stale".to_owned(), 0x8000_0001)]);
        let text = |text: &'static str| Scalar::Text(Cow::Borrowed(text));
        assert_eq!(Scalar::Int(192).quality(&codes), Some(GOOD));
        assert_eq!(text("stale").quality(&codes), Some(0x8000_0001));
        assert_eq!(Scalar::Int(192).quality(&BTreeMap::new()), Some(192));
        assert_eq!(text("Bad").quality(&codes), Some(BAD));
        assert_eq!(Scalar::Bool(false).quality(&codes), Some(BAD));
        assert_eq!(text("meh").quality(&codes), None);
        assert_eq!(Scalar::Int(-1).quality(&codes), None);
    }
}
