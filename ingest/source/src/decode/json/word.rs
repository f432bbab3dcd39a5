//! Eight bytes at once, within one register: digits counted and read, the end of plain text found.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;
const ZEROS: u64 = repeat(b'0');

/// Powers of ten by the digits that they add.
const TENS: [u64; 9] = [1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

const fn repeat(byte: u8) -> u64 {
    ONES * byte as u64
}

/// The eight bytes at `at`, the first lowest; zeros stand for what is beyond the end.
#[inline(always)]
fn eight(bytes: &[u8], at: usize) -> u64 {
    if let Some(eight) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        return u64::from_le_bytes(*eight);
    }
    let left = bytes.len().saturating_sub(at);
    match bytes.last_chunk() {
        Some(eight) => u64::from_le_bytes(*eight).unbounded_shr(8 * (8 - left as u32)),
        None => bytes.iter().skip(at).rev().fold(0, |word, &byte| word << 8 | u64::from(byte)),
    }
}

/// A number's digits without its point.
pub(super) struct Decimal {
    pub(super) mantissa: u64,
    /// Digits before the point.
    pub(super) whole: usize,
    /// Digits behind it.
    pub(super) fraction: usize,
    /// The place after them.
    pub(super) end: usize,
}

/// Where the bytes of `word` are no digits: their highest bit is set. The digits have become 0 to 9. A byte
/// above 0x80 may carry, so nothing is said of what follows one.
#[inline(always)]
fn others(word: u64) -> u64 {
    (word.wrapping_add(repeat(0x76)) | word) & HIGHS
}

/// The digits at `at`, with or without a point among them; a point without a digit behind it is left.
#[inline(always)]
pub(super) fn decimal(bytes: &[u8], at: usize) -> Decimal {
    let word = eight(bytes, at) ^ ZEROS;
    let others = others(word);
    let whole = others.trailing_zeros() / 8;
    let end = (others & others.wrapping_sub(1)).trailing_zeros() / 8;
    let is_point = word.unbounded_shr(8 * whole) as u8 == b'.' ^ b'0';
    if is_point && end < 8 && end > whole + 1 {
        // All of it lies in this word: close the gap that the point leaves.
        let before = (1 << (8 * whole)) - 1;
        let digits = (word & before) | (word >> 8 & !before);
        let (mantissa, fraction) = (number(digits, end - 1), end - 1 - whole);
        return Decimal {
            mantissa,
            whole: whole as usize,
            fraction: fraction as usize,
            end: at + end as usize,
        };
    }
    let mut mantissa = 0;
    let point = digits(bytes, at, &mut mantissa);
    let mut end = point;
    if bytes.get(point) == Some(&b'.') {
        end = digits(bytes, point + 1, &mut mantissa);
    }
    let fraction = (end - point).saturating_sub(1);
    Decimal { mantissa, whole: point - at, fraction, end: if fraction == 0 { point } else { end } }
}

/// Appends the digits at `at` to `value`, wrapping, and gives the place after them.
#[inline(always)]
pub(super) fn digits(bytes: &[u8], mut at: usize, value: &mut u64) -> usize {
    loop {
        let word = eight(bytes, at) ^ ZEROS;
        let len = others(word).trailing_zeros() / 8;
        *value = value.wrapping_mul(TENS[len as usize]).wrapping_add(number(word, len));
        at += len as usize;
        if len < 8 {
            return at;
        }
    }
}

/// The number of the first `len` digits of `word`, which are 0 to 9.
#[inline(always)]
fn number(word: u64, len: u32) -> u64 {
    let word = word.unbounded_shl(64 - 8 * len);
    let pairs = word.wrapping_mul(10).wrapping_add(word >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = pairs.wrapping_mul(100).wrapping_add(pairs >> 16) & 0x0000_ffff_0000_ffff;
    fours.wrapping_mul(10_000).wrapping_add(fours >> 32) & 0xffff_ffff
}

/// The first place from `at` on whose byte does not stand for itself within a string: a quote, a backslash, a
/// control character, or the end.
#[inline(always)]
pub(super) fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() {
        let word = eight(bytes, at);
        // The lowest byte that a difference borrows for is found rightly, and only that one is asked for.
        let below = |word: u64, limit: u8| word.wrapping_sub(repeat(limit)) & !word & HIGHS;
        let special = below(word, 0x20) | below(word ^ repeat(b'"'), 1) | below(word ^ repeat(b'\\'), 1);
        if special != 0 {
            return (at + special.trailing_zeros() as usize / 8).min(bytes.len());
        }
        at += 8;
    }
    bytes.len()
}

/// The place after `literal`, if it stands at `at`. Compares in words, the last of which may overlap.
#[inline(always)]
pub(super) fn after(bytes: &[u8], at: usize, literal: &[u8]) -> Option<usize> {
    let end = at + literal.len();
    let found = bytes.get(at..end)?;
    let same = if let (Some(a), Some(b)) = (found.last_chunk::<16>(), literal.last_chunk::<16>()) {
        let mut chunks = found.as_chunks::<16>().0.iter().zip(literal.as_chunks::<16>().0);
        chunks.all(|(a, b)| a == b) && a == b
    } else if let (Some(a), Some(b)) = (found.last_chunk::<8>(), literal.last_chunk::<8>()) {
        a == b && found.first_chunk::<8>() == literal.first_chunk()
    } else {
        found.iter().zip(literal).all(|(a, b)| a == b)
    };
    same.then_some(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn words_say_what_bytes_say(bytes in "[0-9]{0,30}[ -~\u{0}-\u{200}]{0,9}[0-9\"\\\\]{0,30}", at in 0usize..80) {
            let bytes = bytes.as_bytes();
            let rest = bytes.get(at..).unwrap_or_default();
            let plain = rest.iter().take_while(|&&b| b >= 0x20 && b != b'"' && b != b'\\').count();
            prop_assert_eq!(plain_end(bytes, at).max(at), at + plain);
            let run = rest.iter().take_while(|b| b.is_ascii_digit());
            let mut value = 7;
            let expected = run.clone().fold(7u64, |v, b| v.wrapping_mul(10).wrapping_add(u64::from(b - b'0')));
            prop_assert_eq!(digits(bytes, at, &mut value), at + run.count());
            prop_assert_eq!(value, expected);
        }
    }
}
