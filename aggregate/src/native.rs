//! ClickHouse's Native format: blocks of columns, written by ourselves.
//!
//! A block is the number of columns and of rows as LEB128, then for each column its name and type as strings
//! (LEB128 length and bytes) and its values: fixed-width ones little-endian, strings with their lengths, a
//! `Nullable` as a byte map before its values, an `Array` or `Map` as u64 end positions before its elements.
//! The server converts what the table stores otherwise (`LowCardinality`).
//! Source: the format's description in ClickHouse's documentation, "Native".

use bytes::{BufMut, Bytes, BytesMut};

use crate::histogram::Bucket;

/// A block being written, column by column.
#[derive(Debug)]
pub struct Block {
    out: BytesMut,
    rows: usize,
}

impl Block {
    /// A block of so many columns and rows.
    #[must_use]
    pub fn new(columns: usize, rows: usize) -> Self {
        let mut out = BytesMut::with_capacity(rows * columns * 8 + 256);
        put_len(&mut out, columns);
        put_len(&mut out, rows);
        Self { out, rows }
    }

    /// The finished bytes.
    #[must_use]
    pub fn finish(self) -> Bytes {
        self.out.freeze()
    }

    fn header(&mut self, name: &str, kind: &str) {
        put_text(&mut self.out, name);
        put_text(&mut self.out, kind);
    }

    /// A column of `String`.
    pub fn strings<'a>(&mut self, name: &str, values: impl IntoIterator<Item = &'a str>) {
        self.header(name, "String");
        values.into_iter().for_each(|value| put_text(&mut self.out, value));
    }

    /// A column of `String` that holds bytes.
    pub fn binaries<'a>(&mut self, name: &str, values: impl IntoIterator<Item = &'a [u8]>) {
        self.header(name, "String");
        for value in values {
            put_len(&mut self.out, value.len());
            self.out.put_slice(value);
        }
    }

    /// A column of `UInt8`.
    pub fn u8s(&mut self, name: &str, values: impl IntoIterator<Item = u8>) {
        self.header(name, "UInt8");
        values.into_iter().for_each(|value| self.out.put_u8(value));
    }

    /// A column of `Int32`.
    pub fn i32s(&mut self, name: &str, values: impl IntoIterator<Item = i32>) {
        self.header(name, "Int32");
        values.into_iter().for_each(|value| self.out.put_i32_le(value));
    }

    /// A column of `UInt32`.
    pub fn u32s(&mut self, name: &str, values: impl IntoIterator<Item = u32>) {
        self.header(name, "UInt32");
        values.into_iter().for_each(|value| self.out.put_u32_le(value));
    }

    /// A column of `Int64`.
    pub fn i64s(&mut self, name: &str, values: impl IntoIterator<Item = i64>) {
        self.header(name, "Int64");
        values.into_iter().for_each(|value| self.out.put_i64_le(value));
    }

    /// A column of `UInt64`.
    pub fn u64s(&mut self, name: &str, values: impl IntoIterator<Item = u64>) {
        self.header(name, "UInt64");
        values.into_iter().for_each(|value| self.out.put_u64_le(value));
    }

    /// A column of `DateTime64(6, 'UTC')`, µs.
    pub fn times(&mut self, name: &str, values: impl IntoIterator<Item = i64>) {
        self.header(name, "DateTime64(6, 'UTC')");
        values.into_iter().for_each(|value| self.out.put_i64_le(value));
    }

    /// A column of `Nullable(DateTime64(6, 'UTC'))`.
    pub fn maybe_times(&mut self, name: &str, values: &[Option<i64>]) {
        self.header(name, "Nullable(DateTime64(6, 'UTC'))");
        values.iter().for_each(|value| self.out.put_u8(u8::from(value.is_none())));
        values.iter().for_each(|value| self.out.put_i64_le(value.unwrap_or(0)));
    }

    /// A column of `Float32`.
    pub fn f32s(&mut self, name: &str, values: impl IntoIterator<Item = f32>) {
        self.header(name, "Float32");
        values.into_iter().for_each(|value| self.out.put_f32_le(value));
    }

    /// A column of `Float64`.
    pub fn f64s(&mut self, name: &str, values: impl IntoIterator<Item = f64>) {
        self.header(name, "Float64");
        values.into_iter().for_each(|value| self.out.put_f64_le(value));
    }

    /// A column of `Nullable(Float64)`.
    pub fn maybe_f64s(&mut self, name: &str, values: &[Option<f64>]) {
        self.header(name, "Nullable(Float64)");
        values.iter().for_each(|value| self.out.put_u8(u8::from(value.is_none())));
        values.iter().for_each(|value| self.out.put_f64_le(value.unwrap_or(0.0)));
    }

    /// A column of `Nullable(String)`.
    pub fn maybe_strings(&mut self, name: &str, values: &[Option<&str>]) {
        self.header(name, "Nullable(String)");
        values.iter().for_each(|value| self.out.put_u8(u8::from(value.is_none())));
        values.iter().for_each(|value| put_text(&mut self.out, value.unwrap_or_default()));
    }

    /// A column of `Array(String)`.
    pub fn string_lists(&mut self, name: &str, values: &[Vec<String>]) {
        self.header(name, "Array(String)");
        self.ends(values.iter().map(Vec::len));
        values.iter().flatten().for_each(|value| put_text(&mut self.out, value));
    }

    /// A column of `Map(Int32, UInt64)`.
    pub fn histograms<'a>(&mut self, name: &str, values: impl Iterator<Item = &'a [Bucket]> + Clone) {
        self.header(name, "Map(Int32, UInt64)");
        self.ends(values.clone().map(<[_]>::len));
        values.clone().flatten().for_each(|&(key, _)| self.out.put_i32_le(key));
        values.flatten().for_each(|&(_, count)| self.out.put_u64_le(count.into()));
    }

    /// A column of `Map(String, Int64)`.
    pub fn spans<'a>(&mut self, name: &str, values: impl Iterator<Item = &'a [(Box<str>, i64)]> + Clone) {
        self.header(name, "Map(String, Int64)");
        self.ends(values.clone().map(<[_]>::len));
        values.clone().flatten().for_each(|(key, _)| put_text(&mut self.out, key));
        values.flatten().for_each(|&(_, span)| self.out.put_i64_le(span));
    }

    fn ends(&mut self, lens: impl Iterator<Item = usize>) {
        let mut end = 0;
        let mut rows = 0;
        for len in lens {
            end += len as u64;
            rows += 1;
            self.out.put_u64_le(end);
        }
        debug_assert_eq!(rows, self.rows);
    }
}

