//! One schedule: what befalls the group, drawn from a seed, until all troubles end and everything must be there.

use std::sync::Arc;
use std::time::Duration;

use stillwell_ingest::gc::{self, Scope};
use stillwell_ingest::manifest::find_head;
use stillwell_schema::Head;
use stillwell_schema::ledger::View;
use tokio::time::{Instant, sleep};

use crate::log::Slot;
use crate::process::Process;
use crate::records::{draw_record, draw_slots};
use crate::store::Store;
use crate::workers::Fate;
use crate::world::{Weather, World, lane_id};

/// Troubles of a schedule.
const ACTS: std::ops::Range<u64> = 4..16;

/// Once all troubles have ended, the log's end is archived within this time, which is far more than the longest
/// waits that may be under way add up to.
const ARCHIVED_WITHIN: Duration = Duration::from_secs(3_600);

/// The group: processes by their place, and which has each partition as far as the group knows.
struct Group {
    world: Arc<World>,
    store: Arc<Store>,
    processes: Vec<Option<Arc<Process>>>,
    owners: Vec<Option<usize>>,
    born: u64,
}

/// Plays a schedule to its end; what went wrong is noted in `world`.
pub(crate) async fn play(world: &Arc<World>, store: &Arc<Store>) {
    let (writers, partitions) = (world.habits.writers, world.habits.partitions as usize);
    let mut group = Group {
        world: Arc::clone(world),
        store: Arc::clone(store),
        processes: vec![None; writers],
        owners: vec![None; partitions],
        born: 0,
    };
    for place in 0..writers {
        group.start(place);
    }
    for partition in 0..world.habits.partitions {
        group.append(partition);
        let place = world.below(writers as u64) as usize;
        group.give(partition, place).await;
    }
    let acts = ACTS.start + world.below(ACTS.end - ACTS.start);
    for _ in 0..acts {
        sleep(Duration::from_millis(world.below(if world.chance(30) { 30_000 } else { 1_500 }))).await;
        group.bury();
        group.act().await;
    }
    group.settle().await;
}

impl Group {
    async fn act(&mut self) {
        let world = Arc::clone(&self.world);
        let place = world.below(self.processes.len() as u64) as usize;
        let partition = world.below(self.owners.len() as u64) as i32;
        match world.below(100) {
            0..20 => self.append(partition),
            20..36 => {
                let to = world.below(self.processes.len() as u64) as usize;
                self.give(partition, to).await;
            }
            36..41 => self.kill(place),
            41..45 => self.stop(place).await,
            45..54 => self.foretell(place),
            54..60 => {
                if let Some(process) = &self.processes[place] {
                    process.life.freeze(&world, world.below(200_000));
                }
            }
            60..72 => self.usurp(partition, place).await,
            72..80 => {
                let weathers = [Weather::Fair, Weather::Fair, Weather::Gusty, Weather::Outage];
                let weather = weathers[world.below(4) as usize];
                world.note(format_args!("the weather is {weather:?}"));
                *world.weather.lock().unwrap() = weather;
            }
            80..90 if world.habits.leaps => self.leap(),
            90..100 if world.habits.losses => self.lose(partition),
            _ => self.append(partition),
        }
    }

    /// A process is to die or to freeze at one of its next steps.
    fn foretell(&self, place: usize) {
        let Some(process) = &self.processes[place] else { return };
        let fate = match self.world.chance(60) {
            true => Fate::Dies,
            false => Fate::Freezes { ms: self.world.below(200_000) },
        };
        let steps = self.world.below(24);
        self.world.note(format_args!("{} is to meet {fate:?} in {steps} steps", process.life.name));
        process.life.is_to_meet(Some((steps, fate)));
    }

    /// A partition's owner freezes amid its work, another goes on, perhaps to freeze amid its own, and time passes
    /// before the first wakes.
    async fn usurp(&mut self, partition: i32, heir: usize) {
        let world = Arc::clone(&self.world);
        let owner = self.owners[partition as usize].and_then(|place| self.processes[place].clone());
        let Some(owner) = owner else { return };
        let fate = Fate::Freezes { ms: 2_000 + world.below(60_000) };
        owner.life.is_to_meet(Some((world.below(24), fate)));
        self.append(partition);
        sleep(Duration::from_millis(world.below(3_000))).await;
        if let Some(heir) = self.processes[heir].as_ref().filter(|_| world.chance(50)) {
            let fate = Fate::Freezes { ms: 30_000 + world.below(120_000) };
            heir.life.is_to_meet(Some((world.below(32), fate)));
        }
        self.give(partition, heir).await;
        self.append(partition);
        if world.habits.leaps {
            sleep(Duration::from_millis(world.below(12_000))).await;
            self.leap();
        }
    }

    fn leap(&self) {
        let minutes = 40 + self.world.below(500) as i64;
        self.world.note(format_args!("the clock leaps by {minutes} minutes"));
        self.world.leap(minutes * 60_000_000);
    }

