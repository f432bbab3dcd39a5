//! Source times: RFC 3339 or an integer epoch, to µs UTC.

use chrono::{DateTime, NaiveDate};

use super::word;
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
    let us = match usual(text.as_bytes()) {
        Some(us) => us,
        None => DateTime::parse_from_rfc3339(text).ok()?.timestamp_micros(),
    };
    (MIN_US..MAX_US).contains(&us).then_some(us)
}

/// A time as most clients write it, `2026-11-25T06:07:59.123Z`; none where it is written otherwise.
fn usual(text: &[u8]) -> Option<i64> {
    let (moment, fraction) = text.split_first_chunk::<19>()?;
    if [4, 7, 10, 13, 16].map(|at| moment[at]) != *b"--T::" {
        return None;
    }
    let pair = |at: usize| {
        let [tens, ones] = [moment[at], moment[at + 1]].map(|byte| byte ^ b'0');
        (tens < 10 && ones < 10).then(|| u32::from(tens * 10 + ones))
    };
    let nanos = match fraction {
        b"Z" => 0,
        [b'.', digits @ .., b'Z'] if (1..=9).contains(&digits.len()) => {
            let mut nanos = 0;
            if word::digits(digits, 0, &mut nanos) < digits.len() {
                return None;
            }
            u32::try_from(nanos).ok()? * 10u32.pow(9 - digits.len() as u32)
        }
        _ => return None,
    };
    let year = i32::try_from(pair(0)? * 100 + pair(2)?).ok()?;
    let date = NaiveDate::from_ymd_opt(year, pair(5)?, pair(8)?)?;
    let time = date.and_hms_nano_opt(pair(11)?, pair(14)?, pair(17)?, nanos)?;
    Some(time.and_utc().timestamp_micros())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rfc_3339_is_read_as_the_library_reads_it(
            text in r"[0-9]{2}[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\.[0-9]{0,11})?(Z|z|\+01:00)?",
        ) {
            let library = DateTime::parse_from_rfc3339(&text).ok().map(|time| time.timestamp_micros());
            prop_assert_eq!(from_text(&text), library.filter(|us| (MIN_US..MAX_US).contains(us)));
        }
    }

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
