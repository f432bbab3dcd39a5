//! Features, networks, training, calibration and scoring of machines, one model a machine.
//!
//! Reading order: [`features`] turns a row of raw values into what a network sees; [`network`] is the
//! autoencoder in Burn; [`train`] fits it to a machine's first rows; [`model`] is what comes out, with its
//! bytes and hash; [`score`] scores rows by it, in any portions; [`alarm`] makes events of scores; [`pca`] is
//! the classical yardstick beside it.
//!
//! **Invariant:** scores are a function of the model and of the rows since it came into force. However the
//! rows are split into calls, and wherever the state was written out and read back, the bits are the same.

pub mod alarm;
mod bytes;
mod error;
pub mod features;
pub mod model;
pub mod network;
pub mod pca;
pub mod score;
pub mod train;

pub use alarm::Alarm;
pub use error::ModelError;
pub use model::Model;
pub use score::{RowScore, ScorerState};
pub use train::{TrainSettings, train};
