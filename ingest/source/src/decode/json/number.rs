//! JSON numbers to `f64`, correctly rounded.
//!
//! A decimal of at most 2^53 and a power of ten of at most 22 are both exact in `f64`, so one division rounds
//! once, as IEEE 754 asks (Clinger, "How to read floating point numbers accurately", 1990). A longer decimal
//! of up to 19 digits is divided as an integer, to 64 bits and whether anything is left, and rounded from
//! there. Everything else goes to the standard library.

use super::word::{self, Decimal};

/// Powers of ten that `f64` holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

const MANTISSA_MAX: u64 = 1 << 53;
/// A `u64` holds any number of so many digits; the largest `i64` has as many.
const DIGITS_MAX: usize = 19;

/// Reads the number at `start`: its value and the place after it. None where there is no number by RFC 8259,
/// or where it is beyond `f64`.
#[inline(always)]
pub(super) fn float(bytes: &[u8], start: usize) -> Option<(f64, usize)> {
    let negative = bytes.get(start) == Some(&b'-');
    let first = start + usize::from(negative);
    let Decimal { mantissa, whole, fraction, end: at } = word::decimal(bytes, first);
    let next = bytes.get(at);
    if whole == 0 || (whole > 1 && bytes[first] == b'0') || next == Some(&b'.') {
        return None;
    }
    if matches!(next, Some(b'e' | b'E')) {
        let exponent = at + 1 + usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let end = word::digits(bytes, exponent, &mut 0);
        return if end > exponent { by_library(bytes, start, end) } else { None };
    }
    if whole + fraction > DIGITS_MAX {
        return by_library(bytes, start, at);
    }
    let value = divided(mantissa, fraction);
    Some((if negative { -value } else { value }, at))
}

/// `mantissa` by ten to the `fraction`, which is below 19, rounded once.
#[inline(always)]
#[allow(clippy::cast_precision_loss, reason = "at most 2^53")]
fn divided(mantissa: u64, fraction: usize) -> f64 {
    if mantissa <= MANTISSA_MAX {
        return mantissa as f64 / POWERS[fraction];
    }
    divided_long(mantissa, fraction)
}

#[inline(never)]
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "the rounding")]
fn divided_long(mantissa: u64, fraction: usize) -> f64 {
    // The quotient has its highest bit at 63 or 62, so that the bits it loses as f64 hold a bit for the rest.
    let divisor = 10u64.pow(fraction as u32);
    let shift = mantissa.leading_zeros() + 63 - divisor.leading_zeros();
    let dividend = u128::from(mantissa) << shift;
    let quotient = (dividend / u128::from(divisor)) as u64;
    let rest = dividend != u128::from(quotient) * u128::from(divisor);
    (quotient | u64::from(rest)) as f64 / (1u128 << shift) as f64
}

/// Reads the integer at `start`: its value and the place after it. None where there is none, where it goes on
/// as a fraction or exponent, or where it is beyond `i64`.
#[inline(always)]
pub(super) fn integer(bytes: &[u8], start: usize) -> Option<(i64, usize)> {
    let negative = bytes.get(start) == Some(&b'-');
    let first = start + usize::from(negative);
    let mut value = 0;
    let end = word::digits(bytes, first, &mut value);
    let len = end - first;
    let leading_zero = len > 1 && bytes[first] == b'0';
    let goes_on = matches!(bytes.get(end), Some(b'.' | b'e' | b'E'));
    if len == 0 || len > DIGITS_MAX || leading_zero || goes_on {
        return None;
    }
    let value = i64::try_from(value).ok()?;
    Some((if negative { -value } else { value }, end))
}

#[inline(never)]
fn by_library(bytes: &[u8], start: usize, end: usize) -> Option<(f64, usize)> {
    let value: f64 = std::str::from_utf8(&bytes[start..end]).ok()?.parse().ok()?;
    value.is_finite().then_some((value, end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_number_is_refused() {
        for text in
            ["", "-", ".5", "01", "-01", "1.", "1.e5", "1e", "1e+", "+1", "nan", "inf", "1e400", "-1e999"]
        {
            assert_eq!(float(text.as_bytes(), 0), None, "{text}");
        }
        for text in ["", "-", "01", "1.0", "1e3", "99999999999999999999", "9223372036854775808", "x"] {
            assert_eq!(integer(text.as_bytes(), 0), None, "{text}");
        }
    }

    #[test]
    fn minus_zero_keeps_its_sign() {
        assert!(float(b"-0", 0).unwrap().0.is_sign_negative());
        assert!(float(b"-0.00", 0).unwrap().0.is_sign_negative());
    }

    proptest! {
        #[test]
        fn floats_are_those_of_the_library(text in r"-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,24})?([eE][+-]?[0-9]{1,2})?") {
            let (value, len) = float(format!("{text},").as_bytes(), 0).unwrap();
            prop_assert_eq!(len, text.len());
            prop_assert_eq!(value.to_bits(), text.parse::<f64>().unwrap().to_bits());
        }

        #[test]
        fn integers_are_those_of_the_library(number in -i64::MAX..=i64::MAX) {
            let text = number.to_string();
            prop_assert_eq!(integer(text.as_bytes(), 0), Some((number, text.len())));
        }
    }
}
