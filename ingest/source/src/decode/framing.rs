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
        [0, a, b, c, d, ..] => match i32::from_be_bytes([*a, *b, *c, *d]) {
            // No registry gives out such an id, nor answers that it is none.
            id @ ..0 => Err(DecodeError::new("framing", 1, format!("{id} is no schema's id"))),
            id => Ok(id.unsigned_abs()),
        },
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
        Miss::Unusable(reason) => DecodeError::new("bad_schema", 1, format!("schema {id}: {reason}")).into(),
        Miss::Away(reason) => TransientError(reason).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_that_a_registry_gives_out() {
        let check = |bytes: &[u8], expected: Result<u32, (&str, usize)>| {
            assert_eq!(schema_id(bytes).map_err(|error| (error.class, error.at)), expected, "{bytes:?}");
        };
        check(&[0, 0, 0, 1, 2], Ok(258));
        check(&[0, 0x7f, 0xff, 0xff, 0xff, 9], Ok(0x7fff_ffff));
        check(&[0, 0x80, 0, 0, 0, 9], Err(("framing", 1)));
        check(&[0, 0xff, 0xff, 0xff, 0xff], Err(("framing", 1)));
        check(&[0, 0, 0, 1], Err(("framing", 0)));
        check(&[1, 0, 0, 0, 1], Err(("framing", 0)));
    }
}