fn put_len(out: &mut BytesMut, mut len: usize) {
    while len >= 0x80 {
        #[allow(clippy::cast_possible_truncation, reason = "seven bits at a time")]
        out.put_u8(len as u8 | 0x80);
        len >>= 7;
    }
    #[allow(clippy::cast_possible_truncation, reason = "below 128")]
    out.put_u8(len as u8);
}

fn put_text(out: &mut BytesMut, text: &str) {
    put_len(out, text.len());
    out.put_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_has_the_documented_bytes() {
        let mut block = Block::new(3, 2);
        block.strings("s", ["a", ""]);
        block.maybe_f64s("f", &[None, Some(1.0)]);
        let maps: [&[Bucket]; 2] = [&[(5, 1)], &[(6, 2), (7, 3)]];
        block.histograms("h", maps.into_iter());
        let mut expected = vec![3, 2];
        expected.extend(b"\x01s\x06String\x01a\x00");
        expected.extend(b"\x01f\x11Nullable(Float64)\x01\x00");
        expected.extend(0f64.to_le_bytes());
        expected.extend(1f64.to_le_bytes());
        expected.extend(b"\x01h\x12Map(Int32, UInt64)");
        for end in [1u64, 3] {
            expected.extend(end.to_le_bytes());
        }
        for key in [5i32, 6, 7] {
            expected.extend(key.to_le_bytes());
        }
        for count in [1u64, 2, 3] {
            expected.extend(count.to_le_bytes());
        }
        assert_eq!(block.finish(), expected);
    }

    #[test]
    fn lengths_are_leb128() {
        let mut out = BytesMut::new();
        put_len(&mut out, 300);
        assert_eq!(&out[..], [0xac, 0x02]);
    }
}
