//! Readings out of foreign records: walks a record's tree as its topic's [`Mapping`] says.
//!
//! A format brings the tree ([`Tree`]), borrowed from the record's bytes where it can be; the walk is the same
//! for all. Architecture invariant: what a record may become is bounded here ([`sink`]), whatever its format.
//!
//! Where a path leads is kept until it starts elsewhere: to find a member may take a look at all of them, and every
//! row may ask for what stands in the record, every value for what stands in its row.

use std::borrow::Cow;
use std::cell::RefCell;

use super::{DecodeError, DecodeFault, Decoder};
use crate::chunk::RecordRef;
use crate::columns::ReadingColumns;
use crate::mapping::path::{Path, Piece, Root, Step};
use crate::mapping::{Mapping, Measures, Names, Source};
use crate::series::SeriesTable;
use crate::settings::TimeUnit;

mod fields;
pub(super) mod scalar;
pub(super) mod sink;

pub(super) use scalar::Scalar;
pub use sink::{NAME_BYTES_MAX, Origin, READINGS_MAX, TEXT_BYTES_MAX};
pub(super) use sink::{Row, Sink};

/// Hears of a node's children.
pub(super) type Each<'a, N> = dyn FnMut(&str, N) -> Result<(), DecodeError> + 'a;

/// A foreign record as a tree.
pub(super) trait Tree {
    /// A place in it.
    type Node: Copy + PartialEq;
    /// The whole, or the row where the record has many.
    fn root(&self) -> Self::Node;
    /// The member of that name; none where there is no such, or it is no object.
    fn member(&self, node: Self::Node, name: &str) -> Result<Option<Self::Node>, DecodeError>;
    /// The n-th element of a list.
    fn item(&self, node: Self::Node, i: usize) -> Option<Self::Node>;
    /// Calls `each` with every member of an object and its name, or every element of a list and its number.
    fn children(&self, node: Self::Node, each: &mut Each<'_, Self::Node>) -> Result<(), DecodeError>;
    /// Whether it is a list.
    fn is_list(&self, node: Self::Node) -> bool;
    /// What stands there.
    fn scalar(&self, node: Self::Node) -> Result<Scalar<'_>, DecodeError>;
    /// Its byte in the record's value, as near as can be told.
    fn at(&self, node: Self::Node) -> usize;
    /// Where it is, for people, after its path.
    fn place(&self, node: Self::Node) -> String {
        format!("byte {}", self.at(node))
    }
}

/// A decoder that reads every record by a mapping, and keeps nothing of it or of a series table.
pub(super) trait Mapped: Send + Sync {
    /// Brings the readings of one record into `sink`, whatever is there on a fault.
    ///
    /// # Errors
    /// [`DecodeError`] where the record is not of the format, or the mapping does not fit it.
    fn read(&mut self, record: &RecordRef<'_>, sink: &mut Sink<'_>) -> Result<(), DecodeError>;
}

fn whole<M: Mapped>(decoder: &mut M, record: &RecordRef<'_>, mut sink: Sink<'_>) -> Result<(), DecodeFault> {
    let read = decoder.read(record, &mut sink);
    if read.is_err() {
        sink.undo();
    }
    Ok(read?)
}

impl<M: Mapped> Decoder for M {
    fn decode(
        &mut self,
        record: &RecordRef<'_>,
        number: u32,
        table: &mut SeriesTable,
        out: &mut ReadingColumns,
    ) -> Result<(), DecodeFault> {
        whole(self, record, Sink::new(number, table, out, None))
    }

    fn explain(
        &mut self,
        record: &RecordRef<'_>,
        table: &mut SeriesTable,
        out: &mut ReadingColumns,
        origins: &mut Vec<Origin>,
    ) -> Result<(), DecodeFault> {
        origins.clear();
        whole(self, record, Sink::new(0, table, out, Some(origins)))
    }

    fn new_table(&mut self) {}
}

/// What a walk needs besides the tree, kept over records for its memory.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    names: [String; 4],
    key: String,
}

