//! A column chunk made of pages that we encode ourselves: compressed, with header, statistics and indexes.
//!
//! What a row of an archive's file repeats from the row before costs nothing here, as the caller knows the runs; an
//! encoder that is shown rows would look each of them up.

use bytes::Bytes;
use parquet::basic::{BoundaryOrder, Compression, Encoding, Type, ZstdLevel};
use parquet::bloom_filter::Sbbf;
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{
    ColumnChunkMetaData, ColumnIndexBuilder, OffsetIndexBuilder, PageEncodingStats,
};
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

use super::file::ZSTD_LEVEL;
use super::packed;

/// Compresses pages, with the memory of the page before.
pub(super) struct Zstd(zstd::bulk::Compressor<'static>);

impl Zstd {
    pub(super) fn new() -> Result<Self> {
        Ok(Self(zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(external)?))
    }

    fn compress(&mut self, bytes: &[u8]) -> Result<Bytes> {
        Ok(self.0.compress(bytes).map_err(external)?.into())
    }
}

/// Pages of one column, and what is known of them.
pub(super) struct Chunk {
    column: ColumnDescPtr,
    dictionary: Option<(Bytes, usize, u32)>,
    pages: Vec<Encoded>,
    text_bytes: i64,
}

/// A page of values, compressed.
struct Encoded {
    bytes: Bytes,
    bytes_before: usize,
    encoding: Encoding,
    rows: u32,
    summary: Summary,
}

/// What readers skip a page by.
#[derive(Clone, Debug, Default)]
pub(super) struct Summary {
    /// Smallest and largest value as Parquet's statistics have them; none where there is no value.
    pub(super) range: Option<(Vec<u8>, Vec<u8>)>,
    /// Rows without a value.
    pub(super) nulls: u32,
}

/// Values of a page as they were encoded.
pub(super) struct PageOf<'a> {
    /// Definition levels, where the column may be null, and the values.
    pub(super) bytes: &'a [u8],
    /// How the values are encoded.
    pub(super) encoding: Encoding,
    /// Rows of the page.
    pub(super) rows: usize,
    /// What is in it.
    pub(super) summary: Summary,
}

/// How a column is closed.
#[derive(Default)]
pub(super) struct Closing {
    /// Statistics of the whole chunk; without them the pages have none either.
    pub(super) statistics: Option<Statistics>,
    /// Whether its values ascend.
    pub(super) is_sorted: bool,
    pub(super) bloom_filter: Option<Sbbf>,
}

impl Chunk {
    pub(super) fn new(column: ColumnDescPtr) -> Self {
        Self { column, dictionary: None, pages: Vec::new(), text_bytes: 0 }
    }

    /// Whether rows may have no value.
    pub(super) fn is_optional(&self) -> bool {
        self.column.max_def_level() > 0
    }

    /// Counts bytes of text, as a reader will unpack them.
    pub(super) fn count_text(&mut self, bytes: usize) {
        self.text_bytes += i64::try_from(bytes).unwrap_or(i64::MAX);
    }

    pub(super) fn dictionary(&mut self, bytes: &[u8], entries: usize, zstd: &mut Zstd) -> Result<()> {
        self.dictionary = Some((zstd.compress(bytes)?, bytes.len(), number(entries)?));
        Ok(())
    }

    pub(super) fn page(&mut self, page: PageOf<'_>, zstd: &mut Zstd) -> Result<()> {
        self.pages.push(Encoded {
            bytes: zstd.compress(page.bytes)?,
            bytes_before: page.bytes.len(),
            encoding: page.encoding,
            rows: number(page.rows)?,
            summary: page.summary,
        });
        Ok(())
    }

