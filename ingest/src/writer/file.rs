//! What both files of a commit share: compression, footer, hash.

use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, StringArray, UInt32Array};
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use parquet::arrow::add_encoded_arrow_schema_to_metadata;
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::Result;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use sha2::{Digest, Sha256};
use stillwell_schema::manifest::FileRef;
use stillwell_schema::paths::{self, FileKind};
use stillwell_schema::{columns, merkle};

use super::batch::Batch;

/// Rows of a row group: large enough for dictionaries and statistics to pay, small enough to be a unit of
/// parallel reading.
pub(super) const ROW_GROUP_ROWS: usize = 1 << 20;

/// Bytes of a row group, before compression is known: bounds what a reader of whole records holds.
pub(crate) const ROW_GROUP_BYTES: usize = 128 << 20;

/// The fastest zstd level that is still zstd: the next ones gain a few percent at twice the time.
pub(super) const ZSTD_LEVEL: i32 = 1;

/// A data file in memory, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedFile {
    /// Readings or records.
    pub kind: FileKind,
    /// Path, size, rows and hash as the entry states them.
    pub file: FileRef,
    /// The file's bytes.
    pub bytes: Vec<u8>,
}

impl EncodedFile {
    pub(super) fn new(batch: &Batch, kind: FileKind, unique: &str, bytes: Vec<u8>, rows: u64) -> Self {
        let path = paths::data_file(&batch.lane, kind, batch.range, unique);
        let sha256 = hex::encode(Sha256::digest(&bytes));
        Self { kind, file: FileRef { path, bytes: bytes.len() as u64, rows, sha256 }, bytes }
    }
}

/// Compression, index, limits and footer of both kinds. The footer's keys are `stillwell.topic`,
/// `.partition`, `.range` (`first-next`), `.gaps` (JSON), `.schema` and `.merkle_root` (hex); the file's own
/// hash stands in its manifest entry.
pub(super) fn properties(batch: &Batch, root: &merkle::Hash) -> Result<WriterPropertiesBuilder> {
    let gaps =
        serde_json::to_string(&batch.gaps).map_err(|e| parquet::errors::ParquetError::External(e.into()))?;
    let footer = [
        ("topic", batch.lane.topic.to_string()),
        ("partition", batch.lane.partition.to_string()),
        ("range", format!("{}-{}", batch.range.first, batch.range.next)),
        ("gaps", gaps),
        ("schema", columns::SCHEMA_ID.to_owned()),
        ("merkle_root", hex::encode(root)),
    ];
    let footer = footer.map(|(key, value)| KeyValue::new(format!("stillwell.{key}"), value)).to_vec();
    Ok(WriterProperties::builder()
        .set_created_by(concat!("stillwell ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
        .set_key_value_metadata(Some(footer)))
}

/// A writer of a file that reads back as exactly `schema`, fed batches of `fed`, in which text may come as
/// dictionaries.
pub(super) fn writer(
    schema: &Schema,
    fed: SchemaRef,
    properties: WriterPropertiesBuilder,
) -> Result<ArrowWriter<Vec<u8>>> {
    let mut properties = properties.build();
    add_encoded_arrow_schema_to_metadata(schema, &mut properties);
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    ArrowWriter::try_new_with_options(Vec::new(), fed, options)
}

/// `schema` with the text columns `names` as dictionaries.
pub(super) fn with_dictionaries(schema: &Schema, names: &[&str]) -> SchemaRef {
    let dictionary = DataType::Dictionary(Box::new(DataType::UInt32), Box::new(DataType::Utf8));
    let feed = |field: &FieldRef| match names.contains(&field.name().as_str()) {
        true => Arc::new(field.as_ref().clone().with_data_type(dictionary.clone())),
        false => Arc::clone(field),
    };
    Arc::new(Schema::new(schema.fields().iter().map(feed).collect::<Vec<_>>()))
}

/// One text for every row.
pub(super) fn constant(text: &str, rows: usize) -> Result<ArrayRef> {
    let keys = UInt32Array::from(vec![0; rows]);
    Ok(Arc::new(DictionaryArray::try_new(keys, Arc::new(StringArray::from(vec![text])))?))
}

pub(super) fn column(name: &str) -> ColumnPath {
    ColumnPath::from(name)
}
