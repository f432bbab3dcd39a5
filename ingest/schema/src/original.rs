//! Originals kept as templates: a record's bytes rebuilt exactly from the readings that came of it.
//!
//! Records of one client differ in names, times and numbers alone. What stays the same is their template; a file of
//! records names it in place of the bytes, and the file of readings beside it holds the rest. A template stands for
//! a record only if it was rebuilt and compared when the record was written.
//!
//! A template is text in which `$` begins what differs:
//!
//! | written | stands for |
//! |---|---|
//! | `$$` | a dollar |
//! | `$m` `$s` `$k` `$u` `$x` | machine, sensor, kind, unit, text, as they are |
//! | `$q` | the quality, a decimal integer |
//! | `$t0` `$t3` `$t6` `$t9` | the time as an integer epoch in s, ms, µs, ns |
//! | `$i0` to `$i9` | the time as `2026-11-25T06:07:59`, UTC, with so many digits of its fraction |
//! | `$vs` | the value as the shortest decimal that reads as it, `null` where there is none |
//! | `$vp` | the same, with `.0` where it is whole |
//! | `$v0` to `$v9` | the value with so many digits behind the point |
//! | `$(` object `$,` between `$)` | the object of each reading in the order of their index, and what is between two |
//!
//! Without `$(` the record has one reading. `[$({"machine":"$m","time":$t3,"value":$vs}$,,$)]` is a list of them.

mod fill;
mod number;
mod restore;
mod text;
mod time;

#[cfg(test)]
mod tests;

pub use fill::{Filled, Measured, Memo, Names, Same, Sink};
pub use restore::{READING_COLUMNS, RestoreError, Window, restore, templated, templated_counts};

/// Bytes of a template at most: what is longer differs too much to be one.
pub const TEXT_BYTES_MAX: usize = 4 << 10;

/// What differs between records of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The machine's name.
    Machine,
    /// The sensor's.
    Sensor,
    /// Its kind.
    Kind,
    /// Its unit.
    Unit,
    /// What was measured.
    Measure(Measure),
}

/// What was measured, and how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// The string state.
    Text,
    /// The status code.
    Quality,
    /// The time as an integer, in seconds by ten to this power.
    Epoch(u8),
    /// The time as text, with so many digits of its fraction.
    Moment(u8),
    /// The value.
    Value(Style),
}

/// How numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// The shortest decimal that reads as the number.
    Shortest,
    /// The same, whole numbers with `.0`.
    Pointed,
    /// So many digits behind the point.
    Fixed(u8),
}

/// What all records of one look have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// Before the first reading.
    pub head: Vec<u8>,
    /// The parts of a reading: bytes, and what follows them.
    pub parts: Vec<(Vec<u8>, Slot)>,
    /// The end of a reading.
    pub end: Vec<u8>,
    /// Between two readings; none where a record has one only.
    pub between: Option<Vec<u8>>,
    /// After the last reading.
    pub tail: Vec<u8>,
}
