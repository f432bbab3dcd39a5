//! Retention: exactly what has run out and is not held is erased, and what is left is proven as before.

mod support;
#[path = "tamper/archive.rs"]
#[allow(dead_code, reason = "this file only commits")]
mod tamper;

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use stillwell_ingest::gc::{self, Scope};
use stillwell_ingest::life::compact::{Policy, compact};
use stillwell_ingest::life::ledger::{Pen, read_view};
use stillwell_ingest::life::retain::{Class, Erased, Retention, plan, retain};
use stillwell_ingest::life::{LifeError, hold};
use stillwell_ingest::manifest::find_head;
use stillwell_ingest::store::ArchiveStore;
use stillwell_schema::ledger::{Deed, Hold, Release};
use stillwell_schema::pattern::matches;
use stillwell_schema::{Clock, Head, TopicPartition};
use support::{MemoryStore, Seen, audit, expected, key, lane_id, see};

/// The source time of offset 0, µs; the next is 10 ms later.
const BEGIN_US: i64 = 1_795_000_000_000_000;
const STEP_US: i64 = 10_000;
const DAY_US: i64 = 86_400_000_000;

struct At(i64);

impl Clock for At {
    fn now_us(&self) -> i64 {
        self.0
    }
}

/// A case: presses of ten days run out before the offset `cut`, those of eleven not at all.
struct Case {
    store: Arc<MemoryStore>,
    cut: i64,
    classes: Vec<Class>,
    holds: Vec<Hold>,
}

impl Case {
    fn new(random: &mut StdRng) -> Self {
        let store = Arc::new(MemoryStore::default());
        for _ in 0..random.random_range(2..12) {
            tamper::commit(&store, &lane_id(), &key(), random);
        }
        let next = find_head(&*store, &lane_id()).unwrap().next.unwrap().0;
        let mut classes = Vec::new();
        for (name, machines, keep_days, odds) in [
            ("all", Some("press-*"), 10, 0.5),
            ("first", Some("press-0"), 10, 0.7),
            ("second for longer", Some("*-1"), 11, 0.5),
            ("undecodable", None, 10, 0.5),
        ] {
            if random.random_bool(odds) {
                let machines = machines.map(str::to_owned);
                classes.push(Class { name: name.into(), machines, keep_days });
            }
        }
        Self { store, cut: random.random_range(0..next + 5), classes, holds: Vec::new() }
    }

    fn pen(&self) -> Pen {
        Pen {
            store: Arc::clone(&self.store) as Arc<dyn ArchiveStore>,
            key: key(),
            writer: "w".into(),
            clock: Arc::new(At(BEGIN_US + self.cut * STEP_US + 10 * DAY_US)),
        }
    }

    fn retention(&self, random: &mut StdRng) -> Retention {
        Retention {
            classes: self.classes.clone(),
            by: "anna".into(),
            reason: "test".into(),
            file_bytes_target: random.random_range(1..200_000),
            level: 1,
        }
    }

    fn hold(&mut self, random: &mut StdRng) {
        let time = |random: &mut StdRng| {
            random.random_bool(0.5).then(|| BEGIN_US + random.random_range(0..self.cut + 20) * STEP_US)
        };
        let machines = ["press-0", "press-*", "*"][random.random_range(0..3)].to_owned();
        let (from_us, until_us) = (time(random), time(random));
        let id = format!("case {}", self.holds.len());
        let hold = Hold { id, machines, from_us, until_us, by: "anna".into(), reason: "test".into() };
        assert_eq!(hold::add(&self.pen(), "readings", &hold).unwrap(), 1);
        assert_eq!(hold::add(&self.pen(), "readings", &hold).unwrap(), 0, "it stands already");
        self.holds.push(hold);
    }

    /// Whether record `offset` stays, by the rules as they are written down.
    fn stays(&self, offset: i64) -> bool {
        let held = |time_us: i64, machine: Option<&str>| {
            self.holds.iter().any(|hold| {
                machine.is_none_or(|machine| matches(&hold.machines, machine))
                    && hold.from_us.is_none_or(|from| from <= time_us)
                    && hold.until_us.is_none_or(|until| time_us < until)
            })
        };
        if offset % 7 == 3 {
            // Its Kafka time is of 1970, so it has run out where there is a class for it.
            let kept = !self.classes.iter().any(|class| class.machines.is_none());
            return kept || held(offset * 10_000, None);
        }
        let machine = format!("press-{}", offset % 3);
        let of = |class: &&Class| class.machines.as_deref().is_some_and(|pattern| matches(pattern, &machine));
        let days = self.classes.iter().filter(of).map(|class| class.keep_days).max();
        let has_run_out = days == Some(10) && offset < self.cut;
        !has_run_out || held(BEGIN_US + offset * STEP_US, Some(&machine))
    }

    fn run(&self, random: &mut StdRng) -> Vec<Erased> {
        let (retention, mut all) = (self.retention(random), Vec::new());
        let planned = plan(&self.pen(), &lane_id(), &retention, &|_| ()).unwrap();
        retain(&self.pen(), &lane_id(), &retention, &|_| (), &mut |erased| all.push(erased)).unwrap();
        let sums = |all: &[Erased]| -> (u64, u64) {
            (all.iter().map(|one| one.records).sum(), all.iter().map(|one| one.readings).sum())
        };
        assert_eq!(sums(&planned), sums(&all), "a dry run says what is erased");
        all
    }

    /// What readers see is what stays of `gone`, and all of it verifies.
    fn check(&self, gone: &mut std::collections::BTreeSet<i64>) {
        let report = audit(&*self.store);
        assert_eq!(report.problems, []);
        let range = report.range.unwrap();
        gone.extend((range.first.0..range.next.0).filter(|offset| !self.stays(*offset)));
        let all = expected(range.first.0, range.next.0);
        let left = Seen {
            records: all.records.into_iter().filter(|record| !gone.contains(&record.0)).collect(),
            readings: all.readings.into_iter().filter(|offset| !gone.contains(offset)).collect(),
        };
        assert_eq!(see(&*self.store), left);
    }
}

