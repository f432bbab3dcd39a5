//! Which decoder reads a record: its own `content-type` header's, else the topic's.
//!
//! A record that names another format than its topic's is read with that format's defaults: the topic's mapping
//! and unit of time were made for the topic's own. The schema registry is the same for all. Decoders are made when
//! their first record comes.

use super::arrow::ArrowDecoder;
use super::avro::AvroDecoder;
use super::json::{ForeignJson, JsonDecoder};
use super::line::LineDecoder;
use super::protobuf::ProtobufDecoder;
use super::sparkplug::SparkplugDecoder;
use super::{DecodeError, DecodeFault, Decoder, Origin};
use crate::chunk::RecordRef;
use crate::columns::ReadingColumns;
use crate::mapping::Mapping;
use crate::series::SeriesTable;
use crate::settings::{Format, FormatSettings, TopicSettings};

/// The names of formats in a `content-type` header, which are compared without case and without parameters.
/// `text/plain` and `application/octet-stream` name no format, and leave the record to its topic's.
const CONTENT_TYPES: &[(&str, Option<Format>)] = &[
    ("application/json", Some(Format::Json)),
    ("text/json", Some(Format::Json)),
    ("application/x-influxdb-line-protocol", Some(Format::Line)),
    ("application/vnd.influxdb.line-protocol", Some(Format::Line)),
    ("application/vnd.apache.arrow.stream", Some(Format::Arrow)),
    ("application/avro", Some(Format::Avro)),
    ("avro/binary", Some(Format::Avro)),
    ("application/vnd.apache.avro", Some(Format::Avro)),
    ("application/vnd.confluent.avro", Some(Format::Avro)),
    ("application/x-protobuf", Some(Format::Protobuf)),
    ("application/protobuf", Some(Format::Protobuf)),
    ("application/vnd.google.protobuf", Some(Format::Protobuf)),
    ("application/vnd.sparkplug-b", Some(Format::Sparkplug)),
    ("application/vnd.eclipse.sparkplug-b", Some(Format::Sparkplug)),
    ("text/plain", None),
    ("application/octet-stream", None),
];

/// A lane's decoders, one a format.
pub struct Switch {
    topic: FormatSettings,
    /// Native JSON, called without indirection: it is what most lanes carry.
    json: Option<JsonDecoder>,
    others: [Option<Box<dyn Decoder>>; Format::ALL.len()],
}

impl Switch {
    /// For a lane of `topic`.
    #[must_use]
    pub fn new(topic: &TopicSettings) -> Self {
        let json = is_native_json(&topic.format).then(|| JsonDecoder::new(topic.format.time_unit));
        Self { topic: topic.format.clone(), json, others: Default::default() }
    }

    fn other(&mut self, format: Format) -> &mut dyn Decoder {
        let topic = &self.topic;
        let decoder = self.others[format as usize].get_or_insert_with(|| {
            if format == topic.format {
                open(topic)
            } else {
                open(&FormatSettings { schemas: topic.schemas.clone(), ..FormatSettings::of(format) })
            }
        });
        &mut **decoder
    }
}

impl Decoder for Switch {
    #[inline]
    fn decode(
        &mut self,
        record: &RecordRef<'_>,
        number: u32,
        table: &mut SeriesTable,
        out: &mut ReadingColumns,
    ) -> Result<(), DecodeFault> {
        let format = if record.has_headers() { named(record)? } else { None }.unwrap_or(self.topic.format);
        match &mut self.json {
            Some(json) if format == Format::Json => json.decode(record, number, table, out),
            _ => self.other(format).decode(record, number, table, out),
        }
    }

    fn explain(
        &mut self,
        record: &RecordRef<'_>,
        table: &mut SeriesTable,
        out: &mut ReadingColumns,
        origins: &mut Vec<Origin>,
    ) -> Result<(), DecodeFault> {
        let format = named(record)?.unwrap_or(self.topic.format);
        match &mut self.json {
            Some(json) if format == Format::Json => json.explain(record, table, out, origins),
            _ => self.other(format).explain(record, table, out, origins),
        }
    }

    fn needs_history(&mut self, record: &RecordRef<'_>) -> bool {
        match named(record) {
            Ok(format) => {
                let format = format.unwrap_or(self.topic.format);
                let is_own_json = self.json.is_some() && format == Format::Json;
                !is_own_json && self.other(format).needs_history(record)
            }
            // No decoder reads it, whatever came before.
            Err(_) => false,
        }
    }

    fn new_table(&mut self) {
        if let Some(json) = &mut self.json {
            json.new_table();
        }
        for other in self.others.iter_mut().flatten() {
            other.new_table();
        }
    }

    fn memory_bytes(&self) -> usize {
        let json = self.json.as_ref().map_or(0, JsonDecoder::memory_bytes);
        json + self.others.iter().flatten().map(|other| other.memory_bytes()).sum::<usize>()
    }
}

