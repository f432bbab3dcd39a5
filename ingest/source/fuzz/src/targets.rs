//! The decoders to fuzz and their settings.

use stillwell_source::settings::{Format, FormatSettings};

pub use run::{Outcome, Run};

// Named, as this file is included from elsewhere as well.
#[path = "targets/run.rs"]
mod run;

/// Cuts an input into a record's key and value.
pub type Split = fn(&[u8]) -> (&[u8], &[u8]);

/// One decoder with settings that reach much of it.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and the folder of its seeds.
    pub name: &'static str,
    /// The format.
    pub format: Format,
    /// The mapping; the format's own where empty.
    pub mapping: Settings,
    /// The key and the value in a record's bytes: for most, all bytes are the value.
    pub split: Split,
    /// What else the topic's settings say.
    pub setup: fn(&mut FormatSettings),
    /// Bytes that mean something to it, which mutation puts in.
    pub tokens: &'static [&'static [u8]],
    /// What a record may take: so many bytes,
    pub bytes_max: usize,
    /// and so many for each byte of it.
    pub bytes_per_byte: usize,
}

/// A mapping as `key = paths`.
pub type Settings = &'static [(&'static str, &'static [&'static str])];

const MIB: usize = 1 << 20;

/// All targets.
pub const TARGETS: &[Target] = &[
    Target {
        name: "json",
        format: Format::Json,
        mapping: &[],
        split: whole,
        setup: plain,
        tokens: &[
            b"{",
            b"}",
            b"[",
            b"]",
            b",",
            b":",
            b"\"machine\":",
            b"\"sensor\":",
            b"\"time\":",
            b"\"value\":",
            b"\"text\":",
            b"\"quality\":",
            b"\"sensors\":",
            b"\"kinds\":",
            b"null",
            b"true",
            b"1e308",
            b"-0",
            b"0.1",
            b"\\u00e9",
            b"\\ud83d\\ude00",
            b"\\\"",
            b"\"2026-11-18T10:26:40.123456Z\"",
            b"1795000000000",
            b"9223372036854775807",
            b"\xc3\xa4",
            b"\xff",
        ],
        bytes_max: MIB,
        bytes_per_byte: 256,
    },
    Target {
        name: "foreign",
        format: Format::Json,
        mapping: &[
            ("each", &["$.devices[*].samples[*]"]),
            ("machine", &["press-{@^.id}", "{$kafka.key}"]),
            ("time", &["@.t", "$.t", "$kafka.timestamp"]),
            ("quality", &["@.q"]),
            ("unit", &["@.unit"]),
            ("values", &["@.*", "@.nested.x", "@.list[1]"]),
        ],
        split: whole,
        setup: plain,
        tokens: &[
            b"{",
            b"}",
            b"[",
            b"]",
            b",",
            b":",
            b"\"devices\":[",
            b"\"samples\":[",
            b"\"id\":",
            b"\"t\":",
            b"\"q\":",
            b"\"nested\":{\"x\":",
            b"\"list\":[1,2]",
            b"\"unit\":\"K\"",
            b"null",
            b"true",
            b"-1.5e-3",
            b"\"good\"",
            b"1795000000.5",
            b"\\u0000",
            b"\xf0\x9f\x98\x80",
            b"\x80",
        ],
        bytes_max: 2 * MIB,
        bytes_per_byte: 512,
    },
    Target {
        name: "line",
        format: Format::Line,
        mapping: &[],
        split: whole,
        setup: plain,
        tokens: &[
            b",",
            b" ",
            b"=",
            b"\\",
            b"\\ ",
            b"\\,",
            b"\\=",
            b"\"",
            b"\\\"",
            b"\n",
            b"\r\n",
            b"#",
            b"host=",
            b",machine=",
            b"i",
            b"u",
            b"t",
            b"FALSE",
            b"1e9",
            b"-.5",
            b" 1795000000000000000",
            b" -1",
            b"18446744073709551615u",
            b"\xc3\xbc",
            b"\xfe",
        ],
        bytes_max: MIB,
        bytes_per_byte: 512,
    },
    Target {
        name: "arrow",
        format: Format::Arrow,
        mapping: &[
            ("machine", &["@.machine", "@.asset.name", "m"]),
            ("sensor", &["{@.sensor}.{$name}", "$name"]),
            ("time", &["@.time", "@.ts", "$kafka.timestamp"]),
            ("quality", &["@.quality"]),
            ("unit", &["@.unit"]),
            ("values", &["@.*", "@.asset.id", "@.list[0]", "@.fsl[1]", "@.rows[0].v"]),
        ],
        split: whole,
        setup: plain,
        tokens: &[
            b"\xff\xff\xff\xff",
            b"\xff\xff\xff\xff\0\0\0\0",
            b"\0\0\0\0\0\0\0\0",
            b"\x08\0\0\0",
            b"\x10\0\0\0",
            b"\xff\xff\xff\x7f",
            b"\0\0\0\x80",
            b"\x01\0\0\0\0\0\0\0",
            b"\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x04\x22\x4d\x18",
            b"\x28\xb5\x2f\xfd",
        ],
        // What buffers may unpack to, and what that many rows and names take, over again while vectors grow.
        bytes_max: 640 * MIB,
        bytes_per_byte: 4096,
    },
    Target {
        name: "avro",
        format: Format::Avro,
        mapping: &[],
        split: whole,
        setup: |settings| settings.avro.writer = vec![AVRO_BATCH.to_owned()],
        tokens: &[
            b"\x00",
            b"\x01",
            b"\x02",
            b"\x03",
            b"\x7f",
            b"\x80",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x0cpress1",
            b"\x06oil",
            b"\0\0\0\0\0\0\xf8\x7f",
            b"\x80\xd4\xe8\xd6\xbd\x68",
            b"\xc3\xbc",
        ],
        bytes_max: 2 * MIB,
        bytes_per_byte: 256,
    },
    Target {
        name: "avro-mapped",
        format: Format::Avro,
        mapping: &[
            ("machine", &["$.asset.id", "m"]),
            ("time", &["$.when", "$kafka.timestamp"]),
            ("quality", &["$.q"]),
            ("unit", &["$.state"]),
            ("values", &["$.tags.*", "$.price", "$.list[1]", "$.tree.next.v", "$.added[1]"]),
        ],
        split: whole,
        setup: |settings| {
            settings.avro.writer = vec![AVRO_WIDE.to_owned()];
            settings.avro.reader = vec![AVRO_WIDE_READER.to_owned()];
        },
        tokens: &[
            b"\x00",
            b"\x01",
            b"\x02",
            b"\x03",
            b"\x04",
            b"\x06",
            b"\x7f",
            b"\x80",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x02\x02\x02\x02\x02\x02\x02\x02",
            b"\x06oil",
            b"\xf6\xb3\xed\x93\xbe\x68",
            b"\xff\xff\xff\xff",
        ],
        // Values of types that take no bytes.
        bytes_max: 8 * MIB,
        bytes_per_byte: 512,
    },
    Target {
        name: "protobuf",
        format: Format::Protobuf,
        mapping: &[],
        split: whole,
        setup: plain,
        tokens: &[
            b"\x0a",
            b"\x12",
            b"\x1a",
            b"\x22",
            b"\x28",
            b"\x31",
            b"\x3a",
            b"\x40",
            b"\x7a",
            b"\x0a\x01m",
            b"\x12\x01s",
            b"\x28\x80\xd4\xe8\xd6\xbd\x68",
            b"\x31\0\0\0\0\0\0\xf8\x7f",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x0b",
            b"\x0c",
            b"\0\0\0\0\x11\0",
        ],
        bytes_max: MIB,
        bytes_per_byte: 256,
    },
    Target {
        name: "sparkplug",
        format: Format::Sparkplug,
        mapping: &[],
        split: by_topic,
        setup: plain,
        tokens: &[
            b"\x00",
            b"\x01",
            b"\x03",
            b"\x04",
            b"\x12\x0f",
            b"\x08\x80\xd4\xe8\xd6\xbd\x68",
            b"\x18\x05",
            b"\x0a\x03oil",
            b"\x0a\x05bdSeq",
            b"\x10\x09",
            b"\x20\x0a",
            b"\x38\x01",
            b"\x4a\x0f\x0a\x07Quality\x12\x04\x08\x03\x18\x00",
            b"\x50\xff\xff\xff\xff\x0f",
            b"\x58\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x65\0\0\x80\x7f",
            b"\x69\0\0\0\0\0\0\xf8\x7f",
            b"\x70\x01",
            b"\x7a\x02on",
            b"\x8a\x01\x00",
        ],
        // A death gives a reading for every metric of the births before it.
        bytes_max: 128 * MIB,
        bytes_per_byte: 512,
    },
];

