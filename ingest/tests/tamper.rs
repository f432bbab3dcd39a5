//! Whatever is done to an archive is found: thousands of archives are tampered with, each in one way, and each
//! verification must say so; untouched ones must pass.
//!
//! The verifier holds what an auditor holds: the public key, and a copy of the last checkpoint.

mod support;
mod tamper {
    pub(crate) mod archive;
    pub(crate) mod attack;
}

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rayon::prelude::*;
use stillwell_ingest::verify::{Level, Options, Report, verify};
use stillwell_schema::checkpoint::SignedCheckpoint;
use support::{MemoryStore, public_key};
use tamper::archive::Archive;
use tamper::attack::Attack;

/// Archives made, each attacked many times.
const ARCHIVES: u64 = 40;

/// Attacks in a run, unless `STILLWELL_TEST_TAMPERS` says otherwise.
const TAMPERS: u64 = 10_000;

/// Untouched archives verified.
const UNTOUCHED: u64 = 1_000;

fn check(store: &MemoryStore, copy: &SignedCheckpoint) -> Report {
    let options = Options {
        level: Level::Records,
        key: Some(public_key()),
        checkpoint: Some(copy.clone()),
        topic: None,
    };
    verify(store, &options, &|_| {}).unwrap()
}

/// The seeds of a run, or the one to be replayed.
fn seeds(run: u64) -> std::ops::Range<u64> {
    match std::env::var("STILLWELL_SEED") {
        Ok(seed) => seed.parse().map(|seed: u64| seed..seed + 1).unwrap(),
        Err(_) => 0..run,
    }
}

#[test]
fn every_tampering_is_found() {
    let run = std::env::var("STILLWELL_TEST_TAMPERS").map_or(TAMPERS, |run| run.parse().unwrap());
    let archives: Vec<Archive> = (0..ARCHIVES).into_par_iter().map(Archive::new).collect();
    let missed: Vec<(u64, Attack)> = seeds(run)
        .into_par_iter()
        .filter_map(|seed| {
            let mut random = StdRng::seed_from_u64(seed);
            let archive = &archives[random.random_range(0..archives.len())];
            let (attack, store) = Attack::on(archive, &mut random);
            check(&store, &archive.copy).sound.then_some((seed, attack))
        })
        .collect();
    assert!(missed.is_empty(), "missed {}; replay with STILLWELL_SEED: {missed:?}", missed.len());
}

#[test]
fn untouched_archives_are_sound() {
    let alarms: Vec<_> = seeds(UNTOUCHED)
        .into_par_iter()
        .map(|seed| (seed, Archive::new(seed)))
        .filter_map(|(seed, archive)| {
            let report = check(&archive.store(), &archive.copy);
            (!report.sound).then_some((seed, report.problems, report.lanes))
        })
        .collect();
    assert!(alarms.is_empty(), "false alarms; replay with STILLWELL_SEED: {alarms:?}");
}

#[test]
fn each_kind_of_attack_is_made() {
    let archive = Archive::new(1);
    let mut made: BTreeMap<&'static str, u64> = BTreeMap::new();
    for seed in 0..2_000 {
        let (attack, _) = Attack::on(&archive, &mut StdRng::seed_from_u64(seed));
        *made.entry(attack.name()).or_default() += 1;
    }
    assert_eq!(made.len(), Attack::KINDS, "{made:?}");
}

#[test]
fn a_report_names_the_entry_the_file_and_the_offsets() {
    let archive = Archive::new(3);
    let store = archive.store();
    let path = archive.objects.keys().find(|path| path.contains("/records/")).unwrap().clone();
    store.objects.lock().unwrap().get_mut(&path).unwrap()[30] ^= 4;
    let report = check(&store, &archive.copy);
    let problems: Vec<_> = report.lanes.iter().flat_map(|lane| &lane.problems).collect();
    let [problem] = &problems[..] else { panic!("{problems:?}") };
    assert_eq!(problem.object, path);
    assert!(problem.seq.is_some() && problem.offset.is_some(), "{problem:?}");
}
