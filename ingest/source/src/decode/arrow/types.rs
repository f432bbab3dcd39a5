//! Which columns are read. What is not in this list would panic in the reader, or means nothing as a reading.

use arrow::ipc::{DateUnit, Endianness, Field, Int, Precision, Schema, TimeUnit, Type};

/// Fields nest no deeper than this.
const DEPTH_MAX: usize = 16;

type Refused = (&'static str, String);

/// Checks that all columns are of types that are read. On error, its class and what is wrong.
pub(super) fn check(schema: Schema<'_>) -> Result<(), Refused> {
    if schema.endianness() != Endianness::Little {
        return Err(("unsupported", "big-endian streams are not read; write it little-endian".to_owned()));
    }
    let fields = schema.fields().ok_or_else(|| ("syntax", "a schema without a list of fields".to_owned()))?;
    fields.iter().try_for_each(|field| of_field(field, 0))
}

fn of_field(field: Field<'_>, depth: usize) -> Result<(), Refused> {
    let name = field.name().unwrap_or_default();
    let refused =
        |what: &str| Err(("unsupported", format!("column {name:?}: {what} is not read; leave it out")));
    if depth > DEPTH_MAX {
        return refused("a type that nests so deep");
    }
    if field.dictionary().is_some_and(|dictionary| !dictionary.indexType().is_some_and(is_int)) {
        return refused("a dictionary of this index type");
    }
    let children = field.children().map_or(0, |children| children.len());
    let (is_known, nested) = match field.type_type() {
        Type::Null | Type::Bool => (true, false),
        Type::Utf8 | Type::LargeUtf8 | Type::Utf8View => (true, false),
        Type::Binary | Type::LargeBinary | Type::BinaryView => (true, false),
        Type::Int => (field.type_as_int().is_some_and(is_int), false),
        Type::FloatingPoint => {
            let precision = field.type_as_floating_point().map(|float| float.precision());
            (matches!(precision, Some(Precision::HALF | Precision::SINGLE | Precision::DOUBLE)), false)
        }
        Type::Date => {
            let unit = field.type_as_date().map(|date| date.unit());
            (matches!(unit, Some(DateUnit::DAY | DateUnit::MILLISECOND)), false)
        }
        Type::Timestamp => (field.type_as_timestamp().is_some_and(|time| is_unit(time.unit())), false),
        Type::Duration => (field.type_as_duration().is_some_and(|span| is_unit(span.unit())), false),
        Type::Time => {
            let time = field.type_as_time().map(|time| (time.bitWidth(), time.unit()));
            let is_known = matches!(
                time,
                Some(
                    (32, TimeUnit::SECOND | TimeUnit::MILLISECOND)
                        | (64, TimeUnit::MICROSECOND | TimeUnit::NANOSECOND)
                )
            );
            (is_known, false)
        }
        Type::FixedSizeBinary => {
            (field.type_as_fixed_size_binary().is_some_and(|binary| binary.byteWidth() > 0), false)
        }
        Type::Decimal => {
            let decimal = field.type_as_decimal();
            let is_known = decimal.is_some_and(|decimal| {
                let digits = match decimal.bitWidth() {
                    32 => 9,
                    64 => 18,
                    128 => 38,
                    256 => 76,
                    _ => 0,
                };
                let scale = decimal.scale().unsigned_abs();
                (1..=digits).contains(&decimal.precision()) && scale <= decimal.precision().unsigned_abs()
            });
            (is_known, false)
        }
        Type::List | Type::LargeList => (children == 1, true),
        Type::FixedSizeList => {
            let size = field.type_as_fixed_size_list().map_or(0, |list| list.listSize());
            (children == 1 && size > 0, true)
        }
        Type::Struct_ => (true, true),
        _ => (false, false),
    };
    if !is_known {
        return refused(field.type_type().variant_name().unwrap_or("an unknown type"));
    }
    match field.children() {
        Some(children) if nested => children.iter().try_for_each(|child| of_field(child, depth + 1)),
        _ => Ok(()),
    }
}

fn is_int(int: Int<'_>) -> bool {
    matches!(int.bitWidth(), 8 | 16 | 32 | 64)
}

fn is_unit(unit: TimeUnit) -> bool {
    matches!(unit, TimeUnit::SECOND | TimeUnit::MILLISECOND | TimeUnit::MICROSECOND | TimeUnit::NANOSECOND)
}
