//! Writes the readings of a batch as Parquet with the schema [`columns::READINGS`].
//!
//! Rows come sorted, so names come in runs and cost nothing by the row; times and places are delta-packed; values go
//! as [`values`] chooses; machine and sensor have bloom filters.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringBuilder};
use bytes::Bytes;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::arrow::{ArrowSchemaConverter, add_encoded_arrow_schema_to_metadata};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::Result;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::WriterPropertiesBuilder;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::SchemaDescriptor;
use stillwell_schema::columns;

use super::batch::Batch;
use super::chunk::Zstd;
use super::columns::{IntegerColumn, Kind, NameColumn, NameIndex, ValueColumn};
use super::file::ROW_GROUP_ROWS;
use super::page::Page;
use super::sort::Row;
use super::values;

/// Rows of a page by which readers prune; what is gathered of one stays in the nearest caches.
const PAGE_ROWS: usize = 20_000;

/// A column chunk on its way into a file.
enum Encoded {
    Own(Bytes, ColumnCloseResult),
    Arrow(ArrowColumnChunk),
}

impl Encoded {
    fn append_to(self, group: &mut SerializedRowGroupWriter<'_, Vec<u8>>) -> Result<()> {
        match self {
            Self::Own(bytes, close) => group.append_column(&bytes, close),
            Self::Arrow(chunk) => chunk.append_to_row_group(group),
        }
    }
}

/// The archive's order: machine, sensor, time, offset, index.
pub(crate) fn order() -> Vec<SortingColumn> {
    [0, 1, 4, 10, 11].map(|i| SortingColumn { column_idx: i, descending: false, nulls_first: false }).to_vec()
}

/// The Parquet file of `rows`, which are all readings of `batch` in the archive's order.
pub(super) fn write(batch: &Batch, rows: &[Row], properties: WriterPropertiesBuilder) -> Result<Vec<u8>> {
    let schema = ArrowSchemaConverter::new().convert(&columns::READINGS)?;
    let mut properties = properties.set_sorting_columns(Some(order())).build();
    add_encoded_arrow_schema_to_metadata(&columns::READINGS, &mut properties);
    let mut file = SerializedFileWriter::new(Vec::new(), schema.root_schema_ptr(), Arc::new(properties))?;
    let mut zstd = Zstd::new()?;
    let topic = [Box::from(&*batch.lane.topic)];
    for rows in rows.chunks(ROW_GROUP_ROWS) {
        let mut columns = Columns::new(batch, &topic, &schema);
        let mut page = Page::default();
        for rows in rows.chunks(PAGE_ROWS) {
            page.gather(&batch.parts, rows);
            columns.push(&page, batch, &mut zstd)?;
        }
        let texts = texts(&file, batch, rows)?;
        let mut group = file.next_row_group()?;
        for column in columns.close(texts, &mut zstd)? {
            column.append_to(&mut group)?;
        }
        group.close()?;
    }
    file.into_inner()
}

/// The columns of a row group.
struct Columns<'a> {
    machine: NameColumn<'a>,
    sensor: NameColumn<'a>,
    kind: NameColumn<'a>,
    unit: NameColumn<'a>,
    time: IntegerColumn,
    value: ValueColumn,
    /// Stands for the texts where there are none.
    no_text: NameColumn<'a>,
    quality: IntegerColumn,
    topic: NameColumn<'a>,
    partition: IntegerColumn,
    offset: IntegerColumn,
    index: IntegerColumn,
    kafka_time: IntegerColumn,
}

