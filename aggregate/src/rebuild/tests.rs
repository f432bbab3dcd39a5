use stillwell_schema::{Offset, OffsetRange, TopicPartition};

use super::*;

const HOUR_US: i64 = 3_600_000_000;

fn order(from_us: Option<i64>) -> Order {
    Order {
        view: "readings_1h".into(),
        mode: Mode::Swap,
        machines: Vec::new(),
        from_us,
        to_us: None,
        as_of_us: None,
    }
}

fn extent(erased_until_us: Option<i64>) -> Extent {
    let range = OffsetRange { first: Offset(0), next: Offset(9) };
    Extent { lane: TopicPartition::new("t", 0), range, erased_until_us }
}

#[test]
fn windows_whose_readings_were_erased_are_not_built() {
    let first = |from_us, erased| from(&order(from_us), 2, &[extent(None), extent(erased)]);
    assert_eq!(first(None, None).unwrap(), None);
    assert_eq!(first(Some(HOUR_US + 5), None).unwrap(), Some(HOUR_US));
    assert_eq!(first(None, Some(HOUR_US + 5)).unwrap(), Some(2 * HOUR_US), "the rest stays as it is");
    assert_eq!(first(Some(2 * HOUR_US), Some(HOUR_US + 5)).unwrap(), Some(2 * HOUR_US));
    let error = first(Some(HOUR_US), Some(HOUR_US + 5)).unwrap_err();
    assert!(error.to_string().contains("--from 1970-01-01T02:00:00+00:00"), "{error}");
}

#[test]
fn a_plan_is_found_again_in_its_log() {
    let plan = Plan {
        kind: KIND.into(),
        view: "readings_1h".into(),
        number: 3,
        mode: Mode::AsOf,
        machines: vec!["press-*".into()],
        from_us: Some(0),
        to_us: None,
        as_of_us: Some(7),
        old: "windows_1h".into(),
        table: "windows_1h_asof_3".into(),
        lanes: vec![as_of(&extent(None))],
    };
    let line = Line {
        saga: plan.id(),
        seq: 0,
        step: String::new(),
        event: Event::Planned,
        detail: serde_json::to_value(&plan).unwrap(),
        by: String::new(),
        why: String::new(),
        at_us: 0,
    };
    let (found, progress) = planned(&[line]).unwrap();
    assert_eq!((found, progress.phase.is_open()), (plan.clone(), true));
    assert_eq!((plan.id(), plan.as_of_view()), ("asof-1h-3".into(), "readings_1h_asof_3".into()));
}
