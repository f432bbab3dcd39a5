//! OPC UA status codes, as far as Stillwell itself sets or reads them.
//!
//! Source: OPC UA Part 4, section 7.38 (StatusCode); the two top bits are the severity.

/// The value is good.
pub const GOOD: u32 = 0x0000_0000;
/// The value is uncertain.
pub const UNCERTAIN: u32 = 0x4000_0000;
/// The value is bad.
pub const BAD: u32 = 0x8000_0000;

/// Whether the severity is bad or the reserved one, `0xC000_0000`, which nobody can vouch for. An uncertain
/// value is usable and not bad.
#[must_use]
pub fn is_bad(quality: u32) -> bool {
    quality & BAD != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_and_reserved_are_bad_and_uncertain_is_usable() {
        let cases = [
            (GOOD, false),
            (0x002d_0000, false),
            (UNCERTAIN, false),
            (0x40a4_0000, false),
            (BAD, true),
            (0x808c_0000, true),
            (0xC000_0000, true),
            (u32::MAX, true),
        ];
        for (quality, expected) in cases {
            assert_eq!(is_bad(quality), expected, "{quality:#x}");
        }
    }
}
