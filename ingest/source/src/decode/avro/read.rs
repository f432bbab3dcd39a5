//! Avro's binary encoding, read as a plan says: values are taken where they are wanted, and passed over elsewhere.
//!
//! A record states the numbers of items of its arrays and maps; nothing is set aside for them before they are there.
//! Items that take no bytes, of which a few bytes can announce any number, are bounded by [`EMPTY_ITEMS_MAX`].

use super::super::DecodeError;
use super::super::wire::{varint, zigzag};
use super::plan::{Chars, Number, Op, OpId, Plan};

/// Values lie in each other no deeper than this.
pub(super) const DEPTH_MAX: usize = 64;
/// Items without a byte that one record may have.
pub(super) const EMPTY_ITEMS_MAX: usize = 65_536;

/// Bytes at the place where one reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
    /// Items so far that took no bytes.
    empty: usize,
}

/// A plain value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Leaf<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// Text, not checked yet.
    Text(&'a [u8]),
    /// µs since 1970; none where that is beyond 64 bits.
    Time(Option<i64>),
    /// Something else, by its name.
    Other(&'static str),
}

/// What is left of an array's or a map's block.
#[derive(Debug, Default)]
pub(super) struct Block {
    left: u64,
    ended: bool,
}

impl Block {
    /// Whether another item follows, whose first byte is then next.
    #[inline]
    pub(super) fn next(&mut self, cursor: &mut Cursor<'_>) -> Result<bool, DecodeError> {
        if self.ended {
            return Ok(false);
        }
        if self.left == 0 {
            let count = cursor.long()?;
            if count < 0 {
                // The block's bytes, for those who pass over it.
                cursor.long()?;
            }
            self.left = count.unsigned_abs();
            if self.left == 0 {
                self.ended = true;
                return Ok(false);
            }
        }
        self.left -= 1;
        Ok(true)
    }
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at, empty: 0 }
    }

    #[inline]
    pub(super) fn long(&mut self) -> Result<i64, DecodeError> {
        match self.bytes.get(self.at) {
            Some(&byte @ 0..0x80) => {
                self.at += 1;
                Ok(zigzag(u64::from(byte)))
            }
            _ => match varint(&self.bytes[self.at..]) {
                Some((value, len)) => {
                    self.at += len;
                    Ok(zigzag(value))
                }
                None => Err(self.error("a number that does not end, or is too long")),
            },
        }
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let Some(taken) = self.bytes[self.at..].get(..len) else {
            let left = self.bytes.len() - self.at;
            return Err(self.error(format!("{len} bytes are announced, and {left} are left")));
        };
        self.at += len;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let Some(array) = self.bytes[self.at..].first_chunk::<N>() else {
            return Err(self.error("the record ends inside a number"));
        };
        self.at += N;
        Ok(*array)
    }

    /// Text or bytes with their length before them.
    #[inline]
    pub(super) fn chars(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.long()?;
        let Ok(len) = usize::try_from(len) else {
            return Err(self.error(format!("a length of {len}")));
        };
        self.take(len)
    }

    fn error(&self, message: impl Into<String>) -> DecodeError {
        DecodeError::new("syntax", self.at, message)
    }

    /// Counts an item that began at byte `start`, if it took none.
    #[inline]
    pub(super) fn count_item(&mut self, start: usize) -> Result<(), DecodeError> {
        if self.at == start {
            self.empty += 1;
            if self.empty > EMPTY_ITEMS_MAX {
                let message = format!("more than {EMPTY_ITEMS_MAX} items without a byte in one record");
                return Err(DecodeError::new("too_large", self.at, message));
            }
        }
        Ok(())
    }

    pub(super) fn too_deep(&self, depth: usize) -> Result<(), DecodeError> {
        if depth > DEPTH_MAX {
            let message = format!("values lie in each other deeper than {DEPTH_MAX}");
            return Err(DecodeError::new("too_deep", self.at, message));
        }
        Ok(())
    }
}

impl Plan {
    /// The operation at hand, after the branch of a union.
    #[inline]
    pub(super) fn branch(&self, mut op: OpId, cursor: &mut Cursor<'_>) -> Result<(OpId, &Op), DecodeError> {
        if let Op::Union(branches) = &self.ops[op as usize] {
            let number = cursor.long()?;
            let branch = usize::try_from(number).ok().and_then(|number| branches.get(number));
            op = *branch.ok_or_else(|| cursor.error(format!("a union has no branch {number}")))?;
        }
        match &self.ops[op as usize] {
            Op::Refuse(reason) => Err(DecodeError::new("unresolvable", cursor.at, reason.to_string())),
            found => Ok((op, found)),
        }
    }

