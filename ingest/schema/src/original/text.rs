//! Templates as text and back.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use thiserror::Error;

use super::{Measure, Slot, Style, TEXT_BYTES_MAX, Template};

/// A text that is no template.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("not a template at byte {at}: {reason}")]
pub struct TemplateError {
    /// Where in the text.
    pub at: usize,
    /// What is wrong.
    pub reason: &'static str,
}

impl Display for Template {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        literal(f, &self.head)?;
        if self.between.is_some() {
            f.write_str("$(")?;
        }
        for (before, slot) in &self.parts {
            literal(f, before)?;
            write!(f, "{slot}")?;
        }
        literal(f, &self.end)?;
        if let Some(between) = &self.between {
            f.write_str("$,")?;
            literal(f, between)?;
            f.write_str("$)")?;
        }
        literal(f, &self.tail)
    }
}

fn literal(f: &mut Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    f.write_str(&String::from_utf8_lossy(bytes).replace('$', "$$"))
}

impl Display for Slot {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine => f.write_str("$m"),
            Self::Sensor => f.write_str("$s"),
            Self::Kind => f.write_str("$k"),
            Self::Unit => f.write_str("$u"),
            Self::Measure(Measure::Text) => f.write_str("$x"),
            Self::Measure(Measure::Quality) => f.write_str("$q"),
            Self::Measure(Measure::Epoch(digits)) => write!(f, "$t{digits}"),
            Self::Measure(Measure::Moment(digits)) => write!(f, "$i{digits}"),
            Self::Measure(Measure::Value(Style::Shortest)) => f.write_str("$vs"),
            Self::Measure(Measure::Value(Style::Pointed)) => f.write_str("$vp"),
            Self::Measure(Measure::Value(Style::Fixed(digits))) => write!(f, "$v{digits}"),
        }
    }
}

/// Where in a template a text has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Head,
    Object,
    Between,
    Tail,
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let error = |at, reason| Err(TemplateError { at, reason });
        if text.len() > TEXT_BYTES_MAX {
            return error(TEXT_BYTES_MAX, "too long");
        }
        let mut template =
            Self { head: Vec::new(), parts: Vec::new(), end: Vec::new(), between: None, tail: Vec::new() };
        let is_list = is_list(text);
        let mut stage = if is_list { Stage::Head } else { Stage::Object };
        let mut plain = Vec::new();
        let mut rest = text;
        while let Some(cut) = rest.find('$') {
            let at = text.len() - rest.len() + cut;
            plain.extend_from_slice(&rest.as_bytes()[..cut]);
            rest = &rest[cut + 1..];
            let Some(mark) = rest.chars().next() else { return error(at, "a dollar at the end") };
            rest = &rest[mark.len_utf8()..];
            let mut taken = || std::mem::take(&mut plain);
            match (mark, stage) {
                ('$', _) => plain.push(b'$'),
                ('(', Stage::Head) => (template.head, stage) = (taken(), Stage::Object),
                (',', Stage::Object) if is_list => (template.end, stage) = (taken(), Stage::Between),
                (')', Stage::Between) => (template.between, stage) = (Some(taken()), Stage::Tail),
                (_, Stage::Object) => match slot(mark, &mut rest) {
                    Some(slot) => template.parts.push((taken(), slot)),
                    None => return error(at, "nothing that is known"),
                },
                _ => return error(at, "out of place"),
            }
        }
        plain.extend_from_slice(rest.as_bytes());
        match stage {
            Stage::Object if !is_list => template.end = plain,
            Stage::Tail => template.tail = plain,
            _ => return error(text.len(), "it does not end"),
        }
        Ok(template)
    }
}

/// Whether `$(` stands in it, which `$$(` is not.
fn is_list(text: &str) -> bool {
    let mut marks = text.split('$').skip(1);
    while let Some(mark) = marks.next() {
        match mark.chars().next() {
            Some('(') => return true,
            // Of two dollars in a row the second marks nothing.
            None => drop(marks.next()),
            _ => {}
        }
    }
    false
}

fn slot(mark: char, rest: &mut &str) -> Option<Slot> {
    let mut next = || {
        let next = rest.bytes().next()?;
        *rest = rest.get(1..)?;
        Some(next)
    };
    let digit = |byte: u8| byte.is_ascii_digit().then(|| byte - b'0');
    Some(match mark {
        'm' => Slot::Machine,
        's' => Slot::Sensor,
        'k' => Slot::Kind,
        'u' => Slot::Unit,
        'x' => Slot::Measure(Measure::Text),
        'q' => Slot::Measure(Measure::Quality),
        't' => Slot::Measure(Measure::Epoch(digit(next()?).filter(|digits| digits % 3 == 0)?)),
        'i' => Slot::Measure(Measure::Moment(digit(next()?)?)),
        'v' => Slot::Measure(Measure::Value(match next()? {
            b's' => Style::Shortest,
            b'p' => Style::Pointed,
            byte => Style::Fixed(digit(byte)?),
        })),
        _ => return None,
    })
}
