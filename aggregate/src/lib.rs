//! The read side's writer: windows, scores, and the ClickHouse tables that hold them.
//!
//! Reading order, as the data flows: [`stage`] takes a lane's chunks; [`fold`] folds their readings into
//! [`window`]s of four widths, over [`histogram`]s; [`reload`] brings back rows that late data touches;
//! [`scoring`] scores rows of machines; [`lateness`] says how late they come and how far their clocks are off;
//! [`snapshot`] turns what changed into [`native`] blocks at one offset;
//! [`flush`] writes the blocks of all lanes, and moves their positions last; [`migrate`] keeps the tables.
//! Beside them, [`machines`] keeps a copy of the machine registry; [`rebuild`] builds a view anew from the archive, next
//! to the one in use, as a [`saga`].
//!
//! **Invariant:** a row is absolute and complete up to its `version`, the next offset of its lane. Applying a
//! reading below a row's version is a no-op, so retry, replay and restart from any earlier offset give the
//! same rows.

mod alerts;
mod error;
pub mod flush;
pub mod fold;
pub mod histogram;
#[cfg(test)]
mod histories;
pub mod lateness;
mod machines;
mod migrate;
pub mod native;
pub mod rebuild;
pub mod reload;
mod run;
pub mod saga;
pub mod scoring;
mod settings;
pub mod snapshot;
pub mod stage;
pub mod store;
pub mod window;

pub use error::AggregateError;
pub use fold::SeriesLimits;
pub use migrate::{Cluster, Keep, KeepError, Layout, REPLICA_NAME, REPLICA_PATH, migrate, script};
pub use run::run;
pub use settings::{AggregateSettings, ClickHouseSettings, ScoringSettings};
