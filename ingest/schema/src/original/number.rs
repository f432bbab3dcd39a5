//! Numbers written as their clients write them.
//!
//! Any decimal of at most 15 digits is the only one of so few digits that reads as its `f64` (IEEE 754, `DBL_DIG`),
//! so a quotient of an integer below 10^15 and a power of ten that gives the number back is what was written.
//! What needs more digits goes to the standard library, which finds the shortest.

use std::io::Write;

use super::Style;

/// Powers of ten, all exact.
const POWERS: [f64; 16] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// Integers that have at most 15 digits.
const DIGITS_15: f64 = 1e15;

/// From where to where numbers are written without an exponent by all that write the shortest decimal, or some.
const PLAIN: std::ops::Range<f64> = 1e-7..1e21;

/// A short text on the stack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text {
    bytes: [u8; Text::BYTES],
    start: usize,
}

impl Text {
    const BYTES: usize = 48;

    pub(super) fn new() -> Self {
        Self { bytes: [0; Self::BYTES], start: Self::BYTES }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    #[inline(always)]
    pub(super) fn before(&mut self, byte: u8) {
        self.start -= 1;
        self.bytes[self.start] = byte;
    }

    /// Puts at least `digits` digits of `number` before what is there.
    #[inline(always)]
    pub(super) fn digits_before(&mut self, mut number: u64, digits: usize) {
        let least = self.start - digits;
        while number >= 10 || self.start > least + 1 {
            self.before(b'0' + (number % 10) as u8);
            number /= 10;
        }
        if self.start > least || number > 0 {
            self.before(b'0' + number as u8);
        }
    }
}

/// Writes an integer.
#[inline(always)]
pub(super) fn integer(number: i64) -> Text {
    let mut text = Text::new();
    text.digits_before(number.unsigned_abs(), 1);
    if number < 0 {
        text.before(b'-');
    }
    text
}

/// Writes `value`; none where the style has no way to. `decimals` is where digits behind the point are looked for
/// first: it saves time and changes nothing.
#[inline(always)]
pub(super) fn float(value: f64, style: Style, decimals: &mut u8) -> Option<Text> {
    let magnitude = value.abs();
    let (digits, behind) = match style {
        Style::Fixed(behind) => (quotient(magnitude, behind)?, behind),
        Style::Shortest | Style::Pointed => match shortest(magnitude, decimals) {
            Some(found) => found,
            None => return by_library(value, style),
        },
    };
    let mut text = Text::new();
    let (digits, behind) = match (style, behind) {
        (Style::Pointed, 0) => (digits * 10, 1),
        _ => (digits, behind),
    };
    if behind > 0 {
        let power = POWERS[usize::from(behind)] as u64;
        text.digits_before(digits % power, usize::from(behind));
        text.before(b'.');
        text.digits_before(digits / power, 1);
    } else {
        text.digits_before(digits, 1);
    }
    if value.is_sign_negative() {
        text.before(b'-');
    }
    Some(text)
}

/// The integer that is `magnitude` when divided by ten to the `behind`, if it has at most 15 digits.
#[inline(always)]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "below 1e15"
)]
fn quotient(magnitude: f64, behind: u8) -> Option<u64> {
    let power = POWERS[usize::from(behind)];
    let scaled = magnitude * power;
    if scaled >= DIGITS_15 {
        return None;
    }
    let digits = (scaled + 0.5) as i64;
    (digits as f64 / power == magnitude).then_some(digits as u64)
}

/// Digits and how many of them are behind the point, as few as can be.
#[inline(always)]
fn shortest(magnitude: f64, decimals: &mut u8) -> Option<(u64, u8)> {
    let mut found = (quotient(magnitude, *decimals), *decimals);
    if found.0.is_none() {
        found =
            (0..=15).map(|behind| (quotient(magnitude, behind), behind)).find(|found| found.0.is_some())?;
        *decimals = found.1;
    }
    let (mut digits, mut behind) = (found.0?, found.1);
    while behind > 0 && digits.is_multiple_of(10) {
        digits /= 10;
        behind -= 1;
    }
    Some((digits, behind))
}

#[inline(never)]
fn by_library(value: f64, style: Style) -> Option<Text> {
    if !PLAIN.contains(&value.abs()) {
        return None;
    }
    let mut written = [0u8; Text::BYTES];
    let mut rest = &mut written[..];
    write!(rest, "{value}").ok()?;
    let len = Text::BYTES - rest.len();
    let mut text = Text::new();
    if style == Style::Pointed && !written[..len].contains(&b'.') {
        text.before(b'0');
        text.before(b'.');
    }
    written[..len].iter().rev().for_each(|byte| text.before(*byte));
    Some(text)
}
