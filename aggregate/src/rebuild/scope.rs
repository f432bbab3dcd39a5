//! What of a table a rebuild builds anew, as conditions of SQL.

use super::plan::{Plan, PlannedLane};
use crate::store::quote;

/// The condition for windows that are built: of these lanes, machines and times.
pub(super) fn inside(plan: &Plan) -> String {
    let lanes = lanes(plan.built());
    [Some(lanes), machines(plan), times(plan)].into_iter().flatten().collect::<Vec<_>>().join(" AND ")
}

/// The condition for the machines; none for all.
pub(super) fn machines(plan: &Plan) -> Option<String> {
    let any = plan.machines.iter().map(|pattern| format!("machine LIKE {}", like(pattern)));
    let any: Vec<String> = any.collect();
    (!any.is_empty()).then(|| format!("({})", any.join(" OR ")))
}

fn times(plan: &Plan) -> Option<String> {
    let bound = |op: &str, time_us: i64| format!("start {op} fromUnixTimestamp64Micro({time_us}, 'UTC')");
    let bounds = [plan.from_us.map(|from| bound(">=", from)), plan.to_us.map(|to| bound("<", to))];
    let bounds: Vec<String> = bounds.into_iter().flatten().collect();
    (!bounds.is_empty()).then(|| bounds.join(" AND "))
}

/// The condition for the rows of these lanes.
pub(super) fn lanes<'a>(lanes: impl Iterator<Item = &'a PlannedLane>) -> String {
    let all: Vec<String> =
        lanes.map(|lane| format!("({}, {})", quote(&lane.topic), lane.partition)).collect();
    if all.is_empty() { "0".to_owned() } else { format!("(topic, partition) IN ({})", all.join(", ")) }
}

/// The offset up to which a row's lane is built, by the columns `topic` and `partition`; -1 for others.
pub(super) fn until(plan: &Plan) -> String {
    let case = |lane: &PlannedLane| {
        format!("topic = {} AND partition = {}, toInt64({})", quote(&lane.topic), lane.partition, lane.until)
    };
    let cases: Vec<String> = plan.lanes.iter().map(case).collect();
    if cases.is_empty() {
        "toInt64(-1)".to_owned()
    } else {
        format!("multiIf({}, toInt64(-1))", cases.join(", "))
    }
}

/// A pattern of machines as one of LIKE: `*` stands for any text, all else for itself.
fn like(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 2);
    for character in pattern.chars() {
        match character {
            '*' => out.push('%'),
            '%' | '_' | '\\' => out.extend(['\\', character]),
            _ => out.push(character),
        }
    }
    quote(&out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_plain_text_but_for_stars() {
        assert_eq!(like("press-*"), "'press-%'");
        assert_eq!(like(r"50%_a\b'"), r"'50\\%\\_a\\\\b\''");
    }
}
