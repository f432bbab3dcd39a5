//! JSON numbers to `f64`, correctly rounded.
//!
//! A decimal of at most 2^53 and a power of ten of at most 22 are both exact in `f64`, so one
//! multiplication or division rounds once, as IEEE 754 asks (Clinger, "How to read floating point numbers
//! accurately", 1990). Everything else goes to the standard library.

/// Powers of ten that `f64` holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

const MANTISSA_MAX: u64 = 1 << 53;
/// A `u64` holds any number of so many digits; the largest `i64` has as many.
const DIGITS_MAX: usize = 19;

/// Reads the number at the start of `bytes`: its value and its length. None where there is no number by
/// RFC 8259, or where it is beyond `f64`.
pub(super) fn float(bytes: &[u8]) -> Option<(f64, usize)> {
    let negative = bytes.first() == Some(&b'-');
    let start = usize::from(negative);
    let mut at = start;
    let mut mantissa = 0u64;
    at += digits(&bytes[at..], &mut mantissa);
    let whole = at - start;
    if whole == 0 || (whole > 1 && bytes[start] == b'0') {
        return None;
    }
    let mut fraction = 0;
    if bytes.get(at) == Some(&b'.') {
        fraction = digits(&bytes[at + 1..], &mut mantissa);
        if fraction == 0 {
            return None;
        }
        at += 1 + fraction;
    }
    let plain = whole + fraction <= DIGITS_MAX && fraction < POWERS.len() && mantissa <= MANTISSA_MAX;
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        at += 1 + usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let exponent = digits(&bytes[at..], &mut 0);
        if exponent == 0 {
            return None;
        }
        return by_library(&bytes[..at + exponent]);
    }
    if !plain {
        return by_library(&bytes[..at]);
    }
    #[allow(clippy::cast_precision_loss, reason = "at most 2^53")]
    let value = mantissa as f64 / POWERS[fraction];
    Some((if negative { -value } else { value }, at))
}

/// Reads the integer at the start of `bytes`: its value and its length. None where there is none, where it
/// goes on as a fraction or exponent, or where it is beyond `i64`.
pub(super) fn integer(bytes: &[u8]) -> Option<(i64, usize)> {
    let negative = bytes.first() == Some(&b'-');
    let start = usize::from(negative);
    let mut value = 0;
    let len = digits(&bytes[start..], &mut value);
    let leading_zero = len > 1 && bytes[start] == b'0';
    let goes_on = matches!(bytes.get(start + len), Some(b'.' | b'e' | b'E'));
    if len == 0 || len > DIGITS_MAX || leading_zero || goes_on {
        return None;
    }
    let value = i64::try_from(value).ok()?;
    Some((if negative { -value } else { value }, start + len))
}

/// Appends the digits at the start of `bytes` to `value`, wrapping, and says how many there are.
#[inline]
fn digits(bytes: &[u8], value: &mut u64) -> usize {
    let mut len = 0;
    while let Some(eight) = bytes.get(len..len + 8) {
        let Some(number) = eight_digits(eight) else { break };
        *value = value.wrapping_mul(100_000_000).wrapping_add(number);
        len += 8;
    }
    while let Some(digit) = bytes.get(len).map(|b| b.wrapping_sub(b'0')).filter(|&d| d < 10) {
        *value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        len += 1;
    }
    len
}

/// Eight ASCII digits at once, within one register.
#[inline]
fn eight_digits(bytes: &[u8]) -> Option<u64> {
    let chunk = u64::from_le_bytes(bytes.try_into().ok()?);
    let value = chunk.wrapping_sub(0x3030_3030_3030_3030);
    // A byte below '0' borrows and a byte above '9' carries into its high bits.
    if (chunk.wrapping_add(0x4646_4646_4646_4646) | value) & 0x8080_8080_8080_8080 != 0 {
        return None;
    }
    let pairs = value.wrapping_mul(10).wrapping_add(value >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = pairs.wrapping_mul(100).wrapping_add(pairs >> 16) & 0x0000_ffff_0000_ffff;
    Some(fours.wrapping_mul(10_000).wrapping_add(fours >> 32) & 0xffff_ffff)
}

fn by_library(bytes: &[u8]) -> Option<(f64, usize)> {
    let value: f64 = std::str::from_utf8(bytes).ok()?.parse().ok()?;
    value.is_finite().then_some((value, bytes.len()))
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
            assert_eq!(float(text.as_bytes()), None, "{text}");
        }
        for text in ["", "-", "01", "1.0", "1e3", "99999999999999999999", "9223372036854775808", "x"] {
            assert_eq!(integer(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn minus_zero_keeps_its_sign() {
        assert!(float(b"-0").unwrap().0.is_sign_negative());
        assert!(float(b"-0.00").unwrap().0.is_sign_negative());
    }

    proptest! {
        #[test]
        fn floats_are_those_of_the_library(text in r"-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,24})?([eE][+-]?[0-9]{1,2})?") {
            let (value, len) = float(format!("{text},").as_bytes()).unwrap();
            prop_assert_eq!(len, text.len());
            prop_assert_eq!(value.to_bits(), text.parse::<f64>().unwrap().to_bits());
        }

        #[test]
        fn integers_are_those_of_the_library(number in -i64::MAX..=i64::MAX) {
            let text = number.to_string();
            prop_assert_eq!(integer(text.as_bytes()), Some((number, text.len())));
        }
    }
}
