//! The framing of a Confluent schema registry: a zero byte, the schema's id in four bytes, and the data.
//!
//! Source: "Wire format", docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop.

use std::sync::Arc;

use super::{DecodeError, DecodeFault, TransientError};
use crate::registry::{Miss, Registered, Schemas};

/// Bytes before the data.
pub(super) const HEAD_BYTES: usize = 5;

/// The id of the schema; the data begins at [`HEAD_BYTES`].
pub(super) fn schema_id(bytes: &[u8]) -> Result<u32, DecodeError> {
    match bytes {
        [0, a, b, c, d, ..] => Ok(u32::from_be_bytes([*a, *b, *c, *d])),
        [1, ..] => Err(DecodeError::new("framing", 0, "schemas are named by numbers here, not by GUIDs")),
        _ => Err(DecodeError::new("framing", 0, "it does not begin with a zero byte and a schema's id")),
    }
}

/// The schema of that id.
pub(super) fn schema(schemas: &Schemas, id: u32) -> Result<Arc<Registered>, DecodeFault> {
    schemas.lookup(id).map_err(|miss| match miss {
        Miss::Unknown => {
            let message = format!("the schema registry has no schema {id}");
            DecodeError::new("unknown_schema", 1, message).into()
        }
        Miss::Away(reason) => TransientError(reason).into(),
    })
}
