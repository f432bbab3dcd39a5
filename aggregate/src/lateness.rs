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
use stillwell_source::series::{NameCode, SeriesCode, SeriesTable};

use crate::fold::Origin;
use crate::snapshot::Part;

mod machine;
mod marks;
mod stored;

/// Machines of a lane, some kilobytes each once they have been late. What a sender makes up beyond them is counted, and
/// not measured.
const MACHINES_MAX: usize = 100_000;

/// A series whose machine was not looked for yet, and one whose machine is beyond [`MACHINES_MAX`].
const UNSEEN: u32 = u32::MAX;
const UNMEASURED: u32 = u32::MAX - 1;

use machine::Machine;
pub(crate) use stored::{LatenessRow, TABLE, select};

/// The machines of a lane.
#[derive(Debug)]
pub struct LaneLateness {
    machines: Vec<Machine>,
    machines_max: usize,
    /// Machine number by code of the lane's series table, [`UNSEEN`] or [`UNMEASURED`].
    numbers: Vec<u32>,
    by_name: HashMap<NameCode, u32, FxBuildHasher>,
    /// Machines that changed since they were last sent.
    dirty: Vec<u32>,
    /// Lags of the late readings of a chunk, µs.
    lags_us: Vec<i64>,
}

impl Default for LaneLateness {
    fn default() -> Self {
        Self {
            machines: Vec::new(),
            machines_max: MACHINES_MAX,
            numbers: Vec::new(),
            by_name: HashMap::default(),
            dirty: Vec::new(),
            lags_us: Vec::new(),
        }
    }
}

impl LaneLateness {
    /// Takes over what is stored of a lane, before anything is folded: no more machines than there is room for.
    pub(crate) fn restore(&mut self, rows: impl IntoIterator<Item = LatenessRow>, table: &mut SeriesTable) {
        for row in rows {
            let name = table.intern_name(&row.machine);
            if let Some(machine) = self.machine_of(name) {
                self.machines[machine as usize] = stored::machine(name, row);
            }
        }
    }

    /// Folds the readings of a chunk in; `origins` are of its records.
    pub fn take(&mut self, origins: &[Origin], columns: &ReadingColumns, table: &SeriesTable) {
        self.number(&columns.series, table);
        let (mut at, mut unmeasured) = (0, 0);
        while at < columns.len() {
            let record = columns.record[at];
            let number = self.numbers[columns.series[at] as usize];
            let rest = columns.record[at..].iter().zip(&columns.series[at..]);
            let is_same =
                |&(of, series): &(&u32, &u32)| *of == record && self.numbers[*series as usize] == number;
            let end = at + rest.take_while(is_same).count();
            match number {
                UNMEASURED => unmeasured += end - at,
                number => self.fold(number, origins[record as usize], &columns.time_us[at..end]),
            }
            at = end;
        }
        marks::unmeasured(unmeasured);
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

    /// Finds the machines of these series, in the order of their readings: which of them there is room for is the
    /// same whenever the log is folded from here.
    fn number(&mut self, series: &[SeriesCode], table: &SeriesTable) {
        self.numbers.resize(table.len(), UNSEEN);
        for &code in series {
            if self.numbers[code as usize] == UNSEEN {
                let machine = self.machine_of(table.series(code).machine);
                self.numbers[code as usize] = machine.unwrap_or(UNMEASURED);
            }
        }
    }

    /// The machine of this name, known or new; none where there is no room for it.
    fn machine_of(&mut self, name: NameCode) -> Option<u32> {
        if let Some(&number) = self.by_name.get(&name) {
            return Some(number);
        }
        let number =
            u32::try_from(self.machines.len()).ok().filter(|_| self.machines.len() < self.machines_max)?;
        self.by_name.insert(name, number);
        self.machines.push(Machine::new(name));
        Some(number)
    }
}

#[cfg(test)]
mod tests;
