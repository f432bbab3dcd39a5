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

/// The same as integers.
const TENS: [u64; 16] = {
    let mut tens = [1; 16];
    let mut at = 1;
    while at < 16 {
        tens[at] = tens[at - 1] * 10;
        at += 1;
    }
    tens
};

/// Integers that have at most 15 digits.
const DIGITS_15: f64 = 1e15;

/// From where to where numbers are written without an exponent by all that write the shortest decimal, or some.
const PLAIN: std::ops::Range<f64> = 1e-7..1e21;

/// Two digits of each number below a hundred.
static PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
};

/// A short text on the stack, written from its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text {
    bytes: [u8; Text::BYTES],
    start: usize,
}

impl Default for Text {
    fn default() -> Self {
        Self { bytes: [0; Self::BYTES], start: Self::BYTES }
    }
}

impl Text {
    const BYTES: usize = 48;

    pub(super) fn clear(&mut self) {
        self.start = Self::BYTES;
    }

    #[inline(always)]
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
        while number >= 100 {
            self.pair_before(number % 100);
            number /= 100;
        }
        if number >= 10 {
            self.pair_before(number);
        } else if number > 0 {
            self.before(b'0' + number as u8);
        }
        while self.start > least {
            self.before(b'0');
        }
    }

    #[inline(always)]
    fn pair_before(&mut self, number: u64) {
        self.start -= 2;
        self.bytes[self.start..self.start + 2].copy_from_slice(&PAIRS[number as usize]);
    }
}

/// Writes an integer.
#[inline(always)]
pub(super) fn integer(number: i64, text: &mut Text) {
    text.clear();
    text.digits_before(number.unsigned_abs(), 1);
    if number < 0 {
        text.before(b'-');
    }
}

/// Writes `value`; false where the style has no way to. `decimals` is where digits behind the point are looked for
/// first: it saves time and changes nothing.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 1e15")]
pub(super) fn float(value: f64, style: Style, decimals: &mut u8, text: &mut Text) -> bool {
    let magnitude = value.abs();
    let found = match style {
        Style::Fixed(behind) => quotient(magnitude, behind).map(|digits| (digits, behind)),
        Style::Shortest | Style::Pointed => shortest(magnitude, decimals),
    };
    text.clear();
    let Some((digits, behind)) = found else {
        return !matches!(style, Style::Fixed(_)) && by_library(value, style, text);
    };
    match (style, behind) {
        (Style::Pointed, 0) => {
            text.before(b'0');
            text.before(b'.');
            text.digits_before(digits, 1);
        }
        (_, 0) => text.digits_before(digits, 1),
        _ => {
            // A decimal of 15 digits below a whole number is read as less than it.
            let whole = magnitude as i64 as u64;
            text.digits_before(digits - whole * TENS[usize::from(behind)], usize::from(behind));
            text.before(b'.');
            text.digits_before(whole, 1);
        }
    }
    if value.is_sign_negative() {
        text.before(b'-');
    }
    true
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
    let (mut digits, mut behind) = match quotient(magnitude, *decimals) {
        Some(digits) => (digits, *decimals),
        None => search(magnitude, decimals)?,
    };
    while behind > 0 && digits.is_multiple_of(10) {
        digits /= 10;
        behind -= 1;
    }
    Some((digits, behind))
}

#[inline(never)]
fn search(magnitude: f64, decimals: &mut u8) -> Option<(u64, u8)> {
    for behind in 0..=15 {
        if let Some(digits) = quotient(magnitude, behind) {
            *decimals = behind;
            return Some((digits, behind));
        }
    }
    None
}

#[inline(never)]
fn by_library(value: f64, style: Style, text: &mut Text) -> bool {
    if !PLAIN.contains(&value.abs()) {
        return false;
    }
    let mut written = [0u8; Text::BYTES];
    let mut rest = &mut written[..];
    if write!(rest, "{value}").is_err() {
        return false;
    }
    let len = Text::BYTES - rest.len();
    let written = &written[..len];
    if style == Style::Pointed && !written.contains(&b'.') {
        text.before(b'0');
        text.before(b'.');
    }
    written.iter().rev().for_each(|byte| text.before(*byte));
    true
}
