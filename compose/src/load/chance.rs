//! Chance from a seed: hashes of where and when, so that a plant's past and future can be asked for in any
//! order, and stay the same across versions of every library.

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection that scatters every bit.
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// One hash of several numbers; their order matters.
pub(super) fn hash<const N: usize>(parts: [u64; N]) -> u64 {
    parts.into_iter().fold(0, |state, part| mix(state ^ part))
}

/// A hash as a number in `[0, 1)`.
#[allow(clippy::cast_precision_loss)]
pub(super) fn unit(hash: u64) -> f64 {
    (hash >> 11) as f64 / (1u64 << 53) as f64
}

/// A hash as a bell-shaped number with mean 0, variance 1 and no value beyond 3.5: the sum of four
/// uniform ones.
pub(super) fn bell(hash: u64) -> f64 {
    let sum: u64 = (0..4).map(|i| (hash >> (16 * i)) & 0xFFFF).sum();
    #[allow(clippy::cast_precision_loss)]
    let centred = sum as f64 / 65_536.0 - 2.0;
    centred * 3f64.sqrt()
}

/// A sequence of chances, for what happens in order.
#[derive(Clone, Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// In `[0, 1)`.
    pub(super) fn unit(&mut self) -> f64 {
        unit(self.next())
    }

    /// True with probability `p`.
    pub(super) fn happens(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// In `[0, n)`; `n` must not be 0.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bell_is_centred_and_has_unit_variance() {
        let draws: Vec<f64> = (0..100_000).map(|i| bell(hash([7, i]))).collect();
        let n = 100_000.0;
        let mean = draws.iter().sum::<f64>() / n;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        assert!(mean.abs() < 0.02, "mean {mean}");
        assert!((variance - 1.0).abs() < 0.03, "variance {variance}");
    }
}
