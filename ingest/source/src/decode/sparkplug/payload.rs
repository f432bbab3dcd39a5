//! The payload: a Protobuf message of metrics, as `sparkplug_b.proto` of Eclipse Tahu has it.
//!
//! What no reading can be (data sets, templates, bytes, files, arrays) is known by its type, and not opened.

use stillwell_schema::quality::{BAD, GOOD, UNCERTAIN};

use super::super::DecodeError;
use super::super::wire::{Field, Wire};

/// OPC UA `UncertainLastUsableValue`: whatever was updating this value has stopped doing so.
pub(super) const STALE: u32 = 0x4090_0000;

/// Metrics of one payload: an empty one is two bytes in the record, and some 136 here.
const METRICS_MAX: usize = 1 << 18;

/// A payload.
#[derive(Debug, Default)]
pub(super) struct Payload<'a> {
    /// ms since 1970.
    pub(super) timestamp: Option<u64>,
    pub(super) metrics: Vec<Metric<'a>>,
    pub(super) seq: Option<u8>,
}

/// A metric.
#[derive(Clone, Copy, Debug)]
pub(super) struct Metric<'a> {
    /// Its first byte in the record.
    pub(super) at: usize,
    pub(super) name: Option<&'a str>,
    pub(super) alias: Option<u64>,
    pub(super) timestamp: Option<u64>,
    pub(super) datatype: Option<u32>,
    pub(super) is_null: bool,
    pub(super) content: Option<Content<'a>>,
    pub(super) properties: Properties<'a>,
}

/// What its properties say that matters here.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Properties<'a> {
    pub(super) quality: Option<u32>,
    pub(super) unit: Option<&'a str>,
    pub(super) kind: Option<&'a str>,
}

/// A metric's value as it is encoded; its type says what it means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Content<'a> {
    Int(u32),
    Long(u64),
    Float(f32),
    Double(f64),
    Bool(bool),
    Text(&'a str),
    /// Bytes, a data set, a template or an extension.
    Other,
}

/// A value by its type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Number(f64),
    Text(&'a str),
    /// Something that no reading can be.
    Other,
}

/// The names of properties.
#[derive(Clone, Copy, Debug)]
pub(super) struct PropertyNames<'s> {
    pub(super) unit: &'s str,
    pub(super) kind: &'s str,
}

/// Whether metrics of that type have values that a reading can be; one that is not known may have.
pub(super) fn is_value(datatype: Option<u32>) -> bool {
    !matches!(datatype, Some(0 | 16..=34))
}

impl<'a> Payload<'a> {
    /// Parses a payload.
    pub(super) fn parse(bytes: &'a [u8], names: PropertyNames<'_>) -> Result<Self, DecodeError> {
        let mut payload = Self::default();
        let mut wire = Wire::new(bytes, 0);
        while let Some(field) = wire.next()? {
            match field.number {
                1 => payload.timestamp = Some(field.varint()?),
                2 => {
                    if payload.metrics.len() == METRICS_MAX {
                        let message = format!("more than {METRICS_MAX} metrics in one record");
                        return Err(DecodeError::new("too_large", field.at, message));
                    }
                    payload.metrics.push(Metric::parse(&field, names)?);
                }
                3 => {
                    let seq = u8::try_from(field.varint()?);
                    let wrong = |_| DecodeError::new("bad_sequence", field.at, "seq is beyond 255");
                    payload.seq = Some(seq.map_err(wrong)?);
                }
                _ => {}
            }
        }
        Ok(payload)
    }
}

impl<'a> Metric<'a> {
    fn parse(field: &Field<'a>, names: PropertyNames<'_>) -> Result<Self, DecodeError> {
        let mut metric = Self {
            at: field.at,
            name: None,
            alias: None,
            timestamp: None,
            datatype: None,
            is_null: false,
            content: None,
            properties: Properties::default(),
        };
        let mut wire = field.message()?;
        while let Some(field) = wire.next()? {
            match field.number {
                1 => metric.name = Some(field.text()?),
                2 => metric.alias = Some(field.varint()?),
                3 => metric.timestamp = Some(field.varint()?),
                4 => metric.datatype = Some(u32::try_from(field.varint()?).unwrap_or(u32::MAX)),
                7 => metric.is_null = field.varint()? != 0,
                9 => metric.properties = properties(field.message()?, names)?,
                10 => metric.content = Some(Content::Int(field.varint()? as u32)),
                11 => metric.content = Some(Content::Long(field.varint()?)),
                12 => metric.content = Some(Content::Float(field.float()?)),
                13 => metric.content = Some(Content::Double(field.double()?)),
                14 => metric.content = Some(Content::Bool(field.varint()? != 0)),
                15 => metric.content = Some(Content::Text(field.text()?)),
                16..=19 => {
                    field.bytes()?;
                    metric.content = Some(Content::Other);
                }
                _ => {}
            }
        }
        Ok(metric)
    }

