//! The columns of readings, each encoded as suits what it holds.

use std::collections::HashMap;

use bytes::Bytes;
use parquet::basic::Encoding;
use parquet::bloom_filter::Sbbf;
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::ByteArray;
use parquet::errors::Result;
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescPtr;
use rustc_hash::FxBuildHasher;

use super::chunk::{Chunk, Closing, PageOf, Present, Summary, Zstd, levels};
use super::packed;
use super::values::ValueEncoding;

/// False positives of a bloom filter.
const BLOOM_FPP: f64 = 0.01;

/// Values of a dictionary at most, 1 MiB of them: beyond, pages are split into streams.
const DICTIONARY_MAX: usize = 1 << 17;

/// A column of names: a dictionary, and runs of its codes.
pub(super) struct NameColumn<'a> {
    chunk: Chunk,
    names: &'a [Box<str>],
    /// The dictionary's code of each name, once it has one.
    codes: Vec<Option<u32>>,
    used: Vec<u32>,
    nulls: u64,
    out: Vec<u8>,
}

/// What is written beside the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NameIndex {
    /// Nothing: all rows have the same.
    None,
    /// Smallest and largest of each page.
    Pages,
    /// These, and a bloom filter.
    Bloom,
    /// These, and names ascend.
    SortedBloom,
}

impl<'a> NameColumn<'a> {
    /// A column of some of `names`.
    pub(super) fn new(column: ColumnDescPtr, names: &'a [Box<str>]) -> Self {
        let codes = vec![None; names.len()];
        Self { chunk: Chunk::new(column), names, codes, used: Vec::new(), nulls: 0, out: Vec::new() }
    }

    /// Writes a page of runs of names, by their place among all names.
    pub(super) fn page(
        &mut self,
        runs: impl Iterator<Item = (Option<u32>, usize)>,
        zstd: &mut Zstd,
    ) -> Result<()> {
        let mut merged: Vec<(Option<u32>, usize)> = Vec::new();
        for (name, len) in runs {
            match merged.last_mut() {
                Some(last) if last.0 == name => last.1 += len,
                _ => merged.push((name, len)),
            }
        }
        let (mut rows, mut nulls, mut extremes) = (0, 0, None::<(&str, &str)>);
        for &(name, len) in &merged {
            rows += len;
            let Some(name) = name else {
                nulls += len;
                continue;
            };
            let text = &*self.names[name as usize];
            let (least, most) = extremes.unwrap_or((text, text));
            extremes = Some((least.min(text), most.max(text)));
            self.chunk.count_text(text.len() * len);
            let (code, used) = (&mut self.codes[name as usize], &mut self.used);
            if code.is_none() {
                *code = u32::try_from(used.len()).ok();
                used.push(name);
            }
        }
        let out = &mut self.out;
        out.clear();
        if self.chunk.is_optional() {
            let flags: Vec<bool>;
            let present = match nulls {
                0 => Present::All,
                _ if nulls == rows => Present::None,
                _ => {
                    flags = merged
                        .iter()
                        .flat_map(|(name, len)| std::iter::repeat_n(name.is_some(), *len))
                        .collect();
                    Present::Some(&flags)
                }
            };
            levels(present, rows, out);
        }
        let width = packed::width(self.used.len().saturating_sub(1) as u64);
        out.push(width as u8);
        for (name, len) in &merged {
            if let Some(code) = name.and_then(|name| self.codes[name as usize]) {
                packed::run(code, *len, width, out);
            }
        }
        self.nulls += nulls as u64;
        let range = extremes.map(|(least, most)| (least.into(), most.into()));
        let summary = Summary { range, nulls: u32::try_from(nulls).unwrap_or(u32::MAX) };
        let page = PageOf { bytes: &self.out, encoding: Encoding::RLE_DICTIONARY, rows, summary };
        self.chunk.page(page, zstd)
    }

