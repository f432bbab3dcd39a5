//! The read side: one SQL over the Parquet archive and the ClickHouse views, read only, by HTTP, by the
//! PostgreSQL wire and in a browser.
//!
//! Reading order: [`settings`] says what can be set; [`archive`] turns the manifest into tables; [`views`] does
//! the same for ClickHouse, [`machines`] for the machine registry, and [`watermarks`] says how far all are; [`lineage`]
//! follows a view's cell into both; [`engine`] plans and runs statements within their caps; [`http`] and [`pg`] carry
//! them; [`reconcile`] holds views and archive against each other; [`server`] puts it together.
//!
//! **Architecture invariant:** this crate never learns of Kafka clients or models, and writes neither to the archive
//! nor to ClickHouse: what it knows, it reads there. Its only files are its copy of the machine registry and its notes
//! of what it compared.

pub mod archive;
pub mod engine;
mod error;
mod http;
mod lineage;
pub mod machines;
mod pg;
mod pipeline;
pub mod reconcile;
mod server;
pub mod settings;
pub mod views;
mod watermarks;

pub use error::{Position, QueryError};
pub use http::{health_of, metrics_of};
pub use server::{Server, bind};
pub use settings::{Bound, ClickHouseSettings, Limits, QuerySettings, ReconcileSettings};
