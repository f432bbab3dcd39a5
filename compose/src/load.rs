//! Load: the simulated plant and the replay of recordings, as producers that know nothing of the stages.
//!
//! Reading order: [`plant`] says what each sensor shows at a time, [`faults`] what goes wrong with it,
//! [`wire`] writes readings in the three JSON forms, [`transport`] plays a bad network, and [`producer`]
//! hands the records to Kafka. [`generate`] and [`replay`] are the two commands on top;
//! [`recording`] reads the files of the latter.

mod chance;
pub mod faults;
pub mod generate;
pub(crate) mod parse;
pub mod plant;
pub mod producer;
mod progress;
pub mod recording;
pub mod replay;
pub mod target;
pub mod transport;
pub mod wire;

pub(crate) use progress::grouped;

pub use generate::{GenerateArgs, GenerateReport};
pub use replay::{ReplayArgs, ReplayReport};
