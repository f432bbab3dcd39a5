//! OPC UA status codes, as far as Stillwell itself sets or reads them.
//!
//! Source: OPC UA Part 4, section 7.38 (StatusCode); the two top bits are the severity.

/// The value is good.
pub const GOOD: u32 = 0x0000_0000;
/// The value is uncertain.
pub const UNCERTAIN: u32 = 0x4000_0000;
/// The value is bad.
pub const BAD: u32 = 0x8000_0000;

/// Whether the severity is not "good".
#[must_use]
pub fn is_bad(quality: u32) -> bool {
    quality & 0xC000_0000 == BAD
}