    /// Its value as `datatype` says.
    ///
    /// # Errors
    /// Where the type is not known, or the value is not of it.
    pub(super) fn value(&self, datatype: Option<u32>) -> Result<Option<Value<'a>>, DecodeError> {
        let wrong =
            |what: &str| Err(DecodeError::new("bad_value", self.at, format!("{what}: {:?}", self.content)));
        if !is_value(datatype) || self.content == Some(Content::Other) {
            return Ok(Some(Value::Other));
        }
        let datatype = match (datatype, self.content) {
            (Some(datatype), _) => datatype,
            // These mean the same whatever the type.
            (None, Some(Content::Float(_))) => 9,
            (None, Some(Content::Double(_))) => 10,
            (None, Some(Content::Bool(_))) => 11,
            (None, Some(Content::Text(_))) => 12,
            (None, None) if self.is_null => 12,
            (None, _) => {
                let message = "the metric's datatype is not given, and no birth that was seen gives it";
                return Err(DecodeError::new("unknown_datatype", self.at, message));
            }
        };
        if self.is_null {
            return Ok(None);
        }
        let Some(content) = self.content else { return wrong("a metric without a value that is not null") };
        #[allow(clippy::cast_precision_loss, reason = "a reading's value is an f64")]
        let number = match (datatype, content) {
            // Encoders sign-extend to 32 bits, or leave the upper ones empty.
            (1, Content::Int(bits @ (0..=0xff | 0xffff_ff80..))) => f64::from(bits as u8 as i8),
            (2, Content::Int(bits @ (0..=0xffff | 0xffff_8000..))) => f64::from(bits as u16 as i16),
            (3, Content::Int(bits)) => f64::from(bits.cast_signed()),
            (4, Content::Long(bits)) => bits.cast_signed() as f64,
            (5, Content::Int(bits)) if bits <= 0xff => f64::from(bits),
            (6, Content::Int(bits)) if bits <= 0xffff => f64::from(bits),
            (7, Content::Int(bits)) => f64::from(bits),
            (7, Content::Long(bits)) if u32::try_from(bits).is_ok() => bits as f64,
            (8 | 13, Content::Long(bits)) => bits as f64,
            (9, Content::Float(value)) => f64::from(value),
            (10, Content::Double(value)) => value,
            (11, Content::Bool(yes)) => f64::from(u8::from(yes)),
            (12 | 14 | 15, Content::Text(text)) => return Ok(Some(Value::Text(text))),
            (1..=15, _) => return wrong("a value of another kind or range than the metric's datatype"),
            _ => {
                return Err(DecodeError::new(
                    "unknown_datatype",
                    self.at,
                    format!("no datatype {datatype} is known"),
                ));
            }
        };
        Ok(Some(Value::Number(number)))
    }
}

/// The values of the properties that matter. Keys and values are two lists.
fn properties<'a>(wire: Wire<'a>, names: PropertyNames<'_>) -> Result<Properties<'a>, DecodeError> {
    let mut found = Properties::default();
    let (mut keys, mut values) = (wire, wire);
    while let Some(key) = nth(&mut keys, 1)? {
        let Some(value) = nth(&mut values, 2)? else {
            return Err(DecodeError::new("syntax", key.at, "a property set has more keys than values"));
        };
        let key = key.text()?;
        if key.eq_ignore_ascii_case("quality") {
            found.quality = quality(&value)?;
        } else if key == names.unit {
            found.unit = text(&value)?;
        } else if key == names.kind {
            found.kind = text(&value)?;
        }
    }
    Ok(found)
}

fn nth<'a>(wire: &mut Wire<'a>, number: u32) -> Result<Option<Field<'a>>, DecodeError> {
    while let Some(field) = wire.next()? {
        if field.number == number {
            return Ok(Some(field));
        }
    }
    Ok(None)
}

fn text<'a>(value: &Field<'a>) -> Result<Option<&'a str>, DecodeError> {
    let mut wire = value.message()?;
    let found = nth(&mut wire, 8)?;
    found.map(|field| field.text()).transpose()
}

