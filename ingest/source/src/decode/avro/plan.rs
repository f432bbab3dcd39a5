//! What to do with each byte of a record: a writer's schema, compiled against what is to be read of it.

/// An operation's number.
pub(super) type OpId = u32;

/// A writer's schema as operations. What lies in each other refers by number, as types may hold themselves.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) ops: Vec<Op>,
    pub(super) root: OpId,
    /// The names of fields.
    pub(super) names: Vec<Box<str>>,
    /// Values of fields that the writer does not have, as Avro.
    pub(super) defaults: Vec<u8>,
}

/// How one value is read.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Null,
    Bool,
    Int(Number),
    Long(Number),
    Float,
    Double,
    Bytes(Chars),
    Fixed(usize, Chars),
    /// The text of each of the writer's symbols; none for those that the reader does not know.
    Enum(Box<[Option<Box<str>>]>),
    Array(OpId),
    Map(OpId),
    /// By the writer's branch.
    Union(Box<[OpId]>),
    Record(Box<[Step]>, Box<[Default]>),
    /// A value that the reader's schema has no place for.
    Refuse(Box<str>),
}

/// What an integer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    Plain,
    /// Rounded to 32 bits.
    Float,
    Timestamp {
        per_second: u32,
    },
    Date,
}

/// What a row of bytes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chars {
    Text,
    Bytes,
    Decimal { scale: u32 },
}

/// One field of a record, in the writer's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) op: OpId,
    /// Its name by the reader; none where it is passed over.
    pub(super) name: Option<u32>,
}

/// A field of the reader alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Default {
    pub(super) name: u32,
    pub(super) op: OpId,
    /// Where its value begins in [`Plan::defaults`].
    pub(super) at: u32,
}