    /// The plain value at hand.
    #[inline]
    pub(super) fn leaf<'a>(&'a self, op: OpId, cursor: &mut Cursor<'a>) -> Result<Leaf<'a>, DecodeError> {
        let (op, found) = self.branch(op, cursor)?;
        Ok(match found {
            Op::Null => Leaf::Null,
            Op::Bool => match cursor.array::<1>()? {
                [0] => Leaf::Bool(false),
                [1] => Leaf::Bool(true),
                _ => return Err(cursor.error("neither true nor false")),
            },
            Op::Int(number) => {
                let value = cursor.long()?;
                if i32::try_from(value).is_err() {
                    return Err(cursor.error("an int of more than 32 bits"));
                }
                integer(value, *number)
            }
            Op::Long(number) => integer(cursor.long()?, *number),
            Op::Float => Leaf::Float(f32::from_le_bytes(cursor.array()?).into()),
            Op::Double => Leaf::Float(f64::from_le_bytes(cursor.array()?)),
            Op::Bytes(chars) => these(cursor.chars()?, *chars),
            Op::Fixed(size, chars) => these(cursor.take(*size)?, *chars),
            Op::Enum(symbols) => Leaf::Text(symbol(symbols, cursor)?.as_bytes()),
            Op::Array(_) => self.other(op, "a list", cursor)?,
            Op::Map(_) => self.other(op, "a map", cursor)?,
            Op::Record(..) => self.other(op, "a record", cursor)?,
            Op::Union(_) | Op::Refuse(_) => Leaf::Other("a union"),
        })
    }

    fn other<'a>(
        &self,
        op: OpId,
        what: &'static str,
        cursor: &mut Cursor<'a>,
    ) -> Result<Leaf<'a>, DecodeError> {
        self.skip(op, cursor, 0)?;
        Ok(Leaf::Other(what))
    }

    /// Passes over a value.
    #[inline]
    pub(super) fn skip(&self, op: OpId, cursor: &mut Cursor<'_>, depth: usize) -> Result<(), DecodeError> {
        cursor.too_deep(depth)?;
        let (_, found) = self.branch(op, cursor)?;
        match found {
            Op::Null | Op::Union(_) | Op::Refuse(_) => {}
            Op::Bool => match cursor.array::<1>()? {
                [0 | 1] => {}
                _ => return Err(cursor.error("neither true nor false")),
            },
            Op::Int(_) | Op::Long(_) => {
                cursor.long()?;
            }
            Op::Float => {
                cursor.array::<4>()?;
            }
            Op::Double => {
                cursor.array::<8>()?;
            }
            Op::Bytes(_) => {
                cursor.chars()?;
            }
            Op::Fixed(size, _) => {
                cursor.take(*size)?;
            }
            Op::Enum(symbols) => {
                symbol(symbols, cursor)?;
            }
            Op::Array(items) => {
                let mut block = Block::default();
                while block.next(cursor)? {
                    let start = cursor.at;
                    self.skip(*items, cursor, depth + 1)?;
                    cursor.count_item(start)?;
                }
            }
            Op::Map(values) => {
                let mut block = Block::default();
                while block.next(cursor)? {
                    cursor.chars()?;
                    self.skip(*values, cursor, depth + 1)?;
                }
            }
            Op::Record(steps, _) => {
                for step in steps {
                    self.skip(step.op, cursor, depth + 1)?;
                }
            }
        }
        Ok(())
    }
}

fn symbol<'s>(symbols: &'s [Option<Box<str>>], cursor: &mut Cursor<'_>) -> Result<&'s str, DecodeError> {
    let number = cursor.long()?;
    let symbol = usize::try_from(number).ok().and_then(|number| symbols.get(number));
    let symbol = symbol.ok_or_else(|| cursor.error(format!("an enum has no symbol {number}")))?;
    symbol.as_deref().ok_or_else(|| {
        let message =
            format!("the reader's enum knows no symbol for the writer's {number}, and has no default");
        DecodeError::new("unresolvable", cursor.at, message)
    })
}

#[inline]
fn integer(value: i64, number: Number) -> Leaf<'static> {
    match number {
        Number::Plain => Leaf::Int(value),
        #[allow(clippy::cast_precision_loss, reason = "Avro's promotion to a float rounds")]
        Number::Float => Leaf::Float((value as f32).into()),
        Number::Timestamp { per_second } => Leaf::Time(if per_second > 1_000_000 {
            Some(value.div_euclid(i64::from(per_second / 1_000_000)))
        } else {
            value.checked_mul(i64::from(1_000_000 / per_second))
        }),
        Number::Date => Leaf::Time(value.checked_mul(86_400_000_000)),
    }
}

#[inline]
fn these(bytes: &[u8], chars: Chars) -> Leaf<'_> {
    match chars {
        Chars::Text => Leaf::Text(bytes),
        Chars::Bytes => Leaf::Other("bytes"),
        Chars::Decimal { scale } => decimal(bytes, scale),
    }
}

/// A number of whole bytes, the highest first, in two's complement.
#[allow(clippy::cast_precision_loss, reason = "a reading's value is an f64")]
fn decimal(bytes: &[u8], scale: u32) -> Leaf<'static> {
    let is_negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let fill = if is_negative { 0xff } else { 0 };
    let plain = bytes.iter().position(|byte| *byte != fill).unwrap_or(bytes.len());
    let digits = &bytes[plain..];
    if digits.len() > 15 {
        return Leaf::Other("a decimal of more than 120 bits");
    }
    let digits =
        digits.iter().fold(if is_negative { -1i128 } else { 0 }, |sum, byte| sum << 8 | i128::from(*byte));
    Leaf::Float(digits as f64 / 10f64.powi(scale.cast_signed()))
}
