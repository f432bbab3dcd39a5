//! One history: what befalls the processes, drawn from a seed, until all troubles end and everything must be shown.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::building;
use super::oracle;
use super::process::Process;
use super::world::{Weather, World};

/// Troubles of a history.
const ACTS: std::ops::Range<u64> = 3..14;

/// Steps within which a process that is to die does.
const STEPS: u64 = 60;

/// Once all troubles have ended, the log's end is shown within this time, which is far more than the longest waits
/// that may be under way add up to.
const SHOWN_WITHIN: Duration = Duration::from_secs(3_600);

/// Between two looks whether it is.
const LOOK: Duration = Duration::from_secs(2);

/// The group: processes by their place, and which has each partition as far as the group knows.
struct Group {
    world: Arc<World>,
    processes: Vec<Arc<Process>>,
    /// By partition.
    owners: Vec<usize>,
    born: u64,
    built: u64,
}

/// Plays a history to its end; what went wrong is noted in `world`.
pub(super) async fn play(world: &Arc<World>) {
    let mut group =
        Group { world: Arc::clone(world), processes: Vec::new(), owners: Vec::new(), born: 0, built: 0 };
    for place in 0..world.habits.processes {
        let process = group.begin(place);
        group.processes.push(process);
    }
    for partition in world.partitions() {
        group.grow(partition);
        let place = world.index(group.processes.len());
        group.owners.push(place);
        group.processes[place].assign(partition).await;
    }
    let acts = ACTS.start + world.below(ACTS.end - ACTS.start);
    for _ in 0..acts {
        let pause_ms = if world.chance(30) { 30_000 } else { 3_000 };
        sleep(Duration::from_millis(world.below(pause_ms))).await;
        group.bury().await;
        group.act().await;
    }
    group.settle().await;
    oracle::judge(world);
}

impl Group {
    async fn act(&mut self) {
        let world = Arc::clone(&self.world);
        let place = world.index(self.processes.len());
        let partition = i32::try_from(world.index(self.owners.len())).unwrap();
        match world.below(100) {
            0..30 => world.partitions().for_each(|partition| self.grow(partition)),
            30..40 => self.processes[place].life.die(&world),
            40..60 => {
                let steps = world.below(STEPS);
                world.note(format_args!("{} dies in {steps} steps", self.processes[place].life.name));
                self.processes[place].life.dies_after(Some(steps));
                self.grow(partition);
            }
            60..66 => self.stop(place).await,
            66..72 => {
                let span = Duration::from_millis(world.below(30_000));
                world.note(format_args!("{} stands still for {span:?}", self.processes[place].life.name));
                world.counts.add("freezes", 1);
                self.processes[place].life.freeze(Some(span));
            }
            72..80 => {
                let weathers = [Weather::Fair, Weather::Fair, Weather::Gusty, Weather::Outage];
                let weather = weathers[world.index(weathers.len())];
                world.note(format_args!("the weather is {weather:?}"));
                *world.weather.lock().unwrap() = weather;
            }
            80..86 if world.habits.moves => self.give(partition, place).await,
            86..92 if world.habits.moves => self.usurp(partition, place).await,
            92..98 if world.habits.builds => {
                self.built += 1;
                building::build(&world, self.built).await;
            }
            98..100 if world.habits.builds => building::undo(&world),
            _ => self.grow(partition),
        }
    }

    fn begin(&mut self, place: usize) -> Arc<Process> {
        self.born += 1;
        Process::start(&self.world, format!("p{place}.{}", self.born))
    }

    /// Some records arrive.
    fn grow(&self, partition: i32) {
        let records = 1 + self.world.below(40);
        self.world.log(partition).grow(i64::try_from(records).unwrap());
    }

    /// A partition moves, and its owner is told first.
    async fn give(&mut self, partition: i32, to: usize) {
        let owner = &mut self.owners[usize::try_from(partition).unwrap()];
        self.processes[*owner].release(partition).await;
        *owner = to;
        self.world.counts.add("moves", 1);
        self.processes[to].assign(partition).await;
        self.grow(partition);
    }

    /// A partition moves, and its owner goes on for a while beside the new one.
    async fn usurp(&mut self, partition: i32, heir: usize) {
        let world = Arc::clone(&self.world);
        let owner = &mut self.owners[usize::try_from(partition).unwrap()];
        if *owner == heir {
            return;
        }
        let former = Arc::clone(&self.processes[*owner]);
        *owner = heir;
        let held = former.lose_sight(partition);
        world.counts.add("zombies", 1);
        if world.chance(50) {
            former.life.freeze(Some(Duration::from_millis(world.below(20_000))));
        }
        self.processes[heir].assign(partition).await;
        self.grow(partition);
        let beside = Duration::from_millis(world.below(40_000));
        if let Some(held) = held {
            tokio::spawn(async move {
                sleep(beside).await;
                former.tell(held).await;
            });
        }
    }

    /// A process ends in order, and another takes its place.
    async fn stop(&mut self, place: usize) {
        self.processes[place].stop().await;
        self.processes[place].life.die(&self.world);
        self.bury().await;
    }

    /// Others take the places of the dead, and their partitions.
    async fn bury(&mut self) {
        for place in 0..self.processes.len() {
            if !self.processes[place].life.is_dead() {
                continue;
            }
            self.processes[place] = self.begin(place);
            for partition in self.world.partitions() {
                let owner = &mut self.owners[usize::try_from(partition).unwrap()];
                if *owner == place {
                    *owner = self.world.index(self.processes.len());
                    let heir = Arc::clone(&self.processes[*owner]);
                    if heir.life.is_dead() {
                        // It is the next to be buried.
                        continue;
                    }
                    heir.assign(partition).await;
                }
            }
        }
    }

    /// All troubles end, and all that is to come arrives and is shown.
    async fn settle(&mut self) {
        let world = Arc::clone(&self.world);
        world.note(format_args!("all is calm"));
        *world.weather.lock().unwrap() = Weather::Calm;
        for process in &self.processes {
            process.life.dies_after(None);
            process.life.freeze(None);
        }
        self.bury().await;
        world.partitions().for_each(|partition| world.log(partition).grow(world.log(partition).end()));
        let until = Instant::now() + SHOWN_WITHIN;
        while !self.is_shown() {
            if Instant::now() > until {
                world.fail(format!("not shown within {SHOWN_WITHIN:?}"));
                break;
            }
            sleep(LOOK).await;
        }
        for process in &self.processes {
            process.life.die(&world);
        }
    }

    fn is_shown(&self) -> bool {
        let tables = self.world.tables.lock().unwrap();
        self.world.partitions().all(|partition| {
            let stands = tables.positions.get(&partition).map(|row| row.standing.position);
            let end = self.world.log(partition).end();
            stands.is_some_and(|at| at >= end) && tables.complete(partition).is_some_and(|at| at >= end)
        })
    }
}
