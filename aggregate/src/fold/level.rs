//! Which windows are meant: of which widths, at which level of writing.

/// How much is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Windows of 10 s, and last readings.
    Fine,
    /// Windows of all widths.
    All,
}

impl Level {
    /// How many there are.
    pub const COUNT: usize = 2;
    /// Each of them; the place is its number.
    pub const EACH: [Self; Self::COUNT] = [Self::Fine, Self::All];

    /// So many widths, from the first on, are written.
    #[must_use]
    pub fn widths(self) -> usize {
        match self {
            Self::Fine => 1,
            Self::All => 4,
        }
    }
}

/// A choice of the four widths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Widths(u8);

impl Widths {
    /// All of them.
    pub const ALL: Self = Self(0b1111);

    /// Those of totals: all but the finest.
    pub const TOTALS: Self = Self(0b1110);

    /// None of them.
    pub const NONE: Self = Self(0);

    /// One, by its index into [`crate::window::WIDTHS_US`].
    #[must_use]
    pub const fn only(width: usize) -> Self {
        Self(1 << width)
    }

    /// Their indices.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..4).filter(move |width| self.0 & (1 << width) != 0)
    }
}

impl Default for Widths {
    fn default() -> Self {
        Self::ALL
    }
}
