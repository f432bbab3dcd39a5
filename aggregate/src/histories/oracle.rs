//! Holds what is stored against what is true: each row as it is written, and everything at the end.

use std::sync::atomic::Ordering;

use super::log::Log;
use super::tables::{Position, Row, Tables};
use super::truth::{Kept, Truth, late_of_machine, latest};
use super::world::World;
use crate::lateness::LatenessRow;
use crate::store::{SeriesRow, WindowRow};
use crate::window::{TABLES, TOTALS};

/// A row that is about to be stored says what its version promises, if anybody will read it.
pub(super) fn judge_row(world: &World, row: &Row) {
    let partition = row.partition();
    let (log, truth) = (world.log(partition), world.truth(partition));
    let is_late_known = !world.is_late_unknown.load(Ordering::Relaxed);
    let problems = match row {
        Row::Window((table, ..), row) => window(log, truth, kept(table), row, is_late_known),
        Row::Series { version, row, .. } => {
            let key = (partition, row.machine.clone(), row.sensor.clone());
            let tables = world.tables.lock().unwrap();
            let is_read = tables.series.get(&key).is_none_or(|stored| stored.0 <= *version);
            if is_read { last_reading(log, row, *version) } else { Vec::new() }
        }
        Row::Lateness(_, row) => lateness(log, row, row.version),
        Row::Position(_, row) => {
            let tables = world.tables.lock().unwrap();
            let stored = tables.positions.get(&partition);
            let is_read = stored.is_none_or(|stored| stored.standing.position <= row.standing.position);
            if is_read { position(log, truth, row, is_late_known) } else { Vec::new() }
        }
        Row::TablePosition(_, row) if world.chance(10) => {
            let tables = world.tables.lock().unwrap();
            complete(log, truth, &tables, partition, &row.table_name, row.position)
        }
        Row::TablePosition(..) | Row::High { .. } => Vec::new(),
    };
    for problem in problems {
        world.fail(format!("partition {partition}: {problem}"));
    }
}

/// All is told, and nothing beside.
pub(super) fn judge(world: &World) {
    let tables = world.tables.lock().unwrap();
    for partition in world.partitions() {
        let problems = judge_partition(world, &tables, partition);
        problems.into_iter().for_each(|problem| world.fail(format!("partition {partition}: {problem}")));
    }
}

fn judge_partition(world: &World, tables: &Tables, partition: i32) -> Vec<String> {
    let (log, truth) = (world.log(partition), world.truth(partition));
    let is_late_known = !world.is_late_unknown.load(Ordering::Relaxed);
    let mut problems = Vec::new();
    for table in tables.targets.written(TABLES.len()) {
        problems.extend(complete(log, truth, tables, partition, &table, log.end()));
        let rows = tables.windows.iter().filter(|((name, of, ..), _)| **name == *table && *of == partition);
        for (_, row) in rows {
            // What is not below its version is not there at all.
            let row = WindowRow { version: log.end(), ..row.clone() };
            problems.extend(window(log, truth, kept(&table), &row, is_late_known));
        }
    }
    let series = tables.series(partition);
    for row in &series {
        problems.extend(last_reading(log, row, log.end()));
    }
    let machines = tables.lateness(partition);
    for row in &machines {
        problems.extend(lateness(log, row, log.end()));
    }
    for reading in &log.readings {
        if !machines.iter().any(|row| row.machine == reading.machine) {
            problems.push(format!("no lateness of {}", reading.machine));
        }
        let is_there =
            series.iter().any(|row| row.machine == reading.machine && row.sensor == reading.sensor);
        if !is_there {
            problems.push(format!("no last reading of {} {}", reading.machine, reading.sensor));
        }
    }
    match tables.positions.get(&partition) {
        Some(row) => {
            problems.extend(position(log, truth, row, is_late_known));
            if row.standing.position != log.end() {
                problems.push(format!("stands at {row:?} of {}", log.end()));
            }
        }
        None => problems.push("stands nowhere".to_owned()),
    }
    problems
}

/// What a table keeps and the width of its windows, by its name.
pub(super) fn kept(table: &str) -> (Kept, usize) {
    let is =
        |name: &str| table.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("_g"));
    if let Some(width) = TOTALS.iter().position(|name| name.is_some_and(is)) {
        return (Kept::Totals, width);
    }
    let width = TABLES.iter().position(|name| is(name));
    (Kept::Series, width.unwrap_or_else(|| panic!("no width has a table {table}")))
}