/// Appends the readings that `mapping` finds in `tree`.
pub(super) fn apply<T: Tree>(
    mapping: &Mapping,
    unit: TimeUnit,
    tree: &T,
    record: &RecordRef<'_>,
    scratch: &mut Scratch,
    sink: &mut Sink<'_>,
) -> Result<(), DecodeError> {
    let (rows, keys, used) = (Vec::new(), Vec::new(), Vec::new());
    let leads = RefCell::default();
    let mut walk = Walk { mapping, unit, tree, record, scratch, sink, rows, keys, used, leads };
    let root = tree.root();
    match &mapping.each {
        Some(each) => walk.each(root, &each.steps),
        None if tree.is_list(root) => walk.each(root, &[Step::All]),
        None => walk.row(),
    }
}

struct Walk<'w, 's, T: Tree> {
    mapping: &'w Mapping,
    unit: TimeUnit,
    tree: &'w T,
    record: &'w RecordRef<'w>,
    scratch: &'w mut Scratch,
    sink: &'w mut Sink<'s>,
    /// The rows that are being iterated, the innermost last, and their keys.
    rows: Vec<T::Node>,
    keys: Vec<String>,
    /// What `*` leaves out in the row at hand.
    used: Vec<T::Node>,
    /// Where the mapping's paths led last.
    leads: RefCell<Vec<Lead<'w, T::Node>>>,
}

/// Where steps of the mapping lead.
struct Lead<'w, N> {
    steps: &'w [Step],
    from: N,
    to: Option<N>,
}

/// What a path leads to.
enum Found<'t, N> {
    Node(N),
    Text(Cow<'t, str>),
    KafkaTime(i64),
}

