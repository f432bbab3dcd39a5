//! Writer against reader: schema resolution by the rules of Avro 1.12, done once for each pair of schemas.
//!
//! What fits in no case makes the pair of schemas an error; what fails for some values alone (a branch of a union, a
//! symbol of an enum) is refused where a record has such a value. Where the writer says what a number means, such as
//! a timestamp, that counts; the reader's word counts where the writer says nothing. Text that the reader calls bytes
//! stays text: bytes are no reading.

use std::collections::HashMap;

use super::defaults;
use super::plan::{Chars, Default, Number, Op, OpId, Plan, Step};
use super::schema::{Field, Meaning, Node, NodeId, Schema};

/// Operations of a plan: pairs of types can be many more than types.
const OPS_MAX: usize = 65_536;
/// Bytes of all defaults.
const DEFAULTS_BYTES_MAX: usize = 1 << 20;
/// Types lie in each other no deeper than this, by their names as well.
const DEPTH_MAX: usize = 256;

/// Compiles a writer's schema; without a reader's it is read as it was written.
///
/// # Errors
/// Why the reader cannot read what the writer writes.
pub(super) fn resolve(writer: &Schema, reader: Option<&Schema>) -> Result<Plan, String> {
    let (plan, known) = (Plan::default(), HashMap::new());
    let mut compiler = Compiler { writer, reader: reader.unwrap_or(writer), plan, known, depth: 0 };
    compiler.plan.root = match reader {
        Some(reader) => compiler.pair(writer.root, reader.root)?,
        None => compiler.alone(Side::Writer, writer.root)?,
    };
    Ok(compiler.plan)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Side {
    Writer,
    Reader,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Alone(Side, NodeId),
    Pair(NodeId, NodeId),
}

struct Compiler<'s> {
    writer: &'s Schema,
    reader: &'s Schema,
    plan: Plan,
    known: HashMap<Key, OpId>,
    depth: usize,
}

impl<'s> Compiler<'s> {
    /// The operation for `key`, made by `make` the first time. One that holds itself finds its number.
    fn once(&mut self, key: Key, make: impl FnOnce(&mut Self) -> Result<Op, String>) -> Result<OpId, String> {
        if let Some(&id) = self.known.get(&key) {
            return match &self.plan.ops[id as usize] {
                Op::Refuse(reason) => Err(reason.to_string()),
                _ => Ok(id),
            };
        }
        if self.depth == DEPTH_MAX {
            return Err(format!("types lie in each other deeper than {DEPTH_MAX}"));
        }
        let id = self.push(Op::Null)?;
        self.known.insert(key, id);
        self.depth += 1;
        let made = make(self);
        self.depth -= 1;
        match made {
            Ok(op) => {
                self.plan.ops[id as usize] = op;
                Ok(id)
            }
            Err(reason) => {
                self.plan.ops[id as usize] = Op::Refuse(reason.as_str().into());
                Err(reason)
            }
        }
    }

    fn push(&mut self, op: Op) -> Result<OpId, String> {
        if self.plan.ops.len() == OPS_MAX {
            return Err(format!("writer and reader make more than {OPS_MAX} operations"));
        }
        self.plan.ops.push(op);
        Ok((self.plan.ops.len() - 1) as OpId)
    }

    fn name(&mut self, name: &str) -> u32 {
        let found = self.plan.names.iter().position(|known| **known == *name);
        found.unwrap_or_else(|| {
            self.plan.names.push(name.into());
            self.plan.names.len() - 1
        }) as u32
    }

    /// A type read as it was written.
    fn alone(&mut self, side: Side, id: NodeId) -> Result<OpId, String> {
        let schema = if side == Side::Writer { self.writer } else { self.reader };
        self.once(Key::Alone(side, id), |this| {
            Ok(match &schema.nodes[id] {
                Node::Null => Op::Null,
                Node::Boolean => Op::Bool,
                Node::Int(meaning) => Op::Int(number(*meaning)),
                Node::Long(meaning) => Op::Long(number(*meaning)),
                Node::Float => Op::Float,
                Node::Double => Op::Double,
                Node::Bytes(meaning) => Op::Bytes(chars(*meaning)),
                Node::String => Op::Bytes(Chars::Text),
                Node::Fixed { size, meaning, .. } => Op::Fixed(*size, chars(*meaning)),
                Node::Enum { symbols, .. } => {
                    Op::Enum(symbols.iter().map(|s| Some(s.as_str().into())).collect())
                }
                Node::Array(items) => Op::Array(this.alone(side, *items)?),
                Node::Map(values) => Op::Map(this.alone(side, *values)?),
                Node::Union(branches) => {
                    let branches = branches.iter().map(|branch| this.alone(side, *branch));
                    Op::Union(branches.collect::<Result<_, _>>()?)
                }
                Node::Record { fields, .. } => {
                    let step = |field: &Field| {
                        Ok(Step { op: this.alone(side, field.node)?, name: Some(this.name(&field.name)) })
                    };
                    Op::Record(fields.iter().map(step).collect::<Result<_, String>>()?, Box::default())
                }
                Node::Open => return Err("a type that was not read to its end".to_owned()),
            })
        })
    }

