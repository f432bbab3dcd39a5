//! The plant's readings in order of time, as records: no clock, no Kafka.
//!
//! The machines of a plant are sampled one after the other, spread over the interval, so that load is even.

use crate::load::faults::{Fault, FaultPlan};
use crate::load::generate::GenerateArgs;
use crate::load::plant::Plant;
use crate::load::wire::{Cell, Encoder, Outgoing, WireSensor};

/// The plant as a stream of records.
#[derive(Debug)]
pub(super) struct Stream {
    plant: Plant,
    encoders: Vec<Encoder>,
    faults: Option<FaultPlan>,
    /// Faults that are or were active; ended ones go when the next one begins.
    active: Vec<Fault>,
    /// Faults that began since they were last taken.
    begun: Vec<Fault>,
    /// Faults that start before this are known.
    known_ms: i64,
    start_us: i64,
    interval_us: i64,
    step: i64,
    left: Option<u64>,
    readings: u64,
}

impl Stream {
    /// The plant from `start_us` on; its faults are counted from `origin_us`, when it began.
    pub(super) fn new(
        args: &GenerateArgs,
        plant: Plant,
        origin_us: i64,
        start_us: i64,
        interval_us: i64,
    ) -> Self {
        let encoders = plant
            .machines()
            .iter()
            .map(|machine| {
                let sensors: Vec<WireSensor<'_>> = machine
                    .sensors
                    .iter()
                    .map(|s| WireSensor {
                        name: &s.name,
                        kind: Some(s.kind.name()),
                        unit: Some(s.kind.unit()),
                    })
                    .collect();
                Encoder::new(args.format, args.per_record, &machine.name, &sensors)
            })
            .collect();
        let (origin_ms, start_ms) = (origin_us.div_euclid(1000), start_us.div_euclid(1000));
        let every_ms = i64::try_from(args.faults_every.as_millis()).unwrap_or(i64::MAX);
        let after_ms = i64::try_from(args.faults_after.as_millis()).unwrap_or(i64::MAX);
        let faults =
            (every_ms > 0).then(|| FaultPlan::new(args.seed, every_ms, origin_ms.saturating_add(after_ms)));
        Self {
            plant,
            encoders,
            faults,
            active: Vec::new(),
            begun: Vec::new(),
            known_ms: start_ms,
            start_us,
            interval_us,
            step: 0,
            left: args.count,
            readings: 0,
        }
    }

    pub(super) fn plant(&self) -> &Plant {
        &self.plant
    }

    /// Readings made.
    pub(super) fn readings(&self) -> u64 {
        self.readings
    }

    /// Whether the count is reached.
    pub(super) fn is_done(&self) -> bool {
        self.left == Some(0)
    }

    /// The time of the next step.
    pub(super) fn next_us(&self) -> i64 {
        let machines = self.encoders.len().cast_signed() as i64;
        let (round, machine) = (self.step.div_euclid(machines), self.step.rem_euclid(machines));
        self.start_us + round * self.interval_us + machine * self.interval_us / machines
    }

    /// Samples the next machine; full records go to `out`.
    pub(super) fn step(&mut self, out: &mut Vec<Outgoing>) {
        let time_ms = self.next_us().div_euclid(1000);
        let machine = (self.step.unsigned_abs() % self.encoders.len() as u64) as usize;
        self.step += 1;
        self.meet_faults(time_ms);
        let moment = self.plant.moment(machine, time_ms);
        let mut cells = Vec::with_capacity(self.plant.machines()[machine].sensors.len());
        for sensor in 0..self.plant.machines()[machine].sensors.len() {
            let value = self.plant.value_at(machine, sensor, &moment);
            let shown = self
                .active
                .iter()
                .filter(|fault| fault.machine == machine && fault.is_active(time_ms))
                .try_fold(value, |value, fault| fault.apply(&self.plant, sensor, time_ms, value));
            cells.push(shown.filter(|_| self.take_one()).map_or(Cell::Missing, Cell::Number));
        }
        self.encoders[machine].row(time_ms * 1000, &cells, out);
    }

    /// Closes all records that are not full.
    pub(super) fn flush(&mut self, out: &mut Vec<Outgoing>) {
        for encoder in &mut self.encoders {
            encoder.flush(out);
        }
    }

    /// The faults that began since the last call.
    pub(super) fn take_begun(&mut self) -> Vec<Fault> {
        std::mem::take(&mut self.begun)
    }

    /// Counts one reading, unless the count is used up.
    fn take_one(&mut self) -> bool {
        match &mut self.left {
            Some(0) => return false,
            Some(left) => *left -= 1,
            None => {}
        }
        self.readings += 1;
        true
    }

    fn meet_faults(&mut self, time_ms: i64) {
        let Some(plan) = self.faults else { return };
        if time_ms < self.known_ms {
            return;
        }
        let begun = plan.starting_in(&self.plant, self.known_ms, time_ms + 1);
        self.known_ms = time_ms + 1;
        if !begun.is_empty() {
            self.active.retain(|fault| time_ms < fault.end_ms);
            self.begun.extend(begun.iter().filter(|fault| time_ms < fault.end_ms).cloned());
            self.active.extend(begun);
        }
    }
}