impl<'w, T: Tree> Walk<'w, '_, T> {
    /// Iterates what `steps` lead to from `node`.
    fn each(&mut self, node: T::Node, steps: &[Step]) -> Result<(), DecodeError> {
        let Some((step, rest)) = steps.split_first() else { return self.row() };
        let tree = self.tree;
        match step {
            Step::Member(name) => match tree.member(node, name)? {
                Some(node) => self.each(node, rest),
                // A record without this list has no rows.
                None => Ok(()),
            },
            Step::Item(i) => tree.item(node, *i).map_or(Ok(()), |node| self.each(node, rest)),
            Step::All => tree.children(node, &mut |key, child| {
                self.rows.push(child);
                self.keys.push(key.to_owned());
                let done = self.each(child, rest);
                self.rows.pop();
                self.keys.pop();
                done
            }),
        }
    }

    /// The readings of one row.
    fn row(&mut self) -> Result<(), DecodeError> {
        let mapping = self.mapping;
        let row = self.rows.last().copied().unwrap_or_else(|| self.tree.root());
        self.sink.begin(self.tree.at(row))?;
        let mut machine = std::mem::take(&mut self.scratch.names[0]);
        let named = self.name(&mapping.machine, "machine", "", &mut machine);
        self.scratch.names[0] = machine;
        if !named? {
            return Err(missing("machine", &mapping.machine, self.tree.at(row)));
        }
        let time_us = self.time(row)?;
        let quality = self.quality()?;
        match &mapping.measures {
            Measures::One { names, value, text } => self.one(row, names, value, text, time_us, quality),
            Measures::Many(values) => {
                for (path, names) in values {
                    self.values(row, path, names, time_us, quality)?;
                }
                Ok(())
            }
        }
    }

    fn one(
        &mut self,
        row: T::Node,
        names: &'w Names,
        value: &'w [Path],
        text: &'w [Path],
        time_us: i64,
        quality: u32,
    ) -> Result<(), DecodeError> {
        let tree = self.tree;
        let value = self.first(value)?;
        let text = self.first(text)?;
        if value.is_none() && text.is_none() {
            return Err(DecodeError::new("missing_field", tree.at(row), "neither value nor text is there"));
        }
        let mut reading = Row { time_us, value: None, text: None, quality };
        if let Some((path, node)) = value {
            self.origin("value", path, Some(node));
            measure(tree, path, node, &mut reading)?;
        }
        if let Some((path, node)) = text {
            self.origin("text", path, Some(node));
            let scalar = tree.scalar(node)?;
            if !matches!(scalar, Scalar::Null) {
                reading.text = Some(scalar.into_text().ok_or_else(|| {
                    DecodeError::new("bad_value", tree.at(node), format!("{path} is no text"))
                })?);
            }
        }
        self.push(row, names, "", reading)
    }

    /// The readings of one entry of `values`.
    fn values(
        &mut self,
        row: T::Node,
        path: &'w Path,
        names: &'w Names,
        time_us: i64,
        quality: u32,
    ) -> Result<(), DecodeError> {
        let tree = self.tree;
        let reading = Row { time_us, value: None, text: None, quality };
        if path.wildcards() == 0 {
            let Some(Found::Node(node)) = self.find(path)? else { return self.sink.skip() };
            if matches!(tree.scalar(node)?, Scalar::Null) {
                return self.sink.skip();
            }
            let name = path.name().unwrap_or_default();
            return self.value(row, path, node, names, &name, reading);
        }
        let around = &path.steps[..path.steps.len() - 1];
        let Some(Found::Node(list)) = self.follow(&path.root, around)? else { return Ok(()) };
        self.mark_used()?;
        tree.children(list, &mut |key, child| {
            // What has no number and no text of its own, a further time for one, was not meant.
            let is_value = !self.used.contains(&child)
                && !matches!(tree.scalar(child)?, Scalar::Null | Scalar::Time(_) | Scalar::Other(_));
            if !is_value {
                return self.sink.skip();
            }
            let mut name = std::mem::take(&mut self.scratch.key);
            name.clear();
            name.push_str(key);
            let read = self.value(row, path, child, names, &name, reading.clone());
            self.scratch.key = name;
            read
        })
    }

    /// The places that other keys of the mapping read, which `*` leaves out.
    fn mark_used(&mut self) -> Result<(), DecodeError> {
        let mapping = self.mapping;
        self.used.clear();
        let mut names = vec![&mapping.machine];
        let mut paths: Vec<&'w Path> = mapping.time.iter().chain(&mapping.quality).collect();
        if let Measures::Many(values) = &mapping.measures {
            paths.extend(values.iter().map(|(path, _)| path));
            names.extend(values.iter().flat_map(|(_, names)| [&names.sensor, &names.kind, &names.unit]));
        }
        paths.extend(names.into_iter().flatten().flatten().filter_map(|piece| match piece {
            Piece::Path(path) => Some(path),
            Piece::Text(_) => None,
        }));
        for path in paths {
            let reads = matches!(path.root, Root::Record | Root::Row(_)) && path.wildcards() == 0;
            if let Some(Found::Node(node)) = if reads { self.find(path)? } else { None } {
                self.used.push(node);
            }
        }
        Ok(())
    }

    fn value(
        &mut self,
        row: T::Node,
        path: &Path,
        node: T::Node,
        names: &'w Names,
        name: &str,
        mut reading: Row<'w>,
    ) -> Result<(), DecodeError> {
        self.origin("value", path, Some(node));
        measure(self.tree, path, node, &mut reading)?;
        self.push(row, names, name, reading)
    }

    /// Names the reading and lets it go.
    fn push(
        &mut self,
        row: T::Node,
        names: &'w Names,
        name: &str,
        reading: Row<'_>,
    ) -> Result<(), DecodeError> {
        let mut texts = std::mem::take(&mut self.scratch.names);
        let [machine, sensor, kind, unit] = &mut texts;
        let pushed = (|| {
            if !self.name(&names.sensor, "sensor", name, sensor)? {
                return Err(missing("sensor", &names.sensor, self.tree.at(row)));
            }
            let has_kind = self.name(&names.kind, "kind", name, kind)?;
            let has_unit = self.name(&names.unit, "unit", name, unit)?;
            let at = self.tree.at(row);
            self.sink.push(
                [Some(machine), Some(sensor), has_kind.then_some(kind), has_unit.then_some(unit)],
                reading,
                at,
            )
        })();
        self.scratch.names = texts;
        pushed
    }

    fn origin(&mut self, field: &'static str, path: &Path, node: Option<T::Node>) {
        let tree = self.tree;
        self.sink.origin(field, || match node {
            Some(node) => format!("{path} ({})", tree.place(node)),
            None => path.to_string(),
        });
    }

    fn name_origin(&mut self, field: &'static str, pieces: &'w [Piece], name: &str) {
        if !self.sink.is_traced() {
            return;
        }
        let shown: Vec<String> = pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => format!("{text:?}"),
                Piece::Path(path) if path.root == Root::Name => format!("$name = {name:?}"),
                Piece::Path(path) => match self.find(path) {
                    Ok(Some(Found::Node(node))) => format!("{path} ({})", self.tree.place(node)),
                    _ => path.to_string(),
                },
            })
            .collect();
        self.sink.origin(field, || shown.join(" + "));
    }
}