/// All of it is the value.
fn whole(bytes: &[u8]) -> (&[u8], &[u8]) {
    (b"key", bytes)
}

fn plain(_: &mut FormatSettings) {}

/// The first byte picks the MQTT topic.
fn by_topic(bytes: &[u8]) -> (&[u8], &[u8]) {
    const TOPICS: [&str; 8] = [
        "spBv1.0/G/NBIRTH/E",
        "spBv1.0/G/DBIRTH/E/D",
        "spBv1.0/G/NDATA/E",
        "spBv1.0/G/DDATA/E/D",
        "spBv1.0/G/DDATA/E/D",
        "spBv1.0/G/DDEATH/E/D",
        "spBv1.0/G/NDEATH/E",
        "spBv1.0/G/DBIRTH/E/D2",
    ];
    let (first, rest) = bytes.split_first().unwrap_or((&0, &[]));
    (TOPICS[usize::from(first % 8)].as_bytes(), rest)
}

/// Readings in a batch, of our own shape.
const AVRO_BATCH: &str = r#"{"type":"record","name":"Batch","fields":[
    {"name":"site","type":"string"},
    {"name":"readings","type":{"type":"array","items":{"type":"record","name":"Reading","fields":[
        {"name":"machine","type":"string"},{"name":"sensor","type":"string"},
        {"name":"unit","type":["null","string"]},
        {"name":"time","type":{"type":"long","logicalType":"timestamp-micros"}},
        {"name":"value","type":["null","double","string","boolean","int"]},
        {"name":"quality","type":"long"},{"name":"line","type":{"type":"map","values":"int"}}]}}}]}"#;

