//! What is wrong with a record of the registry, and where.

use thiserror::Error;

use super::version::{RECORD_BYTES_MAX, VersionKey};

/// Why a record, or a machine's version, says nothing.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum MachineError {
    /// The key is not one of a version.
    #[error("its key {0:?} is not machine@valid_from, such as press-07@2026-01-05T06:00:00.000000Z")]
    Key(String),
    /// Key and value do not belong together.
    #[error("its key is of {key} and its value of {value}: both must name one version")]
    Differs {
        /// What the key names.
        key: VersionKey,
        /// What the value says.
        value: VersionKey,
    },
    /// The value is no version.
    #[error("it is no machine's version in JSON: {0}")]
    Json(String),
    /// A field is wrong.
    #[error("{field} {fault}")]
    Field {
        /// Its name, as in `sensors.oil.low`.
        field: String,
        /// What is wrong with it.
        fault: Fault,
    },
    /// The record is larger than Kafka takes by default.
    #[error("it takes {bytes} bytes, {} at most: shorten the descriptions of its sensors", RECORD_BYTES_MAX)]
    TooLarge {
        /// Bytes of its value.
        bytes: usize,
    },
}

/// What can be wrong with a field.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Fault {
    /// A name that must be there is not.
    #[error("is empty: give it a name")]
    Empty,
    /// A text is too long.
    #[error("takes {bytes} bytes, {most} at most")]
    TooLong {
        /// Its bytes.
        bytes: usize,
        /// How many it may have.
        most: usize,
    },
    /// A text that nobody could type again.
    #[error("holds a control character, or begins or ends with a blank: take it out")]
    Blank,
    /// There are too many of them.
    #[error("are {count}, {most} at most")]
    TooMany {
        /// How many there are.
        count: usize,
        /// How many there may be.
        most: usize,
    },
    /// Not a number that can be compared.
    #[error("is not a finite number")]
    NotFinite,
    /// The limits are the wrong way round.
    #[error("{low} lies above high, which is {high}")]
    AboveHigh {
        /// The lower limit.
        low: f64,
        /// The upper one.
        high: f64,
    },
    /// Not a time, or one that no column holds.
    #[error("{0:?} is not a time such as 2026-01-05T06:00:00Z, of the years 1900 to 2261")]
    Time(String),
}

impl Fault {
    /// The error of a field that has this fault.
    #[must_use]
    pub fn of(self, field: impl Into<String>) -> MachineError {
        MachineError::Field { field: field.into(), fault: self }
    }
}
