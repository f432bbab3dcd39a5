//! The machine registry's language: what a machine is, where it stands and which sensors it has, from a moment on.
//!
//! The registry is a compacted Kafka topic. A record of it is one version of one machine, valid from its time until
//! the machine's next version. Its key is `machine@valid_from`, the time in RFC 3339, UTC, with six digits of the
//! second's fraction, so that compaction keeps every version; a record without a value takes that version back. Its
//! value is JSON, and of no other fields than these:
//!
//! ```json
//! {"machine": "press-07", "site": "Linz", "line": "L2", "model": "HP-400", "valid_from": "2026-01-05T06:00:00Z",
//!  "sensors": {"oil": {"unit": "°C", "low": 20, "high": 85, "description": "return line"}}}
//! ```
//!
//! `low`, `high` and `description` of a sensor may be missing; `site`, `line`, `model` and `unit` may be empty. All
//! records of one key lie in one partition, as every producer's partitioner has it.
//!
//! [`version`] has the types and [`moment`] their times; [`registry`] is what the records together say; [`error`] says
//! what is wrong with one that says nothing.

pub mod error;
pub mod moment;
pub mod registry;
pub mod version;

pub use error::{Fault, MachineError};
pub use moment::Moment;
pub use registry::MachineRegistry;
pub use version::{Change, MachineVersion, Sensor, VersionKey};

#[cfg(test)]
mod tests;
