//! Tables built anew beside those in use, from the log up to an offset, as a rebuild does from the archive.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::oracle::{judge_row, kept};
use super::tables::Row;
use super::truth::{Place, highs};
use super::world::World;
use crate::store::TablePosition;
use crate::window::{TABLES, TOTALS};

/// Builds the windows of a width into a new table, and has lanes write it from then on. They go on writing the old
/// one meanwhile.
pub(super) async fn build(world: &Arc<World>, number: u64) {
    let first = any(world);
    let table = format!("{first}_g{number}");
    for partition in world.partitions() {
        let Some(below) = below(world, partition) else { return };
        world.note(format_args!("{table} is built for {partition} up to {below}"));
        for row in rows(world, &table, partition, below) {
            put(world, row);
            if world.chance(10) {
                tokio::time::sleep(world.delay()).await;
            }
        }
    }
    use_table(world, first, &table);
}

/// Has lanes write a width into its first table again, which stood still since.
pub(super) fn undo(world: &World) {
    let first = any(world);
    use_table(world, first, first);
}

/// The first table of any width or of its totals.
fn any(world: &World) -> &'static str {
    let all: Vec<&str> = TABLES.into_iter().chain(TOTALS.into_iter().flatten()).collect();
    all[world.index(all.len())]
}

/// An offset up to which the archive and the views are both there; none where there are no views yet.
fn below(world: &World, partition: i32) -> Option<i64> {
    let position = world.tables.lock().unwrap().complete(partition)?;
    let first = world.log(partition).first;
    Some(first + i64::try_from(world.below((position - first + 1).cast_unsigned())).unwrap())
}

/// Windows first, then what their lanes go on with, then that they are complete.
fn rows(world: &World, table: &str, partition: i32, below: i64) -> Vec<Row> {
    let (log, truth) = (world.log(partition), world.truth(partition));
    let window = |(place, _): (Place<'_>, i64)| {
        let row = truth.window(log, place, below)?;
        let key = (table.to_owned(), partition, row.machine.clone(), row.sensor.clone(), row.start);
        Some(Row::Window(key, Box::new(row)))
    };
    let mut rows: Vec<Row> = truth.windows(log, kept(table), below).filter_map(window).collect();
    let high = |row| Row::High { partition, table: table.to_owned(), row };
    rows.extend(highs(log, below).into_iter().map(high));
    let position = TablePosition { table_name: table.to_owned(), position: below };
    rows.push(Row::TablePosition(partition, position));
    rows
}

fn put(world: &World, row: Row) {
    judge_row(world, &row);
    world.tables.lock().unwrap().put(row);
}

fn use_table(world: &World, first: &str, table: &str) {
    let mut tables = world.tables.lock().unwrap();
    let targets = tables.targets.clone().with(first, table);
    if tables.targets == targets {
        return;
    }
    world.note(format_args!("{table} is in use"));
    world.counts.add("tables put in use", 1);
    world.is_late_unknown.store(true, Ordering::Relaxed);
    tables.targets = targets;
}
