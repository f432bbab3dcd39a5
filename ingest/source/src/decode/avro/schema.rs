//! Avro schemas: JSON to nodes that refer to each other by number, as types may hold themselves.
//!
//! Source: the Avro 1.12 specification, avro.apache.org/docs/1.12.0/specification. Unknown attributes and logical
//! types are passed over, as it asks for.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// A node's number.
pub(super) type NodeId = usize;

/// Types of one schema, in all.
const NODES_MAX: usize = 16_384;
/// Bytes of a schema's text.
const TEXT_BYTES_MAX: usize = 4 << 20;
/// Types nest no deeper than this where they are written.
const DEPTH_MAX: usize = 64;

/// A schema.
#[derive(Debug)]
pub(super) struct Schema {
    pub(super) nodes: Vec<Node>,
    pub(super) root: NodeId,
}

/// A type.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Null,
    Boolean,
    Int(Meaning),
    Long(Meaning),
    Float,
    Double,
    Bytes(Meaning),
    String,
    Fixed {
        name: Name,
        size: usize,
        meaning: Meaning,
    },
    Enum {
        name: Name,
        symbols: Vec<String>,
        default: Option<usize>,
    },
    Array(NodeId),
    Map(NodeId),
    Union(Vec<NodeId>),
    Record {
        name: Name,
        fields: Vec<Field>,
    },
    /// Named, and not yet read to its end.
    Open,
}

/// What a number or bytes stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Itself.
    #[default]
    Plain,
    /// A timestamp, in parts of a second; a local one is taken as UTC.
    Timestamp { per_second: u32 },
    /// Days since 1970-01-01.
    Date,
    /// A number of so many digits, with its point before the last `scale`.
    Decimal { precision: u32, scale: u32 },
}

/// The full name of a type, and its others.
#[derive(Clone, Debug, Default)]
pub(super) struct Name {
    pub(super) full: String,
    pub(super) aliases: Vec<String>,
}

/// A field of a record.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) aliases: Vec<String>,
    pub(super) node: NodeId,
    pub(super) default: Option<Value>,
}

impl Name {
    /// Without its namespace.
    pub(super) fn short(&self) -> &str {
        short(&self.full)
    }

    /// Whether a reader that has this name reads what a writer calls `other`.
    pub(super) fn reads(&self, other: &Self) -> bool {
        self.short() == other.short()
            || self.aliases.iter().any(|alias| *alias == other.full || alias == other.short())
    }
}

fn short(full: &str) -> &str {
    full.rsplit('.').next().unwrap_or(full)
}

impl Schema {
    /// Parses a schema, after those that it refers to.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse<'t>(
        references: impl IntoIterator<Item = &'t str>,
        text: &str,
    ) -> Result<Self, String> {
        let mut parser = Parser { nodes: Vec::new(), names: HashMap::new() };
        for reference in references {
            parser.text(reference)?;
        }
        let root = parser.text(text)?;
        Ok(Self { nodes: parser.nodes, root })
    }
}

struct Parser {
    nodes: Vec<Node>,
    names: HashMap<String, NodeId>,
}

