//! Source times: RFC 3339 or an integer epoch, to µs UTC.

use chrono::DateTime;

use crate::settings::TimeUnit;

/// 1678-01-01 and 2262-01-01: what 64-bit nanoseconds can hold, so that no later conversion overflows.
const MIN_US: i64 = -9_214_560_000_000_000;
const MAX_US: i64 = 9_214_646_400_000_000;

/// An epoch in `unit`; none beyond the years 1678 to 2262.
pub(in crate::decode) fn from_epoch(epoch: i64, unit: TimeUnit) -> Option<i64> {
    let us = match unit {
        TimeUnit::Seconds => epoch.checked_mul(1_000_000)?,
        TimeUnit::Millis => epoch.checked_mul(1000)?,
        TimeUnit::Micros => epoch,
        TimeUnit::Nanos => epoch.div_euclid(1000),
    };
    (MIN_US..MAX_US).contains(&us).then_some(us)
}

/// RFC 3339, with any offset; digits beyond the microsecond are cut off.
pub(in crate::decode) fn from_text(text: &str) -> Option<i64> {
    let us = DateTime::parse_from_rfc3339(text).ok()?.timestamp_micros();
    (MIN_US..MAX_US).contains(&us).then_some(us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_scaled_and_bounded() {
        assert_eq!(from_epoch(1_795_000_000, TimeUnit::Seconds), Some(1_795_000_000_000_000));
        assert_eq!(from_epoch(-1, TimeUnit::Nanos), Some(-1));
        assert_eq!(from_epoch(1_795_000_000_000_000, TimeUnit::Seconds), None);
        assert_eq!(from_epoch(i64::MAX, TimeUnit::Micros), None);
    }

    #[test]
    fn rfc_3339_keeps_microseconds_and_offsets() {
        assert_eq!(from_text("1970-01-01T01:00:00.123456789+01:00"), Some(123_456));
        assert_eq!(from_text("yesterday"), None);
        assert_eq!(from_text("1500-01-01T00:00:00Z"), None);
    }
}