/// Reads the value that stands at `node` into `reading`.
fn measure<'t, T: Tree>(
    tree: &'t T,
    path: &Path,
    node: T::Node,
    reading: &mut Row<'t>,
) -> Result<(), DecodeError> {
    match tree.scalar(node)? {
        Scalar::Null => {}
        Scalar::Text(text) => reading.text = Some(text),
        scalar => match scalar.value() {
            Some(value) if value.is_finite() => reading.value = Some(value),
            Some(_) => reading.quality |= stillwell_schema::quality::BAD,
            None => {
                let message = format!("{path} is no number, true, false or text, but {}", scalar.what());
                return Err(DecodeError::new("bad_value", tree.at(node), message));
            }
        },
    }
    Ok(())
}

fn missing(field: &str, source: &Source, at: usize) -> DecodeError {
    let form = |pieces: &Vec<Piece>| {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Path(path) if pieces.len() == 1 => path.to_string(),
            Piece::Path(path) => format!("{{{path}}}"),
        };
        pieces.iter().map(piece).collect::<String>()
    };
    let tried: Vec<String> = source.iter().map(form).collect();
    let message = format!("{field} is missing or empty; mapping.{field} is {}", tried.join(", then "));
    DecodeError::new("missing_field", at, message)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::columns::ReadingColumns;
    use crate::mapping::MappingSettings;
    use crate::series::SeriesTable;
    use crate::settings::Format;

    const ROWS: u32 = 100;

    /// `{"id": "m", "t": 1, "rows": [{"v": 1}, …]}`, whose own members are as many numbers. Node 0 is the record.
    #[derive(Default)]
    struct Wide {
        /// How often a member of the record is looked for.
        looks: Cell<usize>,
    }

    impl Tree for Wide {
        type Node = u32;

        fn root(&self) -> u32 {
            0
        }

        fn member(&self, node: u32, name: &str) -> Result<Option<u32>, DecodeError> {
            self.looks.set(self.looks.get() + usize::from(node == 0));
            Ok(match (node, name) {
                (0, "id") => Some(1),
                (0, "t") => Some(2),
                (0, "rows") => Some(3),
                (10.., "v") => Some(1000 + node),
                _ => None,
            })
        }

        fn item(&self, _: u32, _: usize) -> Option<u32> {
            None
        }

        fn children(&self, node: u32, each: &mut Each<'_, u32>) -> Result<(), DecodeError> {
            if !matches!(node, 0 | 3) {
                return Ok(());
            }
            (10..10 + ROWS).try_for_each(|child| each("child", child))
        }

        fn is_list(&self, node: u32) -> bool {
            node == 3
        }

        fn scalar(&self, node: u32) -> Result<Scalar<'_>, DecodeError> {
            Ok(match node {
                1 => Scalar::Text("m".into()),
                2 | 10.. => Scalar::Int(node.into()),
                _ => Scalar::Other("an object"),
            })
        }

        fn at(&self, _: u32) -> usize {
            0
        }
    }

    #[test]
    fn what_stands_in_the_record_is_looked_for_once_however_many_ask() {
        let looks = |mapping: &str| {
            let settings: MappingSettings = toml::from_str(mapping).unwrap();
            let mapping = Mapping::parse(&settings, Format::Json).unwrap();
            let (mut table, mut out) = (SeriesTable::default(), ReadingColumns::default());
            let (tree, record) = (Wide::default(), RecordRef::new(0, None, b""));
            let mut sink = Sink::new(0, &mut table, &mut out, None);
            apply(&mapping, TimeUnit::Millis, &tree, &record, &mut Scratch::default(), &mut sink).unwrap();
            assert_eq!(out.len(), ROWS as usize);
            tree.looks.get()
        };
        // Rows, id, t; all else is of the row.
        assert_eq!(
            looks("each = '$.rows[*]'\nmachine = '$.id'\nsensor = 's'\ntime = '$.t'\nvalue = '@.v'"),
            3
        );
        // id, t, quality, kind and unit.
        assert_eq!(looks("machine = '$.id'\ntime = '$.t'\nunit = '$.u'\nvalues = ['$.*']"), 5);
    }
}
