//! What has run out in a lane, by the tombstones of its ledger: of a machine, readings before a time may be gone.

use stillwell_schema::ledger::Rule;
use stillwell_schema::pattern::matches;

/// The rules that tombstones of a lane were written by, each set of classes once, with its latest times.
#[derive(Clone, Debug, Default)]
pub struct Erased(Vec<Vec<Rule>>);

impl Erased {
    /// What one tombstone says.
    #[must_use]
    pub fn of(rules: &[Rule]) -> Self {
        Self(vec![rules.to_vec()])
    }

    /// Takes in the rules of a tombstone.
    pub(super) fn add(&mut self, rules: &[Rule]) {
        let class = |rule: &Rule| (rule.class.clone(), rule.machines.clone(), rule.keep_days);
        let is_same = |old: &&mut Vec<Rule>| {
            old.len() == rules.len() && old.iter().map(class).eq(rules.iter().map(class))
        };
        match self.0.iter_mut().find(is_same) {
            Some(old) => {
                old.iter_mut()
                    .zip(rules)
                    .for_each(|(old, new)| old.until_us = old.until_us.max(new.until_us));
            }
            None => self.0.push(rules.to_vec()),
        }
    }

    /// The source time before which readings of a machine had run out, µs UTC; none where none ever did. Of several
    /// classes of a tombstone the longest counts.
    #[must_use]
    pub fn until_us(&self, machine: &str) -> Option<i64> {
        let is_of = |rule: &&Rule| rule.machines.as_deref().is_some_and(|pattern| matches(pattern, machine));
        let until = |rules: &Vec<Rule>| rules.iter().filter(is_of).map(|rule| rule.until_us).min();
        self.0.iter().filter_map(until).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(class: &str, machines: Option<&str>, until_us: i64) -> Rule {
        Rule { class: class.to_owned(), machines: machines.map(str::to_owned), keep_days: 1, until_us }
    }

    #[test]
    fn a_machine_has_run_out_by_the_longest_of_its_classes_and_the_latest_tombstone() {
        let mut erased = Erased::default();
        assert_eq!(erased.until_us("press-1"), None);
        let rules = |by: i64| [rule("all", Some("*"), 10 + by), rule("press", Some("press-*"), 5 + by)];
        erased.add(&rules(3));
        erased.add(&rules(0));
        erased.add(&[rule("bare", None, 99)]);
        assert_eq!(erased.0.len(), 2, "the same classes are held once");
        assert_eq!((erased.until_us("press-1"), erased.until_us("saw")), (Some(8), Some(13)));
        erased.add(&[rule("saws", Some("saw"), 20)]);
        assert_eq!((erased.until_us("press-1"), erased.until_us("saw")), (Some(8), Some(20)));
    }
}
