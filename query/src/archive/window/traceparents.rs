//! The trace of a record: the second field of its `traceparent` header, as W3C Trace Context writes it
//! (<https://www.w3.org/TR/trace-context/#traceparent-header>).

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BinaryArray, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use datafusion::common::Result;
use datafusion::execution::TaskContext;
use futures::StreamExt;
use stillwell_schema::columns;

use crate::archive::by_offset;
use crate::archive::commits::File;
use crate::archive::files::Files;

const HEADER: &str = "traceparent";

/// The trace ids of those records of `file` that have one, by their offsets, which are among `offsets`; these ascend.
pub(super) async fn trace_ids(
    files: &Files,
    file: &File,
    offsets: &Arc<[i64]>,
    context: Arc<TaskContext>,
) -> Result<HashMap<i64, String>> {
    let wanted = ["offset", "headers"];
    let mut records = by_offset::rows(files, file, &columns::STORED_RECORDS, &wanted, offsets, context)?;
    let mut ids = HashMap::new();
    while let Some(batch) = records.next().await {
        collect(&batch?, &mut ids);
    }
    Ok(ids)
}

fn collect(batch: &RecordBatch, ids: &mut HashMap<i64, String>) {
    let offsets = batch["offset"].as_primitive::<Int64Type>().values();
    let lists = batch["headers"].as_list::<i32>();
    let headers = lists.values().as_struct();
    let Some((names, values)) = headers.column_by_name("name").zip(headers.column_by_name("value")) else {
        return;
    };
    let (names, values) = (names.as_string::<i32>(), values.as_binary::<i32>());
    for (offset, ends) in offsets.iter().zip(lists.value_offsets().windows(2)) {
        let found = (ends[0]..ends[1]).find_map(|at| trace_id(names, values, usize::try_from(at).ok()?));
        if let Some(id) = found {
            ids.insert(*offset, id.to_owned());
        }
    }
}

fn trace_id<'a>(names: &StringArray, values: &'a BinaryArray, at: usize) -> Option<&'a str> {
    let is_it = names.value(at) == HEADER && values.is_valid(at);
    is_it.then(|| of_traceparent(values.value(at))).flatten()
}

/// The trace id of a header's value; none where it is not one.
fn of_traceparent(value: &[u8]) -> Option<&str> {
    let mut fields = std::str::from_utf8(value).ok()?.split('-');
    let (version, id, parent, flags) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let is_hex = |field: &str, digits: usize| {
        field.len() == digits && field.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_whole = is_hex(version, 2) && is_hex(id, 32) && is_hex(parent, 16) && is_hex(flags, 2);
    // Later versions may add fields; ff is none, and neither is a trace of zeros.
    let is_valid = version != "ff" && (version != "00" || fields.next().is_none());
    (is_whole && is_valid && id.bytes().any(|byte| byte != b'0')).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_id_is_the_second_field_of_a_valid_header() {
        let (id, zeros) = ("4bf92f3577b34da6a3ce929d0e0e4736", "0".repeat(32));
        let check = |value: &str, expected: Option<&str>| {
            assert_eq!(of_traceparent(value.as_bytes()), expected, "{value}");
        };
        check(&format!("00-{id}-00f067aa0ba902b7-01"), Some(id));
        check(&format!("cc-{id}-00f067aa0ba902b7-01-what-comes"), Some(id));
        check(&format!("00-{id}-00f067aa0ba902b7-01-more"), None);
        check(&format!("ff-{id}-00f067aa0ba902b7-01"), None);
        check(&format!("00-{zeros}-00f067aa0ba902b7-01"), None);
        check(&format!("00-{}-00f067aa0ba902b7-01", id.to_uppercase()), None);
        check(&format!("00-{id}-01"), None);
        check(id, None);
        check("", None);
        assert_eq!(of_traceparent(b"\xff\xfe"), None);
    }
}
