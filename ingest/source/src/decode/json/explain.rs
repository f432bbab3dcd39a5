//! Where the fields of a reading of native JSON stand, for people. It parses the record again for each reading, so
//! that decoding carries nothing for it.

use super::super::DecodeError;
use super::super::mapped::{Origin, Tree};
use super::tree::{JsonTree, Nodes};
use crate::series::{Series, SeriesTable};

/// The origin of the reading with that series and index in the record `bytes`, which has been decoded.
pub(super) fn origin(
    bytes: &[u8],
    series: Series,
    table: &SeriesTable,
    index: u32,
) -> Result<Origin, DecodeError> {
    let mut nodes = Nodes::default();
    let tree = nodes.parse(bytes)?;
    let root = tree.root();
    let mut origin = Origin::default();
    if tree.member(root, "sensors")?.is_some() {
        batch(&tree, table.name(series.sensor), index, &mut origin)?;
        return Ok(origin);
    }
    let (object, path) = match tree.item(root, index as usize) {
        Some(item) => (item, format!("$[{index}]")),
        None => (root, "$".to_owned()),
    };
    for field in ["machine", "sensor", "kind", "unit", "time", "value", "text", "quality"] {
        if let Some(node) = tree.member(object, field)? {
            origin.fields.push((field, format!("{path}.{field} ({})", tree.place(node))));
        }
    }
    Ok(origin)
}

/// A cell of a compact batch: cell `t` of sensor `s` has the index `s × times + t`.
fn batch(tree: &JsonTree<'_>, sensor: &str, index: u32, origin: &mut Origin) -> Result<(), DecodeError> {
    let root = tree.root();
    let time = tree.member(root, "time")?;
    let mut times = 0;
    if let Some(time) = time {
        tree.children(time, &mut |_, _| {
            times += 1;
            Ok(())
        })?;
    }
    let cell = index as usize % usize::max(times, 1);
    let mut found = |field, path: String, node: Option<u32>| {
        if let Some(node) = node {
            origin.fields.push((field, format!("{path} ({})", tree.place(node))));
        }
    };
    found("machine", "$.machine".to_owned(), tree.member(root, "machine")?);
    for (field, list) in [("kind", "kinds"), ("unit", "units")] {
        if let Some(list_node) = tree.member(root, list)? {
            found(field, format!("$.{list}[{sensor:?}]"), tree.member(list_node, sensor)?);
        }
    }
    found("time", format!("$.time[{cell}]"), time.and_then(|time| tree.item(time, cell)));
    if let Some(sensors) = tree.member(root, "sensors")? {
        let values = tree.member(sensors, sensor)?;
        found("sensor", format!("$.sensors, key {sensor:?}"), values);
        found(
            "value",
            format!("$.sensors[{sensor:?}][{cell}]"),
            values.and_then(|values| tree.item(values, cell)),
        );
    }
    Ok(())
}
