//! A record as a tree of its own bytes, for the mapping.

use std::borrow::Cow;

use super::super::DecodeError;
use super::super::mapped::{Each, Scalar, Tree};
use super::plan::{Op, OpId, Plan};
use super::read::{Block, Cursor, Leaf};

/// Values of one record, 20 bytes each. A schema may give many to a byte, where its types take none.
const NODES_MAX: usize = 4 << 20;
/// Marks a place in the plan's defaults.
const DEFAULT: u32 = 1 << 31;
/// No name.
const NONE: u32 = u32::MAX;

/// The values of a record in the order in which they stand; those of a record's defaults follow its fields.
#[derive(Debug, Default)]
pub(super) struct Nodes(Vec<Value>);

#[derive(Clone, Copy, Debug)]
struct Value {
    op: OpId,
    /// The number of its name, where it is a field.
    name: u32,
    /// The byte of its key, where it is in a map.
    key: u32,
    /// Its first byte, after a union's branch.
    start: u32,
    /// Past its last descendant.
    next: u32,
}

/// A parsed record.
#[derive(Clone, Copy, Debug)]
pub(super) struct AvroTree<'a> {
    plan: &'a Plan,
    bytes: &'a [u8],
    nodes: &'a [Value],
}

/// Where a value is called from.
#[derive(Clone, Copy)]
struct Place {
    name: u32,
    key: u32,
    depth: usize,
    mark: u32,
}

impl Nodes {
    /// Parses the record that begins at byte `start` and takes the rest.
    pub(super) fn parse<'a>(
        &'a mut self,
        plan: &'a Plan,
        bytes: &'a [u8],
        start: usize,
    ) -> Result<AvroTree<'a>, DecodeError> {
        self.0.clear();
        if bytes.len() >= DEFAULT as usize {
            return Err(DecodeError::new("too_large", 0, "more than 2 GiB"));
        }
        let mut cursor = Cursor::new(bytes, start);
        self.value(plan, plan.root, &mut cursor, Place { name: NONE, key: 0, depth: 0, mark: 0 })?;
        if cursor.at != bytes.len() {
            let message = format!("{} bytes are left after the record", bytes.len() - cursor.at);
            return Err(DecodeError::new("syntax", cursor.at, message));
        }
        Ok(AvroTree { plan, bytes, nodes: &self.0 })
    }

    #[allow(clippy::cast_possible_truncation, reason = "bounded in parse")]
    fn value(
        &mut self,
        plan: &Plan,
        op: OpId,
        cursor: &mut Cursor<'_>,
        place: Place,
    ) -> Result<(), DecodeError> {
        let Place { name, key, depth, mark } = place;
        cursor.too_deep(depth)?;
        let (op, found) = plan.branch(op, cursor)?;
        let number = self.0.len();
        if number == NODES_MAX {
            let message = format!("more than {NODES_MAX} values in one record");
            return Err(DecodeError::new("too_large", cursor.at, message));
        }
        self.0.push(Value { op, name, key, start: cursor.at as u32 | mark, next: 0 });
        let inner = Place { name: NONE, key: 0, depth: depth + 1, mark };
        match found {
            Op::Array(items) => {
                let mut block = Block::default();
                while block.next(cursor)? {
                    let start = cursor.at;
                    self.value(plan, *items, cursor, inner)?;
                    cursor.count_item(start)?;
                }
            }
            Op::Map(values) => {
                let mut block = Block::default();
                while block.next(cursor)? {
                    let key = cursor.at as u32;
                    cursor.chars()?;
                    self.value(plan, *values, cursor, Place { key, ..inner })?;
                }
            }
            Op::Record(steps, defaults) => {
                for step in steps {
                    match step.name {
                        Some(name) => self.value(plan, step.op, cursor, Place { name, ..inner })?,
                        None => plan.skip(step.op, cursor, depth + 1)?,
                    }
                }
                for default in defaults {
                    let mut cursor = Cursor::new(&plan.defaults, default.at as usize);
                    let place = Place { name: default.name, mark: DEFAULT, ..inner };
                    self.value(plan, default.op, &mut cursor, place)?;
                }
            }
            _ => plan.skip(op, cursor, depth)?,
        }
        self.0[number].next = self.0.len() as u32;
        Ok(())
    }
}

