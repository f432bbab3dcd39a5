//! A template with the names of a series in it, which writes readings.

use super::number::{Text, float, integer};
use super::{Measure, Slot, Template, time};

/// The names of a series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Names<'a> {
    /// Machine.
    pub machine: &'a str,
    /// Sensor.
    pub sensor: &'a str,
    /// Kind, if given.
    pub kind: Option<&'a str>,
    /// Unit, if given.
    pub unit: Option<&'a str>,
}

/// What was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured<'a> {
    /// Source time, µs UTC.
    pub time_us: i64,
    /// The value, if any.
    pub value: Option<f64>,
    /// The string state, if any.
    pub text: Option<&'a str>,
    /// OPC UA StatusCode.
    pub quality: u32,
}

/// Where bytes go.
pub trait Sink {
    /// Takes the next bytes; false where there is no use in more.
    fn put(&mut self, bytes: &[u8]) -> bool;
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) -> bool {
        self.extend_from_slice(bytes);
        true
    }
}

/// Compares what comes with what is there.
#[derive(Clone, Copy, Debug)]
pub struct Same<'a>(
    /// What has not been met yet.
    pub &'a [u8],
);

impl Sink for Same<'_> {
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) -> bool {
        let Some((next, rest)) = self.0.split_at_checked(bytes.len()) else { return false };
        self.0 = rest;
        equal(next, bytes)
    }
}

/// Whether both are the same, of one length. In words, the last of which may overlap: they are short.
#[inline(always)]
fn equal(a: &[u8], b: &[u8]) -> bool {
    if let (Some(a_end), Some(b_end)) = (a.last_chunk::<16>(), b.last_chunk::<16>()) {
        let mut chunks = a.as_chunks::<16>().0.iter().zip(b.as_chunks::<16>().0);
        chunks.all(|(a, b)| a == b) && a_end == b_end
    } else if let (Some(a_end), Some(b_end)) = (a.last_chunk::<8>(), b.last_chunk::<8>()) {
        a_end == b_end && a.first_chunk::<8>() == b.first_chunk()
    } else {
        a.iter().zip(b).all(|(a, b)| a == b)
    }
}

/// What the reading before was like. It saves time and changes nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memo {
    decimals: u8,
    number: Text,
    /// The epoch written last.
    epoch: Text,
    epoch_of: Option<(i64, u8)>,
}

/// A template's reading with names in it.
#[derive(Clone, Debug)]
pub struct Filled {
    /// All literals, end to end.
    bytes: Box<[u8]>,
    /// Where a literal ends, and what follows it.
    parts: Box<[(u32, Measure)]>,
}

impl Template {
    /// The template of a series; none where it asks for a name that the series has not.
    #[must_use]
    pub fn fill(&self, names: &Names<'_>) -> Option<Filled> {
        let (mut bytes, mut parts) = (Vec::new(), Vec::new());
        for (literal, slot) in &self.parts {
            bytes.extend_from_slice(literal);
            let name = match slot {
                Slot::Machine => names.machine,
                Slot::Sensor => names.sensor,
                Slot::Kind => names.kind?,
                Slot::Unit => names.unit?,
                Slot::Measure(measure) => {
                    parts.push((u32::try_from(bytes.len()).ok()?, *measure));
                    continue;
                }
            };
            bytes.extend_from_slice(name.as_bytes());
        }
        bytes.extend_from_slice(&self.end);
        Some(Filled { bytes: bytes.into(), parts: parts.into() })
    }
}

impl Filled {
    /// Bytes of memory held.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.bytes.len() + size_of_val(&*self.parts)
    }

    /// Writes a reading; false where the sink wanted no more or the template has no way to write it.
    #[inline(always)]
    pub fn write(&self, measured: &Measured<'_>, memo: &mut Memo, sink: &mut impl Sink) -> bool {
        let mut from = 0;
        for &(end, measure) in &self.parts {
            if !sink.put(&self.bytes[from..end as usize]) || !put(measure, measured, memo, sink) {
                return false;
            }
            from = end as usize;
        }
        sink.put(&self.bytes[from..])
    }
}

#[inline(always)]
fn put(measure: Measure, measured: &Measured<'_>, memo: &mut Memo, sink: &mut impl Sink) -> bool {
    let number = &mut memo.number;
    match (measure, measured.value) {
        (Measure::Value(style), Some(value)) => {
            float(value, style, &mut memo.decimals, number) && sink.put(number.bytes())
        }
        (Measure::Value(_), None) => sink.put(b"null"),
        (Measure::Epoch(digits), _) => {
            let of = Some((measured.time_us, digits));
            if memo.epoch_of != of {
                memo.epoch_of = None;
                if time::epoch(measured.time_us, digits, &mut memo.epoch).is_none() {
                    return false;
                }
                memo.epoch_of = of;
            }
            sink.put(memo.epoch.bytes())
        }
        (Measure::Moment(digits), _) => {
            time::moment(measured.time_us, digits, number).is_some() && sink.put(number.bytes())
        }
        (Measure::Quality, _) => {
            integer(i64::from(measured.quality), number);
            sink.put(number.bytes())
        }
        (Measure::Text, _) => measured.text.is_some_and(|text| sink.put(text.as_bytes())),
    }
}
