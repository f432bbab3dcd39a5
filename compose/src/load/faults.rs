//! What goes wrong in the plant: seeded faults, each with a start, a duration, a machine and its sensors.
//!
//! Time is cut into slots of equal length and each slot holds one fault, drawn from the seed and the
//! slot's number. So the faults of any time can be asked for without having lived through the time before.

use serde::Serialize;

use super::chance::{Chance, bell, hash};
use super::plant::{Kind, MachineType, Plant, round};

/// No fault lasts longer.
pub const DURATION_MAX_MS: i64 = 120_000;

/// The kind of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// One sensor jumps far out for some seconds.
    Spike,
    /// One sensor walks away from the truth.
    Drift,
    /// One sensor shows the same value on and on.
    Stuck,
    /// One or two sensors send nothing.
    Dropout,
    /// A pump draws vapour: vibration in bursts, flow and pressure sag and flutter.
    Cavitation,
}

/// One fault.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// What happens.
    pub kind: FaultKind,
    /// Machine number.
    pub machine: usize,
    /// Sensor numbers on it.
    pub sensors: Vec<usize>,
    /// First moment, ms since the epoch.
    pub start_ms: i64,
    /// First moment after it.
    pub end_ms: i64,
    /// 0.8 to 1.2.
    strength: f64,
    up: bool,
    id: u64,
}

/// A fault as the log tells it: one JSON line.
#[derive(Debug, Serialize)]
pub struct FaultLine<'a> {
    /// When it starts, RFC 3339.
    pub start: String,
    /// When it ends, RFC 3339.
    pub end: String,
    /// Machine name.
    pub machine: &'a str,
    /// Sensor names.
    pub sensors: Vec<&'a str>,
    /// What happens.
    pub kind: FaultKind,
}

/// All faults of a plant.
#[derive(Clone, Copy, Debug)]
pub struct FaultPlan {
    seed: u64,
    slot_ms: i64,
    from_ms: i64,
}

impl FaultPlan {
    /// One fault in every `slot_ms` on average, none that starts before `from_ms`.
    #[must_use]
    pub fn new(seed: u64, slot_ms: i64, from_ms: i64) -> Self {
        Self { seed, slot_ms: slot_ms.max(1), from_ms }
    }

    /// The faults that start in `[from_ms, to_ms)`, by slot.
    #[must_use]
    pub fn starting_in(&self, plant: &Plant, from_ms: i64, to_ms: i64) -> Vec<Fault> {
        let from_ms = from_ms.max(self.from_ms);
        if from_ms >= to_ms || plant.machines().iter().all(|m| m.sensors.is_empty()) {
            return Vec::new();
        }
        let slots = from_ms.div_euclid(self.slot_ms)..=(to_ms - 1).div_euclid(self.slot_ms);
        slots
            .map(|slot| self.in_slot(plant, slot))
            .filter(|fault| (from_ms..to_ms).contains(&fault.start_ms))
            .collect()
    }

    fn in_slot(&self, plant: &Plant, slot: i64) -> Fault {
        let id = hash([self.seed, 20, slot.cast_unsigned()]);
        let mut chance = Chance::new(id);
        let (kind, machine, sensors) = victim(plant, &mut chance);
        let start_ms = slot * self.slot_ms + draw(&mut chance, 0, self.slot_ms);
        let length_ms = match kind {
            FaultKind::Spike => draw(&mut chance, 5_000, 12_000),
            FaultKind::Drift => draw(&mut chance, 60_000, DURATION_MAX_MS),
            FaultKind::Stuck => draw(&mut chance, 60_000, 110_000),
            FaultKind::Dropout => draw(&mut chance, 20_000, 60_000),
            FaultKind::Cavitation => draw(&mut chance, 30_000, 90_000),
        };
        let strength = 0.8 + 0.4 * chance.unit();
        let up = chance.happens(0.7);
        Fault { kind, machine, sensors, start_ms, end_ms: start_ms + length_ms, strength, up, id }
    }
}

fn draw(chance: &mut Chance, from: i64, to: i64) -> i64 {
    from + chance.below((to - from).max(1).unsigned_abs()).cast_signed()
}

/// Draws what happens and to whom.
fn victim(plant: &Plant, chance: &mut Chance) -> (FaultKind, usize, Vec<usize>) {
    let drawn = [
        FaultKind::Spike,
        FaultKind::Drift,
        FaultKind::Stuck,
        FaultKind::Dropout,
        FaultKind::Cavitation,
        FaultKind::Cavitation,
    ][pick(chance, 6)];
    let machines = plant.machines();
    if drawn == FaultKind::Cavitation {
        let pumps: Vec<usize> =
            (0..machines.len()).filter(|&m| machines[m].machine_type == MachineType::Pump).collect();
        let machine = pumps[pick(chance, pumps.len())];
        let sensors = &machines[machine].sensors;
        let touched = |s: &usize| sensors[*s].kind != Kind::Temperature;
        let sensors: Vec<usize> = (0..sensors.len()).filter(touched).take(4).collect();
        if !sensors.is_empty() {
            return (drawn, machine, sensors);
        }
    }
    let machine = pick(chance, machines.len());
    let first = pick(chance, machines[machine].sensors.len());
    let mut sensors = vec![first];
    if drawn == FaultKind::Dropout && machines[machine].sensors.len() > 3 && chance.happens(0.5) {
        sensors.push((first + 1) % machines[machine].sensors.len());
    }
    let kind = if drawn == FaultKind::Cavitation { FaultKind::Spike } else { drawn };
    (kind, machine, sensors)
}

fn pick(chance: &mut Chance, n: usize) -> usize {
    // A plant's size fits any usize.
    chance.below(n as u64) as usize
}