impl<'a> AvroTree<'a> {
    fn cursor(&self, start: u32) -> Cursor<'a> {
        let at = (start & !DEFAULT) as usize;
        Cursor::new(if start & DEFAULT == 0 { self.bytes } else { &self.plan.defaults }, at)
    }

    fn op(&self, node: usize) -> &'a Op {
        &self.plan.ops[self.nodes[node].op as usize]
    }

    /// The nodes right below one.
    fn below(&self, node: usize) -> impl Iterator<Item = usize> + use<'a> {
        let nodes = self.nodes;
        let end = nodes[node].next as usize;
        let mut at = node + 1;
        std::iter::from_fn(move || {
            let found = at;
            (found < end).then(|| {
                at = nodes[found].next as usize;
                found
            })
        })
    }

    fn key(&self, parent: usize, node: usize) -> Result<&'a str, DecodeError> {
        let start = self.nodes[parent].start & DEFAULT | self.nodes[node].key;
        text(self.cursor(start).chars()?, self.at(node))
    }
}

impl Tree for AvroTree<'_> {
    type Node = usize;

    fn root(&self) -> usize {
        0
    }

    fn member(&self, node: usize, name: &str) -> Result<Option<usize>, DecodeError> {
        match self.op(node) {
            Op::Record(..) => {
                let names = &self.plan.names;
                let is = |child: &usize| *names[self.nodes[*child].name as usize] == *name;
                Ok(self.below(node).find(is))
            }
            Op::Map(_) => {
                let mut found = None;
                for child in self.below(node) {
                    if self.key(node, child)? == name && found.replace(child).is_some() {
                        let message = format!("{name:?} is there twice");
                        return Err(DecodeError::new("duplicate_key", self.at(child), message));
                    }
                }
                Ok(found)
            }
            _ => Ok(None),
        }
    }

    fn item(&self, node: usize, i: usize) -> Option<usize> {
        if self.is_list(node) { self.below(node).nth(i) } else { None }
    }

    fn children(&self, node: usize, each: &mut Each<'_, usize>) -> Result<(), DecodeError> {
        match self.op(node) {
            Op::Array(_) => {
                self.below(node).enumerate().try_for_each(|(i, child)| each(&i.to_string(), child))
            }
            Op::Map(_) => self.below(node).try_for_each(|child| each(self.key(node, child)?, child)),
            Op::Record(..) => {
                let names = &self.plan.names;
                self.below(node).try_for_each(|child| each(&names[self.nodes[child].name as usize], child))
            }
            _ => Ok(()),
        }
    }

    fn is_list(&self, node: usize) -> bool {
        matches!(self.op(node), Op::Array(_))
    }

    fn scalar(&self, node: usize) -> Result<Scalar<'_>, DecodeError> {
        let Value { op, start, .. } = self.nodes[node];
        match self.op(node) {
            Op::Array(_) => return Ok(Scalar::Other("a list")),
            Op::Map(_) => return Ok(Scalar::Other("a map")),
            Op::Record(..) => return Ok(Scalar::Other("a record")),
            _ => {}
        }
        Ok(match self.plan.leaf(op, &mut self.cursor(start))? {
            Leaf::Null => Scalar::Null,
            Leaf::Bool(yes) => Scalar::Bool(yes),
            Leaf::Int(int) => Scalar::Int(int),
            Leaf::Float(float) => Scalar::Float(float),
            Leaf::Text(bytes) => Scalar::Text(Cow::Borrowed(text(bytes, self.at(node))?)),
            Leaf::Time(us) => us.map_or(Scalar::Other("a time out of range"), Scalar::Time),
            Leaf::Other(what) => Scalar::Other(what),
        })
    }

    fn at(&self, node: usize) -> usize {
        match self.nodes[node].start {
            // A default stands nowhere in the record.
            start if start & DEFAULT != 0 => 0,
            start => start as usize,
        }
    }
}

pub(super) fn text(bytes: &[u8], at: usize) -> Result<&str, DecodeError> {
    simdutf8::basic::from_utf8(bytes).map_err(|_| DecodeError::new("utf8", at, "text that is not UTF-8"))
}
