//! Several processes of one stage in one group, and what is done to them: killed, frozen and thawed as zombies, added,
//! sent away, with crashes of the engines under them. What is struck when comes from a seed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::stack::{SOON, Stack, signal};

/// Rounds, unless `STILLWELL_TEST_ROUNDS` says otherwise.
const ROUNDS: u64 = 50;

/// Members at the most.
const MEMBERS_MAX: usize = 3;

/// A frozen member is missed after 6 s; thawed later than that, it is a zombie.
const FROZEN_FOR: Duration = Duration::from_secs(9);

/// What a stage prints when it is set up.
const RUNS: &str = " runs; health at ";

/// What is done in one round.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Blow {
    /// A member dies.
    Kill,
    /// A member stands still until it is a zombie.
    Freeze,
    /// A member stands still for a moment.
    Blink,
    /// A member joins.
    Add,
    /// A member is told to stop.
    SendAway,
    /// The broker dies.
    CrashBroker,
    /// ClickHouse dies.
    CrashStore,
    /// ClickHouse stands still for some seconds, and answers then.
    SlowStore,
}

/// The seed, `STILLWELL_SEED` or 7, printed so that the test can be replayed.
pub(crate) fn seed() -> u64 {
    let seed = std::env::var("STILLWELL_SEED").map_or(7, |seed| seed.parse().unwrap());
    eprintln!("replay with STILLWELL_SEED={seed}");
    seed
}

/// The processes.
pub(crate) struct Members<'a> {
    stack: &'a Stack,
    stage: &'static str,
    settings: Vec<(&'static str, String)>,
    running: Vec<Member>,
    frozen: Vec<(Member, Instant)>,
    started: usize,
    fallen: usize,
    blows: BTreeMap<String, u64>,
    /// What lets ClickHouse go on again.
    thaws: Vec<JoinHandle<()>>,
}

struct Member {
    number: usize,
    child: Child,
}