impl Parser {
    fn text(&mut self, text: &str) -> Result<NodeId, String> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(format!("a schema of {} bytes; {TEXT_BYTES_MAX} at most", text.len()));
        }
        let value: Value = match serde_json::from_str(text) {
            Ok(value) => value,
            // A primitive's bare name, as some registries give it.
            Err(_) if primitive(text.trim()).is_some() => Value::String(text.trim().to_owned()),
            Err(error) => return Err(format!("it is no JSON: {error}")),
        };
        self.node(&value, "", 0)
    }

    fn push(&mut self, node: Node) -> Result<NodeId, String> {
        if self.nodes.len() == NODES_MAX {
            return Err(format!("more than {NODES_MAX} types"));
        }
        self.nodes.push(node);
        Ok(self.nodes.len() - 1)
    }

    fn node(&mut self, value: &Value, space: &str, depth: usize) -> Result<NodeId, String> {
        if depth > DEPTH_MAX {
            return Err(format!("types nest deeper than {DEPTH_MAX}"));
        }
        match value {
            Value::String(name) => self.named(name, space),
            Value::Array(branches) => {
                let branches = branches
                    .iter()
                    .map(|branch| self.node(branch, space, depth + 1))
                    .collect::<Result<Vec<_>, _>>()?;
                if branches.iter().any(|branch| matches!(self.nodes[*branch], Node::Union(_))) {
                    return Err("a union holds a union".to_owned());
                }
                if branches.is_empty() {
                    return Err("a union has no branches".to_owned());
                }
                self.push(Node::Union(branches))
            }
            Value::Object(object) => self.object(object, space, depth),
            other => Err(format!("{other} is no type")),
        }
    }

    fn named(&mut self, name: &str, space: &str) -> Result<NodeId, String> {
        if let Some(node) = primitive(name) {
            return self.push(node);
        }
        let within = full_name(name, space);
        let found = self.names.get(&within).or_else(|| self.names.get(name));
        found.copied().ok_or_else(|| format!("no type is known by the name {within:?}"))
    }

    fn object(&mut self, object: &Map<String, Value>, space: &str, depth: usize) -> Result<NodeId, String> {
        let kind = match object.get("type") {
            Some(Value::String(kind)) => kind.as_str(),
            // A type in a type's place, with attributes of its own.
            Some(inner) => return self.node(inner, space, depth + 1),
            None => return Err("a type without \"type\"".to_owned()),
        };
        match kind {
            "array" => {
                let items = object.get("items").ok_or("an array without \"items\"")?;
                let items = self.node(items, space, depth + 1)?;
                self.push(Node::Array(items))
            }
            "map" => {
                let values = object.get("values").ok_or("a map without \"values\"")?;
                let values = self.node(values, space, depth + 1)?;
                self.push(Node::Map(values))
            }
            "fixed" => {
                let size =
                    object.get("size").and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok());
                let size = size.ok_or("a fixed without \"size\"")?;
                let (id, name, _) = self.open(object, space)?;
                let meaning = decimal(object, Some(size));
                self.nodes[id] = Node::Fixed { name, size, meaning };
                Ok(id)
            }
            "enum" => {
                let (id, name, _) = self.open(object, space)?;
                let symbols = strings(object, "symbols")?;
                let default = object.get("default").and_then(Value::as_str);
                let default = default.map(|word| {
                    let found = symbols.iter().position(|symbol| symbol == word);
                    found.ok_or_else(|| format!("{} has no symbol {word:?}, its default", name.full))
                });
                let default = default.transpose()?;
                self.nodes[id] = Node::Enum { name, symbols, default };
                Ok(id)
            }
            "record" | "error" => self.record(object, space, depth),
            name => match primitive(name) {
                Some(node) => {
                    let node = match node {
                        Node::Int(_) => Node::Int(int_meaning(object)),
                        Node::Long(_) => Node::Long(long_meaning(object)),
                        Node::Bytes(_) => Node::Bytes(decimal(object, None)),
                        other => other,
                    };
                    self.push(node)
                }
                None => self.named(name, space),
            },
        }
    }

    fn record(&mut self, object: &Map<String, Value>, space: &str, depth: usize) -> Result<NodeId, String> {
        let (id, name, space) = self.open(object, space)?;
        let Some(Value::Array(list)) = object.get("fields") else {
            return Err(format!("the record {} has no \"fields\"", name.full));
        };
        let mut fields: Vec<Field> = Vec::with_capacity(list.len().min(NODES_MAX));
        for field in list {
            let text = field.get("name").and_then(Value::as_str);
            let field_name = text.ok_or_else(|| format!("a field of {} has no name", name.full))?;
            let kind = field.get("type");
            let kind = kind.ok_or_else(|| format!("the field {field_name} of {} has no type", name.full))?;
            if fields.iter().any(|other| other.name == field_name) {
                return Err(format!("{} has two fields {field_name}", name.full));
            }
            // A logical type may stand beside the name of its type as well.
            let node = match (kind, field) {
                (Value::String(kind), Value::Object(field))
                    if field.contains_key("logicalType") && primitive(kind).is_some() =>
                {
                    self.object(field, &space, depth + 1)?
                }
                _ => self.node(kind, &space, depth + 1)?,
            };
            let aliases = field.as_object().map(|field| strings(field, "aliases")).transpose();
            fields.push(Field {
                name: field_name.to_owned(),
                aliases: aliases.unwrap_or_default().unwrap_or_default(),
                node,
                default: field.get("default").cloned(),
            });
        }
        self.nodes[id] = Node::Record { name, fields };
        Ok(id)
    }

    /// Makes a named type known, before its content is read. Also gives the namespace of what lies in it.
    fn open(&mut self, object: &Map<String, Value>, space: &str) -> Result<(NodeId, Name, String), String> {
        let name = object.get("name").and_then(Value::as_str).ok_or("a named type without \"name\"")?;
        let given = object.get("namespace").and_then(Value::as_str);
        let full = full_name(name, given.unwrap_or(space));
        let space = full.rsplit_once('.').map_or("", |(space, _)| space).to_owned();
        let aliases = strings(object, "aliases").unwrap_or_default();
        let aliases = aliases.iter().map(|alias| full_name(alias, &space)).collect();
        let id = self.push(Node::Open)?;
        if self.names.insert(full.clone(), id).is_some() {
            return Err(format!("the type {full} is there twice"));
        }
        Ok((id, Name { full, aliases }, space))
    }
}

