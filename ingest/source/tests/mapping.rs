//! Foreign records through mappings: what the config says is what is read, the same from JSON and from Arrow.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, DictionaryArray, Float32Array, Float64Array, Int32Array,
    Int64Array, LargeStringArray, ListArray, NullArray, RecordBatch, StringArray, StringViewArray,
    StructArray, TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt32Array,
};
use arrow::datatypes::{DataType, Field, Float64Type, Int8Type, Schema};
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use stillwell_source::chunk::RecordRef;
use stillwell_source::columns::ReadingColumns;
use stillwell_source::decode::{DecodeError, DecodeFault, decoder_for};
use stillwell_source::mapping::Mapping;
use stillwell_source::series::SeriesTable;
use stillwell_source::settings::{Format, TimeUnit, TopicSettings};

fn topic(format: Format, mapping: &str) -> TopicSettings {
    let mut topic = TopicSettings::new("t");
    topic.format.format = format;
    if !mapping.is_empty() {
        topic.format.mapping = Some(Mapping::parse(&toml::from_str(mapping).unwrap(), format).unwrap());
    }
    topic
}

/// Readings as text: `machine sensor kind unit time value text quality index`, `-` for what is not there.
fn decode(topic: &TopicSettings, record: &RecordRef<'_>) -> Result<Vec<String>, DecodeError> {
    let (mut table, mut out) = (SeriesTable::default(), ReadingColumns::default());
    let mut decoder = decoder_for(topic);
    match decoder.decode(record, 0, &mut table, &mut out) {
        Err(DecodeFault::Data(error)) => {
            assert_eq!(out, ReadingColumns::default(), "a failed record leaves a trace");
            return Err(error);
        }
        other => other.unwrap(),
    }
    let row = |i: usize| {
        let series = table.series(out.series[i]);
        let name = |code: Option<u32>| code.map_or("-", |code| table.name(code));
        let value = if out.has_value[i] { out.value[i].to_string() } else { "-".to_owned() };
        let text = out.text.iter().find(|cell| cell.row as usize == i);
        let text = text.map_or("-", |cell| &out.text_bytes[cell.start as usize..cell.end as usize]);
        format!(
            "{} {} {} {} {} {value} {text} {:x} {}",
            table.name(series.machine),
            table.name(series.sensor),
            name(series.kind),
            name(series.unit),
            out.time_us[i],
            out.quality[i],
            out.index[i]
        )
    };
    let rows = (0..out.len()).map(row).collect();
    // What explains a record reads the same of it, and says where each reading is from.
    let (mut again, mut origins) = (ReadingColumns::default(), Vec::new());
    decoder.explain(record, &mut table, &mut again, &mut origins).unwrap();
    assert_eq!(again, out);
    assert_eq!(origins.len(), out.len());
    assert!(origins.iter().all(|origin| origin.fields.iter().any(|(field, _)| *field == "time")));
    Ok(rows)
}

fn check(mapping: &str, json: &str, expected: &[&str]) {
    let record = RecordRef::new(1_795_000_000_000, Some(b"key-1"), json.as_bytes());
    let found =
        decode(&topic(Format::Json, mapping), &record).unwrap_or_else(|error| panic!("{json}: {error}"));
    assert_eq!(found, expected, "{mapping}\n{json}");
}

