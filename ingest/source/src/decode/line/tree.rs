//! A line as a tree: `{measurement, tags: {…}, fields: {…}, timestamp}`.

use std::borrow::Cow;

use super::super::DecodeError;
use super::super::mapped::{Each, Scalar, Tree};

/// One parsed line.
#[derive(Debug, Default)]
pub(super) struct LineTree<'a> {
    /// Its first byte.
    start: usize,
    pub(super) measurement: Cow<'a, str>,
    pub(super) tags: Vec<Item<'a>>,
    pub(super) fields: Vec<Item<'a>>,
    /// With its byte.
    pub(super) timestamp: Option<(usize, i64)>,
}

/// A tag or a field.
#[derive(Debug)]
pub(super) struct Item<'a> {
    /// The first byte of its name.
    pub(super) at: usize,
    pub(super) name: Cow<'a, str>,
    pub(super) value: Scalar<'a>,
}

/// A place in a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Node {
    Line,
    Measurement,
    Tags,
    Fields,
    Tag(usize),
    Field(usize),
    Timestamp,
}

impl LineTree<'_> {
    /// Makes room for the line that starts at `start`.
    pub(super) fn clear(&mut self, start: usize) {
        self.start = start;
        self.measurement = Cow::Borrowed("");
        self.tags.clear();
        self.fields.clear();
        self.timestamp = None;
    }
}

impl Tree for LineTree<'_> {
    type Node = Node;

    fn root(&self) -> Node {
        Node::Line
    }

    fn member(&self, node: Node, name: &str) -> Result<Option<Node>, DecodeError> {
        match (node, name) {
            (Node::Line, "measurement") => Ok(Some(Node::Measurement)),
            (Node::Line, "tags") => Ok(Some(Node::Tags)),
            (Node::Line, "fields") => Ok(Some(Node::Fields)),
            (Node::Line, "timestamp") => Ok(self.timestamp.map(|_| Node::Timestamp)),
            (Node::Tags, name) => Ok(find(&self.tags, name)?.map(Node::Tag)),
            (Node::Fields, name) => Ok(find(&self.fields, name)?.map(Node::Field)),
            _ => Ok(None),
        }
    }

    fn item(&self, _: Node, _: usize) -> Option<Node> {
        None
    }

    fn children(&self, node: Node, each: &mut Each<'_, Node>) -> Result<(), DecodeError> {
        let (items, place): (_, fn(usize) -> Node) = match node {
            Node::Tags => (&self.tags, Node::Tag),
            Node::Fields => (&self.fields, Node::Field),
            _ => return Ok(()),
        };
        items.iter().enumerate().try_for_each(|(i, item)| each(&item.name, place(i)))
    }

    fn is_list(&self, _: Node) -> bool {
        false
    }

    fn scalar(&self, node: Node) -> Result<Scalar<'_>, DecodeError> {
        Ok(match node {
            Node::Measurement => Scalar::Text(Cow::Borrowed(&*self.measurement)),
            Node::Tag(i) => self.tags[i].value.borrowed(),
            Node::Field(i) => self.fields[i].value.borrowed(),
            Node::Timestamp => self.timestamp.map_or(Scalar::Null, |(_, time)| Scalar::Int(time)),
            Node::Line | Node::Tags | Node::Fields => Scalar::Other("a part of a line"),
        })
    }

    fn at(&self, node: Node) -> usize {
        match node {
            Node::Line | Node::Measurement => self.start,
            Node::Tags => self.tags.first().map_or(self.start, |tag| tag.at),
            Node::Fields => self.fields.first().map_or(self.start, |field| field.at),
            Node::Tag(i) => self.tags[i].at,
            Node::Field(i) => self.fields[i].at,
            Node::Timestamp => self.timestamp.map_or(self.start, |(at, _)| at),
        }
    }
}

/// The tag or field of that name, which must not be there twice.
fn find(items: &[Item<'_>], name: &str) -> Result<Option<usize>, DecodeError> {
    let mut found = None;
    for (i, item) in items.iter().enumerate().filter(|(_, item)| item.name == name) {
        if found.replace(i).is_some() {
            return Err(DecodeError::new("duplicate_key", item.at, format!("{name:?} is there twice")));
        }
    }
    Ok(found)
}