    pub(super) fn close(mut self, index: NameIndex, zstd: &mut Zstd) -> Result<(Bytes, ColumnCloseResult)> {
        let used = || self.used.iter().map(|name| &*self.names[*name as usize]);
        let mut plain = Vec::new();
        for name in used() {
            plain.extend_from_slice(&u32::try_from(name.len()).unwrap_or(u32::MAX).to_le_bytes());
            plain.extend_from_slice(name.as_bytes());
        }
        let text = |name: &str| ByteArray::from(name);
        let statistics = || {
            Statistics::byte_array(
                used().min().map(text),
                used().max().map(text),
                None,
                Some(self.nulls),
                false,
            )
        };
        let mut closing = Closing::default();
        if index != NameIndex::None {
            closing.statistics = Some(statistics());
        }
        if matches!(index, NameIndex::Bloom | NameIndex::SortedBloom) {
            let mut filter = Sbbf::new_with_ndv_fpp(self.used.len().max(1) as u64, BLOOM_FPP)?;
            used().for_each(|name| filter.insert(name));
            closing.bloom_filter = Some(filter);
        }
        closing.is_sorted = index == NameIndex::SortedBloom;
        self.chunk.dictionary(&plain, self.used.len(), zstd)?;
        self.chunk.close(closing)
    }
}

/// How wide integers are in the file, and how they compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// 64 bits, signed.
    Long,
    /// 32 bits, not signed.
    Unsigned,
    /// 32 bits, signed.
    Signed,
}

/// A column of integers without nulls, as deltas.
pub(super) struct IntegerColumn {
    chunk: Chunk,
    kind: Kind,
    range: Option<(i64, i64)>,
    out: Vec<u8>,
}

impl IntegerColumn {
    pub(super) fn new(column: ColumnDescPtr, kind: Kind) -> Self {
        Self { chunk: Chunk::new(column), kind, range: None, out: Vec::new() }
    }

    pub(super) fn page(&mut self, values: &[i64], zstd: &mut Zstd) -> Result<()> {
        let Some(least) = values.iter().copied().min() else { return Ok(()) };
        let most = values.iter().copied().max().unwrap_or(least);
        let (min, max) = self.range.unwrap_or((least, most));
        self.range = Some((min.min(least), max.max(most)));
        self.out.clear();
        match self.kind {
            Kind::Long => packed::deltas_64(values, &mut self.out),
            Kind::Unsigned | Kind::Signed => packed::deltas_32(values, &mut self.out),
        }
        let summary = Summary { range: Some((self.bytes(least), self.bytes(most))), nulls: 0 };
        let encoding = Encoding::DELTA_BINARY_PACKED;
        self.chunk.page(PageOf { bytes: &self.out, encoding, rows: values.len(), summary }, zstd)
    }

    fn bytes(&self, value: i64) -> Vec<u8> {
        match self.kind {
            Kind::Long => value.to_le_bytes().to_vec(),
            Kind::Unsigned | Kind::Signed => narrow(value).to_le_bytes().to_vec(),
        }
    }

    pub(super) fn close(self, with_statistics: bool) -> Result<(Bytes, ColumnCloseResult)> {
        let (min, max) = self.range.unzip();
        let statistics = || match self.kind {
            Kind::Long => Statistics::int64(min, max, None, Some(0), false),
            Kind::Unsigned | Kind::Signed => {
                Statistics::int32(min.map(narrow), max.map(narrow), None, Some(0), false)
            }
        };
        let statistics = with_statistics.then(statistics);
        self.chunk.close(Closing { statistics, ..Closing::default() })
    }
}

/// The 32 bits of a number in the file.
#[allow(clippy::cast_possible_truncation, reason = "it came of 32 bits")]
fn narrow(value: i64) -> i32 {
    value as i32
}

/// The column of values.
pub(super) struct ValueColumn {
    chunk: Chunk,
    encoding: ValueEncoding,
    codes: HashMap<u64, u32, FxBuildHasher>,
    dictionary: Vec<u8>,
    range: Option<(f64, f64)>,
    nulls: u64,
    /// Kept for their memory.
    present: Vec<f64>,
    page_codes: Vec<u32>,
    out: Vec<u8>,
}

impl ValueColumn {
    pub(super) fn new(column: ColumnDescPtr, encoding: ValueEncoding) -> Self {
        Self {
            chunk: Chunk::new(column),
            encoding,
            codes: HashMap::default(),
            dictionary: Vec::new(),
            range: None,
            nulls: 0,
            present: Vec::new(),
            page_codes: Vec::new(),
            out: Vec::new(),
        }
    }

