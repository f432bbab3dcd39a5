use stillwell_schema::ledger::Rule;

use super::*;

fn window(machine: &str, sensor: &str, version: i64, values: &[f64]) -> WindowRow {
    let mut sums = Sums::default();
    values.iter().for_each(|&value| sums.add(value));
    WindowRow {
        topic: "t".to_owned(),
        partition: 0,
        machine: machine.to_owned(),
        sensor: sensor.to_owned(),
        version,
        count: sums.count,
        sum: sums.sum(),
        min: sums.min,
        max: sums.max,
    }
}

/// Books over windows of partition 0, with readings of machine, sensor, offset and value entered.
fn close(windows: Vec<WindowRow>, reach: Reach, readings: &[(&str, &str, i64, f64)]) -> Vec<Outcome> {
    close_with(Refused::new(), windows, reach, readings)
}

fn close_with(
    refused: Refused,
    windows: Vec<WindowRow>,
    reach: Reach,
    readings: &[(&str, &str, i64, f64)],
) -> Vec<Outcome> {
    close_all(refused, ErasedLanes::new(), windows, reach, readings)
}

fn close_all(
    refused: Refused,
    erased: ErasedLanes,
    windows: Vec<WindowRow>,
    reach: Reach,
    readings: &[(&str, &str, i64, f64)],
) -> Vec<Outcome> {
    let mut books = Books::new(windows, Lanes::from([(("t".to_owned(), 0), reach)]), refused, erased);
    for &(machine, sensor, offset, value) in readings {
        books.add(Reading { topic: "t", partition: 0, machine, sensor, offset, value });
    }
    books.close(7, 9)
}

fn reach(shown: i64, archived: i64) -> Reach {
    Reach { shown: Some(shown), archived: Some(archived) }
}

/// The only outcome's state, and its counts in the archive and the views.
fn only(outcomes: &[Outcome]) -> (Verdict, u64, u64, &str) {
    let [one] = outcomes else { panic!("{outcomes:?}") };
    assert_eq!((one.hour_us, one.checked_us), (7, 9));
    (one.state, one.archive_count, one.view_count, &one.detail)
}

#[test]
fn equal_windows_are_equal_and_what_is_above_them_is_left_alone() {
    let readings = [("a", "x", 1, 1.5), ("a", "x", 2, 2.5), ("a", "x", 3, 9.0), ("a", "y", 4, 1.0)];
    let found = close(vec![window("a", "x", 3, &[2.5, 1.5])], reach(3, 5), &readings);
    assert_eq!(only(&found), (Verdict::Equal, 2, 2, ""));
    assert_eq!((found[0].archive_sum, found[0].view_sum), (4.0, 4.0));
}

#[test]
fn what_the_archive_has_not_reached_is_pending() {
    let found = close(vec![window("a", "x", 6, &[1.0])], reach(6, 5), &[("a", "x", 1, 1.0)]);
    assert_eq!(only(&found), (Verdict::Pending, 0, 0, ""));
    let windows = vec![window("a", "x", 6, &[1.0]), window("a", "y", 2, &[1.0])];
    let found = close(windows, reach(2, 5), &[("a", "y", 1, 1.0)]);
    assert_eq!(only(&found), (Verdict::Pending, 1, 1, ""));
}

#[test]
fn counts_extremes_and_sums_tell_a_wrong_window() {
    let check = |row: WindowRow, word: &str| {
        let readings = [("a", "x", 1, 1.0), ("a", "x", 2, 2.0)];
        let found = close(vec![row], reach(3, 3), &readings);
        let (state, _, _, detail) = only(&found);
        assert!(state == Verdict::Differs && detail.starts_with("x: ") && detail.contains(word), "{detail}");
    };
    let right = window("a", "x", 3, &[1.0, 2.0]);
    check(WindowRow { count: 3, ..right.clone() }, "3 readings, the archive holds 2");
    check(WindowRow { sum: 3.0 + 1e-9, ..right.clone() }, "a sum");
    check(WindowRow { min: 0.5, ..right.clone() }, "a least value of 0.5");
    check(WindowRow { max: 2.5, ..right }, "a largest value of 2.5");
}

#[test]
fn sums_may_differ_by_rounding_and_no_more() {
    let values: Vec<f64> = (0..1000).map(|n| f64::from(n) * 0.1 - 40.0).collect();
    let readings: Vec<_> = values.iter().zip(1..).map(|(&value, offset)| ("a", "x", offset, value)).collect();
    let right = window("a", "x", 2000, &values);
    let plain: f64 = values.iter().rev().sum();
    let off = |sum| close(vec![WindowRow { sum, ..right.clone() }], reach(2000, 2000), &readings);
    assert_eq!(only(&off(plain)).0, Verdict::Equal);
    assert_eq!(only(&off(plain + 1e-6)).0, Verdict::Differs);
    let window = window("a", "x", 3, &[f64::INFINITY, 1.0]);
    let found = close(vec![window], reach(3, 3), &[("a", "x", 1, f64::INFINITY), ("a", "x", 2, 1.0)]);
    assert_eq!(only(&found).0, Verdict::Equal);
}

#[test]
fn a_reading_that_the_lane_is_past_must_be_in_its_window() {
    let readings = [("a", "x", 1, 1.0), ("a", "x", 4, 2.0)];
    let found = close(vec![window("a", "x", 3, &[1.0])], reach(5, 9), &readings);
    assert_eq!(only(&found), (Verdict::Differs, 2, 1, "x: 1 readings, the archive holds 2"));
    // As far as the archive is, nothing is wrong.
    let found = close(vec![window("a", "x", 3, &[1.0])], reach(5, 4), &readings[..1]);
    assert_eq!(only(&found), (Verdict::Equal, 1, 1, ""));
}

