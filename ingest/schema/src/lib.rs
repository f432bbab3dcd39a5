//! The shared language of the stages: ids, offset ranges and their algebra, Arrow schemas, archive
//! paths, the manifest entry and its hash chain.
//!
//! **Architecture invariant:** this crate is pure. It knows no tokio, rdkafka, parquet, datafusion or
//! burn, and does no I/O.
//!
//! Reading order: [`ids`] and [`range`] name positions in a log; [`columns`] says what a reading and a
//! record look like as Arrow columns, [`original`] how a record's bytes are kept without storing them, and
//! [`quality`] what its status code means; [`archive`] says where an
//! archive lies and [`paths`] where it keeps them; [`merkle`], [`signed`] and [`manifest`] make them evidence, [`ledger`] says what became of
//! their files later, and [`pattern`] which machines are meant; [`machines`] says what a machine is, and since when; [`checkpoint`] and [`key_change`] hold for the
//! archive as a whole; [`clock`] hands time in, and [`health`] is where each part says how it is.

pub mod archive;
pub mod checkpoint;
pub mod clock;
pub mod columns;
pub mod health;
pub mod ids;
pub mod key_change;
pub mod ledger;
pub mod machines;
pub mod manifest;
pub mod merkle;
pub mod original;
pub mod paths;
pub mod pattern;
pub mod quality;
pub mod range;
pub mod signed;

pub use archive::{ArchiveUrl, StoreOptions};
pub use clock::{Clock, SystemClock};
pub use ids::{Offset, TopicPartition};
pub use manifest::{Entry, Head, SignedEntry};
pub use range::{Gap, GapReason, OffsetRange};
