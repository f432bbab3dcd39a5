//! The simulated plant: what each sensor of each machine shows at a time.
//!
//! A value is a pure function of seed, machine, sensor and time. What moves a machine is its load: it
//! steps to a new level every 45 s or so, with a short ramp, and couples all its sensors. Heat follows the
//! load slowly. On top lie a daily cycle, a slow drift of each sensor, and noise with some memory; values
//! are rounded as real transmitters round.

use std::f64::consts::TAU;

use super::chance::{bell, hash, unit};

const DAY_MS: f64 = 86_400_000.0;
/// How long a load level lasts. Commissioning sees a handful of them in its first minutes.
const LOAD_STEP_MS: i64 = 45_000;
const LOAD_RAMP_MS: f64 = 6_000.0;
const LOAD_MIN: f64 = 0.5;
/// Heat is the load of the last minute, newest weighing most.
const HEAT_SAMPLES: i64 = 8;
const HEAT_SAMPLE_MS: i64 = 8_000;
const HEAT_DECAY: f64 = 0.75;
/// The memory of the slow part of the noise.
const MURMUR_MS: i64 = 8_000;

/// What a sensor measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// °C
    Temperature,
    /// mm/s
    Vibration,
    /// bar
    Pressure,
    /// A
    Current,
    /// m³/h
    Flow,
}

impl Kind {
    /// The `kind` of its readings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Temperature => "temperature",
            Self::Vibration => "vibration",
            Self::Pressure => "pressure",
            Self::Current => "current",
            Self::Flow => "flow",
        }
    }

    /// The `unit` of its readings.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Temperature => "°C",
            Self::Vibration => "mm/s",
            Self::Pressure => "bar",
            Self::Current => "A",
            Self::Flow => "m³/h",
        }
    }

    /// Steps per unit that its transmitter resolves.
    fn steps_per_unit(self) -> f64 {
        match self {
            Self::Temperature | Self::Current | Self::Flow => 10.0,
            Self::Vibration | Self::Pressure => 100.0,
        }
    }
}

/// The type of a machine, which its name starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineType {
    /// A process pump.
    Pump,
    /// An electric motor.
    Motor,
    /// A furnace.
    Oven,
}

/// What a sensor of a machine type shows: `base` at no load, `base + by_load` at full load.
struct Role {
    name: &'static str,
    kind: Kind,
    base: f64,
    by_load: f64,
    noise: f64,
}

const fn role(name: &'static str, kind: Kind, base: f64, by_load: f64, noise: f64) -> Role {
    Role { name, kind, base, by_load, noise }
}

const PUMP: [Role; 6] = [
    role("bearing-temperature", Kind::Temperature, 38.0, 24.0, 0.25),
    role("vibration", Kind::Vibration, 1.1, 2.0, 0.08),
    role("pressure", Kind::Pressure, 7.4, -2.2, 0.04),
    role("current", Kind::Current, 9.0, 26.0, 0.3),
    role("flow", Kind::Flow, 12.0, 88.0, 0.9),
    role("winding-temperature", Kind::Temperature, 44.0, 36.0, 0.3),
];

const MOTOR: [Role; 6] = [
    role("winding-temperature", Kind::Temperature, 46.0, 38.0, 0.3),
    role("vibration", Kind::Vibration, 0.8, 1.5, 0.06),
    role("current", Kind::Current, 6.0, 44.0, 0.4),
    role("bearing-temperature", Kind::Temperature, 35.0, 20.0, 0.25),
    role("oil-pressure", Kind::Pressure, 2.1, 0.8, 0.02),
    role("coolant-flow", Kind::Flow, 1.2, 3.4, 0.08),
];

const OVEN: [Role; 6] = [
    role("zone-1", Kind::Temperature, 172.0, 48.0, 0.6),
    role("zone-2", Kind::Temperature, 180.0, 55.0, 0.6),
    role("current", Kind::Current, 18.0, 64.0, 0.5),
    role("gas-flow", Kind::Flow, 3.5, 11.0, 0.12),
    role("fan-vibration", Kind::Vibration, 1.3, 0.9, 0.06),
    role("chamber-pressure", Kind::Pressure, 1.02, 0.24, 0.01),
];

impl MachineType {
    fn name(self) -> &'static str {
        match self {
            Self::Pump => "pump",
            Self::Motor => "motor",
            Self::Oven => "oven",
        }
    }

    fn roles(self) -> &'static [Role] {
        match self {
            Self::Pump => &PUMP,
            Self::Motor => &MOTOR,
            Self::Oven => &OVEN,
        }
    }
}

/// One sensor.
#[derive(Clone, Debug)]
pub struct Sensor {
    /// Its name on the machine.
    pub name: String,
    /// What it measures.
    pub kind: Kind,
    id: u64,
    base: f64,
    by_load: f64,
    noise: f64,
}