/// A quality as OPC UA has it. Sparkplug B knows 192 (good), 0 (bad) and 500 (stale). Of OPC DA's, from which the first
/// two are, the two upper of eight bits count, and of Ignition's, which are beyond 16 bits, the two upper of 32.
fn quality(value: &Field<'_>) -> Result<Option<u32>, DecodeError> {
    let mut wire = value.message()?;
    let mut code = None;
    while let Some(field) = wire.next()? {
        match field.number {
            2 if field.varint()? != 0 => return Ok(None),
            3 | 4 => code = Some(field.varint()?),
            _ => {}
        }
    }
    let Some(code) = code else { return Ok(None) };
    let severity = |bits: u64| match bits & 3 {
        0 => Some(BAD),
        1 => Some(UNCERTAIN),
        3 => Some(GOOD),
        _ => None,
    };
    let found = match code {
        500 => Some(STALE),
        0..=0xff => severity(code >> 6),
        _ => match (code as u32) >> 30 {
            1 => Some(UNCERTAIN),
            2 => Some(BAD),
            _ => None,
        },
    };
    let wrong = || {
        DecodeError::new("bad_quality", value.at, format!("quality {} is none of 192, 0, 500", code as i64))
    };
    found.map(Some).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(content: Content<'static>) -> Metric<'static> {
        let properties = Properties::default();
        let content = Some(content);
        Metric {
            at: 0,
            name: None,
            alias: None,
            timestamp: None,
            datatype: None,
            is_null: false,
            content,
            properties,
        }
    }

    #[test]
    fn values_are_what_their_type_says_and_never_guessed() {
        let check = |content, datatype, expected: Result<Value<'static>, &str>| {
            let found = metric(content).value(datatype).map(Option::unwrap).map_err(|error| error.class);
            assert_eq!(found, expected, "{content:?} {datatype:?}");
        };
        let number = |value| Ok(Value::Number(value));
        check(Content::Int(0xffff_ffff), Some(1), number(-1.0));
        check(Content::Int(0x80), Some(1), number(-128.0));
        check(Content::Int(0xfffe), Some(2), number(-2.0));
        check(Content::Int(u32::MAX), Some(3), number(-1.0));
        check(Content::Long(u64::MAX), Some(4), number(-1.0));
        check(Content::Int(255), Some(5), number(255.0));
        check(Content::Int(256), Some(5), Err("bad_value"));
        check(Content::Int(65_535), Some(6), number(65_535.0));
        check(Content::Int(u32::MAX), Some(7), number(4_294_967_295.0));
        check(Content::Long(4_294_967_296), Some(7), Err("bad_value"));
        check(Content::Long(1 << 40), Some(8), number(1_099_511_627_776.0));
        check(Content::Float(0.5), Some(9), number(0.5));
        check(Content::Double(0.1), Some(10), number(0.1));
        check(Content::Bool(true), Some(11), number(1.0));
        check(Content::Text("on"), Some(12), Ok(Value::Text("on")));
        check(Content::Long(1_795_000_000_000), Some(13), number(1_795_000_000_000.0));
        check(Content::Text("x"), Some(15), Ok(Value::Text("x")));
        check(Content::Other, Some(16), Ok(Value::Other));
        check(Content::Other, None, Ok(Value::Other));
        check(Content::Double(1.0), Some(3), Err("bad_value"));
        for (bits, int8, int16) in [
            (0x7f, Ok(127.0), Ok(127.0)),
            (0xff, Ok(-1.0), Ok(255.0)),
            (0x100, Err("bad_value"), Ok(256.0)),
            (0x8000, Err("bad_value"), Ok(-32768.0)),
            (0x1_0000, Err("bad_value"), Err("bad_value")),
            (0xffff_7fff, Err("bad_value"), Err("bad_value")),
            (0xffff_8000, Err("bad_value"), Ok(-32768.0)),
            (0xffff_ff7f, Err("bad_value"), Ok(-129.0)),
            (0xffff_ff80, Ok(-128.0), Ok(-128.0)),
            (u32::MAX, Ok(-1.0), Ok(-1.0)),
        ] {
            check(Content::Int(bits), Some(1), int8.map(Value::Number));
            check(Content::Int(bits), Some(2), int16.map(Value::Number));
        }
        check(Content::Int(1), None, Err("unknown_datatype"));
        check(Content::Double(1.0), None, number(1.0));
        check(Content::Int(1), Some(35), Err("unknown_datatype"));
    }

    #[test]
    fn metrics_of_a_payload_are_bounded() {
        let parse = |metrics: usize| {
            let bytes = [0x12, 0].repeat(metrics);
            let names = PropertyNames { unit: "engUnit", kind: "kind" };
            Payload::parse(&bytes, names).map(|payload| payload.metrics.len()).map_err(|error| error.class)
        };
        assert_eq!(parse(METRICS_MAX), Ok(METRICS_MAX));
        assert_eq!(parse(METRICS_MAX + 1), Err("too_large"));
    }

    #[test]
    fn qualities_are_opc_ua_codes() {
        let check = |code: u64, expected: Result<Option<u32>, &str>| {
            let mut inner = vec![0x18];
            let mut rest = code;
            while rest >= 0x80 {
                inner.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            inner.push(rest as u8);
            let bytes = [&[0x12, inner.len() as u8][..], &inner].concat();
            let field = Wire::new(&bytes, 0).next().unwrap().unwrap();
            assert_eq!(quality(&field).map_err(|error| error.class), expected, "{code}");
        };
        check(192, Ok(Some(GOOD)));
        check(0, Ok(Some(BAD)));
        check(500, Ok(Some(STALE)));
        check(216, Ok(Some(GOOD)));
        check(64, Ok(Some(UNCERTAIN)));
        check(8, Ok(Some(BAD)));
        check(0x8000_0204, Ok(Some(BAD)));
        check(-2_147_483_132i64 as u64, Ok(Some(BAD)));
        check(1_073_742_080, Ok(Some(UNCERTAIN)));
        check(515, Err("bad_quality"));
        check(128, Err("bad_quality"));
    }
}