fn primitive(name: &str) -> Option<Node> {
    Some(match name {
        "null" => Node::Null,
        "boolean" => Node::Boolean,
        "int" => Node::Int(Meaning::Plain),
        "long" => Node::Long(Meaning::Plain),
        "float" => Node::Float,
        "double" => Node::Double,
        "bytes" => Node::Bytes(Meaning::Plain),
        "string" => Node::String,
        _ => return None,
    })
}

fn full_name(name: &str, space: &str) -> String {
    if name.contains('.') || space.is_empty() { name.to_owned() } else { format!("{space}.{name}") }
}

fn strings(object: &Map<String, Value>, key: &str) -> Result<Vec<String>, String> {
    let texts = object.get(key).and_then(Value::as_array);
    let texts = texts.ok_or_else(|| format!("no list {key:?}"))?;
    let text = |text: &Value| {
        text.as_str().map(str::to_owned).ok_or_else(|| format!("{text} in {key:?} is no text"))
    };
    texts.iter().map(text).collect()
}

fn logical(object: &Map<String, Value>) -> &str {
    object.get("logicalType").and_then(Value::as_str).unwrap_or_default()
}

fn int_meaning(object: &Map<String, Value>) -> Meaning {
    if logical(object) == "date" { Meaning::Date } else { Meaning::Plain }
}

fn long_meaning(object: &Map<String, Value>) -> Meaning {
    match logical(object).trim_start_matches("local-") {
        "timestamp-millis" => Meaning::Timestamp { per_second: 1000 },
        "timestamp-micros" => Meaning::Timestamp { per_second: 1_000_000 },
        "timestamp-nanos" => Meaning::Timestamp { per_second: 1_000_000_000 },
        _ => Meaning::Plain,
    }
}

/// A decimal that is not valid is the bytes that it stands on, as the specification says.
fn decimal(object: &Map<String, Value>, size: Option<usize>) -> Meaning {
    let number = |key: &str| match object.get(key) {
        None => Some(0),
        Some(value) => value.as_u64().and_then(|number| u32::try_from(number).ok()),
    };
    let fits = |precision: u32| match size {
        None => true,
        Some(size) => f64::from(precision) <= (8.0 * size as f64 - 1.0) * std::f64::consts::LOG10_2,
    };
    match (logical(object), number("precision"), number("scale")) {
        ("decimal", Some(precision @ 1..), Some(scale)) if scale <= precision && fits(precision) => {
            Meaning::Decimal { precision, scale }
        }
        _ => Meaning::Plain,
    }
}