impl Sensor {
    /// How far its values spread in normal work: what a fault's size is measured in.
    #[must_use]
    pub fn spread(&self) -> f64 {
        self.by_load.abs() * (1.0 - LOAD_MIN) + 4.0 * self.noise
    }
}

/// One machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its name, unique in the plant.
    pub name: String,
    /// Its type.
    pub machine_type: MachineType,
    /// Its sensors.
    pub sensors: Vec<Sensor>,
    id: u64,
}

/// What drives all sensors of one machine at one time.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    time_ms: i64,
    load: f64,
    heat: f64,
    ambient: f64,
}

/// Machines and their sensors.
///
/// ```
/// use stillwell::load::plant::Plant;
/// let plant = Plant::new(3, 6, 1);
/// let names: Vec<&str> = plant.machines().iter().map(|m| m.name.as_str()).collect();
/// assert_eq!(names, ["pump-01", "motor-01", "oven-01"]);
/// let time_ms = 1_795_000_000_000;
/// assert_eq!(plant.value(0, 1, time_ms), Plant::new(3, 6, 1).value(0, 1, time_ms));
/// ```
#[derive(Clone, Debug)]
pub struct Plant {
    machines: Vec<Machine>,
}

impl Plant {
    /// A plant of `machines` machines with `sensors` sensors each. Its every value follows from `seed`.
    #[must_use]
    pub fn new(machines: usize, sensors: usize, seed: u64) -> Self {
        let machines = (0..machines).map(|i| machine(i, sensors, seed)).collect();
        Self { machines }
    }

    /// The machines.
    #[must_use]
    pub fn machines(&self) -> &[Machine] {
        &self.machines
    }

    /// What drives machine number `machine` at `time_ms`.
    #[must_use]
    pub fn moment(&self, machine: usize, time_ms: i64) -> Moment {
        let id = self.machines[machine].id;
        let mut heat = 0.0;
        let mut weights = 0.0;
        let mut weight = 1.0;
        for i in 0..HEAT_SAMPLES {
            heat += weight * load(id, time_ms - i * HEAT_SAMPLE_MS);
            weights += weight;
            weight *= HEAT_DECAY;
        }
        let ambient = 1.2 * wave(time_ms, DAY_MS, unit(hash([id, 3])));
        Moment { time_ms, load: load(id, time_ms), heat: heat / weights, ambient }
    }

    /// What sensor number `sensor` of machine number `machine` shows at a moment of that machine.
    #[must_use]
    pub fn value_at(&self, machine: usize, sensor: usize, moment: &Moment) -> f64 {
        let sensor = &self.machines[machine].sensors[sensor];
        let drive = if sensor.kind == Kind::Temperature { moment.heat } else { moment.load };
        let ambient = if sensor.kind == Kind::Temperature { moment.ambient } else { 0.0 };
        let exact =
            sensor.base + sensor.by_load * drive + ambient + sensor.noise * noise(sensor, moment.time_ms);
        round(sensor.kind, exact)
    }

    /// What sensor number `sensor` of machine number `machine` shows at `time_ms`.
    #[must_use]
    pub fn value(&self, machine: usize, sensor: usize, time_ms: i64) -> f64 {
        self.value_at(machine, sensor, &self.moment(machine, time_ms))
    }
}

/// Rounds as the transmitter of `kind` does, and never to less than it can show.
pub(super) fn round(kind: Kind, value: f64) -> f64 {
    let steps = kind.steps_per_unit();
    (value.max(0.0) * steps).round() / steps
}

fn machine(i: usize, sensors: usize, seed: u64) -> Machine {
    let machine_type = [MachineType::Pump, MachineType::Motor, MachineType::Oven][i % 3];
    let id = hash([seed, 1, i as u64]);
    let roles = machine_type.roles();
    let sensors = (0..sensors).map(|s| sensor(&roles[s % roles.len()], s / roles.len(), id)).collect();
    Machine { name: format!("{}-{:02}", machine_type.name(), i / 3 + 1), machine_type, sensors, id }
}

/// Two machines of a type, and two sensors of a role, are alike but never the same.
fn sensor(role: &Role, round: usize, machine: u64) -> Sensor {
    let name = if round == 0 { role.name.to_owned() } else { format!("{}-{}", role.name, round + 1) };
    let id = hash([machine, 2, round as u64, role.name.len() as u64, u64::from(role.name.as_bytes()[0])]);
    let id = role.name.bytes().fold(id, |id, byte| hash([id, u64::from(byte)]));
    let alike = |what: u64| 0.9 + 0.2 * unit(hash([id, what]));
    Sensor {
        name,
        kind: role.kind,
        id,
        base: role.base * alike(1),
        by_load: role.by_load * alike(2),
        noise: role.noise * alike(3),
    }
}

