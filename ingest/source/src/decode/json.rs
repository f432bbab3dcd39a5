//! JSON.

use super::{DecodeError, Decoder};
use crate::columns::ReadingColumns;
use crate::series::SeriesTable;
use crate::settings::TimeUnit;

/// To be written.
#[derive(Debug)]
pub struct JsonDecoder {
    _time_unit: TimeUnit,
}

impl JsonDecoder {
    /// For integer times in `time_unit`.
    #[must_use]
    pub fn new(time_unit: TimeUnit) -> Self {
        Self { _time_unit: time_unit }
    }
}

impl Decoder for JsonDecoder {
    fn decode(
        &mut self,
        _: &[u8],
        _: u32,
        _: &mut SeriesTable,
        _: &mut ReadingColumns,
    ) -> Result<(), DecodeError> {
        Err(DecodeError { class: "unwritten", message: String::new(), at: 0 })
    }
}
