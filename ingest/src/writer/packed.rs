//! Integers packed as Parquet packs them: DELTA_BINARY_PACKED, and the hybrid of runs and bit-packed groups
//! (Apache Parquet, "Encodings").

/// Deltas of a block, and of the four miniblocks that it has.
const BLOCK: usize = 128;
const MINIBLOCK: usize = 32;

/// Appends an unsigned LEB128.
pub(super) fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn zigzag(number: i64, out: &mut Vec<u8>) {
    varint((number << 1 ^ number >> 63).cast_unsigned(), out);
}

/// Bits that numbers up to `most` take.
pub(super) fn width(most: u64) -> u32 {
    u64::BITS - most.leading_zeros()
}

/// Appends 64-bit integers as deltas.
pub(super) fn deltas_64(values: &[i64], out: &mut Vec<u8>) {
    deltas(values, |delta| delta, i64::cast_unsigned, out);
}

/// Appends integers that are 32 bits wide in the file as deltas, which wrap there.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "they wrap")]
pub(super) fn deltas_32(values: &[i64], out: &mut Vec<u8>) {
    deltas(values, |delta| i64::from(delta as i32), |rest| u64::from(rest as u32), out);
}

#[inline(always)]
fn deltas(values: &[i64], wrap: impl Fn(i64) -> i64, rest: impl Fn(i64) -> u64, out: &mut Vec<u8>) {
    varint(BLOCK as u64, out);
    varint((BLOCK / MINIBLOCK) as u64, out);
    varint(values.len() as u64, out);
    zigzag(values.first().map_or(0, |first| wrap(*first)), out);
    for at in (1..values.len()).step_by(BLOCK) {
        let block = &values[at..values.len().min(at + BLOCK)];
        let before = &values[at - 1..at - 1 + block.len()];
        let mut found = [0i64; BLOCK];
        for ((delta, value), before) in found.iter_mut().zip(block).zip(before) {
            *delta = wrap(value.wrapping_sub(*before));
        }
        let least = found[..block.len()].iter().copied().min().unwrap_or(0);
        let mut above = [0u64; BLOCK];
        for (above, delta) in above.iter_mut().zip(&found[..block.len()]) {
            *above = rest(delta.wrapping_sub(least));
        }
        zigzag(least, out);
        let miniblocks = above.as_chunks::<MINIBLOCK>().0;
        let widths = [0, 1, 2, 3].map(|i| width(miniblocks[i].iter().fold(0, |all, above| all | above)));
        out.extend(widths.map(|width| width as u8));
        for (miniblock, width) in miniblocks.iter().zip(widths) {
            pack(miniblock, width, out);
        }
    }
}

/// Packs numbers of `width` bits, the first lowest; so many that whole bytes come of it.
#[inline(always)]
fn pack(numbers: &[u64; MINIBLOCK], width: u32, out: &mut Vec<u8>) {
    match width {
        0 => {}
        1..=32 => {
            let (mut word, mut bits) = (0u64, 0);
            for number in numbers {
                word |= number << bits;
                bits += width;
                if bits >= 32 {
                    out.extend_from_slice(&(word as u32).to_le_bytes());
                    word >>= 32;
                    bits -= 32;
                }
            }
        }
        _ => {
            let (mut word, mut bits) = (0u128, 0);
            for number in numbers {
                word |= u128::from(*number) << bits;
                bits += width;
                if bits >= 64 {
                    out.extend_from_slice(&(word as u64).to_le_bytes());
                    word >>= 64;
                    bits -= 64;
                }
            }
            // 32 numbers of an odd width end amid a word.
            if bits > 0 {
                out.extend_from_slice(&(word as u32).to_le_bytes());
            }
        }
    }
}

/// Appends a run of the hybrid: `len` times `code`, of `width` bits.
pub(super) fn run(code: u32, len: usize, width: u32, out: &mut Vec<u8>) {
    if len > 0 {
        varint((len as u64) << 1, out);
        out.extend_from_slice(&code.to_le_bytes()[..width.div_ceil(8) as usize]);
    }
}