fn load(machine: u64, time_ms: i64) -> f64 {
    // Machines step at different times.
    let shifted = time_ms + (hash([machine, 4]) % LOAD_STEP_MS.unsigned_abs()).cast_signed();
    let step = shifted.div_euclid(LOAD_STEP_MS);
    #[allow(clippy::cast_precision_loss)]
    let since = shifted.rem_euclid(LOAD_STEP_MS) as f64;
    let level = |step: i64| LOAD_MIN + (1.0 - LOAD_MIN) * unit(hash([machine, 5, step.cast_unsigned()]));
    let ramp = (since / LOAD_RAMP_MS).min(1.0);
    let work = level(step - 1) * (1.0 - ramp) + level(step) * ramp;
    work * (0.985 + 0.015 * wave(time_ms, DAY_MS, 0.25))
}

/// Noise in units of the sensor's noise: quick, slow, and a drift over hours.
fn noise(sensor: &Sensor, time_ms: i64) -> f64 {
    let quick = bell(hash([sensor.id, 6, time_ms.cast_unsigned()]));
    let cell = time_ms.div_euclid(MURMUR_MS);
    #[allow(clippy::cast_precision_loss)]
    let within = time_ms.rem_euclid(MURMUR_MS) as f64 / MURMUR_MS as f64;
    let at = |cell: i64| bell(hash([sensor.id, 7, cell.cast_unsigned()]));
    let slow = at(cell) * (1.0 - within) + at(cell + 1) * within;
    let phase = unit(hash([sensor.id, 8]));
    let drift = wave(time_ms, DAY_MS * 0.31, phase) + wave(time_ms, DAY_MS * 1.7, 1.0 - phase);
    0.8 * quick + 0.6 * slow + 0.5 * drift
}

#[allow(clippy::cast_precision_loss)]
fn wave(time_ms: i64, period_ms: f64, phase: f64) -> f64 {
    (TAU * (time_ms as f64 / period_ms + phase)).sin()
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: i64 = 1_795_000_000_000;

    #[test]
    fn the_same_seed_gives_the_same_values_in_any_order() {
        let (one, two) = (Plant::new(6, 8, 5), Plant::new(6, 8, 5));
        let forward: Vec<f64> = (0..50).map(|i| one.value(4, 7, T0 + i * 1000)).collect();
        let backward: Vec<f64> = (0..50).rev().map(|i| two.value(4, 7, T0 + i * 1000)).collect();
        assert_eq!(forward, backward.into_iter().rev().collect::<Vec<_>>());
        let other = Plant::new(6, 8, 6);
        assert_ne!(forward, (0..50).map(|i| other.value(4, 7, T0 + i * 1000)).collect::<Vec<_>>());
    }

    #[test]
    fn a_larger_plant_leaves_its_machines_as_they_were() {
        let (small, large) = (Plant::new(3, 6, 9), Plant::new(30, 12, 9));
        assert_eq!(small.value(2, 5, T0), large.value(2, 5, T0));
    }

    #[test]
    fn series_names_are_unique() {
        let plant = Plant::new(200, 50, 1);
        let mut names: Vec<(&str, &str)> = plant
            .machines()
            .iter()
            .flat_map(|m| m.sensors.iter().map(|s| (m.name.as_str(), s.name.as_str())))
            .collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 200 * 50);
    }

    #[test]
    fn the_load_couples_the_sensors_of_a_machine() {
        let plant = Plant::new(1, 6, 3);
        let column = |sensor| (0..600).map(|i| plant.value(0, sensor, T0 + i * 1000)).collect::<Vec<f64>>();
        let (current, flow, pressure) = (column(3), column(4), column(2));
        assert!(correlation(&current, &flow) > 0.9);
        assert!(correlation(&current, &pressure) < -0.9);
    }

    #[test]
    fn values_are_rounded_and_physical() {
        let plant = Plant::new(3, 6, 2);
        for (m, machine) in plant.machines().iter().enumerate() {
            for (s, sensor) in machine.sensors.iter().enumerate() {
                let value = plant.value(m, s, T0 + 12_345);
                assert!(value > 0.0 && value < 400.0, "{} {} {value}", machine.name, sensor.name);
                assert_eq!(value, round(sensor.kind, value));
            }
        }
    }

    fn correlation(a: &[f64], b: &[f64]) -> f64 {
        let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
        let (ma, mb) = (mean(a), mean(b));
        let sum =
            |f: &dyn Fn(f64, f64) -> f64| a.iter().zip(b).map(|(&x, &y)| f(x - ma, y - mb)).sum::<f64>();
        sum(&|x, y| x * y) / (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt()
    }
}