fn is_native_json(settings: &FormatSettings) -> bool {
    settings.format == Format::Json && settings.mapping.is_none()
}

/// A new decoder.
fn open(settings: &FormatSettings) -> Box<dyn Decoder> {
    let FormatSettings { format, time_unit, .. } = *settings;
    let mapping = || settings.mapping.clone().unwrap_or_else(|| Mapping::default_of(format));
    match format {
        Format::Json if is_native_json(settings) => Box::new(JsonDecoder::new(time_unit)),
        Format::Json => Box::new(ForeignJson::new(mapping(), time_unit)),
        Format::Line => Box::new(LineDecoder::new(mapping(), time_unit)),
        Format::Arrow => Box::new(ArrowDecoder::new(mapping(), time_unit)),
        Format::Avro => Box::new(AvroDecoder::new(settings)),
        Format::Protobuf => Box::new(ProtobufDecoder::new(settings.schemas.clone())),
        Format::Sparkplug => Box::new(SparkplugDecoder::new(settings.sparkplug.clone())),
    }
}

/// The format that a record says it has; none where it says nothing.
fn named(record: &RecordRef<'_>) -> Result<Option<Format>, DecodeError> {
    let header = record.headers().filter(|(name, _)| name.eq_ignore_ascii_case("content-type")).last();
    let Some((_, Some(value))) = header else { return Ok(None) };
    let name = value.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    if name.is_empty() {
        return Ok(None);
    }
    let known = CONTENT_TYPES.iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
    known.map(|(_, format)| *format).ok_or_else(|| {
        let name = String::from_utf8_lossy(name);
        DecodeError::new("content_type", 0, format!("no format is known by the content type {name:?}"))
    })
}

#[cfg(test)]
mod tests {
    use stillwell_schema::{Offset, TopicPartition};

    use super::*;
    use crate::chunk::RecordChunk;

    fn check(content_type: Option<&str>, expected: Result<Option<Format>, &'static str>) {
        let mut chunk = RecordChunk::new(TopicPartition::new("t", 0), Offset(0));
        let header = content_type.map(|value| ("Content-Type", Some(value.as_bytes())));
        chunk.push(Offset(0), 0, None, Some(b""), [("a", None)].into_iter().chain(header));
        let found = named(&chunk.record(0)).map_err(|error| error.class);
        assert_eq!(found, expected, "{content_type:?}");
    }

    #[test]
    fn a_content_type_names_a_format() {
        check(None, Ok(None));
        check(Some(""), Ok(None));
        check(Some("application/json"), Ok(Some(Format::Json)));
        check(Some("Application/JSON; charset=utf-8"), Ok(Some(Format::Json)));
        check(Some("text/plain; charset=utf-8"), Ok(None));
        check(Some("application/vnd.apache.arrow.stream"), Ok(Some(Format::Arrow)));
        check(Some("application/x-influxdb-line-protocol ;precision=ns"), Ok(Some(Format::Line)));
        check(Some("application/pdf"), Err("content_type"));
    }

    #[test]
    fn a_record_says_by_its_format_whether_it_is_read_by_those_before_it() {
        let needs = |format: Format, content_type: &str| {
            let mut topic = TopicSettings::new("t");
            topic.format = FormatSettings::of(format);
            let mut chunk = RecordChunk::new(TopicPartition::new("t", 0), Offset(0));
            chunk.push(Offset(0), 0, None, Some(b""), [("content-type", Some(content_type.as_bytes()))]);
            crate::decode::decoder_for(&topic).needs_history(&chunk.record(0))
        };
        assert!(needs(Format::Sparkplug, "") && needs(Format::Json, "application/vnd.sparkplug-b"));
        for format in Format::ALL.into_iter().filter(|format| *format != Format::Sparkplug) {
            assert!(!needs(format, ""), "{format:?}");
        }
        assert!(!needs(Format::Sparkplug, "application/json") && !needs(Format::Sparkplug, "image/png"));
    }

    #[test]
    fn a_record_is_read_by_its_header_and_else_by_its_topic() {
        let mut switch = Switch::new(&TopicSettings::new("t"));
        let (mut table, mut out) = (SeriesTable::default(), ReadingColumns::default());
        let mut chunk = RecordChunk::new(TopicPartition::new("t", 0), Offset(0));
        let value = br#"{"machine":"m","sensor":"s","time":1,"value":1}"#;
        for (offset, name) in ["application/json", "image/png", ""].into_iter().enumerate() {
            let header = [("content-type", Some(name.as_bytes()))];
            chunk.push(Offset(offset as i64), 0, None, Some(value), header);
        }
        let mut decode = |i: usize| switch.decode(&chunk.record(i), 0, &mut table, &mut out);
        assert_eq!(decode(0), Ok(()));
        assert!(matches!(decode(1), Err(DecodeFault::Data(error)) if error.class == "content_type"));
        assert_eq!(decode(2), Ok(()));
        assert_eq!(out.len(), 2);
    }
}
