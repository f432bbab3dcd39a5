//! How the parts are put together: the command line, the config, telemetry, and `up` with its local engines.
//!
//! Reading order: [`cli`] is what a user types; [`config`] what is set; [`stages`] turns settings into running
//! stages; [`engines`] are the local Kafka and ClickHouse; [`up`] is everything on one machine; [`load`] makes
//! readings to try it with; [`ask`] is the client side of a running stack, [`evidence`] and [`life`] those of an
//! archive; [`rebuild`] builds views anew from one, and [`saga`] goes on with that or takes it back; [`decode`] shows what a topic's decoder makes of some bytes, [`dlq`] what it could not read and sends
//! that again.

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
pub mod load;
pub mod rebuild;
pub mod saga;
pub mod stages;
pub mod telemetry;
pub mod topics;
pub mod up;
