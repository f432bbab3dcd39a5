//! The Parquet archive as SQL tables.
//!
//! [`place`] opens it; [`catalogue`] reads manifest and ledger, which alone say what exists, into [`commits`],
//! and what has run out, into [`erased`];
//! [`prune`] leaves out the files that a filter rules out; [`table`] scans the rest, by [`files`] and [`footers`];
//! [`restore`] puts original bytes in their place, [`places`] knows where a record lies, and [`by_offset`] reads it;
//! [`rows`] counts without any file; [`window`] says where the readings of a window come from.

mod by_offset;
pub mod catalogue;
pub mod commits;
mod erased;
mod files;
mod footers;
mod place;
mod places;
mod prune;
mod restore;
mod rows;
pub mod table;
mod window;

pub use catalogue::{ArchiveError, Catalogue};
pub use commits::{Commit, LaneCommits, Snapshot};
pub use erased::Erased;
pub(crate) use place::open;
pub(crate) use table::seen;
pub use table::{ArchiveTable, Pin};
pub(crate) use window::WindowReadings;

/// The name under which the engine knows the archive's store.
pub(crate) const STORE_URL: &str = "archive://local/";
