//! A time of the registry: µs UTC, as text in RFC 3339.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, SecondsFormat};
use serde::{Deserialize, Serialize};

use super::error::Fault;

/// 1900-01-01, where the time columns of the views begin.
const MIN_US: i64 = -2_208_988_800_000_000;
/// 2262-01-01, up to which 64-bit nanoseconds reach.
const MAX_US: i64 = 9_214_646_400_000_000;

/// µs since the Unix epoch, UTC, of the years 1900 to 2261.
///
/// ```
/// use stillwell_schema::machines::Moment;
/// let moment: Moment = "2026-01-05T07:00:00.5+01:00".parse().unwrap();
/// assert_eq!(moment.to_string(), "2026-01-05T06:00:00.500000Z");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Moment(i64);

impl Moment {
    /// The moment so many µs after the epoch; none beyond the years 1900 to 2261.
    #[must_use]
    pub fn from_us(us: i64) -> Option<Self> {
        (MIN_US..MAX_US).contains(&us).then_some(Self(us))
    }

    /// µs since the epoch.
    #[must_use]
    pub fn us(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Moment {
    /// UTC, always with six digits of the second's fraction.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A moment within its bounds always has a date.
        let time = DateTime::from_timestamp_micros(self.0).unwrap_or_default();
        f.write_str(&time.to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}

impl FromStr for Moment {
    type Err = Fault;

    /// RFC 3339 with any offset; digits beyond the microsecond are cut off.
    fn from_str(text: &str) -> Result<Self, Fault> {
        let time = DateTime::parse_from_rfc3339(text).ok();
        let moment = time.and_then(|time| Self::from_us(time.timestamp_micros()));
        moment.ok_or_else(|| Fault::Time(text.to_owned()))
    }
}

impl TryFrom<String> for Moment {
    type Error = Fault;

    fn try_from(text: String) -> Result<Self, Fault> {
        text.parse()
    }
}

impl From<Moment> for String {
    fn from(moment: Moment) -> Self {
        moment.to_string()
    }
}
