use proptest::prelude::*;

use super::super::{DecodeFault, Decoder};
use super::*;
use crate::columns::ReadingColumns;
use crate::series::SeriesTable;
use crate::settings::Format;

/// machine, sensor, kind and unit, time in µs, value or text.
type Row = (String, String, i64, Option<f64>, Option<String>);

fn decoder() -> LineDecoder {
    LineDecoder::new(Mapping::default_of(Format::Line), TimeUnit::Nanos)
}

fn decode(decoder: &mut LineDecoder, kafka_ms: i64, value: &str) -> Result<Vec<Row>, DecodeError> {
    let (mut table, mut out) = (SeriesTable::default(), ReadingColumns::default());
    let record = RecordRef::new(kafka_ms, None, value.as_bytes());
    match decoder.decode(&record, 0, &mut table, &mut out) {
        Err(DecodeFault::Data(error)) => {
            assert_eq!(out, ReadingColumns::default(), "a failed record leaves a trace");
            return Err(error);
        }
        other => other.unwrap(),
    }
    let row = |i: usize| {
        let series = table.series(out.series[i]);
        let text = out.text.iter().find(|cell| cell.row as usize == i);
        let text = text.map(|cell| out.text_bytes[cell.start as usize..cell.end as usize].to_owned());
        let (machine, sensor) = (table.name(series.machine), table.name(series.sensor));
        (
            machine.to_owned(),
            sensor.to_owned(),
            out.time_us[i],
            out.has_value[i].then_some(out.value[i]),
            text,
        )
    };
    Ok((0..out.len()).map(row).collect())
}

/// Machine, sensor, time in µs, value and text.
type Expected<'a> = (&'a str, &'a str, i64, Option<f64>, Option<&'a str>);

