//! The books of an hour's windows, and beside them those of their totals by machine and kind, which are kept alike: a kind
//! stands in the place of the sensor.

use std::collections::{BTreeMap, BTreeSet};

use super::books::{Books, Refused};
use super::reader::TOTALS;
use super::{Outcome, Verdict};

/// Both of them, over the same readings.
pub(super) struct Both {
    pub(super) series: Books,
    pub(super) totals: Books,
    pub(super) refused: Refused,
}

impl Both {
    /// Closes them. Of a machine of which series were refused, nobody can say which readings its totals hold.
    pub(super) fn close(self, hour_us: i64, now_us: i64) -> Vec<Outcome> {
        let refused: BTreeSet<String> = self.refused.into_keys().map(|(_, _, machine)| machine).collect();
        let totals = self.totals.close(hour_us, now_us).into_iter();
        let differing =
            totals.filter(|total| total.state == Verdict::Differs && !refused.contains(&total.machine));
        let named = |total: Outcome| Outcome { detail: format!("{TOTALS}, {}", total.detail), ..total };
        with(self.series.close(hour_us, now_us), differing.map(named))
    }
}

/// What is found of machines, with what differs in their totals: that counts where nothing else does.
fn with(series: Vec<Outcome>, totals: impl Iterator<Item = Outcome>) -> Vec<Outcome> {
    let mut all: BTreeMap<String, Outcome> =
        series.into_iter().map(|outcome| (outcome.machine.clone(), outcome)).collect();
    for total in totals {
        let found = all.entry(total.machine.clone()).or_insert_with(|| total.clone());
        if found.state != Verdict::Differs {
            *found = total;
        } else if found.detail != total.detail {
            found.detail = format!("{}; {}", found.detail, total.detail);
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
        check(vec![told(Verdict::Differs, "oil")], &[told(Verdict::Differs, "oil; fleet")]);
        let others = vec![outcome(7, "a", Verdict::Equal), outcome(7, "c", Verdict::Equal)];
        let expected = [others[0].clone(), told(Verdict::Differs, "fleet"), others[1].clone()];
        check(others, &expected);
    }
}
