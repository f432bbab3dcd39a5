//! The read side: one SQL over the Parquet archive and the ClickHouse views, read only, by HTTP, by the
//! PostgreSQL wire and in a browser.
//!
//! Reading order: [`settings`] says what can be set; [`archive`] turns the manifest into tables; [`views`] does
//! the same for ClickHouse, and [`machines`] for the machine registry; [`engine`] plans and runs statements within their caps; [`http`] and [`pg`] carry
//! them; [`server`] puts it together.
//!
//! **Architecture invariant:** this crate never learns of Kafka clients or models, and writes nothing but a
//! file of its own: what it knows, it reads from the archive and from ClickHouse.

pub mod archive;
pub mod engine;
mod error;
mod http;
pub mod machines;
mod pg;
mod pipeline;
mod server;
pub mod settings;
pub mod views;

pub use error::{Position, QueryError};
pub use http::{health_of, metrics_of};
pub use server::{Server, bind};
pub use settings::{Bound, ClickHouseSettings, Limits, QuerySettings};
