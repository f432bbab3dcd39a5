//! Which encoding suits a file's values.

use std::collections::HashSet;

use super::batch::Part;

/// How the `value` column is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueEncoding {
    /// Values repeat: counters, set points, sensors of few digits.
    Dictionary,
    /// Values differ: their bytes are split into streams, which zstd then packs far better.
    ByteStreamSplit,
}

/// Values looked at: as many as a dictionary page holds, so that one too large shows.
const SAMPLE: usize = 1 << 17;

/// A dictionary pays where a value of the sample comes this many times on average: its codes then take at
/// most 15 bits where packed byte streams take 20 to 40.
const REPEATS: usize = 4;

/// Chooses by counting the distinct values of an evenly spread sample.
pub(super) fn choose(parts: &[Part]) -> ValueEncoding {
    let total: usize = parts.iter().map(|part| part.columns.len()).sum();
    let stride = total.div_ceil(SAMPLE).max(1);
    let mut distinct = HashSet::new();
    let mut looked = 0;
    for columns in parts.iter().map(|part| &part.columns) {
        for (value, has) in columns.value.iter().zip(&columns.has_value).step_by(stride) {
            if *has {
                distinct.insert(value.to_bits());
                looked += 1;
            }
        }
    }
    if distinct.len() * REPEATS <= looked {
        ValueEncoding::Dictionary
    } else {
        ValueEncoding::ByteStreamSplit
    }
}