#[test]
fn foreign_json_is_read_as_its_mapping_says() {
    // One reading a record, names made of several fields.
    check(
        "machine = 'press-{$.asset.id}'\nsensor = '$.point'\ntime = '$.ts'\nvalue = '$.val'\nunit = '$[\"eng unit\"]'\nquality = '$.q'",
        r#"{"asset":{"id":7},"point":"oil","ts":"2026-11-18T10:26:40Z","val":61.25,"eng unit":"°C","q":"Uncertain"}"#,
        &["press-7 oil - °C 1794997600000000 61.25 - 40000000 0"],
    );
    // A wide row: every member that nothing else reads.
    check(
        "machine = '$.id'\ntime = '$.t'\nvalues = ['$.*']",
        r#"{"id":"m","t":1,"temp":1.5,"on":true,"state":"idle","none":null,"nested":{"x":1}}"#,
        &["m temp - - 1000 1.5 - 0 2", "m on - - 1000 1 - 0 3", "m state - - 1000 - idle 0 4"],
    );
    // Named columns, with units of their own; a null is no reading and keeps its place.
    check(
        "machine = 'line-3'\ntime = '@.t'\nvalues = ['@.a', { from = '@.b.c', sensor = 'bearing', unit = 'mm/s', kind = 'vibration' }]",
        r#"[{"t":1,"a":1,"b":{"c":2}},{"t":2,"a":null,"b":{"c":3}},{"t":3,"a":4}]"#,
        &[
            "line-3 a - - 1000 1 - 0 0",
            "line-3 bearing vibration mm/s 1000 2 - 0 1",
            "line-3 bearing vibration mm/s 2000 3 - 0 3",
            "line-3 a - - 3000 4 - 0 4",
        ],
    );
    // Lists within lists: machines, their samples.
    check(
        "each = '$.devices[*].samples[*]'\nmachine = '@^.id'\nsensor = '@.n'\ntime = ['@.t', '$.t']\nvalue = '@.v'",
        r#"{"t":9,"devices":[{"id":"a","samples":[{"n":"x","t":1,"v":1},{"n":"y","v":2}]},{"id":"b","samples":[]},{"id":"c","samples":[{"n":"x","v":3}]}]}"#,
        &["a x - - 1000 1 - 0 0", "a y - - 9000 2 - 0 1", "c x - - 9000 3 - 0 2"],
    );
    // Objects by machine; the Kafka record's key and time.
    check(
        "each = '$.*'\nmachine = '{$kafka.key}:{$key}'\ntime = '$kafka.timestamp'\nvalues = ['@.*']",
        r#"{"press":{"temp":1},"oven":{"temp":2}}"#,
        &["key-1:press temp - - 1795000000000000 1 - 0 0", "key-1:oven temp - - 1795000000000000 2 - 0 1"],
    );
    // Codes of another world, and seconds with a fraction.
    check(
        "machine = 'm'\nsensor = 's'\ntime = '@.t'\nvalue = '@.v'\nquality = '@.q'\nquality_codes = { 192 = 0, 0 = 0x80000000 }",
        r#"[{"t":1.5,"v":1,"q":192},{"t":2,"v":null,"q":0}]"#,
        &["m s - - 1500 1 - 0 0", "m s - - 2000 - - 80000000 1"],
    );
}