    /// A type of the writer read as one of the reader.
    fn pair(&mut self, writer: NodeId, reader: NodeId) -> Result<OpId, String> {
        let (w, r) = (&self.writer.nodes[writer], &self.reader.nodes[reader]);
        if let (false, Node::Union(branches)) = (matches!(w, Node::Union(_)), r) {
            return self.reader_union(writer, branches);
        }
        self.once(Key::Pair(writer, reader), |this| match (w, r) {
            (Node::Union(branches), _) => this.writer_union(branches, reader),
            (Node::Record { .. }, Node::Record { .. }) => this.record(w, r),
            (Node::Array(w), Node::Array(r)) => Ok(Op::Array(this.pair(*w, *r)?)),
            (Node::Map(w), Node::Map(r)) => Ok(Op::Map(this.pair(*w, *r)?)),
            (w, r) => leaf(w, r),
        })
    }

    fn writer_union(&mut self, branches: &[NodeId], reader: NodeId) -> Result<Op, String> {
        let mut reasons = Vec::new();
        let mut ops = Vec::with_capacity(branches.len());
        for &branch in branches {
            let op = match self.pair(branch, reader) {
                Ok(op) => op,
                Err(reason) => {
                    let op = self.push(Op::Refuse(reason.as_str().into()))?;
                    reasons.push(reason);
                    op
                }
            };
            ops.push(op);
        }
        if reasons.len() == branches.len() {
            return Err(reasons.swap_remove(0));
        }
        Ok(Op::Union(ops.into()))
    }

    /// The first branch of the same type, or else the first that reads it.
    fn reader_union(&mut self, writer: NodeId, branches: &[NodeId]) -> Result<OpId, String> {
        let is_same = |branch: &&NodeId| same(&self.writer.nodes[writer], &self.reader.nodes[**branch]);
        let exact = branches.iter().find(is_same).copied();
        let mut reason = None;
        for branch in exact.into_iter().chain(branches.iter().copied()) {
            match self.pair(writer, branch) {
                Ok(op) => return Ok(op),
                Err(why) => reason = reason.or(Some(why)),
            }
        }
        Err(reason.unwrap_or_else(|| "the reader's union has no branches".to_owned()))
    }

    fn record(&mut self, writer: &'s Node, reader: &'s Node) -> Result<Op, String> {
        let (Node::Record { name: w, fields: theirs }, Node::Record { name: r, fields: ours }) =
            (writer, reader)
        else {
            return Err("no records".to_owned());
        };
        if !r.reads(w) {
            return Err(format!("the writer's record {} is not the reader's {}", w.full, r.full));
        }
        let mut found = vec![false; ours.len()];
        let mut steps = Vec::with_capacity(theirs.len());
        for field in theirs {
            let by_name = ours.iter().position(|our| our.name == field.name);
            let by_alias = || {
                let is = |our: &Field| {
                    our.aliases.contains(&field.name) && !theirs.iter().any(|their| their.name == our.name)
                };
                ours.iter().position(is)
            };
            let step = match by_name.or_else(by_alias) {
                Some(i) if !found[i] => {
                    found[i] = true;
                    let op = self.pair(field.node, ours[i].node);
                    let op = op.map_err(|reason| format!("field {} of {}: {reason}", field.name, w.full))?;
                    Step { op, name: Some(self.name(&ours[i].name)) }
                }
                _ => Step { op: self.alone(Side::Writer, field.node)?, name: None },
            };
            steps.push(step);
        }
        let mut missing = Vec::new();
        for (our, _) in ours.iter().zip(&found).filter(|(_, found)| !**found) {
            let wrong = |what: String| format!("field {} of {}: {what}", our.name, r.full);
            let Some(value) = &our.default else {
                return Err(wrong("the writer does not have it, and the reader gives no default".to_owned()));
            };
            let at = self.plan.defaults.len();
            defaults::encode(self.reader, our.node, value, &mut self.plan.defaults, 0).map_err(wrong)?;
            if self.plan.defaults.len() > DEFAULTS_BYTES_MAX {
                return Err(format!("defaults of more than {DEFAULTS_BYTES_MAX} bytes"));
            }
            let op = self.alone(Side::Reader, our.node)?;
            missing.push(Default { name: self.name(&our.name), op, at: at as u32 });
        }
        Ok(Op::Record(steps.into(), missing.into()))
    }
}

