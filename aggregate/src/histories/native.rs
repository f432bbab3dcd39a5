//! Reads Native blocks as a server does, and more strictly: of the types that are in use, each to the last byte.

use std::collections::BTreeMap;

use bytes::Buf;

const TIME: &str = "DateTime64(6, 'UTC')";
const MAYBE_TIME: &str = "Nullable(DateTime64(6, 'UTC'))";

enum Column {
    Texts(Vec<String>),
    Ints(Vec<i64>),
    Counts(Vec<u64>),
    Floats(Vec<f64>),
    Narrow(Vec<f32>),
    MaybeInts(Vec<Option<i64>>),
    MaybeFloats(Vec<Option<f64>>),
    MaybeTexts(Vec<Option<String>>),
    Buckets(Vec<Vec<(i32, u64)>>),
    Spans(Vec<Vec<(String, i64)>>),
}

/// A block, by column.
pub(super) struct Block {
    pub(super) rows: usize,
    columns: BTreeMap<String, Column>,
}

impl Block {
    /// A whole block.
    ///
    /// # Panics
    /// Where it is none, or not one alone.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let mut rest = bytes;
        let columns = len(&mut rest);
        let mut block = Self { rows: len(&mut rest), columns: BTreeMap::new() };
        for _ in 0..columns {
            let (name, kind) = (text(&mut rest), text(&mut rest));
            let column = column(&mut rest, &kind, block.rows);
            assert!(block.columns.insert(name.clone(), column).is_none(), "{name} is there twice");
        }
        assert!(rest.is_empty(), "{} bytes too many", rest.len());
        block
    }

    /// Its number of columns.
    pub(super) fn width(&self) -> usize {
        self.columns.len()
    }

    fn column(&self, name: &str) -> &Column {
        self.columns.get(name).unwrap_or_else(|| panic!("no column {name}"))
    }

    pub(super) fn text(&self, name: &str, row: usize) -> String {
        let Column::Texts(values) = self.column(name) else { panic!("{name} is no text") };
        values[row].clone()
    }

    /// An integer or a time.
    pub(super) fn int(&self, name: &str, row: usize) -> i64 {
        let Column::Ints(values) = self.column(name) else { panic!("{name} is no integer") };
        values[row]
    }

    pub(super) fn count(&self, name: &str, row: usize) -> u64 {
        let Column::Counts(values) = self.column(name) else { panic!("{name} is no count") };
        values[row]
    }

    pub(super) fn float(&self, name: &str, row: usize) -> f64 {
        let Column::Floats(values) = self.column(name) else { panic!("{name} is no float") };
        values[row]
    }

    pub(super) fn narrow(&self, name: &str, row: usize) -> f32 {
        let Column::Narrow(values) = self.column(name) else { panic!("{name} is no 32-bit float") };
        values[row]
    }

    pub(super) fn maybe_int(&self, name: &str, row: usize) -> Option<i64> {
        let Column::MaybeInts(values) = self.column(name) else { panic!("{name} is no time or null") };
        values[row]
    }

    pub(super) fn maybe_float(&self, name: &str, row: usize) -> Option<f64> {
        let Column::MaybeFloats(values) = self.column(name) else { panic!("{name} is no float or null") };
        values[row]
    }

    pub(super) fn maybe_text(&self, name: &str, row: usize) -> Option<String> {
        let Column::MaybeTexts(values) = self.column(name) else { panic!("{name} is no text or null") };
        values[row].clone()
    }

    pub(super) fn buckets(&self, name: &str, row: usize) -> Vec<(i32, u64)> {
        let Column::Buckets(values) = self.column(name) else { panic!("{name} is no histogram") };
        values[row].clone()
    }

    pub(super) fn spans(&self, name: &str, row: usize) -> Vec<(String, i64)> {
        let Column::Spans(values) = self.column(name) else { panic!("{name} are no spans") };
        values[row].clone()
    }
}

fn column(rest: &mut &[u8], kind: &str, rows: usize) -> Column {
    match kind {
        "String" => Column::Texts(many(rest, rows, text)),
        "Int32" => Column::Ints(many(rest, rows, |rest| i64::from(rest.get_i32_le()))),
        "UInt32" => Column::Ints(many(rest, rows, |rest| i64::from(rest.get_u32_le()))),
        "Int64" | TIME => Column::Ints(many(rest, rows, Buf::get_i64_le)),
        "UInt64" => Column::Counts(many(rest, rows, Buf::get_u64_le)),
        "Float64" => Column::Floats(many(rest, rows, Buf::get_f64_le)),
        "Float32" => Column::Narrow(many(rest, rows, Buf::get_f32_le)),
        MAYBE_TIME => Column::MaybeInts(maybe(rest, rows, Buf::get_i64_le)),
        "Nullable(Float64)" => Column::MaybeFloats(maybe(rest, rows, Buf::get_f64_le)),
        "Nullable(String)" => Column::MaybeTexts(maybe(rest, rows, text)),
        "Map(Int32, UInt64)" => Column::Buckets(map(rest, rows, Buf::get_i32_le, Buf::get_u64_le)),
        "Map(String, Int64)" => Column::Spans(map(rest, rows, text, Buf::get_i64_le)),
        _ => panic!("no column is of type {kind}"),
    }
}

fn many<'a, T>(rest: &mut &'a [u8], rows: usize, mut one: impl FnMut(&mut &'a [u8]) -> T) -> Vec<T> {
    (0..rows).map(|_| one(rest)).collect()
}

fn maybe<'a, T>(rest: &mut &'a [u8], rows: usize, one: impl FnMut(&mut &'a [u8]) -> T) -> Vec<Option<T>> {
    let nulls = many(rest, rows, Buf::get_u8);
    assert!(nulls.iter().all(|&null| null < 2), "null or not is 1 or 0");
    let values = many(rest, rows, one);
    nulls.into_iter().zip(values).map(|(null, value)| (null == 0).then_some(value)).collect()
}

fn map<'a, K, V>(
    rest: &mut &'a [u8],
    rows: usize,
    key: impl FnMut(&mut &'a [u8]) -> K,
    value: impl FnMut(&mut &'a [u8]) -> V,
) -> Vec<Vec<(K, V)>> {
    let ends = many(rest, rows, |rest| usize::try_from(rest.get_u64_le()).unwrap());
    assert!(ends.is_sorted(), "ends ascend");
    let all = ends.last().copied().unwrap_or(0);
    let keys = many(rest, all, key);
    let values = many(rest, all, value);
    let mut pairs = keys.into_iter().zip(values);
    let mut start = 0;
    let row = |end: usize| pairs.by_ref().take(end - std::mem::replace(&mut start, end)).collect();
    ends.into_iter().map(row).collect()
}

fn len(rest: &mut &[u8]) -> usize {
    let (mut len, mut shift) = (0, 0);
    loop {
        let byte = rest.get_u8();
        len |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            return len;
        }
    }
}

fn text(rest: &mut &[u8]) -> String {
    let len = len(rest);
    let (text, tail) = rest.split_at(len);
    *rest = tail;
    String::from_utf8(text.to_vec()).unwrap()
}
