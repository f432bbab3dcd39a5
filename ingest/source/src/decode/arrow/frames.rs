//! Checks a stream's framing before the reader sees it: lengths, places and what unpacking would take.
//!
//! Format: [Arrow columnar format, "Serialization and Interprocess Communication"]. A message is the marker
//! `FF FF FF FF`, an `i32` length, a flatbuffer of that length, and a body whose length the flatbuffer states; the
//! length 0 ends the stream.
//!
//! [Arrow columnar format, "Serialization and Interprocess Communication"]: https://arrow.apache.org/docs/format/Columnar.html

use std::io::Read;

use arrow::datatypes::{DataType, Field, Schema};
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::{CompressionType, MessageHeader, MetadataVersion, RecordBatch, root_as_message};

use super::types;
use crate::decode::DecodeError;

/// Bytes that all packed buffers of a record may unpack to. Beside it a record costs its own bytes once or twice,
/// and its readings.
pub(super) const UNPACKED_BYTES_MAX: u64 = 64 << 20;
/// Rows of a batch, and elements of each of its lists: a column of nothing but nulls has no bytes.
const ROWS_MAX: i64 = 1 << 22;
/// Messages of a stream. Each piece of a dictionary that comes in pieces is joined to all before it.
const MESSAGES_MAX: usize = 1024;
/// Columns, those inside structs and lists among them.
const FIELDS_MAX: usize = 4096;

const MARKER: [u8; 4] = [0xff; 4];

/// Checks a whole stream.
pub(super) fn check(stream: &[u8]) -> Result<(), DecodeError> {
    let mut at = 0;
    let mut schema: Option<Schema> = None;
    let mut unpacked = 0;
    for number in 0.. {
        let Some(frame) = frame(stream, at)? else { break };
        let error = |message: String| DecodeError::new("syntax", at, message);
        if number == MESSAGES_MAX {
            let message = format!("more than {MESSAGES_MAX} messages in one stream");
            return Err(DecodeError::new("too_large", at, message));
        }
        let message =
            root_as_message(frame.head).map_err(|fault| error(format!("no Arrow IPC message: {fault}")))?;
        if !matches!(message.version(), MetadataVersion::V4 | MetadataVersion::V5) {
            return Err(error(format!("metadata version {:?} is not read", message.version())));
        }
        let body_len = usize::try_from(message.bodyLength()).ok();
        let body = body_len.and_then(|len| stream[frame.end..].get(..len));
        let body = body.ok_or_else(|| {
            error(format!(
                "a body of {} bytes, and {} are left",
                message.bodyLength(),
                stream.len() - frame.end
            ))
        })?;
        let mut batch = Batch { at, body, unpacked: &mut unpacked };
        match (message.header_type(), &schema) {
            (MessageHeader::Schema, None) => {
                let fields = message.header_as_schema().ok_or_else(|| error("no schema".to_owned()))?;
                types::check(fields).map_err(|(class, message)| DecodeError::new(class, at, message))?;
                let parsed = fb_to_schema(fields);
                let count = parsed.flattened_fields().len();
                if count > FIELDS_MAX {
                    return Err(DecodeError::new("too_large", at, format!("{count} columns")));
                }
                schema = Some(parsed);
            }
            (MessageHeader::Schema, Some(_)) => return Err(error("a second schema".to_owned())),
            (_, None) => return Err(error("a stream begins with its schema".to_owned())),
            (MessageHeader::RecordBatch, Some(schema)) => {
                let data = message.header_as_record_batch();
                batch.check(data, schema.fields().iter().map(|field| &**field))?;
            }
            (MessageHeader::DictionaryBatch, Some(schema)) => {
                let dictionary = message.header_as_dictionary_batch();
                let dictionary = dictionary.ok_or_else(|| error("no dictionary".to_owned()))?;
                #[allow(deprecated, reason = "what the reader goes by")]
                let fields = schema.fields_with_dict_id(dictionary.id());
                let Some(DataType::Dictionary(_, values)) = fields.first().map(|field| field.data_type())
                else {
                    return Err(error(format!("dictionary {} is of no column", dictionary.id())));
                };
                let values = Field::new("", values.as_ref().clone(), true);
                batch.check(dictionary.data(), std::iter::once(&values))?;
            }
            (other, _) => return Err(error(format!("messages of type {other:?} are not read"))),
        }
        at = frame.end + body.len();
    }
    if schema.is_none() {
        return Err(DecodeError::new("syntax", 0, "no Arrow IPC stream: it holds no schema"));
    }
    Ok(())
}