    /// The chunk's bytes, and what the file says of them.
    pub(super) fn close(self, closing: Closing) -> Result<(Bytes, ColumnCloseResult)> {
        let mut sink = TrackedWrite::new(Vec::new());
        let mut sums = Sums::default();
        if let Some((bytes, bytes_before, entries)) = self.dictionary {
            let page = Page::DictionaryPage {
                buf: bytes,
                num_values: entries,
                encoding: Encoding::PLAIN,
                is_sorted: false,
            };
            sums.write(CompressedPage::new(page, bytes_before), &mut sink)?;
        }
        let data_at = sums.compressed;
        let mut offsets = OffsetIndexBuilder::new();
        let mut index = ColumnIndexBuilder::new(self.column.physical_type());
        for page in self.pages {
            let Summary { range, nulls } = page.summary;
            let is_null = range.is_none();
            let (min, max) = range.unwrap_or_default();
            index.append(is_null, min, max, i64::from(nulls));
            let at = sums.compressed;
            let written = Page::DataPage {
                buf: page.bytes,
                num_values: page.rows,
                encoding: page.encoding,
                def_level_encoding: Encoding::RLE,
                rep_level_encoding: Encoding::RLE,
                statistics: None,
            };
            sums.write(CompressedPage::new(written, page.bytes_before), &mut sink)?;
            sums.rows += i64::from(page.rows);
            offsets.append_row_count(i64::from(page.rows));
            offsets.append_offset_and_size(at, i32::try_from(sums.compressed - at).map_err(external)?);
        }
        if closing.is_sorted {
            index.set_boundary_order(BoundaryOrder::ASCENDING);
        }
        let is_text = self.column.physical_type() == Type::BYTE_ARRAY;
        let mut metadata = ColumnChunkMetaData::builder(self.column)
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
            .set_encodings(sums.encodings())
            .set_page_encoding_stats(sums.pages.clone())
            .set_num_values(sums.rows)
            .set_total_compressed_size(sums.compressed)
            .set_total_uncompressed_size(sums.uncompressed)
            .set_data_page_offset(data_at)
            .set_dictionary_page_offset((data_at > 0).then_some(0))
            .set_unencoded_byte_array_data_bytes(is_text.then_some(self.text_bytes));
        let column_index = closing.statistics.is_some().then(|| index.build()).transpose()?;
        if let Some(statistics) = closing.statistics {
            metadata = metadata.set_statistics(statistics);
        }
        let close = ColumnCloseResult {
            bytes_written: sums.compressed.unsigned_abs(),
            rows_written: sums.rows.unsigned_abs(),
            metadata: metadata.build()?,
            bloom_filter: closing.bloom_filter,
            column_index,
            offset_index: Some(offsets.build()),
        };
        Ok((sink.into_inner()?.into(), close))
    }
}

/// What the pages of a chunk come to.
#[derive(Default)]
struct Sums {
    compressed: i64,
    uncompressed: i64,
    rows: i64,
    pages: Vec<PageEncodingStats>,
}

impl Sums {
    fn write(&mut self, page: CompressedPage, sink: &mut TrackedWrite<Vec<u8>>) -> Result<()> {
        let (page_type, encoding) = (page.page_type(), page.encoding());
        let written = SerializedPageWriter::new(sink).write_page(page)?;
        self.compressed += i64::try_from(written.bytes_written).map_err(external)?;
        self.uncompressed += i64::try_from(written.uncompressed_size).map_err(external)?;
        match self.pages.iter_mut().find(|of| (of.page_type, of.encoding) == (page_type, encoding)) {
            Some(of) => of.count += 1,
            None => self.pages.push(PageEncodingStats { page_type, encoding, count: 1 }),
        }
        Ok(())
    }

    /// All that occur, levels among them.
    fn encodings(&self) -> Vec<Encoding> {
        std::iter::once(Encoding::RLE).chain(self.pages.iter().map(|of| of.encoding)).collect()
    }
}

/// Appends definition levels: which of `rows` rows have a value. `present` tells, unless all or none have.
pub(super) fn levels(present: Present<'_>, rows: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend([0; 4]);
    match present {
        Present::All => packed::run(1, rows, 1, out),
        Present::None => packed::run(0, rows, 1, out),
        Present::Some(flags) => {
            let codes: Vec<u32> = flags.iter().map(|flag| u32::from(*flag)).collect();
            packed::groups(&codes, 1, out);
        }
    }
    let len = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
}

/// Which rows have a value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Present<'a> {
    All,
    None,
    Some(&'a [bool]),
}

fn number(count: usize) -> Result<u32> {
    u32::try_from(count).map_err(external)
}

fn external(error: impl std::error::Error + Send + Sync + 'static) -> ParquetError {
    ParquetError::External(Box::new(error))
}
