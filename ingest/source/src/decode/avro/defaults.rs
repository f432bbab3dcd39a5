//! Defaults of fields: JSON in a schema, Avro for whoever reads them.

use serde_json::Value;

use super::schema::{Field, Node, NodeId, Schema};

/// Defaults nest no deeper than this.
const DEPTH_MAX: usize = 64;

/// Appends `value`, as the type `id`, to `out`.
///
/// # Errors
/// Why it is no such value.
pub(super) fn encode(
    schema: &Schema,
    id: NodeId,
    value: &Value,
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<(), String> {
    if depth > DEPTH_MAX {
        return Err(format!("its default nests deeper than {DEPTH_MAX}"));
    }
    let wrong = || Err(format!("{value} is no default of its type"));
    match (&schema.nodes[id], value) {
        (Node::Null, Value::Null) => {}
        (Node::Boolean, Value::Bool(yes)) => out.push(u8::from(*yes)),
        (Node::Int(_), Value::Number(number)) => match number.as_i64() {
            Some(number) if i32::try_from(number).is_ok() => long(number, out),
            _ => return wrong(),
        },
        (Node::Long(_), Value::Number(number)) => match number.as_i64() {
            Some(number) => long(number, out),
            None => return wrong(),
        },
        #[allow(clippy::cast_possible_truncation, reason = "the type is a float")]
        (Node::Float, Value::Number(number)) => {
            out.extend((number.as_f64().unwrap_or(f64::NAN) as f32).to_le_bytes());
        }
        (Node::Double, Value::Number(number)) => {
            out.extend(number.as_f64().unwrap_or(f64::NAN).to_le_bytes());
        }
        (Node::String, Value::String(text)) => {
            long(text.len() as i64, out);
            out.extend(text.as_bytes());
        }
        (Node::Bytes(_), Value::String(text)) => {
            let Some(bytes) = latin(text) else { return wrong() };
            long(bytes.len() as i64, out);
            out.extend(bytes);
        }
        (Node::Fixed { size, .. }, Value::String(text)) => match latin(text) {
            Some(bytes) if bytes.len() == *size => out.extend(bytes),
            _ => return wrong(),
        },
        (Node::Enum { symbols, .. }, Value::String(text)) => {
            let Some(i) = symbols.iter().position(|symbol| symbol == text) else { return wrong() };
            long(i as i64, out);
        }
        (Node::Array(items), Value::Array(values)) => {
            if !values.is_empty() {
                long(values.len() as i64, out);
                for value in values {
                    encode(schema, *items, value, out, depth + 1)?;
                }
            }
            long(0, out);
        }
        (Node::Map(kind), Value::Object(values)) => {
            if !values.is_empty() {
                long(values.len() as i64, out);
                for (key, value) in values {
                    long(key.len() as i64, out);
                    out.extend(key.as_bytes());
                    encode(schema, *kind, value, out, depth + 1)?;
                }
            }
            long(0, out);
        }
        (Node::Record { fields, .. }, Value::Object(values)) => {
            for Field { name, node, default, .. } in fields {
                let Some(value) = values.get(name).or(default.as_ref()) else {
                    return Err(format!("its default has no field {name:?}"));
                };
                encode(schema, *node, value, out, depth + 1)?;
            }
        }
        // The first branch that it fits.
        (Node::Union(branches), value) => {
            let before = out.len();
            for (i, branch) in branches.iter().enumerate() {
                long(i as i64, out);
                if encode(schema, *branch, value, out, depth + 1).is_ok() {
                    return Ok(());
                }
                out.truncate(before);
            }
            return wrong();
        }
        _ => return wrong(),
    }
    Ok(())
}

fn long(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Bytes as JSON has them: each as the character of its number.
fn latin(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
}
