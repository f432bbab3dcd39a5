//! Reads a lane's ledger: the view that its readers have, and what was erased.

use stillwell_schema::key_change::KeyWatch;
use stillwell_schema::ledger::{Cover, Deed, LeavesFile, SignedAct, Standing, View};
use stillwell_schema::{TopicPartition, paths};

use super::chain_end;
use super::orphans::Named;
use super::report::{LaneReport, Problem, ProblemKind};
use super::trust::Trust;
use crate::store::{ArchiveStore, StoreError};

/// What a lane's ledger says.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) view: View,
}

/// Walks the ledger up to its end or its first damage: behind that, what readers see is not known.
pub(super) fn read(
    store: &dyn ArchiveStore,
    id: &TopicPartition,
    trust: &Trust,
    named: &mut Named,
    report: &mut LaneReport,
) -> Result<Ledger, StoreError> {
    let end = chain_end(store, &paths::ledger_folder(id), report)?;
    let mut ledger = Ledger::default();
    let mut keys = KeyWatch::default();
    let attested = trust.lanes.get(id);
    let mut seq = 0;
    while let Some(bytes) = store.get(&paths::act(id, seq))? {
        let path = paths::act(id, seq);
        let act = match SignedAct::parse(bytes) {
            Ok(act) => act,
            Err(error) => {
                report.problem(Problem::new(ProblemKind::Altered, path, error.to_string()));
                report.ledger_damaged = true;
                return Ok(ledger);
            }
        };
        match ledger.view.apply(id, &act) {
            Ok(superseded) => {
                if let Some(message) = unexplained(&act.act.deed, &superseded) {
                    report.problem(Problem::new(ProblemKind::Counts, &*path, message));
                }
            }
            Err(error) => {
                report.problem(Problem::new(ProblemKind::Chain, path, error.to_string()));
                report.ledger_damaged = true;
                return Ok(ledger);
            }
        }
        if !report.keys.contains(&act.act.key) {
            report.keys.push(act.act.key.clone());
        }
        if let Err(error) = trust.check_key(&mut keys, &act.act.key) {
            report.problem(Problem::new(ProblemKind::Key, &*path, error.to_string()));
        }
        if let Some(message) = attested.and_then(|attested| attested.differs_in_act(seq, &act.sha256)) {
            report.problem(Problem::new(ProblemKind::Chain, path, message));
        }
        count(&act.act.deed, named, report);
        seq += 1;
    }
    if seq < end {
        let message = "the act is missing, but later ones exist; restore it from a backup";
        report.problem(Problem::new(ProblemKind::Missing, paths::act(id, seq), message));
    }
    if let Some(message) = attested.and_then(|attested| attested.more_acts_than(seq)) {
        report.problem(Problem::new(ProblemKind::Truncated, paths::act(id, seq), message));
    }
    Ok(ledger)
}

/// What is wrong with the leaves that a deed adds: only an erasure may, and as many as it states.
fn unexplained(deed: &Deed, superseded: &[Standing]) -> Option<String> {
    let known = |leaves: &LeavesFile| superseded.iter().any(|old| old.cover.leaves.contains(leaves));
    let leaves = deed.cover()?.leaves.iter().filter(|leaves| !known(leaves));
    let added: u64 = leaves.map(|leaves| leaves.file.rows).sum();
    let stated = if let Deed::Erase(erase) = deed { erase.records } else { 0 };
    (added != stated).then(|| format!("adds the leaves of {added} erased records, and states {stated}"))
}

fn count(deed: &Deed, named: &mut Named, report: &mut LaneReport) {
    report.acts += 1;
    if let Deed::Erase(erase) = deed {
        report.erasures += 1;
        report.erased_records += erase.records;
        report.erased_readings += erase.readings;
    }
    for file in deed.cover().into_iter().flat_map(Cover::files) {
        // A file of leaves goes from cover to cover.
        named.insert(&file.path);
    }
}
