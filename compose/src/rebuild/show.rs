//! What rebuilds print, for people.

use std::fmt::Write;

use stillwell_aggregate::rebuild::{Comparison, Difference, Plan, Values};

use crate::load::grouped;

/// Differences listed one by one; the JSON has more.
const SHOWN_MAX: usize = 40;

/// What a comparison came to.
pub(super) fn comparison(plan: &Plan, comparison: &Comparison) -> String {
    let Comparison { compared, newer, different, differences } = comparison;
    let mut out = format!(
        "{}: {} windows compared, {} differ; {} have readings since and were not compared\n",
        plan.view,
        grouped(*compared),
        grouped(*different),
        grouped(*newer)
    );
    for difference in differences.iter().take(SHOWN_MAX) {
        let _ = writeln!(out, "{}", line(difference));
    }
    if *different > SHOWN_MAX as u64 {
        let _ =
            writeln!(out, "… and {} more; --json lists up to 1,000", grouped(*different - SHOWN_MAX as u64));
    }
    out
}

fn line(difference: &Difference) -> String {
    let Difference { machine, sensor, start_us, topic, partition, kinds, live, archive } = difference;
    format!(
        "  {}  {machine}  {sensor}  {topic}/{partition}: {}; in use {}, from the archive {}",
        time(*start_us),
        kinds.join(", "),
        values(live.as_ref()),
        values(archive.as_ref())
    )
}

fn values(values: Option<&Values>) -> String {
    let Some(Values { count, sum, min, max, first, last, bad }) = values else { return "none".to_owned() };
    let number = |value: &Option<f64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    let [sum, min, max, first, last] = [sum, min, max, first, last].map(number);
    format!("count {count} sum {sum} min {min} max {max} first {first} last {last} bad {bad}")
}

/// A time, as people read it.
pub(crate) fn time(us: i64) -> String {
    let time = chrono::DateTime::from_timestamp_micros(us);
    time.map_or_else(|| us.to_string(), |time| time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_one_line() {
        let archive = Values {
            count: 2,
            sum: Some(3.5),
            min: Some(1.0),
            max: Some(2.5),
            first: Some(1.0),
            last: Some(2.5),
            bad: 0,
        };
        let difference = Difference {
            machine: "press-07".into(),
            sensor: "oil".into(),
            start_us: 0,
            topic: "readings".into(),
            partition: 3,
            kinds: vec!["missing".into()],
            live: None,
            archive: Some(archive),
        };
        let expected = "  1970-01-01T00:00:00Z  press-07  oil  readings/3: missing; in use none, from the archive count 2 sum 3.5 min 1 max 2.5 first 1 last 2.5 bad 0";
        assert_eq!(line(&difference), expected);
    }
}