#[test]
fn a_missing_window_is_a_difference_once_the_lane_is_past_it() {
    let readings = [("a", "x", 4, 1.0), ("a", "x", 5, 1.0), ("a", "y", 6, 1.0)];
    let found = close(Vec::new(), reach(6, 9), &readings);
    assert_eq!(only(&found), (Verdict::Differs, 2, 0, "x: no window; 2 readings have none"));
    assert_eq!(close(Vec::new(), reach(4, 9), &readings), []);
    assert_eq!(close(Vec::new(), Reach { shown: None, archived: Some(9) }, &readings), []);
}

#[test]
fn series_that_were_refused_have_no_windows_and_are_told_apart() {
    let refused = || Refused::from([(("t".to_owned(), 0, "a".to_owned()), 0..3)]);
    let readings = [("a", "x", 1, 1.0), ("a", "y", 2, 1.0), ("b", "y", 2, 1.0)];
    let found = close_with(refused(), vec![window("a", "x", 3, &[1.0])], reach(3, 3), &readings);
    let states: Vec<_> = found.iter().map(|one| (one.machine.as_str(), one.state)).collect();
    assert_eq!(states, [("a", Verdict::Refused), ("b", Verdict::Differs)]);
    assert_eq!(found[0].detail, "1 readings of series that are beyond the bounds");
    // A window that is wrong is wrong.
    let found = close_with(refused(), vec![window("a", "x", 3, &[2.0])], reach(3, 3), &readings[..2]);
    assert_eq!(only(&found).0, Verdict::Differs);
}

#[test]
fn what_was_refused_hides_no_window_that_is_missing_before_or_after() {
    let refused = || Refused::from([(("t".to_owned(), 0, "a".to_owned()), 2..4)]);
    let reading = |offset| ("a", "x", offset, 1.0);
    let check = |offsets: &[i64], state, archive_count| {
        let readings: Vec<_> = offsets.iter().map(|&offset| reading(offset)).collect();
        let found = close_with(refused(), Vec::new(), reach(9, 9), &readings);
        assert_eq!((only(&found).0, only(&found).1), (state, archive_count), "{offsets:?}");
    };
    check(&[2, 3], Verdict::Refused, 0);
    check(&[1, 2, 3], Verdict::Differs, 1);
    check(&[2, 3, 4], Verdict::Differs, 1);
}

#[test]
fn what_retention_has_erased_from_the_archive_is_no_difference_of_the_views() {
    let rule = |until_us| Rule { class: "all".into(), machines: Some("a".into()), keep_days: 1, until_us };
    let check = |until_us, values: &[f64], archived: &[f64], expected| {
        let lanes = ErasedLanes::from([(("t".to_owned(), 0), Erased::of(&[rule(until_us)]))]);
        let readings: Vec<_> = archived.iter().zip(1..).map(|(&value, at)| ("a", "x", at, value)).collect();
        let found =
            close_all(Refused::new(), lanes, vec![window("a", "x", 9, values)], reach(9, 9), &readings);
        assert_eq!((only(&found).0, found[0].lacking), expected, "{values:?} {archived:?}");
    };
    // The hour begins at 7.
    check(8, &[1.0, 2.0], &[2.0], (Verdict::Erased, 1));
    check(8, &[1.0, 2.0], &[], (Verdict::Erased, 2));
    check(8, &[1.0, 2.0], &[1.0, 2.0], (Verdict::Equal, 0));
    check(7, &[1.0, 2.0], &[2.0], (Verdict::Differs, 1));
    // What the archive has and the view does not, is none of it.
    check(8, &[1.0], &[1.0, 1.0], (Verdict::Differs, 0));
    check(8, &[1.0, 2.0], &[3.0], (Verdict::Differs, 0));
    check(8, &[1.0, 2.0], &[1.0, 1.5], (Verdict::Differs, 0));
}

#[test]
fn windows_of_bad_readings_alone_say_nothing() {
    let bad = window("a", "x", 3, &[]);
    assert_eq!(close(vec![bad.clone()], reach(3, 3), &[]), []);
    let found = close(vec![bad], reach(3, 3), &[("a", "x", 1, 1.0)]);
    assert_eq!(only(&found), (Verdict::Differs, 1, 0, "x: 0 readings, the archive holds 1"));
}

#[test]
fn several_differences_of_a_machine_are_counted() {
    let windows = vec![window("a", "x", 3, &[1.0]), window("a", "y", 3, &[1.0]), window("b", "x", 3, &[1.0])];
    let found = close(windows, reach(3, 3), &[("b", "x", 1, 1.0)]);
    assert_eq!(found.len(), 2);
    assert!(found[0].detail.ends_with("; 1 more differ"), "{}", found[0].detail);
    assert_eq!((found[1].machine.as_str(), found[1].state), ("b", Verdict::Equal));
}

#[test]
fn names_are_not_mixed_up() {
    assert_ne!(name("t", 0, "ab", "c"), name("t", 0, "a", "bc"));
    assert_ne!(name("t", 1, "a", "c"), name("t", 11, "a", "c"));
    assert_ne!(name("ta", 0, "b", "c"), name("t", 0, "ab", "c"));
}
