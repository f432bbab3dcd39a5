//! One row of a batch as a tree: columns and the fields of structs are members, lists are lists.

use std::borrow::Cow;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    ArrowDictionaryKeyType, DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type,
    Decimal256Type, DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType,
    DurationSecondType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::util::display::array_value_to_string;

use super::super::DecodeError;
use super::super::mapped::{Each, Scalar, Tree};

const DAY_US: i64 = 86_400_000_000;

/// One row.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowTree<'a> {
    pub(super) batch: &'a RecordBatch,
    pub(super) row: usize,
    /// Where its batch begins.
    pub(super) at: usize,
}

/// A place in a row.
#[derive(Clone, Copy, Debug)]
pub(super) enum Node<'a> {
    Row,
    Cell(&'a dyn Array, usize),
}

impl PartialEq for Node<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Row, Self::Row) => true,
            (Self::Cell(a, i), Self::Cell(b, j)) => std::ptr::addr_eq(*a, *b) && i == j,
            _ => false,
        }
    }
}

impl<'a> Tree for RowTree<'a> {
    type Node = Node<'a>;

    fn root(&self) -> Node<'a> {
        Node::Row
    }

    fn member(&self, node: Node<'a>, name: &str) -> Result<Option<Node<'a>>, DecodeError> {
        let (fields, columns, row) = match node {
            Node::Row => (self.batch.schema_ref().fields(), self.batch.columns(), self.row),
            Node::Cell(cell, row) => match cell.as_struct_opt() {
                Some(structs) if !structs.is_null(row) => (structs.fields(), structs.columns(), row),
                _ => return Ok(None),
            },
        };
        let mut found = fields.iter().zip(columns).filter(|(field, _)| field.name() == name);
        let column = found.next();
        if found.next().is_some() {
            let message = format!("column {name:?} is there twice");
            return Err(DecodeError::new("duplicate_key", self.at, message));
        }
        Ok(column.map(|(_, column)| Node::Cell(&**column, row)))
    }

    fn item(&self, node: Node<'a>, i: usize) -> Option<Node<'a>> {
        let (values, from, to) = list(node)?;
        (from + i < to).then(|| Node::Cell(values, from + i))
    }

    fn children(&self, node: Node<'a>, each: &mut Each<'_, Node<'a>>) -> Result<(), DecodeError> {
        let (fields, columns, row) = match node {
            Node::Row => (self.batch.schema_ref().fields(), self.batch.columns(), self.row),
            Node::Cell(cell, row) => match cell.as_struct_opt() {
                Some(structs) if !structs.is_null(row) => (structs.fields(), structs.columns(), row),
                _ => {
                    let Some((values, from, to)) = list(node) else { return Ok(()) };
                    let mut items = (from..to).enumerate();
                    return items.try_for_each(|(i, at)| each(&i.to_string(), Node::Cell(values, at)));
                }
            },
        };
        let mut columns = fields.iter().zip(columns);
        columns.try_for_each(|(field, column)| each(field.name(), Node::Cell(&**column, row)))
    }

    fn is_list(&self, node: Node<'a>) -> bool {
        list(node).is_some()
    }

    fn scalar(&self, node: Node<'a>) -> Result<Scalar<'_>, DecodeError> {
        Ok(match node {
            Node::Row => Scalar::Other("a row"),
            Node::Cell(array, row) => scalar(array, row),
        })
    }

    fn at(&self, _: Node<'a>) -> usize {
        self.at
    }

    fn place(&self, _: Node<'a>) -> String {
        format!("row {} of the batch at byte {}", self.row, self.at)
    }
}

/// The elements of a list: an array and the rows of it.
fn list(node: Node<'_>) -> Option<(&dyn Array, usize, usize)> {
    let Node::Cell(array, row) = node else { return None };
    if array.is_null(row) {
        return None;
    }
    if let Some(list) = array.as_list_opt::<i32>() {
        let offsets = list.value_offsets();
        return Some((&**list.values(), index(offsets[row].into()), index(offsets[row + 1].into())));
    }
    if let Some(list) = array.as_list_opt::<i64>() {
        let offsets = list.value_offsets();
        return Some((&**list.values(), index(offsets[row]), index(offsets[row + 1])));
    }
    let list = array.as_fixed_size_list_opt()?;
    let from = index(list.value_offset(row).into());
    Some((&**list.values(), from, from + index(list.value_length().into())))
}

/// The reader has checked that offsets lie within their values.
fn index(offset: i64) -> usize {
    usize::try_from(offset).unwrap_or_default()
}

fn scalar(array: &dyn Array, row: usize) -> Scalar<'_> {
    if array.is_null(row) {
        return Scalar::Null;
    }
    macro_rules! value {
        ($type:ty) => {
            array.as_primitive::<$type>().value(row)
        };
    }
    match array.data_type() {
        DataType::Null => Scalar::Null,
        DataType::Boolean => Scalar::Bool(array.as_boolean().value(row)),
        DataType::Int8 => Scalar::Int(value!(Int8Type).into()),
        DataType::Int16 => Scalar::Int(value!(Int16Type).into()),
        DataType::Int32 => Scalar::Int(value!(Int32Type).into()),
        DataType::Int64 => Scalar::Int(value!(Int64Type)),
        DataType::UInt8 => Scalar::Unsigned(value!(UInt8Type).into()),
        DataType::UInt16 => Scalar::Unsigned(value!(UInt16Type).into()),
        DataType::UInt32 => Scalar::Unsigned(value!(UInt32Type).into()),
        DataType::UInt64 => Scalar::Unsigned(value!(UInt64Type)),
        DataType::Float16 => Scalar::Float(value!(Float16Type).to_f64()),
        DataType::Float32 => Scalar::Float(value!(Float32Type).into()),
        DataType::Float64 => Scalar::Float(value!(Float64Type)),
        DataType::Decimal32(_, scale) => decimal(f64::from(value!(Decimal32Type)), *scale),
        #[allow(clippy::cast_precision_loss, reason = "a reading's value is an f64")]
        DataType::Decimal64(_, scale) => decimal(value!(Decimal64Type) as f64, *scale),
        #[allow(clippy::cast_precision_loss, reason = "a reading's value is an f64")]
        DataType::Decimal128(_, scale) => decimal(value!(Decimal128Type) as f64, *scale),
        DataType::Decimal256(_, scale) => {
            let digits = value!(Decimal256Type).to_string().parse().unwrap_or(f64::NAN);
            decimal(digits, *scale)
        }
        DataType::Utf8 => Scalar::Text(Cow::Borrowed(array.as_string::<i32>().value(row))),
        DataType::LargeUtf8 => Scalar::Text(Cow::Borrowed(array.as_string::<i64>().value(row))),
        DataType::Utf8View => Scalar::Text(Cow::Borrowed(array.as_string_view().value(row))),
        DataType::Timestamp(unit, _) => match unit {
            TimeUnit::Second => time(value!(TimestampSecondType).checked_mul(1_000_000)),
            TimeUnit::Millisecond => time(value!(TimestampMillisecondType).checked_mul(1000)),
            TimeUnit::Microsecond => Scalar::Time(value!(TimestampMicrosecondType)),
            TimeUnit::Nanosecond => Scalar::Time(value!(TimestampNanosecondType).div_euclid(1000)),
        },
        DataType::Date32 => time(i64::from(value!(Date32Type)).checked_mul(DAY_US)),
        DataType::Date64 => time(value!(Date64Type).checked_mul(1000)),
        DataType::Duration(unit) => Scalar::Int(match unit {
            TimeUnit::Second => value!(DurationSecondType),
            TimeUnit::Millisecond => value!(DurationMillisecondType),
            TimeUnit::Microsecond => value!(DurationMicrosecondType),
            TimeUnit::Nanosecond => value!(DurationNanosecondType),
        }),
        DataType::Dictionary(key, _) => match **key {
            DataType::Int8 => entry::<Int8Type>(array, row),
            DataType::Int16 => entry::<Int16Type>(array, row),
            DataType::Int32 => entry::<Int32Type>(array, row),
            DataType::Int64 => entry::<Int64Type>(array, row),
            DataType::UInt8 => entry::<UInt8Type>(array, row),
            DataType::UInt16 => entry::<UInt16Type>(array, row),
            DataType::UInt32 => entry::<UInt32Type>(array, row),
            _ => entry::<UInt64Type>(array, row),
        },
        DataType::Struct(_) => Scalar::Other("a struct"),
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => Scalar::Other("a list"),
        DataType::Time32(_) | DataType::Time64(_) => match array_value_to_string(array, row) {
            Ok(text) => Scalar::Text(Cow::Owned(text)),
            Err(_) => Scalar::Other("a time of day"),
        },
        _ => Scalar::Other("bytes"),
    }
}

/// What a dictionary's cell stands for.
fn entry<K: ArrowDictionaryKeyType>(array: &dyn Array, row: usize) -> Scalar<'_> {
    let dictionary = array.as_dictionary::<K>();
    match dictionary.key(row) {
        Some(key) => scalar(dictionary.values().as_ref(), key),
        None => Scalar::Null,
    }
}

fn decimal(digits: f64, scale: i8) -> Scalar<'static> {
    Scalar::Float(digits / 10f64.powi(scale.into()))
}

/// A time beyond what microseconds can hold is none.
fn time(us: Option<i64>) -> Scalar<'static> {
    us.map_or(Scalar::Other("a time out of range"), Scalar::Time)
}