/// A message's flatbuffer, and where its body begins.
struct Frame<'a> {
    head: &'a [u8],
    end: usize,
}

/// The message at `at`; none at the end of the stream.
fn frame(stream: &[u8], at: usize) -> Result<Option<Frame<'_>>, DecodeError> {
    let rest = &stream[at..];
    if rest.is_empty() {
        return Ok(None);
    }
    let error = |message: &str| DecodeError::new("syntax", at, message);
    let marked = usize::from(rest.starts_with(&MARKER)) * MARKER.len();
    let Some(len) = rest[marked..].first_chunk::<4>() else { return Err(error("a message is cut off")) };
    let len = u32::from_le_bytes(*len) as usize;
    let start = at + marked + 4;
    if len == 0 {
        return if start == stream.len() { Ok(None) } else { Err(error("bytes after the stream's end")) };
    }
    let head = stream[start..].get(..len);
    let head = head.ok_or_else(|| error("no Arrow IPC stream, or a message that is cut off"))?;
    Ok(Some(Frame { head, end: start + len }))
}

/// A record batch or dictionary being checked.
struct Batch<'a> {
    at: usize,
    body: &'a [u8],
    /// What the record's buffers so far unpack to.
    unpacked: &'a mut u64,
}

impl Batch<'_> {
    fn check<'f>(
        &mut self,
        data: Option<RecordBatch<'_>>,
        fields: impl Iterator<Item = &'f Field>,
    ) -> Result<(), DecodeError> {
        let at = self.at;
        let error = |message: String| DecodeError::new("syntax", at, message);
        let data = data.ok_or_else(|| error("a batch without contents".to_owned()))?;
        let (Some(nodes), Some(buffers)) = (data.nodes(), data.buffers()) else {
            return Err(error("a batch without nodes or buffers".to_owned()));
        };
        let codec = data.compression().map(|compression| compression.codec());
        let mut sizes = Vec::new();
        for buffer in buffers {
            let bytes = usize::try_from(buffer.offset())
                .ok()
                .zip(usize::try_from(buffer.length()).ok())
                .and_then(|(offset, len)| self.body.get(offset..)?.get(..len))
                .ok_or_else(|| error("a buffer lies outside its body".to_owned()))?;
            sizes.push(match codec {
                Some(codec) if !bytes.is_empty() => self.unpacked(codec, bytes)?,
                _ => bytes.len() as u64,
            });
        }
        let mut layout = Layout {
            nodes: nodes.iter().map(|node| (node.length(), node.null_count())).collect(),
            sizes,
            variadic: data.variadicBufferCounts().into_iter().flatten().collect(),
            node: 0,
            buffer: 0,
            view: 0,
        };
        if !(0..=ROWS_MAX).contains(&data.length()) {
            return Err(DecodeError::new("too_large", at, format!("a batch of {} rows", data.length())));
        }
        for field in fields {
            layout.field(field).map_err(error)?;
        }
        if layout.view != layout.variadic.len() {
            return Err(error("more variadic buffers than columns that have them".to_owned()));
        }
        Ok(())
    }

    /// What a packed buffer unpacks to, which must be what it declares: the reader unpacks LZ4 to its very end.
    fn unpacked(&mut self, codec: CompressionType, bytes: &[u8]) -> Result<u64, DecodeError> {
        let error = |message: &str| DecodeError::new("syntax", self.at, message);
        let Some((declared, packed)) = bytes.split_first_chunk::<8>() else {
            return Err(error("a packed buffer without its length"));
        };
        let declared = match i64::from_le_bytes(*declared) {
            -1 => return Ok(packed.len() as u64),
            declared => u64::try_from(declared).map_err(|_| error("a packed buffer of negative length"))?,
        };
        *self.unpacked = self.unpacked.saturating_add(declared);
        if *self.unpacked > UNPACKED_BYTES_MAX {
            let message =
                format!("the stream unpacks to more than {UNPACKED_BYTES_MAX} bytes; send smaller ones");
            return Err(DecodeError::new("too_large", self.at, message));
        }
        // The reader gives Zstandard just the room that is declared.
        if codec == CompressionType::LZ4_FRAME && declared > 0 {
            let mut frame = lz4_flex::frame::FrameDecoder::new(packed).take(declared + 1);
            let found = std::io::copy(&mut frame, &mut std::io::sink()).ok();
            if found != Some(declared) {
                return Err(error("an LZ4 buffer does not unpack to its declared length"));
            }
        }
        Ok(declared)
    }
}