/// Every window that the log holds anything of below a table's position is in it, and knows so.
fn complete(
    log: &Log,
    truth: &Truth,
    tables: &Tables,
    partition: i32,
    table: &str,
    position: i64,
) -> Vec<String> {
    let mut problems = Vec::new();
    for ((_, _, machine, sensor, start), last) in truth.windows(log, kept(table), position) {
        let key = (table.to_owned(), partition, machine.to_owned(), sensor.to_owned(), start);
        let version = tables.windows.get(&key).map(|row| row.version);
        if version.is_none_or(|version| version <= last) {
            problems.push(format!(
                "{table} at {position}: {machine} {sensor} {start} is complete up to {version:?}, not past {last}"
            ));
        }
    }
    problems
}

fn position(log: &Log, truth: &Truth, row: &Position, is_late_known: bool) -> Vec<String> {
    let at = row.standing.position;
    let (readings, late) = truth.totals(log, at);
    let mut problems = Vec::new();
    let mut check = |what: &str, found: u64, expected: u64| {
        if found != expected {
            problems.push(format!("position {at}: {what} is {found}, not {expected}"));
        }
    };
    check("readings", row.standing.readings, readings);
    check("late", row.standing.late, if is_late_known { late } else { row.standing.late });
    check("received", row.received.min(at).cast_unsigned(), at.cast_unsigned());
    check("end", row.end.min(at).cast_unsigned(), at.cast_unsigned());
    problems
}

fn last_reading(log: &Log, row: &SeriesRow, version: i64) -> Vec<String> {
    let Some(expected) = latest(log, &row.machine, &row.sensor, version) else {
        return vec![format!("a last reading of nothing: {row:?}")];
    };
    let found = (row.time, row.value, row.text.as_deref(), row.quality, &*row.kind, row.score);
    let sought =
        (expected.time_us, expected.value, expected.text, expected.quality, expected.kind, None::<f64>);
    if found == sought { Vec::new() } else { vec![format!("last reading {row:?}, not {expected:?}")] }
}

fn lateness(log: &Log, row: &LatenessRow, version: i64) -> Vec<String> {
    let expected = late_of_machine(log, &row.machine, version);
    if (row.readings, row.late) == expected {
        return Vec::new();
    }
    vec![format!("lateness at {version} {row:?}, not {expected:?}")]
}

/// What of a window is not as it should be.
fn window(
    log: &Log,
    truth: &Truth,
    (kept, width): (Kept, usize),
    row: &WindowRow,
    is_late_known: bool,
) -> Vec<String> {
    let place = (kept, width, &*row.machine, &*row.sensor, row.start);
    let Some(expected) = truth.window(log, place, row.version) else {
        return vec![format!("a window of nothing: {row:?}")];
    };
    let is_same = is_exact(row, &expected)
        && (!is_late_known || row.late == expected.late)
        && near(row.sum, expected.sum, 1e3 * total(&expected))
        && near(row.m2, expected.m2, expected.m2 + 1e3 * total(&expected))
        && are_times_same(row, &expected)
        && are_states_same(row, &expected);
    if is_same {
        Vec::new()
    } else {
        vec![format!("{kept:?}, width {width}:\n    {row:?}\n not {expected:?}")]
    }
}

#[allow(clippy::cast_precision_loss, reason = "a few")]
fn total(row: &WindowRow) -> f64 {
    row.count as f64
}

fn near(a: f64, b: f64, scale: f64) -> bool {
    (a - b).abs() <= 1e-9 * scale.max(1.0)
}

/// Whether all is the same that is so to the last bit.
fn is_exact(row: &WindowRow, expected: &WindowRow) -> bool {
    let numbers = |of: &WindowRow| {
        let bits = [of.min, of.max, of.first, of.last].map(f64::to_bits);
        let counts = [of.count, of.bad, of.state_count];
        let times = [of.first_time, of.last_time, of.state_first_time, of.state_last_time];
        (bits, counts, times, of.disordered == 0, of.state_disordered == 0, of.score.to_bits())
    };
    numbers(row) == numbers(expected)
        && row.histogram == expected.histogram
        && row.state_first == expected.state_first
        && row.state_last == expected.state_last
}

/// Areas and what was counted, where they are exact.
fn are_times_same(row: &WindowRow, expected: &WindowRow) -> bool {
    #[allow(clippy::cast_precision_loss, reason = "a day")]
    let span = (expected.last_time - expected.first_time) as f64;
    expected.disordered > 0
        || (near(row.area_last, expected.area_last, 1e3 * span)
            && near(row.area_linear, expected.area_linear, 1e3 * span)
            && near(row.increase, expected.increase, 1e3 * total(expected))
            && row.resets == expected.resets)
}

fn are_states_same(row: &WindowRow, expected: &WindowRow) -> bool {
    expected.state_disordered > 0 || (row.transitions == expected.transitions && row.held == expected.held)
}
