//! What can go wrong with models.

use thiserror::Error;

/// Why a model or a state cannot be had.
#[derive(Debug, Error)]
pub enum ModelError {
    /// Too little to learn from.
    #[error(
        "{rows} rows of {sensors} sensors are too few to train on: at least {least} rows and one sensor are needed"
    )]
    TooFew {
        /// Rows given.
        rows: usize,
        /// Sensors given.
        sensors: usize,
        /// Rows needed.
        least: usize,
    },
    /// The cells are not whole rows.
    #[error("{cells} cells are not whole rows of {sensors} sensors")]
    Ragged {
        /// Cells given.
        cells: usize,
        /// Sensors given.
        sensors: usize,
    },
    /// Training came to no finite numbers.
    #[error("the {what} of the model are not finite: its rows cannot be learnt from")]
    NotFinite {
        /// `weights`, `references`, `residuals` or `threshold`.
        what: &'static str,
    },
    /// Bytes that are not what they should be.
    #[error("the bytes are no {what} of this version: {why}")]
    Bytes {
        /// `model` or `scorer state`.
        what: &'static str,
        /// What is wrong.
        why: &'static str,
    },
}