/// Walks a batch's nodes and buffers as its columns take them.
struct Layout {
    /// Length and nulls of each.
    nodes: Vec<(i64, i64)>,
    /// Bytes of each buffer, unpacked.
    sizes: Vec<u64>,
    variadic: Vec<i64>,
    node: usize,
    buffer: usize,
    view: usize,
}

impl Layout {
    fn field(&mut self, field: &Field) -> Result<(), String> {
        let name = field.name();
        let &(len, nulls) =
            self.nodes.get(self.node).ok_or_else(|| format!("column {name:?} has no node"))?;
        self.node += 1;
        if !(0..=ROWS_MAX).contains(&len) || !(0..=len).contains(&nulls) {
            return Err(format!("column {name:?} has {len} rows and {nulls} nulls"));
        }
        let buffers = match field.data_type() {
            DataType::Null => return Ok(()),
            DataType::Struct(_) | DataType::FixedSizeList(..) => 1,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => 3,
            DataType::Utf8View | DataType::BinaryView => {
                let count = self.variadic.get(self.view).copied();
                self.view += 1;
                let count = count.and_then(|count| usize::try_from(count).ok());
                let count = count.filter(|count| *count <= self.sizes.len());
                2 + count.ok_or_else(|| format!("column {name:?} has no count of its buffers"))?
            }
            _ => 2,
        };
        if self.buffer + buffers > self.sizes.len() {
            return Err(format!("column {name:?} has too few buffers"));
        }
        if nulls > 0 && self.sizes[self.buffer].saturating_mul(8) < len.unsigned_abs() {
            return Err(format!("column {name:?} has too few bits for its nulls"));
        }
        if buffers > 1 && !self.sizes[self.buffer + 1].is_multiple_of(element_bytes(field.data_type())) {
            return Err(format!("column {name:?} has a buffer that ends within an element"));
        }
        self.buffer += buffers;
        match field.data_type() {
            DataType::Struct(inner) => inner.iter().try_for_each(|field| self.field(field)),
            DataType::List(inner) | DataType::LargeList(inner) | DataType::FixedSizeList(inner, _) => {
                self.field(inner)
            }
            _ => Ok(()),
        }
    }
}

/// Bytes of an element of a type's second buffer: its offsets, views, keys or values.
fn element_bytes(data_type: &DataType) -> u64 {
    let bytes = match data_type {
        DataType::Utf8 | DataType::Binary | DataType::List(_) => Some(4),
        DataType::LargeUtf8 | DataType::LargeBinary | DataType::LargeList(_) => Some(8),
        DataType::Utf8View | DataType::BinaryView => Some(16),
        DataType::Dictionary(key, _) => key.primitive_width(),
        other => other.primitive_width(),
    };
    bytes.map_or(1, |bytes| bytes as u64)
}
