//! What foreign encoders wrote, as `tests/vectors/README.md` tells, read by the decoders.

mod registry_server;

use std::path::Path;
use std::time::{Duration, Instant};

use registry_server::{Answer, RegistryServer};
use serde_json::{Value, json};
use stillwell_schema::{Offset, TopicPartition};
use stillwell_source::chunk::{RecordChunk, RecordRef};
use stillwell_source::columns::ReadingColumns;
use stillwell_source::decode::{DecodeFault, Decoder, decoder_for};
use stillwell_source::mapping::{Mapping, MappingSettings};
use stillwell_source::registry::{Password, RegistrySettings, Schemas};
use stillwell_source::series::SeriesTable;
use stillwell_source::settings::{Format, TopicSettings};

fn vector(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name)).unwrap()
}

fn topic(format: Format) -> TopicSettings {
    let mut topic = TopicSettings::new("t");
    topic.format.format = format;
    topic.format.time_unit = format.time_unit();
    topic
}

/// Readings in words: machine, sensor, kind, unit, µs, value, text, quality.
fn decode(decoder: &mut dyn Decoder, record: &RecordRef<'_>) -> Result<Vec<Value>, String> {
    let (mut table, mut out) = (SeriesTable::default(), ReadingColumns::default());
    decoder.new_table();
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        match decoder.decode(record, 0, &mut table, &mut out) {
            Ok(()) => break,
            Err(DecodeFault::Data(error)) => return Err(error.class.to_owned()),
            Err(DecodeFault::Transient(error)) => {
                assert!(Instant::now() < until, "{error}");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
    let reading = |i: usize| {
        let series = table.series(out.series[i]);
        let name = |code| table.name(code).to_owned();
        let text = out.text.iter().find(|cell| cell.row as usize == i);
        let text = text.map(|cell| &out.text_bytes[cell.start as usize..cell.end as usize]);
        json!([
            name(series.machine),
            name(series.sensor),
            series.kind.map(name),
            series.unit.map(name),
            out.time_us[i],
            out.has_value[i].then_some(out.value[i]),
            text,
            out.quality[i]
        ])
    };
    Ok((0..out.len()).map(reading).collect())
}

/// A registry that has what the vectors were written with.
fn registry() -> (RegistryServer, Schemas) {
    let schemas: Value = serde_json::from_slice(&vector("avro-schemas.json")).unwrap();
    let proto = include_str!("../proto/reading.proto");
    let server = RegistryServer::start(move |path| {
        let schema = |name: &str| json!({ "schema": schemas[name].to_string() });
        match path {
            "/schemas/ids/1" => Answer::json(200, &schema("reading")),
            "/schemas/ids/2" => {
                let mut answer = schema("batch");
                answer["references"] =
                    json!([{ "name": "plant.Reading", "subject": "plant/reading", "version": 4 }]);
                Answer::json(200, &answer)
            }
            "/subjects/plant%2Freading/versions/4" => Answer::json(200, &schema("reading")),
            "/schemas/ids/3" => Answer::json(200, &schema("foreign")),
            "/schemas/ids/17" => Answer::json(200, &json!({ "schema": proto, "schemaType": "PROTOBUF" })),
            _ => Answer::json(404, &json!({ "error_code": 40403, "message": "Schema not found" })),
        }
    });
    let schemas = Schemas::open(RegistrySettings {
        url: server.url(),
        user: String::new(),
        password: Password::Plain(String::new()),
        ca_file: None,
        timeout: Duration::from_secs(10),
    });
    (server, schemas.unwrap())
}

/// The six readings of the Avro vectors.
fn press_07(i: usize) -> Value {
    let at = 1_794_997_600_123_456i64 + 1000 * i as i64;
    let (sensor, unit, value, text, quality) = match i % 3 {
        0 => ("oil", Some("°C"), Some(61.5), None, 0),
        1 => ("bearing-1", Some("mm/s"), None, None, 0x8000_0000u32),
        _ => ("state", None, None, Some("warm"), 0),
    };
    json!(["press-07", sensor, null, unit, at, value, text, quality])
}

#[test]
fn avro_that_fastavro_framed() {
    let (_server, schemas) = registry();
    let mut settings = topic(Format::Avro);
    settings.format.schemas = Some(schemas);
    let mut decoder = decoder_for(&settings);
    let read = |decoder: &mut dyn Decoder, name: &str| {
        decode(decoder, &RecordRef::new(0, None, &vector(name))).unwrap()
    };
    assert_eq!(read(&mut *decoder, "avro-reading.bin"), [press_07(0)]);
    assert_eq!(read(&mut *decoder, "avro-batch.bin"), (0..6).map(press_07).collect::<Vec<_>>());

    let mapping = "machine = '$.asset.id'\ntime = '$.ts'\nkind = '$.state'\nvalues = ['$.tags.*', '$.price']";
    let mapping: MappingSettings = toml::from_str(mapping).unwrap();
    settings.format.mapping = Some(Mapping::parse(&mapping, Format::Avro).unwrap());
    let mut decoder = decoder_for(&settings);
    let at = 1_794_997_600_123_000i64;
    assert_eq!(
        read(&mut *decoder, "avro-foreign.bin"),
        [
            json!(["press-07", "oil", "STOP", null, at, 61.5, null, 0]),
            json!(["press-07", "on", "STOP", null, at, 1.0, null, 0]),
            json!(["press-07", "mode", "STOP", null, at, null, "auto", 0]),
            json!(["press-07", "price", "STOP", null, at, -12.34, null, 0]),
        ]
    );
    let unknown = [&[0, 0, 0, 0, 99][..], &vector("avro-reading.bin")[5..]].concat();
    assert_eq!(decode(&mut *decoder, &RecordRef::new(0, None, &unknown)), Err("unknown_schema".to_owned()));
    let protobuf = [0, 0, 0, 0, 17, 0];
    assert_eq!(decode(&mut *decoder, &RecordRef::new(0, None, &protobuf)), Err("bad_schema".to_owned()));
}

#[test]
fn avro_by_schemas_from_files() {
    let schemas: Value = serde_json::from_slice(&vector("avro-schemas.json")).unwrap();
    let mut settings = topic(Format::Avro);
    settings.format.avro.writer = vec![schemas["reading"].to_string(), schemas["batch"].to_string()];
    // A reader of its own: units have a default, and the value is not wanted.
    let reader = json!({ "type": "record", "name": "Batch", "fields": [{ "name": "readings", "type": {
        "type": "array", "items": { "type": "record", "name": "Reading", "fields": [
            { "name": "machine", "type": "string" },
            { "name": "sensor", "type": "string" },
            { "name": "kind", "type": "string", "default": "any" },
            { "name": "time", "type": "long" },
            { "name": "text", "aliases": ["unit"], "type": ["null", "string"] },
        ] },
    } }] });
    settings.format.avro.reader = vec![reader.to_string()];
    assert_eq!(settings.format.avro.check(), Ok(()));
    let mut decoder = decoder_for(&settings);
    let batch = vector("avro-batch.bin");
    let read = decode(&mut *decoder, &RecordRef::new(0, None, &batch[5..])).unwrap();
    assert_eq!(read.len(), 6);
    assert_eq!(
        read[1],
        json!(["press-07", "bearing-1", "any", null, 1_794_997_600_124_456i64, null, "mm/s", 0])
    );
    settings.format.avro.reader =
        vec![json!({ "type": "record", "name": "Other", "fields": [] }).to_string()];
    assert!(settings.format.avro.check().unwrap_err().contains("plant.Batch is not the reader's Other"));
}

#[test]
fn protobuf_that_google_and_confluent_wrote() {
    let (_server, schemas) = registry();
    let mut settings = topic(Format::Protobuf);
    settings.format.schemas = Some(schemas);
    let mut decoder = decoder_for(&settings);
    let at = |i: usize| 1_795_000_000_123_456i64 + i as i64;
    let reading = |i: usize| match i % 3 {
        0 => json!(["press-07", "oil", null, "°C", at(i), 61.5 + i as f64, null, 0]),
        1 => json!(["press-07", "bearing-1", "vibration", null, at(i), -0.25, null, 0x4000_0000]),
        _ => json!(["press-07", "state", null, null, at(i), null, "größer", 0]),
    };
    let all: Vec<Value> = (0..6).map(reading).collect();
    let mut read = |bytes: &[u8]| decode(&mut *decoder, &RecordRef::new(0, None, bytes));
    assert_eq!(read(&vector("protobuf-reading.bin")), Ok(vec![reading(0)]));
    assert_eq!(read(&vector("protobuf-batch.bin")), Ok(all.clone()));
    // The client that framed them gave the schema the id 1; in this registry it has 17.
    let framed = |name: &str| [&[0, 0, 0, 0, 17][..], &vector(name)[5..]].concat();
    assert_eq!(read(&framed("protobuf-reading-framed.bin")), Ok(vec![reading(1)]));
    assert_eq!(read(&framed("protobuf-batch-framed.bin")), Ok(all));
    assert_eq!(read(&vector("protobuf-batch-framed.bin")), Err("bad_schema".to_owned()));
}

/// Sparkplug messages in order, each as a bridge brings it.
fn sparkplug(name: &str, decoder: &mut dyn Decoder) -> Vec<Result<Vec<Value>, String>> {
    let messages: Vec<Value> = serde_json::from_slice(&vector(name)).unwrap();
    let mut chunk = RecordChunk::new(TopicPartition::new("t", 0), Offset(0));
    for (i, message) in messages.iter().enumerate() {
        let text = message["hex"].as_str().unwrap();
        let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
        let bytes: Vec<u8> =
            text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect();
        let topic = message["topic"].as_str().unwrap();
        let header = [("mqtt.topic", Some(topic.as_bytes()))];
        chunk.push(Offset(i as i64), 1_795_000_099_000, None, Some(&bytes), header);
    }
    chunk.records().map(|record| decode(decoder, &record)).collect()
}

const T_US: i64 = 1_795_000_000_000_000;
const STALE: u32 = 0x4090_0000;

#[test]
fn sparkplug_that_tahu_wrote() {
    let mut decoder = decoder_for(&topic(Format::Sparkplug));
    let read = sparkplug("sparkplug-tahu.json", &mut *decoder);
    let device =
        |sensor: &str, unit: Option<&str>, ms: i64, value: Option<f64>, text: Option<&str>, quality: u32| {
            json!(["plant/edge-1/press-07", sensor, null, unit, T_US + 1000 * ms, value, text, quality])
        };
    let node = |sensor: &str, us: i64, value: Option<f64>, quality: u32| {
        json!(["plant/edge-1", sensor, null, null, us, value, null, quality])
    };
    assert_eq!(
        read[0],
        Ok(vec![node("bdSeq", T_US, Some(0.0), 0), node("Node Control/Rebirth", T_US, Some(0.0), 0)])
    );
    let plain = |sensor: &str, value: f64| device(sensor, None, 1, Some(value), None, 0);
    assert_eq!(
        read[1],
        Ok(vec![
            plain("i8", -8.0),
            plain("i16", -16.0),
            plain("i32", -32.0),
            plain("i64", -64.0),
            plain("u8", 200.0),
            plain("u16", 60_000.0),
            plain("u32", 4_000_000_000.0),
            plain("u64", 1_099_511_627_776.0),
            plain("f32", 0.5),
            device("f64", Some("°C"), 1, Some(61.5), None, 0),
            plain("bool", 1.0),
            device("text", None, 1, None, Some("warm"), 0),
            plain("when", 1_795_000_000_000.0),
            device("nothing", None, 1, None, None, 0),
        ])
    );
    for (i, quality) in [0, 0x8000_0000, STALE].into_iter().enumerate() {
        let (ms, step) = (10 + i as i64, i as f64);
        assert_eq!(
            read[2 + i],
            Ok(vec![
                device("f64", Some("°C"), ms, Some(62.5 + step), None, quality),
                device("i8", None, ms, Some(-1.0 - step), None, 0),
            ])
        );
    }
    assert_eq!(
        read[5],
        Ok(vec![
            device("f64", Some("°C"), 20, Some(65.5), None, 0x4000_0000),
            device("f64", Some("°C"), 20, Some(66.5), None, 0),
        ])
    );
    assert_eq!(read[6], Err("unresolved_alias".to_owned()));
    let death = read[7].as_ref().unwrap();
    assert_eq!(death.len(), 2 + 14);
    assert!(
        death
            .iter()
            .all(|reading| reading[7] == json!(STALE) && reading[4] == json!(1_795_000_099_000_000i64))
    );
    assert_eq!(read.len(), 8);
}

#[test]
fn sparkplug_that_pysparkplug_wrote() {
    let mut decoder = decoder_for(&topic(Format::Sparkplug));
    let read = sparkplug("sparkplug-pysparkplug.json", &mut *decoder);
    let reading =
        |machine: &str, sensor: &str, ms: i64, value: Option<f64>, text: Option<&str>, quality: u32| {
            json!([machine, sensor, null, null, T_US + 1000 * ms, value, text, quality])
        };
    let (node, mill) = ("plant/edge-2", "plant/edge-2/mill");
    assert_eq!(
        read[0],
        Ok(vec![
            reading(node, "bdSeq", 0, Some(3.0), None, 0),
            reading(node, "speed", 0, Some(-7.0), None, 0)
        ])
    );
    assert_eq!(
        read[1],
        Ok(vec![
            reading(mill, "load", 0, Some(0.25), None, 0),
            reading(mill, "state", 0, None, Some("RUN"), 0),
            reading(mill, "id", 0, None, Some("u-1"), 0),
        ])
    );
    assert_eq!(read[2], Ok(vec![reading(node, "speed", 5, Some(-8.0), None, 0)]));
    assert_eq!(
        read[3],
        Ok(vec![reading(mill, "state", 6, None, Some("STOP"), 0), reading(mill, "load", 6, None, None, 0)])
    );
    let stale = |sensor: &str| reading(mill, sensor, 7, None, None, STALE);
    assert_eq!(read[4], Ok(["load", "state", "id"].map(stale).to_vec()));
}