impl<'a> Columns<'a> {
    fn new(batch: &'a Batch, topic: &'a [Box<str>], schema: &SchemaDescriptor) -> Self {
        let names = batch.table.names();
        Self {
            machine: NameColumn::new(schema.column(0), names),
            sensor: NameColumn::new(schema.column(1), names),
            kind: NameColumn::new(schema.column(2), names),
            unit: NameColumn::new(schema.column(3), names),
            time: IntegerColumn::new(schema.column(4), Kind::Long),
            value: ValueColumn::new(schema.column(5), values::choose(&batch.parts)),
            no_text: NameColumn::new(schema.column(6), &[]),
            quality: IntegerColumn::new(schema.column(7), Kind::Unsigned),
            topic: NameColumn::new(schema.column(8), topic),
            partition: IntegerColumn::new(schema.column(9), Kind::Signed),
            offset: IntegerColumn::new(schema.column(10), Kind::Long),
            index: IntegerColumn::new(schema.column(11), Kind::Unsigned),
            kafka_time: IntegerColumn::new(schema.column(12), Kind::Long),
        }
    }

    fn push(&mut self, page: &Page, batch: &Batch, zstd: &mut Zstd) -> Result<()> {
        let runs = || page.runs.iter().map(|(series, len)| (batch.table.series(*series), *len));
        self.machine.page(runs().map(|(series, len)| (Some(series.machine), len)), zstd)?;
        self.sensor.page(runs().map(|(series, len)| (Some(series.sensor), len)), zstd)?;
        self.kind.page(runs().map(|(series, len)| (series.kind, len)), zstd)?;
        self.unit.page(runs().map(|(series, len)| (series.unit, len)), zstd)?;
        self.time.page(&page.time_us, zstd)?;
        self.value.page(&page.value, &page.has_value, zstd)?;
        self.no_text.page(std::iter::once((None, page.len())), zstd)?;
        self.quality.page(&page.quality, zstd)?;
        self.topic.page(std::iter::once((Some(0), page.len())), zstd)?;
        self.partition.page(&vec![i64::from(batch.lane.partition); page.len()], zstd)?;
        self.offset.page(&page.offset, zstd)?;
        self.index.page(&page.index, zstd)?;
        self.kafka_time.page(&page.kafka_time_ms, zstd)
    }

    /// All columns in their order. One value in every row has no statistics: nobody prunes by it, as the manifest has
    /// done so already.
    fn close(self, texts: Option<Encoded>, zstd: &mut Zstd) -> Result<Vec<Encoded>> {
        let own = |column: Result<(Bytes, ColumnCloseResult)>| {
            column.map(|(bytes, close)| Encoded::Own(bytes, close))
        };
        Ok(vec![
            own(self.machine.close(NameIndex::SortedBloom, zstd))?,
            own(self.sensor.close(NameIndex::Bloom, zstd))?,
            own(self.kind.close(NameIndex::Pages, zstd))?,
            own(self.unit.close(NameIndex::Pages, zstd))?,
            own(self.time.close(true))?,
            own(self.value.close(zstd))?,
            texts.map_or_else(|| own(self.no_text.close(NameIndex::Pages, zstd)), Ok)?,
            own(self.quality.close(true))?,
            own(self.topic.close(NameIndex::None, zstd))?,
            own(self.partition.close(false))?,
            own(self.offset.close(true))?,
            own(self.index.close(true))?,
            own(self.kafka_time.close(true))?,
        ])
    }
}

/// The column of string states, where any reading of the batch has one.
fn texts(file: &SerializedFileWriter<Vec<u8>>, batch: &Batch, rows: &[Row]) -> Result<Option<Encoded>> {
    if batch.parts.iter().all(|part| part.columns.text.is_empty()) {
        return Ok(None);
    }
    let mut texts = StringBuilder::new();
    for row in rows {
        texts.append_option(batch.parts[row.part as usize].columns.text_of(row.row as usize));
    }
    let texts: ArrayRef = Arc::new(texts.finish());
    let at = columns::READINGS.index_of("text")?;
    let factory = ArrowRowGroupWriterFactory::new(file, Arc::clone(&columns::READINGS));
    let mut writer = factory.create_column_writers(0)?.swap_remove(at);
    for leaf in compute_leaves(columns::READINGS.field(at), &texts)? {
        writer.write(&leaf)?;
    }
    Ok(Some(Encoded::Arrow(writer.close()?)))
}