/// Types of all kinds, and one that holds itself.
const AVRO_WIDE: &str = r#"{"type":"record","name":"Wide","fields":[
    {"name":"asset","type":{"type":"record","name":"Asset","fields":[{"name":"id","type":"string"}]}},
    {"name":"ts","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"tags","type":{"type":"map","values":["null","double","boolean","string"]}},
    {"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":8,"scale":2}},
    {"name":"state","type":{"type":"enum","name":"State","symbols":["RUN","STOP"]}},
    {"name":"nothing","type":{"type":"array","items":"null"}},
    {"name":"list","type":{"type":"array","items":["null","float"]}},
    {"name":"code","type":{"type":"fixed","name":"Code","size":2}},
    {"name":"tree","type":{"type":"record","name":"Tree","fields":[
        {"name":"v","type":"int"},{"name":"next","type":["null","Tree"]}]}}]}"#;

/// One that reads it, in another order, with a field that it does not have and one that is not wanted.
const AVRO_WIDE_READER: &str = r#"{"type":"record","name":"Wide","fields":[
    {"name":"added","type":{"type":"array","items":"int"},"default":[1,2]},
    {"name":"tree","type":{"type":"record","name":"Tree","fields":[
        {"name":"v","type":["null","double"]},{"name":"next","type":["null","Tree"]}]}},
    {"name":"asset","type":{"type":"record","name":"Asset","fields":[{"name":"id","type":"bytes"}]}},
    {"name":"tags","type":{"type":"map","values":["double","boolean","string","null"]}},
    {"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":8,"scale":2}},
    {"name":"state","type":{"type":"enum","name":"State","symbols":["RUN","OTHER"],"default":"OTHER"}},
    {"name":"list","type":{"type":"array","items":"float"}},
    {"name":"when","aliases":["ts"],"type":"long"},
    {"name":"nothing","type":{"type":"array","items":"null"}},
    {"name":"code","type":{"type":"fixed","name":"Code","size":2}}]}"#;

/// The target of that name.
///
/// # Panics
/// Where there is none.
#[must_use]
pub fn target(name: &str) -> Target {
    *TARGETS.iter().find(|target| target.name == name).expect("a target of that name")
}