    fn start(&mut self, place: usize) {
        self.born += 1;
        let name = format!("w{place}.{}", self.born);
        self.processes[place] = Some(Process::start(&self.world, &self.store, name));
    }

    fn append(&self, partition: i32) {
        let log = self.world.log(partition);
        log.append(draw_slots(&self.world, log.end(), 1 + self.world.below(10)));
        self.world.note(format_args!("log {partition} ends at {}", log.end()));
    }

    fn kill(&mut self, place: usize) {
        if let Some(process) = &self.processes[place] {
            process.life.die(&self.world);
            self.bury();
        }
    }

    /// A process is to end in order; what its supervisor has no patience for is cut off.
    async fn stop(&mut self, place: usize) {
        if let Some(process) = &self.processes[place] {
            process.stop().await;
            process.life.die(&self.world);
            self.bury();
        }
    }

    /// Takes note of processes that have died; most are started again at once.
    fn bury(&mut self) {
        for place in 0..self.processes.len() {
            if self.processes[place].as_ref().is_some_and(|process| process.life.is_dead()) {
                self.processes[place] = None;
                self.owners.iter_mut().filter(|owner| **owner == Some(place)).for_each(|owner| *owner = None);
            }
            if self.processes[place].is_none() && self.world.chance(70) {
                self.start(place);
            }
        }
    }

    /// Retention takes what is old, read or not.
    fn lose(&self, partition: i32) {
        let log = self.world.log(partition);
        let low = log.low() + self.world.below((log.end() - log.low() + 1) as u64) as i64;
        self.world.note(format_args!("log {partition} begins at {low}"));
        log.retain_from(low);
    }

    /// A rebalance: the partition goes to the process at `to`. Its owner gives it up first, or, where the group
    /// has lost sight of it, goes on and hears of it later.
    async fn give(&mut self, partition: i32, to: usize) {
        let Some(heir) = self.processes[to].clone() else { return };
        let owner = self.owners[partition as usize].and_then(|place| self.processes[place].clone());
        if let Some(owner) = owner.filter(|owner| !Arc::ptr_eq(owner, &heir)) {
            if owner.life.is_frozen() || self.world.chance(40) {
                self.world.note(format_args!("{} is a zombie on {partition}", owner.life.name));
                self.world.counts.add("zombies", 1);
                let (world, held) = (Arc::clone(&self.world), owner.lose_sight(partition));
                tokio::spawn(async move {
                    sleep(Duration::from_millis(world.below(90_000))).await;
                    owner.life.moves().await;
                    if let Some(held) = held {
                        owner.tell(held).await;
                    }
                });
            } else {
                owner.release(partition).await;
            }
        }
        heir.assign(partition).await;
        self.owners[partition as usize] = Some(to);
    }

    /// Ends all troubles, waits until everything is archived, and stops in order.
    async fn settle(&mut self) {
        let world = Arc::clone(&self.world);
        world.note(format_args!("all troubles end"));
        *world.weather.lock().unwrap() = Weather::Calm;
        for place in 0..self.processes.len() {
            if let Some(process) = &self.processes[place] {
                process.life.thaw();
                process.life.is_to_meet(None);
            }
        }
        self.bury();
        if self.processes.iter().all(Option::is_none) {
            self.start(0);
        }
        let living: Vec<_> = self.processes.iter().flatten().cloned().collect();
        for partition in 0..world.habits.partitions {
            let log = world.log(partition);
            let last = draw_record(&world, log.end());
            log.append([Slot::Record(last)]);
            let owner = &living[world.below(living.len() as u64) as usize];
            for other in living.iter().filter(|other| !Arc::ptr_eq(owner, other)) {
                other.release(partition).await;
            }
            owner.assign(partition).await;
        }
        let began = Instant::now();
        for partition in 0..world.habits.partitions {
            let end = world.log(partition).end();
            while self.store.archived(partition) != Some(end) {
                if began.elapsed() > ARCHIVED_WITHIN {
                    let archived = self.store.archived(partition);
                    world.fail(format!("partition {partition} ends at {end}, archived up to {archived:?}"));
                    return;
                }
                sleep(Duration::from_secs(2)).await;
            }
        }
        for process in &living {
            if !process.stop().await {
                world.fail(format!("{} does not stop", process.life.name));
            }
        }
        self.collect();
    }

    /// A last sweep, of every age, takes what no entry names, and that alone.
    fn collect(&self) {
        for partition in 0..self.world.habits.partitions {
            let lane = lane_id(partition);
            let collected = find_head(&*self.store, &lane).and_then(|head| {
                let (from, view) = (Head::genesis(), View::default());
                let (before_us, superseded_before_us) = (i64::MAX, i64::MAX);
                let scope = Scope { from: &from, head: &head, view: &view, before_us, superseded_before_us };
                gc::collect(&*self.store, &lane, scope)
            });
            if let Err(error) = collected {
                self.world.fail(format!("the last sweep of {lane}: {error}"));
            }
        }
    }
}
