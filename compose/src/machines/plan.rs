//! What a file would change in the registry.

use std::collections::BTreeSet;
use std::fmt::Write;

use stillwell_schema::machines::{Change, MachineRegistry, MachineVersion, VersionKey};

/// Changes, and how much stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    new: Vec<MachineVersion>,
    /// Versions that are there with other fields, which are named.
    changed: Vec<(MachineVersion, Vec<String>)>,
    taken_back: Vec<VersionKey>,
    same: usize,
    /// Versions that are there and not in the file, and stay.
    others: usize,
}

impl Plan {
    /// What makes the registry `there` say what `file` says; with `prune`, that alone.
    pub(super) fn of(file: MachineRegistry, there: &MachineRegistry, prune: bool) -> Self {
        let mut plan = Self::default();
        for version in file.versions() {
            match there.get(&version.key()) {
                None => plan.new.push(version.clone()),
                Some(known) if known == version => plan.same += 1,
                Some(known) => plan.changed.push((version.clone(), differences(known, version))),
            }
        }
        let others = there.versions().map(MachineVersion::key).filter(|key| file.get(key).is_none());
        match prune {
            true => plan.taken_back = others.collect(),
            false => plan.others = others.count(),
        }
        plan
    }

    /// Its records.
    pub(super) fn changes(&self) -> Vec<Change> {
        let versions = self.new.iter().chain(self.changed.iter().map(|(version, _)| version));
        let put = versions.cloned().map(Change::Put);
        put.chain(self.taken_back.iter().cloned().map(Change::TakeBack)).collect()
    }

    /// For people.
    pub(super) fn text(&self, dry_run: bool) -> String {
        let Self { new, changed, taken_back, same, others } = self;
        let mut out = String::new();
        for version in new {
            let _ = writeln!(out, "new         {}", version.key());
        }
        for (version, fields) in changed {
            let _ = writeln!(out, "changed     {}: {}", version.key(), fields.join(", "));
        }
        for key in taken_back {
            let _ = writeln!(out, "taken back  {key}");
        }
        let did = if dry_run { "would be published" } else { "are published" };
        let count = new.len() + changed.len() + taken_back.len();
        if count == 0 {
            out.push_str("nothing changes: ");
        } else {
            let _ = write!(out, "{count} records {did}: ");
        }
        let (new, changed) = (new.len(), changed.len());
        let _ = write!(out, "{new} new, {changed} changed, {} taken back, {same} the same", taken_back.len());
        if *others > 0 {
            let _ = write!(out, "; {others} that the file does not have stay");
        }
        out.push('\n');
        out
    }
}

/// The fields in which two versions of one key differ.
fn differences(known: &MachineVersion, version: &MachineVersion) -> Vec<String> {
    let fields = [
        ("site", &known.site, &version.site),
        ("line", &known.line, &version.line),
        ("model", &known.model, &version.model),
    ];
    let fields = fields.into_iter().filter(|(_, known, new)| known != new).map(|(name, ..)| name.to_owned());
    let names: BTreeSet<&String> = known.sensors.keys().chain(version.sensors.keys()).collect();
    let sensors = names.into_iter().filter(|name| known.sensors.get(*name) != version.sensors.get(*name));
    fields.chain(sensors.map(|name| format!("sensors.{name}"))).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use stillwell_schema::machines::{Moment, Sensor};

    use super::*;

    fn version(machine: &str, line: &str, sensors: &[&str]) -> MachineVersion {
        let sensors = sensors.iter().map(|&name| (name.to_owned(), Sensor::default()));
        MachineVersion {
            machine: machine.to_owned(),
            site: String::new(),
            line: line.to_owned(),
            model: String::new(),
            valid_from: Moment::from_us(0).unwrap(),
            sensors: sensors.collect::<BTreeMap<_, _>>(),
        }
    }

    fn apply(there: &MachineRegistry, plan: &Plan) -> MachineRegistry {
        let mut after = there.clone();
        for change in plan.changes() {
            assert!(after.apply(change), "every record changes something");
        }
        after
    }

    #[test]
    fn only_what_differs_is_published_and_the_same_file_again_changes_nothing() {
        let there: MachineRegistry =
            [version("a", "L1", &["oil"]), version("b", "L1", &[]), version("c", "L1", &[])]
                .into_iter()
                .collect();
        let file: MachineRegistry =
            [version("a", "L1", &["oil"]), version("b", "L2", &["door"]), version("d", "L1", &[])]
                .into_iter()
                .collect();
        let plan = Plan::of(file.clone(), &there, false);
        let text = plan.text(true);
        for part in [
            "new         d@1970-01-01T00:00:00.000000Z\n",
            "changed     b@1970-01-01T00:00:00.000000Z: line, sensors.door\n",
            "2 records would be published: 1 new, 1 changed, 0 taken back, 1 the same; 1 that the file does not have stay\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let after = apply(&there, &plan);
        assert_eq!(after.len(), 4);
        let again = Plan::of(file.clone(), &after, false);
        assert!(again.changes().is_empty() && again.text(false).starts_with("nothing changes"));
        let pruned = Plan::of(file.clone(), &after, true);
        assert!(pruned.text(false).contains("taken back  c@"), "{}", pruned.text(false));
        assert_eq!(apply(&after, &pruned), file);
    }
}
