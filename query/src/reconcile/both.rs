//! The books of an hour's windows, and beside them those of their totals by machine and kind, which are kept alike: a kind
//! stands in the place of the sensor.

use std::collections::{BTreeMap, BTreeSet};

use super::books::{Books, Reading};
use super::reader::TOTALS;
use super::{Outcome, Verdict};

/// Both of them, over the same readings; those of totals where these are shown.
pub(super) struct Both {
    series: Books,
    totals: Option<Books>,
    /// Machines with readings of series that were refused. Some of these may have been taken in since, and be in totals
    /// that were built anew: nobody can say which readings their totals should hold.
    refused: BTreeSet<String>,
}

impl Both {
    pub(super) fn new(series: Books, totals: Option<Books>) -> Self {
        Self { series, totals, refused: BTreeSet::new() }
    }

    /// Enters a reading of this kind.
    pub(super) fn add(&mut self, reading: Reading<'_>, kind: &str) {
        if !self.series.add(reading) && !self.refused.contains(reading.machine) {
            self.refused.insert(reading.machine.to_owned());
        }
        if let Some(totals) = &mut self.totals {
            totals.add(Reading { sensor: kind, ..reading });
        }
    }

    /// Closes them.
    pub(super) fn close(self, hour_us: i64, now_us: i64) -> Vec<Outcome> {
        let totals = self.totals.map_or_else(Vec::new, |totals| totals.close(hour_us, now_us));
        let telling = |total: &Outcome| {
            matches!(total.state, Verdict::Differs | Verdict::Pending)
                && !self.refused.contains(&total.machine)
        };
        with(self.series.close(hour_us, now_us), totals.into_iter().filter(telling).map(named))
    }
}

fn named(total: Outcome) -> Outcome {
    let detail = if total.detail.is_empty() { String::new() } else { format!("{TOTALS}, {}", total.detail) };
    Outcome { detail, ..total }
}

/// What is found of machines, with what differs in their totals, or is not compared yet: that counts where nothing else
/// is to be said against them.
fn with(series: Vec<Outcome>, totals: impl Iterator<Item = Outcome>) -> Vec<Outcome> {
    let mut all: BTreeMap<String, Outcome> =
        series.into_iter().map(|outcome| (outcome.machine.clone(), outcome)).collect();
    for total in totals {
        match all.get_mut(&total.machine) {
            Some(found) if found.state == Verdict::Differs && total.state == Verdict::Differs => {
                found.detail = format!("{}; {}", found.detail, total.detail);
            }
            Some(found) if total.state == Verdict::Pending => {
                found.state =
                    if found.state == Verdict::Differs { Verdict::Differs } else { Verdict::Pending };
            }
            _ => drop(all.insert(total.machine.clone(), total)),
        }
    }
    all.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::outcome;
    use super::*;

    #[test]
    fn totals_are_named_where_they_differ() {
        let told = |state, detail: &str| Outcome { detail: detail.to_owned(), ..outcome(7, "b", state) };
        let check = |series: Vec<Outcome>, expected: &[Outcome]| {
            assert_eq!(with(series, [told(Verdict::Differs, "fleet")].into_iter()), expected);
        };
        check(Vec::new(), &[told(Verdict::Differs, "fleet")]);
        check(vec![told(Verdict::Pending, "")], &[told(Verdict::Differs, "fleet")]);
        let pending = [told(Verdict::Pending, "")].into_iter();
        assert_eq!(with(vec![told(Verdict::Equal, "")], pending.clone()), [told(Verdict::Pending, "")]);
        assert_eq!(with(vec![told(Verdict::Differs, "oil")], pending), [told(Verdict::Differs, "oil")]);
        check(vec![told(Verdict::Differs, "oil")], &[told(Verdict::Differs, "oil; fleet")]);
        let others = vec![outcome(7, "a", Verdict::Equal), outcome(7, "c", Verdict::Equal)];
        let expected = [others[0].clone(), told(Verdict::Differs, "fleet"), others[1].clone()];
        check(others, &expected);
    }
}