impl<'a> Members<'a> {
    /// None yet; `settings` are the environment of each.
    pub(crate) fn new(stack: &'a Stack, stage: &'static str, settings: Vec<(&'static str, String)>) -> Self {
        Self {
            stack,
            stage,
            settings,
            running: Vec::new(),
            frozen: Vec::new(),
            started: 0,
            fallen: 0,
            blows: BTreeMap::new(),
            thaws: Vec::new(),
        }
    }

    /// Starts one more.
    pub(crate) fn add(&mut self) {
        self.started += 1;
        let log = File::create(self.log(self.started)).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_stillwell"))
            .args([self.stage, "--log", "info", "--data"])
            .arg(self.stack.data())
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.running.push(Member { number: self.started, child });
    }

    /// Strikes round after round; after each tenth, `progress`, a number in SQL, must grow. At the end all that were
    /// frozen go on. Gives the number of rounds.
    pub(crate) fn endure(&mut self, blows: &[Blow], seed: u64, progress: &str) -> u64 {
        let rounds = std::env::var("STILLWELL_TEST_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
        let mut random = StdRng::seed_from_u64(seed);
        self.add();
        for round in 0..rounds {
            let blow = blows[random.random_range(0..blows.len())];
            eprintln!("round {round}: {blow:?}, {} run, {} frozen", self.running.len(), self.frozen.len());
            self.strike(blow, &mut random);
            if round % 10 == 9 {
                self.goes_on(progress);
            }
            // The moment between two blows is what is varied.
            std::thread::sleep(Duration::from_millis(random.random_range(200..2500)));
        }
        self.thaw(Duration::ZERO);
        rounds
    }

    fn strike(&mut self, blow: Blow, random: &mut StdRng) {
        self.thaw(FROZEN_FOR);
        self.raise();
        *self.blows.entry(format!("{blow:?}")).or_default() += 1;
        let victim = random.random_range(0..self.running.len());
        match blow {
            Blow::Kill => kill(self.running.swap_remove(victim).child),
            Blow::Freeze => {
                let member = self.running.swap_remove(victim);
                signal(member.child.id(), "STOP");
                self.frozen.push((member, Instant::now()));
            }
            Blow::Blink => {
                let pid = self.running[victim].child.id();
                signal(pid, "STOP");
                std::thread::sleep(Duration::from_millis(random.random_range(50..1500)));
                signal(pid, "CONT");
            }
            Blow::Add => {
                if self.running.len() + self.frozen.len() < MEMBERS_MAX {
                    self.add();
                }
            }
            Blow::SendAway => self.send_away(victim),
            Blow::CrashBroker => signal(self.stack.process("kafka.Kafka"), "KILL"),
            Blow::CrashStore => signal(self.stack.process(" clickhouse-server "), "KILL"),
            Blow::SlowStore => self.slow_store(Duration::from_millis(random.random_range(500..6000))),
        }
        if self.running.is_empty() {
            self.add();
        }
    }

    fn send_away(&mut self, victim: usize) {
        let Member { number, mut child } = self.running.swap_remove(victim);
        if !self.words(number).contains(RUNS) {
            // It is only being set up: there is no order yet to stop in.
            kill(child);
            return;
        }
        signal(child.id(), "TERM");
        let status = child.wait().unwrap();
        assert!(status.success(), "a member that is sent away ends in order: {status}");
    }

    /// Lets ClickHouse stand still for so long, while the rounds go on.
    fn slow_store(&mut self, span: Duration) {
        let pid = self.stack.process(" clickhouse-server ");
        signal(pid, "STOP");
        self.thaws.push(std::thread::spawn(move || {
            std::thread::sleep(span);
            // A later blow may have killed it.
            let _ = Command::new("kill").args(["-CONT", &pid.to_string()]).stderr(Stdio::null()).status();
        }));
    }

    /// Lets those go on that were frozen for so long.
    fn thaw(&mut self, frozen_for: Duration) {
        let (thawed, frozen) =
            self.frozen.drain(..).partition::<Vec<_>, _>(|(_, since)| since.elapsed() >= frozen_for);
        self.frozen = frozen;
        for (member, _) in thawed {
            signal(member.child.id(), "CONT");
            self.running.push(member);
        }
    }

    /// Starts anew those that could not be set up, as their engines were away. Who runs never ends by itself.
    fn raise(&mut self) {
        for mut member in std::mem::take(&mut self.running) {
            let Some(status) = member.child.try_wait().unwrap() else {
                self.running.push(member);
                continue;
            };
            let words = self.words(member.number);
            assert!(!words.contains(RUNS), "{} {} ended: {status}\n{words}", self.stage, member.number);
            self.fallen += 1;
            self.add();
        }
    }

    /// Waits until `progress` has grown.
    fn goes_on(&mut self, progress: &str) {
        let before = self.stack.wait_number(progress, "it is read", |_| true);
        let until = Instant::now() + SOON;
        while self.stack.wait_number(progress, "it is read", |_| true) <= before {
            assert!(Instant::now() < until, "{} stands still: {progress} stays at {before}", self.stage);
            self.raise();
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// How often the logs of all say this.
    pub(crate) fn times_said(&self, words: &str) -> usize {
        (1..=self.started).map(|number| self.words(number).matches(words).count()).sum()
    }

    /// How many there were, and what was done to them.
    pub(crate) fn summary(&self) -> String {
        let Self { stage, started, fallen, blows, .. } = self;
        format!("{started} processes of {stage}, {fallen} without an engine at their start, {blows:?}")
    }

    fn words(&self, number: usize) -> String {
        fs::read_to_string(self.log(number)).unwrap_or_default()
    }

    fn log(&self, number: usize) -> PathBuf {
        self.stack.data().join(format!("logs/{}-{number}.log", self.stage))
    }
}

impl Drop for Members<'_> {
    fn drop(&mut self) {
        let frozen = self.frozen.drain(..).map(|(member, _)| member);
        self.running.drain(..).chain(frozen).for_each(|member| kill(member.child));
        for thaw in self.thaws.drain(..) {
            let _ = thaw.join();
        }
    }
}

fn kill(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}
