//! How late each machine's readings come, and how far its clock is off.
//!
//! A reading is *late* here when its time is more than 10 s behind the largest time of its machine so far in the
//! lane; its lag is how far. Early readings, as [`crate::fold`] knows them, do not move that largest time. The
//! *skew* of a machine is the Kafka timestamp of a record less the newest time of the machine's readings in it,
//! one sample for each record and machine: negative where the machine's clock is ahead. Its least value is the
//! clock's error plus the least delay of transport.
//!
//! **Invariant:** as windows, a row is absolute and complete up to its `version`; a record below it is a no-op for
//! its machine, so a lane that starts again from any earlier offset comes to the same rows.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;
use stillwell_schema::TopicPartition;
use stillwell_source::columns::ReadingColumns;
use stillwell_source::series::{NameCode, SeriesTable};

use crate::fold::Origin;
use crate::snapshot::Part;

mod machine;
mod marks;
mod stored;

use machine::Machine;
pub(crate) use stored::{LatenessRow, TABLE, select};

/// The machines of a lane.
#[derive(Debug, Default)]
pub struct LaneLateness {
    machines: Vec<Machine>,
    /// Machine number by code of the lane's series table.
    numbers: Vec<u32>,
    by_name: HashMap<NameCode, u32, FxBuildHasher>,
    /// Machines that changed since they were last sent.
    dirty: Vec<u32>,
    /// Lags of the late readings of a chunk, µs.
    lags_us: Vec<i64>,
}

impl LaneLateness {
    /// Takes over what is stored of a lane, before anything is folded.
    pub(crate) fn restore(&mut self, rows: impl IntoIterator<Item = LatenessRow>, table: &mut SeriesTable) {
        for row in rows {
            let name = table.intern_name(&row.machine);
            let number = self.machine_of(name);
            self.machines[number as usize] = stored::machine(name, row);
        }
    }

    /// Folds the readings of a chunk in; `origins` are of its records.
    pub fn take(&mut self, origins: &[Origin], columns: &ReadingColumns, table: &SeriesTable) {
        self.number(table);
        let mut at = 0;
        while at < columns.len() {
            let record = columns.record[at];
            let number = self.numbers[columns.series[at] as usize];
            let rest = columns.record[at..].iter().zip(&columns.series[at..]);
            let is_same =
                |&(of, series): &(&u32, &u32)| *of == record && self.numbers[*series as usize] == number;
            let end = at + rest.take_while(is_same).count();
            self.fold(number, origins[record as usize], &columns.time_us[at..end]);
            at = end;
        }
        marks::late(&self.lags_us);
        self.lags_us.clear();
    }

    /// Appends the rows of the machines that changed, complete up to `version`.
    pub fn snapshot(
        &mut self,
        lane: &TopicPartition,
        version: i64,
        table: &SeriesTable,
        parts: &mut Vec<Part>,
    ) {
        let dirty = std::mem::take(&mut self.dirty);
        for &number in &dirty {
            let machine = &mut self.machines[number as usize];
            machine.settle();
            machine.is_listed = false;
            machine.version = version;
        }
        let changed = || dirty.iter().map(|&number| &self.machines[number as usize]);
        marks::skew(lane, changed().filter_map(|machine| machine.recent_skew_us));
        parts.extend(stored::part(lane, &changed().collect::<Vec<_>>(), table));
        for &number in &dirty {
            self.machines[number as usize].recent_skew_us = None;
        }
    }

    /// Folds the readings of one machine in one record in, or some of them, in their order.
    fn fold(&mut self, number: u32, origin: Origin, times_us: &[i64]) {
        let machine = &mut self.machines[number as usize];
        if origin.offset < machine.version {
            return;
        }
        machine.fold(origin, times_us, &mut self.lags_us);
        if !std::mem::replace(&mut machine.is_listed, true) {
            self.dirty.push(number);
        }
    }

    fn number(&mut self, table: &SeriesTable) {
        for code in self.numbers.len()..table.len() {
            let number = self.machine_of(table.all()[code].machine);
            self.numbers.push(number);
        }
    }

    /// The machine of this name, known or new.
    fn machine_of(&mut self, name: NameCode) -> u32 {
        let next = u32::try_from(self.machines.len()).unwrap_or(u32::MAX);
        let number = *self.by_name.entry(name).or_insert(next);
        if number == next {
            self.machines.push(Machine::new(name));
        }
        number
    }
}

#[cfg(test)]
mod tests;
