//! Write side: keeps every record and every reading as Parquet evidence, each offset exactly once.
//!
//! Reading order, as the data flows: [`stage`] says where a lane starts and runs it; a `lane` gathers
//! chunks into an open batch, within the `memory` that all lanes share, and keeps at most one commit in flight;
//! [`writer`] turns a batch into two Parquet files; [`commit`] makes them part of the archive by creating one signed entry. [`manifest`]
//! reads chains of entries, [`evidence`] keeps what holds for all lanes (keys, checkpoints), [`verify`] checks it
//! all against the files [`proof`] shows one reading to those who hold the public key and [`export`] many, as a pack; [`life`] merges small files
//! into large ones and erases what is no longer kept; [`history`] shows a lane's readings in the order of its log
//! again; [`gc`] collects what no reader is shown, and
//! [`delta`] tells other engines what our own are shown. All of it stands on a
//! [`store`], leaves blocking and computing to [`workers`] and signs with a key from [`keys`].
//!
//! **Architecture invariant:** nothing is acknowledged before its entry is stored, and the only commit point
//! is the creation of that entry (`put_if_absent`). No lock is held anywhere: a writer that lost its
//! partition loses the creation.

mod checkpoints;
pub mod commit;
mod dead;
pub mod delta;
pub mod error;
pub mod evidence;
pub mod export;
pub mod gc;
pub mod history;
pub mod keys;
mod lane;
pub mod life;
pub mod manifest;
mod memory;
mod originals;
pub mod proof;
mod reader;
mod run;
pub mod settings;
pub mod stage;
pub mod store;
pub mod verify;
pub mod workers;
pub mod writer;

pub use dead::{DeadLetterError, DeadLetterSink};
pub use error::IngestError;
pub use run::run;
pub use settings::IngestSettings;
pub use stillwell_source::backoff::Retry;