    pub(super) fn page(&mut self, values: &[f64], has_value: &[bool], zstd: &mut Zstd) -> Result<()> {
        self.present.clear();
        let is_whole = has_value.iter().all(|has| *has);
        if is_whole {
            self.present.extend_from_slice(values);
        } else {
            let present = values.iter().zip(has_value).filter(|(_, has)| **has);
            self.present.extend(present.map(|(value, _)| *value));
        }
        self.out.clear();
        let present = match self.present.len() {
            0 => Present::None,
            _ if is_whole => Present::All,
            _ => Present::Some(has_value),
        };
        levels(present, values.len(), &mut self.out);
        let encoding = if self.encoding == ValueEncoding::Dictionary && self.codes.len() < DICTIONARY_MAX {
            self.encode_codes();
            Encoding::RLE_DICTIONARY
        } else {
            self.encode_streams();
            Encoding::BYTE_STREAM_SPLIT
        };
        let extremes = extremes(&self.present);
        if let Some((least, most)) = extremes {
            let (min, max) = self.range.unwrap_or((least, most));
            self.range = Some((min.min(least), max.max(most)));
        }
        let nulls = values.len() - self.present.len();
        self.nulls += nulls as u64;
        let range = extremes.map(|(least, most)| {
            let (least, most) = signed_zeros(least, most);
            (least.to_le_bytes().to_vec(), most.to_le_bytes().to_vec())
        });
        let summary = Summary { range, nulls: u32::try_from(nulls).unwrap_or(u32::MAX) };
        self.chunk.page(PageOf { bytes: &self.out, encoding, rows: values.len(), summary }, zstd)
    }

    fn encode_codes(&mut self) {
        self.page_codes.clear();
        let (mut last, mut last_code) = (0, None);
        for value in &self.present {
            let bits = value.to_bits();
            let code = match last_code {
                Some(code) if last == bits => code,
                _ => {
                    let next = u32::try_from(self.codes.len()).unwrap_or(u32::MAX);
                    *self.codes.entry(bits).or_insert_with(|| {
                        self.dictionary.extend_from_slice(&bits.to_le_bytes());
                        next
                    })
                }
            };
            (last, last_code) = (bits, Some(code));
            self.page_codes.push(code);
        }
        let width = packed::width(self.codes.len().saturating_sub(1) as u64);
        self.out.push(width as u8);
        match self.page_codes.first() {
            Some(first) if self.page_codes.iter().all(|code| code == first) => {
                packed::run(*first, self.page_codes.len(), width, &mut self.out);
            }
            Some(_) => packed::groups(&self.page_codes, width, &mut self.out),
            None => {}
        }
    }

    fn encode_streams(&mut self) {
        let (start, len) = (self.out.len(), self.present.len());
        self.out.resize(start + 8 * len, 0);
        let mut streams = self.out[start..].chunks_exact_mut(len.max(1));
        for byte in 0..8 {
            let Some(stream) = streams.next() else { return };
            for (out, value) in stream.iter_mut().zip(&self.present) {
                *out = (value.to_bits() >> (8 * byte)) as u8;
            }
        }
    }

    pub(super) fn close(mut self, zstd: &mut Zstd) -> Result<(Bytes, ColumnCloseResult)> {
        if !self.dictionary.is_empty() || self.encoding == ValueEncoding::Dictionary {
            self.chunk.dictionary(&self.dictionary, self.codes.len(), zstd)?;
        }
        let (min, max) = self.range.map(|(min, max)| signed_zeros(min, max)).unzip();
        let statistics = Some(Statistics::double(min, max, None, Some(self.nulls), false));
        self.chunk.close(Closing { statistics, ..Closing::default() })
    }
}

fn extremes(values: &[f64]) -> Option<(f64, f64)> {
    let first = *values.first()?;
    Some(values.iter().fold((first, first), |(min, max), value| (min.min(*value), max.max(*value))))
}

/// A smallest value of zero stands for both zeros, and so does a largest (Apache Parquet, `ColumnOrder`).
fn signed_zeros(min: f64, max: f64) -> (f64, f64) {
    (if min == 0.0 { -0.0 } else { min }, if max == 0.0 { 0.0 } else { max })
}
