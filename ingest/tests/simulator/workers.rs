//! A process' workers in the simulation: each job is done, and answered, when the dice say so.
//!
//! A job lives on when its process dies: a store call that is on its way may take effect long after.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stillwell_ingest::workers::{Answer, Job, JobKind, Workers};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::world::World;

/// A store call under way.
pub(crate) enum Pending {
    Waiting(Job),
    Done(Answer),
}

/// What may befall a process at any of its steps.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    Dies,
    /// It stands still for a while, and knows nothing of it.
    Freezes {
        ms: u64,
    },
}

/// Whether a process lives and moves.
pub(crate) struct Life {
    pub(crate) name: String,
    dead: AtomicBool,
    frozen: AtomicBool,
    thawed: Notify,
    /// What befalls it, after how many steps.
    fate: Mutex<Option<(u64, Fate)>>,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Life {
    pub(crate) fn new(name: String) -> Self {
        Self {
            name,
            dead: AtomicBool::new(false),
            frozen: AtomicBool::new(false),
            thawed: Notify::new(),
            fate: Mutex::default(),
            tasks: Mutex::default(),
        }
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::Relaxed)
    }

    pub(crate) fn freeze(self: &Arc<Self>, world: &Arc<World>, ms: u64) {
        world.note(format_args!("{} freezes", self.name));
        world.counts.add("freezes", 1);
        self.frozen.store(true, Ordering::Relaxed);
        let (world, life) = (Arc::clone(world), Arc::clone(self));
        tokio::spawn(async move {
            sleep(Duration::from_millis(ms)).await;
            world.note(format_args!("{} goes on", life.name));
            life.thaw();
        });
    }

    pub(crate) fn thaw(&self) {
        self.frozen.store(false, Ordering::Relaxed);
        self.thawed.notify_waiters();
    }

    /// `fate` befalls it at its `steps`th step from now.
    pub(crate) fn is_to_meet(&self, fate: Option<(u64, Fate)>) {
        *self.fate.lock().unwrap() = fate;
    }

    /// It is killed: nothing of it goes on but what has left it.
    pub(crate) fn die(&self, world: &World) {
        if !self.dead.swap(true, Ordering::Relaxed) {
            world.note(format_args!("{} is killed", self.name));
            world.counts.add("crashes", 1);
            self.tasks.lock().unwrap().drain(..).for_each(|task| task.abort());
        }
    }

    /// Ends `task` when the process dies.
    pub(crate) fn owns(&self, task: AbortHandle) {
        let mut tasks = self.tasks.lock().unwrap();
        tasks.retain(|task| !task.is_finished());
        tasks.push(task);
    }

    /// Waits until it moves.
    pub(crate) async fn moves(&self) {
        loop {
            let thawed = self.thawed.notified();
            if !self.is_frozen() {
                return;
            }
            thawed.await;
        }
    }

    fn step(self: &Arc<Self>, world: &Arc<World>) {
        let mut next = self.fate.lock().unwrap();
        match next.take() {
            None => {}
            Some((0, Fate::Dies)) => self.die(world),
            Some((0, Fate::Freezes { ms })) => self.freeze(world, ms),
            Some((steps, fate)) => *next = Some((steps - 1, fate)),
        }
    }
}

/// The workers of one process.
pub(crate) struct Simulated {
    pub(crate) world: Arc<World>,
    pub(crate) life: Arc<Life>,
}

impl Workers for Simulated {
    fn take(&self, kind: JobKind, job: Job) {
        let (world, life) = (Arc::clone(&self.world), Arc::clone(&self.life));
        if life.is_dead() {
            return;
        }
        life.step(&world);
        match kind {
            JobKind::Compute => drop(tokio::spawn(compute(world, life, job))),
            JobKind::Store => {
                let number = world.jobs.fetch_add(1, Ordering::Relaxed);
                world.pending.lock().unwrap().insert(number, Pending::Waiting(job));
                drop(tokio::spawn(call(world, life, number)));
            }
        }
    }
}

async fn compute(world: Arc<World>, life: Arc<Life>, job: Job) {
    if world.chance(10) {
        sleep(world.delay()).await;
    }
    life.moves().await;
    life.step(&world);
    if !life.is_dead() {
        job()();
    }
}

async fn call(world: Arc<World>, life: Arc<Life>, number: u64) {
    // What has left the process takes effect even if it dies or sleeps; what has not does not.
    let has_left = world.chance(50);
    sleep(world.delay()).await;
    if !has_left {
        life.moves().await;
    }
    life.step(&world);
    let pending = world.pending.lock().unwrap().remove(&number);
    let answer = match pending {
        Some(Pending::Waiting(_)) if life.is_dead() && !has_left => return,
        Some(Pending::Waiting(job)) => job(),
        Some(Pending::Done(answer)) => answer,
        None => return,
    };
    life.step(&world);
    sleep(world.delay()).await;
    life.moves().await;
    if !life.is_dead() {
        answer();
        life.step(&world);
    }
}

/// Between two looks of one job at the store, another's call may take effect.
pub(crate) fn interleave(world: &World) {
    if world.is_calm() || !world.chance(10) || world.is_nested.swap(true, Ordering::Relaxed) {
        return;
    }
    let mut pending = world.pending.lock().unwrap();
    let waiting: Vec<u64> =
        pending.iter().filter(|(_, p)| matches!(p, Pending::Waiting(_))).map(|(number, _)| *number).collect();
    let chosen = waiting.get(world.below(waiting.len().max(1) as u64) as usize).copied();
    let job = chosen.and_then(|number| Some((number, pending.remove(&number)?)));
    drop(pending);
    if let Some((number, Pending::Waiting(job))) = job {
        world.counts.add("calls within calls", 1);
        let answer = job();
        world.pending.lock().unwrap().insert(number, Pending::Done(answer));
    }
    world.is_nested.store(false, Ordering::Relaxed);
}
