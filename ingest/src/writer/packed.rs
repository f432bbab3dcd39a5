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
    deltas(values, |delta| delta, |rest| rest.cast_unsigned(), out);
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