#[test]
fn exactly_what_has_run_out_and_is_not_held_is_erased_and_the_rest_is_proven() {
    let seeds = match std::env::var("STILLWELL_SEED") {
        Ok(seed) => seed.parse().map(|seed: u64| seed..seed + 1).unwrap(),
        Err(_) => 0..80,
    };
    for seed in seeds {
        eprintln!("replay with STILLWELL_SEED={seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let mut case = Case::new(&mut random);
        let mut gone = std::collections::BTreeSet::new();
        let policy = Policy { file_bytes_target: 60_000, before_us: i64::MAX, pieces_min: 2, level: 1 };
        for _ in 0..3 {
            if random.random_bool(0.5) {
                compact(&case.pen(), &lane_id(), policy, &|_| (), &mut |_| true).unwrap();
            }
            if random.random_bool(0.5) {
                case.hold(&mut random);
            }
            case.run(&mut random);
            case.check(&mut gone);
            assert_eq!(case.run(&mut random), [], "nothing is left to erase");
            if random.random_bool(0.5)
                && let Some(hold) = case.holds.pop()
            {
                let release = Release { id: hold.id, by: "anna".into(), reason: "test".into() };
                assert_eq!(hold::release(&case.pen(), "readings", &release).unwrap(), 1);
            }
            case.cut += random.random_range(0..10);
            tamper::commit(&case.store, &lane_id(), &key(), &mut random);
        }
        case.run(&mut random);
        compact(&case.pen(), &lane_id(), policy, &|_| (), &mut |_| true).unwrap();
        let (from, head) = (Head::genesis(), find_head(&*case.store, &lane_id()).unwrap());
        let view = read_view(&*case.store, &lane_id()).unwrap();
        let scope =
            Scope { from: &from, head: &head, view: &view, before_us: 1, superseded_before_us: i64::MAX };
        gc::collect(&*case.store, &lane_id(), scope).unwrap();
        case.check(&mut gone);
        assert_eq!(audit(&*case.store).orphans, 0);
    }
}

#[test]
fn a_hold_that_comes_while_records_are_being_erased_stops_it() {
    let mut random = StdRng::seed_from_u64(5);
    let mut case = Case::new(&mut random);
    case.classes = vec![Class { name: "all".into(), machines: Some("*".into()), keep_days: 10 }];
    case.cut = 1_000;
    let hold = Hold {
        id: "case".into(),
        machines: "*".into(),
        from_us: None,
        until_us: None,
        by: "anna".into(),
        reason: "test".into(),
    };
    let (pen, once) = (case.pen(), std::sync::Once::new());
    let tick = |_| once.call_once(|| assert_eq!(hold::add(&pen, "readings", &hold).unwrap(), 1));
    let retention = case.retention(&mut random);
    retain(&case.pen(), &lane_id(), &retention, &tick, &mut |erased| panic!("{erased:?}")).unwrap_err();
    let report = audit(&*case.store);
    assert_eq!((report.problems.len(), report.erased_records), (0, 0));
    let view = read_view(&*case.store, &lane_id()).unwrap();
    assert_eq!((view.holds().count(), view.covers().count()), (1, 0));
    assert!(matches!(
        pen.add(&lane_id(), &mut read_view(&*case.store, &lane_id()).unwrap(), Deed::Hold(hold)),
        Ok(act) if act.act.seq == 1
    ));
}

#[test]
fn holds_of_one_name_that_differ_from_lane_to_lane_all_hold() {
    let mut random = StdRng::seed_from_u64(6);
    let mut case = Case::new(&mut random);
    case.classes = vec![Class { name: "all".into(), machines: Some("*".into()), keep_days: 10 }];
    case.cut = 1_000;
    let (pen, lanes) = (case.pen(), [1, 7].map(|p| TopicPartition::new("readings", p)));
    for lane in &lanes {
        tamper::commit(&case.store, lane, &key(), &mut random);
    }
    let hold = |machines: &str| Hold {
        id: "case".into(),
        machines: machines.into(),
        from_us: None,
        until_us: None,
        by: "anna".into(),
        reason: "test".into(),
    };
    let view = |lane: &TopicPartition| read_view(&*case.store, lane).unwrap();
    pen.add(&lanes[0], &mut view(&lanes[0]), Deed::Hold(hold("mill-*"))).unwrap();
    pen.add(&lanes[1], &mut view(&lanes[1]), Deed::Hold(hold("*"))).unwrap();
    let standing = hold::list(&*case.store, "readings").unwrap();
    let machines: Vec<&str> = standing.iter().map(|one| &*one.hold.machines).collect();
    assert_eq!(machines, ["mill-*", "*"]);
    let retention = case.retention(&mut random);
    retain(&pen, &lane_id(), &retention, &|_| (), &mut |erased| panic!("{erased:?}")).unwrap();

    let acts = || [view(&lanes[0]), view(&lanes[1]), view(&lane_id())].map(|view| view.head().seq);
    let before = acts();
    let refused = hold::add(&pen, "readings", &hold("*"));
    assert!(matches!(&refused, Err(LifeError::HoldTaken { id, .. }) if id == "case"), "{refused:?}");
    assert_eq!(acts(), before, "it was added nowhere");
    let release = Release { id: "case".into(), by: "anna".into(), reason: "test".into() };
    assert_eq!(hold::release(&pen, "readings", &release).unwrap(), 2);
    assert_eq!(hold::add(&pen, "readings", &hold("*")).unwrap(), 3);
}