fn check(line: &str, expected: &[Expected<'_>]) {
    let found =
        decode(&mut decoder(), 1_795_000_000_000, line).unwrap_or_else(|error| panic!("{line}: {error}"));
    let expected: Vec<Row> = expected
        .iter()
        .map(|(m, s, time, value, text)| {
            (m.to_string(), s.to_string(), *time, *value, text.map(str::to_owned))
        })
        .collect();
    assert_eq!(found, expected, "{line}");
}

#[test]
fn lines_of_telegraf_and_gateways_are_read() {
    const KAFKA: i64 = 1_795_000_000_000_000;
    check(
        "cpu,cpu=cpu-total,host=press-07 usage_idle=97.2,usage_user=1 1795000000000000000\n",
        &[
            ("press-07", "cpu.usage_idle", KAFKA, Some(97.2), None),
            ("press-07", "cpu.usage_user", KAFKA, Some(1.0), None),
        ],
    );
    check(
        "modbus,machine=m,host=gw a=12i,b=7u,c=-3i,d=t,e=FALSE,f=\"warming up\",g=1.5e3,h=-.5 1",
        &[
            ("m", "modbus.a", 0, Some(12.0), None),
            ("m", "modbus.b", 0, Some(7.0), None),
            ("m", "modbus.c", 0, Some(-3.0), None),
            ("m", "modbus.d", 0, Some(1.0), None),
            ("m", "modbus.e", 0, Some(0.0), None),
            ("m", "modbus.f", 0, None, Some("warming up")),
            ("m", "modbus.g", 0, Some(1500.0), None),
            ("m", "modbus.h", 0, Some(-0.5), None),
        ],
    );
    // No timestamp: the Kafka record's. Comments, blank lines and CRLF.
    check("# a comment, with = signs\r\n\r\nx,host=h v=1\r\n", &[("h", "x.v", KAFKA, Some(1.0), None)]);
    check(
        "x,host=h v=1 1000\nx,host=h v=2 2000",
        &[("h", "x.v", 1, Some(1.0), None), ("h", "x.v", 2, Some(2.0), None)],
    );
    check("x,host=h v=1 -1500", &[("h", "x.v", -2, Some(1.0), None)]);
    check("  x,host=h   v=1   1000  ", &[("h", "x.v", 1, Some(1.0), None)]);
    check("", &[]);
    check("#only a comment", &[]);
}

#[test]
fn escapes_follow_the_reference() {
    check(r"my\ meas\,x=y,host=a\ b\,c\=d v\ 1=1 0", &[("a b,c=d", "my meas,x=y.v 1", 0, Some(1.0), None)]);
    check(
        r#"m,host=h s="say \"hi\", C:\\dir\x",t="a,b =c" 0"#,
        &[("h", "m.s", 0, None, Some(r#"say "hi", C:\dir\x"#)), ("h", "m.t", 0, None, Some("a,b =c"))],
    );
    check("m,host=h s=\"two\nlines\" 0", &[("h", "m.s", 0, None, Some("two\nlines"))]);
    check(r"m,host=back\slash v=1 0", &[(r"back\slash", "m.v", 0, Some(1.0), None)]);
    check("messung,host=größe wärme=1 0", &[("größe", "messung.wärme", 0, Some(1.0), None)]);
    check("m,host=h s=\"\" 0", &[("h", "m.s", 0, None, Some(""))]);
}

#[test]
fn faults_have_their_class_and_place() {
    let cases = [
        ("m", "syntax", 1),
        ("m v", "syntax", 3),
        ("m,host=h", "syntax", 8),
        ("m,host v=1", "syntax", 6),
        ("m,host= v=1", "syntax", 7),
        ("m,=h v=1", "syntax", 2),
        ("m,host=a=b v=1", "syntax", 8),
        (",host=h v=1", "syntax", 0),
        ("m,host=h v=1,", "syntax", 13),
        ("m,host=h v=", "bad_value", 11),
        ("m,host=h v=1x", "bad_value", 11),
        ("m,host=h v=nan", "bad_value", 11),
        ("m,host=h v=inf", "bad_value", 11),
        ("m,host=h v=1e999", "bad_value", 11),
        ("m,host=h v=tRue", "bad_value", 11),
        ("m,host=h v=9223372036854775808i", "bad_value", 11),
        ("m,host=h v=-1u", "bad_value", 11),
        ("m,host=h v=\"open", "syntax", 11),
        ("m,host=h v=1 soon", "syntax", 13),
        ("m,host=h v=1 99999999999999999999", "bad_time", 13),
        ("m,host=h v=1 1 2", "syntax", 15),
        ("m v=1 1", "missing_field", 0),
        ("m,host=a,host=b v=1 1", "duplicate_key", 9),
        ("m,host=h v=1 1\nbroken", "syntax", 21),
    ];
    for (line, class, at) in cases {
        let error = decode(&mut decoder(), 0, line).unwrap_err();
        assert_eq!((error.class, error.at), (class, at), "{line}: {error}");
    }
}

#[test]
fn a_line_without_any_time_is_refused() {
    assert_eq!(decode(&mut decoder(), -1, "m,host=h v=1").unwrap_err().class, "missing_field");
}

#[test]
fn precision_is_the_topics() {
    let mut seconds = LineDecoder::new(Mapping::default_of(Format::Line), TimeUnit::Seconds);
    assert_eq!(decode(&mut seconds, 0, "m,host=h v=1 1795000000").unwrap()[0].2, 1_795_000_000_000_000);
}

#[test]
fn a_mapping_names_machines_and_sensors() {
    let mapping = r#"
        machine = "{$.tags.site}/{$.tags.plc}"
        sensor = "{$.tags.signal}-{$name}"
        quality = "$.fields.q"
        quality_codes = { OK = 0 }
        values = ["$.fields.*"]
    "#;
    let mapping = Mapping::parse(&toml::from_str(mapping).unwrap(), Format::Line).unwrap();
    let mut decoder = LineDecoder::new(mapping, TimeUnit::Nanos);
    let line = r#"opcua,site=a,plc=7,signal=oil value=61.2,q="OK" 1000"#;
    let found = decode(&mut decoder, 0, line).unwrap();
    assert_eq!(found, [("a/7".to_owned(), "oil-value".to_owned(), 1, Some(61.2), None)]);
}

/// A name as it comes, and as line protocol writes it.
fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9_.,= äß\\\\/\"-]{1,12}".prop_filter(
        "a backslash before a sign or the end would escape",
        |name| {
            !name.ends_with('\\') && !name.contains("\\,") && !name.contains("\\ ") && !name.contains("\\=")
        },
    )
}

fn escaped(name: &str) -> String {
    name.replace(',', "\\,").replace('=', "\\=").replace(' ', "\\ ")
}

#[derive(Clone, Debug)]
enum Value {
    Float(f64),
    Int(i64),
    Unsigned(u64),
    Bool(bool),
    Text(String),
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        (-1e12..1e12f64).prop_map(Value::Float),
        any::<i64>().prop_map(Value::Int),
        any::<u64>().prop_map(Value::Unsigned),
        any::<bool>().prop_map(Value::Bool),
        "[a-z \\\\\"\n,=é]{0,12}".prop_map(Value::Text),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        lines in proptest::collection::vec(
            (name(), name(), proptest::collection::vec((name(), value()), 1..5), 0i64..2_000_000_000),
            1..6,
        ),
    ) {
        let (mut text, mut expected) = (String::new(), Vec::new());
        for (measurement, host, fields, seconds) in &lines {
            // An equals sign in a measurement is a plain sign, and so is a backslash before it.
            let plain = escaped(measurement).replace("\\=", "=");
            text += &format!("{plain},host={} ", escaped(host));
            let mut written = Vec::new();
            for (name, value) in fields {
                let (form, number, state) = match value {
                    Value::Float(v) => (format!("{v:?}"), Some(*v), None),
                    Value::Int(v) => (format!("{v}i"), Some(*v as f64), None),
                    Value::Unsigned(v) => (format!("{v}u"), Some(*v as f64), None),
                    Value::Bool(v) => (v.to_string(), Some(f64::from(u8::from(*v))), None),
                    Value::Text(v) => {
                        let quoted = v.replace('\\', "\\\\").replace('"', "\\\"");
                        (format!("\"{quoted}\""), None, Some(v.clone()))
                    }
                };
                written.push(format!("{}={form}", escaped(name)));
                expected.push((host.clone(), format!("{measurement}.{name}"), seconds * 1_000_000, number, state));
            }
            text += &format!("{} {}\n", written.join(","), seconds * 1_000_000_000);
        }
        prop_assert_eq!(decode(&mut decoder(), 0, &text).unwrap(), expected, "{}", text);
    }
}