/// Appends all `codes`, of `width` bits, as one bit-packed run of the hybrid.
pub(super) fn groups(codes: &[u32], width: u32, out: &mut Vec<u8>) {
    let groups = codes.len().div_ceil(8);
    varint((groups as u64) << 1 | 1, out);
    let end = out.len() + groups * width as usize;
    out.reserve(groups * width as usize + 4);
    let (mut word, mut bits) = (0u64, 0);
    for code in codes {
        word |= u64::from(*code) << bits;
        bits += width;
        if bits >= 32 {
            out.extend_from_slice(&(word as u32).to_le_bytes());
            word >>= 32;
            bits -= 32;
        }
    }
    out.extend_from_slice(&(word as u32).to_le_bytes());
    // The last group is filled up with zeros.
    out.resize(end, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The format read by its definition, bit by bit.
    struct Bits<'a> {
        bytes: &'a [u8],
        at: usize,
    }

    impl Bits<'_> {
        fn take(&mut self, width: u32) -> u64 {
            (0..width).fold(0, |number, bit| {
                let found = self.bytes[self.at / 8] >> (self.at % 8) & 1;
                self.at += 1;
                number | u64::from(found) << bit
            })
        }

        fn varint(&mut self) -> u64 {
            let mut number = 0;
            for shift in (0..).step_by(7) {
                let byte = self.take(8);
                number |= (byte & 0x7f) << shift;
                if byte < 0x80 {
                    break;
                }
            }
            number
        }

        fn zigzag(&mut self) -> i64 {
            let number = self.varint();
            (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
        }
    }

    fn undelta(bytes: &[u8], wrap: fn(i64) -> i64) -> Vec<i64> {
        let mut bits = Bits { bytes, at: 0 };
        let (block, miniblocks, count) =
            (bits.varint() as usize, bits.varint() as usize, bits.varint() as usize);
        let mut values = vec![bits.zigzag()];
        while values.len() < count {
            let least = bits.zigzag();
            let widths: Vec<u32> = (0..miniblocks).map(|_| bits.take(8) as u32).collect();
            for width in widths {
                for _ in 0..block / miniblocks {
                    let delta = least.wrapping_add(bits.take(width).cast_signed());
                    values.push(wrap(values[values.len() - 1].wrapping_add(delta)));
                }
            }
        }
        values.truncate(count);
        assert_eq!(bits.at, bytes.len() * 8, "nothing is left, nothing is missing");
        values
    }

    #[test]
    fn deltas_of_every_width_come_back() {
        let mut state = 7u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state ^ state >> 29
        };
        for width in 0..=64 {
            for len in [1, 2, 31, 32, 33, 64, 128, 129, 130, 161, 257, 300] {
                let mask = u64::MAX.unbounded_shr(64 - width);
                let mut values = vec![random().cast_signed()];
                for _ in 1..len {
                    values.push(values[values.len() - 1].wrapping_add((random() & mask).cast_signed()));
                }
                let mut out = Vec::new();
                deltas_64(&values, &mut out);
                assert_eq!(undelta(&out, |value| value), values, "{width} {len}");
                let narrow: Vec<i64> = values.iter().map(|value| i64::from(*value as i32)).collect();
                out.clear();
                deltas_32(&narrow, &mut out);
                assert_eq!(undelta(&out, |value| i64::from(value as i32)), narrow, "{width} {len}");
            }
        }
    }

    #[test]
    fn runs_and_groups_are_those_of_the_format() {
        for width in 0..=20 {
            let codes: Vec<u32> =
                (0u32..83).map(|i| i.wrapping_mul(2_654_435_761) & ((1 << width) - 1)).collect();
            let mut out = Vec::new();
            run(3 & ((1 << width) - 1), 1000, width, &mut out);
            groups(&codes, width, &mut out);
            let mut bits = Bits { bytes: &out, at: 0 };
            assert_eq!(bits.varint(), 1000 << 1);
            assert_eq!(bits.take(width.div_ceil(8) * 8), u64::from(3 & ((1u32 << width) - 1)));
            assert_eq!(bits.varint(), 11 << 1 | 1);
            let found: Vec<u32> = (0..83).map(|_| bits.take(width) as u32).collect();
            assert_eq!(found, codes, "{width}");
            assert!((0..5).all(|_| bits.take(width) == 0));
            assert_eq!(bits.at, out.len() * 8);
        }
    }
}
