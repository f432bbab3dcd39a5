//! How the parts are put together: the command line, the config, telemetry, and `up` with its local engines.
//!
//! Reading order: [`cli`] is what a user types; [`config`] what is set; [`stages`] turns settings into running
//! stages; [`engines`] are the local Kafka and ClickHouse; [`up`] is everything on one machine; [`load`] makes
//! readings to try it with; [`ask`] is the client side of a running stack, and `lineage` what that says of a view's
//! cell; [`evidence`] and [`life`] are the sides of an archive, [`reconcile`] that of archive and views, which [`rebuild`]
//! builds anew from it; [`saga`] goes on with that or takes it back; [`decode`] shows what a topic's decoder makes of
//! some bytes, [`dlq`] what it could not read and sends that again, and [`machines`] fills the machine registry;
//! `migrations` prints the statements of ClickHouse's tables.

pub mod ask;
pub mod cli;
pub mod config;
pub mod decode;
pub mod dlq;
pub mod endpoints;
pub mod engines;
pub mod evidence;
pub mod files;
pub mod life;
mod lineage;
pub mod load;
pub mod machines;
mod migrations;
pub mod rebuild;
pub mod reconcile;
pub mod saga;
pub mod stages;
pub mod telemetry;
pub mod topics;
pub mod up;
