//! The ClickHouse views as SQL tables.
//!
//! [`schemas`] fixes their columns; [`translate`] says which filters and aggregates ClickHouse may evaluate for us;
//! [`table`] builds the SQL of a view's rows, and [`aggregate`] that of what they are aggregated to, for which [`parts`]
//! may do; [`scan`] streams Arrow back; [`client`] speaks to the server.
//!
//! **Architecture invariant:** when ClickHouse is away, statements over the archive alone still answer.

pub(crate) mod aggregate;
pub mod client;
pub(crate) mod parts;
pub(crate) mod scan;
pub mod schemas;
pub mod table;
pub mod translate;

pub use client::{Views, ViewsError};
pub use table::ViewTable;