#[test]
fn what_a_mapping_does_not_find_is_told() {
    let wrong = |mapping: &str, json: &str| {
        let record = RecordRef::new(-1, None, json.as_bytes());
        let error = decode(&topic(Format::Json, mapping), &record).unwrap_err();
        (error.class, error.at, error.message)
    };
    let all =
        "machine = '$.m'\nsensor = '$.s'\ntime = ['$.t', '$kafka.timestamp']\nvalue = '$.v'\nquality = '$.q'";
    let cases = [
        (r#"{"s":"s","t":1,"v":1}"#, "missing_field", 0, "mapping.machine is $.m"),
        (r#"{"m":"","s":"s","t":1,"v":1}"#, "missing_field", 0, "machine is missing or empty"),
        (r#"{"m":"m","t":1,"v":1}"#, "missing_field", 0, "mapping.sensor is $.s"),
        (r#"{"m":"m","s":"s","v":1}"#, "missing_field", 0, "mapping.time is $.t, then $kafka.timestamp"),
        (r#"{"m":"m","s":"s","t":1}"#, "missing_field", 0, "neither value nor text"),
        (r#"{"m":"m","s":"s","t":"soon","v":1}"#, "bad_time", 21, "$.t is no time"),
        (r#"{"m":"m","s":"s","t":1,"v":{}}"#, "bad_value", 27, "$.v is no number"),
        (r#"{"m":["m"],"s":"s","t":1,"v":1}"#, "bad_name", 5, "$.m is no text"),
        (r#"{"m":"m","s":"s","t":1,"v":1,"q":"stale"}"#, "bad_quality", 33, "quality_codes"),
        (r#"{"m":"m","m":"n","s":"s","t":1,"v":1}"#, "duplicate_key", 9, "\"m\""),
        (r#"{"m":"m","s":"s","t":1,"v":1"#, "syntax", 28, "expected"),
        ("{\"m\":\"\u{1}\"}", "syntax", 6, "string"),
    ];
    for (json, class, at, part) in cases {
        let (found, place, message) = wrong(all, json);
        assert_eq!((found, place), (class, at), "{json}: {message}");
        assert!(message.contains(part), "{json}: {message}");
    }
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    assert_eq!(wrong(all, &deep).0, "too_deep");
}

fn stream(batches: &[RecordBatch], options: IpcWriteOptions) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new_with_options(&mut bytes, &batches[0].schema(), options).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.finish().unwrap();
    bytes
}

fn batch(columns: &[(&str, ArrayRef)]) -> RecordBatch {
    RecordBatch::try_from_iter(columns.iter().map(|(name, array)| (*name, Arc::clone(array)))).unwrap()
}

fn check_arrow(mapping: &str, columns: &[(&str, ArrayRef)], expected: &[&str]) {
    for compression in [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)] {
        let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
        let bytes = stream(&[batch(columns)], options);
        let record = RecordRef::new(0, None, &bytes);
        let found = decode(&topic(Format::Arrow, mapping), &record).unwrap();
        assert_eq!(found, expected, "{compression:?}");
    }
}

#[test]
fn arrow_columns_of_our_own_names_need_no_mapping() {
    let machine: DictionaryArray<Int8Type> = [Some("a"), Some("b"), Some("a")].into_iter().collect();
    check_arrow(
        "",
        &[
            ("machine", Arc::new(machine)),
            ("sensor", Arc::new(StringViewArray::from(vec!["oil", "a sensor of a long name", "oil"]))),
            ("unit", Arc::new(LargeStringArray::from(vec![Some("°C"), None, Some("°C")]))),
            ("time", Arc::new(TimestampNanosecondArray::from(vec![1999, 2000, -1]).with_timezone("+02:00"))),
            ("value", Arc::new(Float32Array::from(vec![Some(1.5), None, Some(f32::NAN)]))),
            ("text", Arc::new(StringArray::from(vec![None, Some("idle"), None]))),
            ("quality", Arc::new(UInt32Array::from(vec![0, 0x4000_0000, 0]))),
            ("ignored", Arc::new(NullArray::new(3))),
        ],
        &[
            "a oil - °C 1 1.5 - 0 0",
            "b a sensor of a long name - - 2 - idle 40000000 1",
            "a oil - °C -1 - - 80000000 2",
        ],
    );
}

#[test]
fn arrow_types_of_all_widths_are_values() {
    let nested = StructArray::from(vec![(
        Arc::new(Field::new("x", DataType::Float64, true)),
        Arc::new(Float64Array::from(vec![7.5])) as ArrayRef,
    )]);
    check_arrow(
        "machine = 'm'\ntime = '@.at'\nvalues = ['@.*', '@.nested.x', { from = '@.list[1]', sensor = 'second' }]",
        &[
            ("at", Arc::new(TimestampSecondArray::from(vec![5]))),
            ("i", Arc::new(Int32Array::from(vec![-3]))),
            ("l", Arc::new(Int64Array::from(vec![1 << 40]))),
            ("b", Arc::new(BooleanArray::from(vec![true]))),
            ("d", Arc::new(Decimal128Array::from(vec![12345]).with_precision_and_scale(10, 2).unwrap())),
            ("s", Arc::new(StringArray::from(vec!["run"]))),
            ("nested", Arc::new(nested)),
            (
                "list",
                Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>([Some([Some(1.0), Some(2.0)])])),
            ),
        ],
        &[
            "m i - - 5000000 -3 - 0 1",
            "m l - - 5000000 1099511627776 - 0 2",
            "m b - - 5000000 1 - 0 3",
            "m d - - 5000000 123.45 - 0 4",
            "m s - - 5000000 - run 0 5",
            "m x - - 5000000 7.5 - 0 8",
            "m second - - 5000000 2 - 0 9",
        ],
    );
}

#[test]
fn a_stream_may_hold_many_batches_and_new_dictionaries() {
    let part = |name: &str, ms: i64| {
        let machine: DictionaryArray<Int8Type> = [Some(name)].into_iter().collect();
        batch(&[
            ("machine", Arc::new(machine)),
            ("sensor", Arc::new(StringArray::from(vec!["s"]))),
            ("time", Arc::new(TimestampMillisecondArray::from(vec![ms]))),
            ("value", Arc::new(Float64Array::from(vec![1.0]))),
        ])
    };
    let bytes = stream(&[part("a", 1), part("b", 2)], IpcWriteOptions::default());
    let found = decode(&topic(Format::Arrow, ""), &RecordRef::new(0, None, &bytes)).unwrap();
    assert_eq!(found, ["a s - - 1000 1 - 0 0", "b s - - 2000 1 - 0 1"]);
}

#[test]
fn a_broken_stream_is_told_and_never_a_panic() {
    let column: ArrayRef = Arc::new(Float64Array::from(vec![1.0; 100]));
    let bytes = stream(&[batch(&[("v", column)])], IpcWriteOptions::default());
    let topic = topic(Format::Arrow, "machine = 'm'\ntime = '$kafka.timestamp'\nvalues = ['@.v']");
    let class = |bytes: &[u8]| decode(&topic, &RecordRef::new(0, None, bytes)).map_err(|error| error.class);
    assert_eq!(class(&bytes).map(|rows| rows.len()), Ok(100));
    assert_eq!(class(b""), Err("syntax"));
    assert_eq!(class(b"{\"machine\":1}"), Err("syntax"));
    for len in 1..bytes.len() - 8 {
        // The whole batch without the end marker is a stream too.
        let found = class(&bytes[..len]);
        assert!(found.is_err() || len % 8 == 0, "{len}: {found:?}");
    }
    let unsupported =
        Schema::new(vec![Field::new("i", DataType::Interval(arrow::datatypes::IntervalUnit::DayTime), true)]);
    let mut interval = Vec::new();
    StreamWriter::try_new(&mut interval, &unsupported).unwrap().finish().unwrap();
    assert_eq!(class(&interval), Err("unsupported"));
}

#[test]
fn what_few_bytes_blow_up_to_is_bounded() {
    // 128 MiB of zeros in a few hundred bytes.
    let zeros: ArrayRef = Arc::new(Float64Array::from(vec![0.0; 16 << 20]));
    for compression in [CompressionType::LZ4_FRAME, CompressionType::ZSTD] {
        let options = IpcWriteOptions::default().try_with_compression(Some(compression)).unwrap();
        let bytes = stream(&[batch(&[("v", Arc::clone(&zeros))])], options);
        let record = RecordRef::new(0, None, &bytes);
        let mapped = topic(Format::Arrow, "machine = 'm'\ntime = '$kafka.timestamp'\nvalues = ['@.v']");
        assert_eq!(decode(&mapped, &record).unwrap_err().class, "too_large", "{compression:?}");
    }
    // A dictionary that stands for a megabyte each time.
    let long = "x".repeat(1 << 20);
    let states: DictionaryArray<Int8Type> = (0..100).map(|_| Some(long.as_str())).collect();
    let bytes = stream(&[batch(&[("v", Arc::new(states))])], IpcWriteOptions::default());
    let mapped = topic(Format::Arrow, "machine = 'm'\ntime = '$kafka.timestamp'\nvalues = ['@.v']");
    assert_eq!(decode(&mapped, &RecordRef::new(0, None, &bytes)).unwrap_err().class, "too_large");
    // And as a name it is too long.
    let mapped =
        topic(Format::Arrow, "machine = '@.v'\nsensor = 's'\ntime = '$kafka.timestamp'\ntext = '@.v'");
    assert_eq!(decode(&mapped, &RecordRef::new(0, None, &bytes)).unwrap_err().class, "bad_name");
}

#[test]
fn times_of_plain_numbers_are_in_the_topics_unit() {
    let mut topic = topic(Format::Json, "machine = 'm'\nsensor = 's'\ntime = '$.t'\nvalue = '$.v'");
    topic.format.time_unit = TimeUnit::Seconds;
    let record = RecordRef::new(0, None, br#"{"t":1795000000,"v":1}"#);
    assert_eq!(decode(&topic, &record).unwrap(), ["m s - - 1795000000000000 1 - 0 0"]);
}

/// What pyarrow 26.0 wrote, `fuzz/corpus/arrow`.
#[test]
fn streams_of_pyarrow_are_read() {
    let read = |mapping: &str, name: &str| {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/arrow").join(name);
        let bytes = std::fs::read(file).unwrap();
        decode(&topic(Format::Arrow, mapping), &RecordRef::new(0, None, &bytes)).unwrap()
    };
    let ours = read("", "pyarrow-ours.arrow");
    assert_eq!(ours.len(), 8);
    assert_eq!(ours[0], "press-07 oil - °C 1794997600000000 1.5 - 0 0");
    assert_eq!(ours[1], "oven-1 a sensor with a long name - - 1794997600100000 - idle 40000000 1");
    assert_eq!(ours[6], "press-07 oil - °C 1794997600000000 1.5 - 0 6");
    let packed = read("", "pyarrow-lz4.arrow");
    assert_eq!(packed.len(), 40);
    assert_eq!(packed, read("", "pyarrow-zstd.arrow"));
    let wide = "machine = '{@.asset.name}-{@.asset.id}'\ntime = '@.ts'\nvalues = ['@.temp', '@.half', '@.on', '@.i8', '@.u64', '@.dec', '@.none', '@.fsl[1]', '@.rows[0].v']";
    let found = read(wide, "pyarrow-wide.arrow");
    let expected = [
        "press-7 temp - - 1000000 20.5 - 0 0",
        "press-7 half - - 1000000 1 - 0 1",
        "press-7 on - - 1000000 1 - 0 2",
        "press-7 i8 - - 1000000 1 - 0 3",
        "press-7 u64 - - 1000000 1 - 0 4",
        "press-7 dec - - 1000000 1.25 - 0 5",
        "press-7 1 - - 1000000 2 - 0 7",
        "press-7 v - - 1000000 1 - 0 8",
    ];
    assert_eq!(found[..8], expected);
    assert!(found.contains(&"press-7 temp - - 3000000 - - 80000000 18".to_owned()), "{found:?}");
    assert!(found.contains(&"press-7 u64 - - 3000000 9223372036854776000 - 0 22".to_owned()), "{found:?}");
    assert_eq!(read(wide, "pyarrow-empty.arrow"), [""; 0]);
}