/// Two types that are neither unions nor records nor collections of one kind.
fn leaf(writer: &Node, reader: &Node) -> Result<Op, String> {
    Ok(match (writer, reader) {
        (Node::Null, Node::Null) => Op::Null,
        (Node::Boolean, Node::Boolean) => Op::Bool,
        (Node::Int(w), Node::Int(r)) => Op::Int(number(either(*w, *r)?)),
        (Node::Int(w), Node::Long(r)) => Op::Int(number(either(*w, *r)?)),
        (Node::Long(w), Node::Long(r)) => Op::Long(number(either(*w, *r)?)),
        (Node::Int(_), Node::Float) => Op::Int(Number::Float),
        (Node::Long(_), Node::Float) => Op::Long(Number::Float),
        (Node::Int(_), Node::Double) => Op::Int(Number::Plain),
        (Node::Long(_), Node::Double) => Op::Long(Number::Plain),
        (Node::Float, Node::Float | Node::Double) => Op::Float,
        (Node::Double, Node::Double) => Op::Double,
        (Node::String | Node::Bytes(_), Node::String) => Op::Bytes(Chars::Text),
        (Node::String, Node::Bytes(_)) => Op::Bytes(Chars::Text),
        (Node::Bytes(w), Node::Bytes(r)) => Op::Bytes(chars(either(*w, *r)?)),
        (
            Node::Fixed { name: w, size, meaning },
            Node::Fixed { name: r, size: r_size, meaning: r_meaning },
        ) => {
            if !r.reads(w) || size != r_size {
                return Err(format!(
                    "the writer's {} of {size} bytes is not the reader's {}",
                    w.full, r.full
                ));
            }
            Op::Fixed(*size, chars(either(*meaning, *r_meaning)?))
        }
        (Node::Enum { name: w, symbols, .. }, Node::Enum { name: r, symbols: ours, default }) => {
            if !r.reads(w) {
                return Err(format!("the writer's enum {} is not the reader's {}", w.full, r.full));
            }
            let default = default.map(|default| &ours[default]);
            let known = |symbol: &String| {
                let known = ours.iter().find(|our| *our == symbol).or(default);
                known.map(|symbol| symbol.as_str().into())
            };
            Op::Enum(symbols.iter().map(known).collect())
        }
        (writer, reader) => {
            return Err(format!("the writer's {} cannot be read as {}", what(writer), what(reader)));
        }
    })
}

/// What counts where both say what their bytes mean. Decimals must be the same.
fn either(writer: Meaning, reader: Meaning) -> Result<Meaning, String> {
    match (writer, reader) {
        (Meaning::Decimal { .. }, Meaning::Decimal { .. }) if writer != reader => {
            Err("the writer's decimal and the reader's differ in precision or scale".to_owned())
        }
        (Meaning::Plain, reader) => Ok(reader),
        (writer, _) => Ok(writer),
    }
}

/// Whether a branch of a union is the type itself, and not only one that reads it.
fn same(writer: &Node, reader: &Node) -> bool {
    match (writer, reader) {
        (Node::Record { name: w, .. }, Node::Record { name: r, .. })
        | (Node::Enum { name: w, .. }, Node::Enum { name: r, .. })
        | (Node::Fixed { name: w, .. }, Node::Fixed { name: r, .. }) => w.full == r.full,
        _ => std::mem::discriminant(writer) == std::mem::discriminant(reader),
    }
}

fn number(meaning: Meaning) -> Number {
    match meaning {
        Meaning::Timestamp { per_second } => Number::Timestamp { per_second },
        Meaning::Date => Number::Date,
        Meaning::Plain | Meaning::Decimal { .. } => Number::Plain,
    }
}

fn chars(meaning: Meaning) -> Chars {
    if let Meaning::Decimal { scale, .. } = meaning { Chars::Decimal { scale } } else { Chars::Bytes }
}

fn what(node: &Node) -> String {
    match node {
        Node::Null => "null".to_owned(),
        Node::Boolean => "boolean".to_owned(),
        Node::Int(_) => "int".to_owned(),
        Node::Long(_) => "long".to_owned(),
        Node::Float => "float".to_owned(),
        Node::Double => "double".to_owned(),
        Node::Bytes(_) => "bytes".to_owned(),
        Node::String => "string".to_owned(),
        Node::Array(_) => "array".to_owned(),
        Node::Map(_) => "map".to_owned(),
        Node::Union(_) => "union".to_owned(),
        Node::Open => "open type".to_owned(),
        Node::Fixed { name, .. } => format!("fixed {}", name.full),
        Node::Enum { name, .. } => format!("enum {}", name.full),
        Node::Record { name, .. } => format!("record {}", name.full),
    }
}