impl Fault {
    /// Whether it is there at `time_ms`.
    #[must_use]
    pub fn is_active(&self, time_ms: i64) -> bool {
        (self.start_ms..self.end_ms).contains(&time_ms)
    }

    /// What sensor number `sensor` shows at `time_ms` in place of `value`; none where it shows nothing.
    /// The fault must be active and of this sensor's machine.
    #[must_use]
    pub fn apply(&self, plant: &Plant, sensor: usize, time_ms: i64, value: f64) -> Option<f64> {
        if !self.sensors.contains(&sensor) {
            return Some(value);
        }
        let shown = &plant.machines()[self.machine].sensors[sensor];
        let away = shown.spread() * self.strength * if self.up { 1.0 } else { -1.0 };
        #[allow(clippy::cast_precision_loss)]
        let progress = (time_ms - self.start_ms) as f64 / (self.end_ms - self.start_ms) as f64;
        let changed = match self.kind {
            FaultKind::Dropout => return None,
            FaultKind::Spike => value + 3.0 * away,
            FaultKind::Drift => value + 3.0 * away * (1.5 * progress).min(1.0),
            FaultKind::Stuck => plant.value(self.machine, sensor, self.start_ms),
            FaultKind::Cavitation => self.cavitate(shown.kind, sensor, time_ms, value),
        };
        Some(round(shown.kind, changed))
    }

    fn cavitate(&self, kind: Kind, sensor: usize, time_ms: i64, value: f64) -> f64 {
        let flutter = bell(hash([self.id, sensor as u64, time_ms.cast_unsigned()]));
        match kind {
            Kind::Vibration => value * (3.0 + 1.2 * self.strength * flutter.abs()),
            Kind::Flow => value * (0.72 + 0.08 * flutter),
            Kind::Pressure => value * (0.8 + 0.07 * flutter),
            Kind::Current => value * (0.88 + 0.05 * flutter),
            Kind::Temperature => value,
        }
    }

    /// The fault as the log tells it.
    #[must_use]
    pub fn line<'a>(&self, plant: &'a Plant) -> FaultLine<'a> {
        let machine = &plant.machines()[self.machine];
        FaultLine {
            start: rfc3339(self.start_ms),
            end: rfc3339(self.end_ms),
            machine: &machine.name,
            sensors: self.sensors.iter().map(|&s| machine.sensors[s].name.as_str()).collect(),
            kind: self.kind,
        }
    }
}

fn rfc3339(time_ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(time_ms)
        .map(|time| time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: i64 = 1_795_000_000_000;
    const HOUR: i64 = 3_600_000;

    fn plan() -> (Plant, FaultPlan) {
        (Plant::new(12, 6, 1), FaultPlan::new(1, 30_000, T0))
    }

    #[test]
    fn each_slot_has_one_fault_however_time_is_cut() {
        let (plant, plan) = plan();
        let whole = plan.starting_in(&plant, T0, T0 + HOUR);
        assert!((119..=121).contains(&whole.len()), "{}", whole.len());
        let pieces: Vec<Fault> =
            (0..3600).flat_map(|s| plan.starting_in(&plant, T0 + s * 1000, T0 + (s + 1) * 1000)).collect();
        assert_eq!(whole, pieces);
        assert!(plan.starting_in(&plant, T0 - HOUR, T0).is_empty(), "none before the plan's start");
    }

    #[test]
    fn every_kind_comes_up_and_stays_within_its_window() {
        let (plant, plan) = plan();
        let faults = plan.starting_in(&plant, T0, T0 + 6 * HOUR);
        for kind in
            [FaultKind::Spike, FaultKind::Drift, FaultKind::Stuck, FaultKind::Dropout, FaultKind::Cavitation]
        {
            assert!(faults.iter().any(|f| f.kind == kind), "{kind:?}");
        }
        for fault in faults {
            let length = fault.end_ms - fault.start_ms;
            assert!(length > 0 && length <= DURATION_MAX_MS);
            assert!(fault.is_active(fault.start_ms) && !fault.is_active(fault.end_ms));
            let line = serde_json::to_value(fault.line(&plant)).unwrap();
            assert!(line["machine"].is_string() && !line["sensors"].as_array().unwrap().is_empty(), "{line}");
        }
    }

    #[test]
    fn faults_touch_their_sensors_alone_and_visibly() {
        let (plant, plan) = plan();
        for fault in plan.starting_in(&plant, T0, T0 + HOUR) {
            let late = fault.end_ms - 1;
            let sensors = &plant.machines()[fault.machine].sensors;
            for (s, sensor) in sensors.iter().enumerate() {
                let value = plant.value(fault.machine, s, late);
                let shown = fault.apply(&plant, s, late, value);
                match (fault.sensors.contains(&s), fault.kind) {
                    (false, _) => assert_eq!(shown, Some(value)),
                    (true, FaultKind::Dropout) => assert_eq!(shown, None),
                    (true, FaultKind::Stuck) => {
                        assert_eq!(shown, Some(plant.value(fault.machine, s, fault.start_ms)));
                    }
                    (true, FaultKind::Spike | FaultKind::Drift) => {
                        let away = (shown.unwrap() - value).abs();
                        // A falling value ends at zero.
                        assert!(away > 1.5 * sensor.spread() || shown == Some(0.0), "{fault:?} {away}");
                    }
                    (true, FaultKind::Cavitation) => assert_ne!(shown, Some(value)),
                }
            }
        }
    }

    #[test]
    fn a_plant_of_temperatures_alone_has_faults_too() {
        let plant = Plant::new(1, 1, 1);
        let faults = FaultPlan::new(3, 30_000, T0).starting_in(&plant, T0, T0 + HOUR);
        assert!(faults.iter().all(|f| f.sensors == [0] && f.kind != FaultKind::Cavitation));
    }
}
