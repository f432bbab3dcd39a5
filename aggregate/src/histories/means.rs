//! Time-weighted means of windows, merged whatever their cuts, against a direct integration.
//!
//! A window holds the area from its first reading to its last. Between two windows that follow each other the views
//! add the last value held until the next first (or the line between the two), as [`Fold::merge`] does.

use proptest::prelude::*;

use crate::window::{Fold, WIDTHS_US, start_of};

/// ∫ over the readings' span of the value held until the next, and of the lines between them.
fn integrate(readings: &[(i64, f64)]) -> [f64; 2] {
    let mut areas = [0.0; 2];
    for pair in readings.windows(2) {
        let ((from, before), (until, after)) = (pair[0], pair[1]);
        #[allow(clippy::cast_precision_loss, reason = "spans of days are exact")]
        let span = (until - from) as f64;
        areas[0] += before * span;
        areas[1] += before * span + (after - before) * span / 2.0;
    }
    areas
}

fn fold(readings: &[(i64, f64)]) -> Fold {
    let mut fold = Fold::default();
    readings.iter().for_each(|&(time, value)| fold.add(time, value, false));
    fold
}

fn assert_means(merged: &Fold, readings: &[(i64, f64)]) {
    let (Some(first), Some(last)) = (readings.first(), readings.last()) else { return };
    #[allow(clippy::cast_precision_loss, reason = "spans of days are exact")]
    let span = (last.0 - first.0) as f64;
    let largest = readings.iter().map(|(_, value)| value.abs()).fold(1.0, f64::max);
    for (found, expected) in [merged.area_last, merged.area_linear].into_iter().zip(integrate(readings)) {
        assert!(
            (found - expected).abs() <= 1e-9 * largest * span.max(1.0),
            "{found} {expected} {readings:?}"
        );
    }
    assert_eq!((merged.disordered, merged.first_time, merged.last_time), (0, first.0, last.0));
}

/// Readings by exception: some soon, some after hours.
fn readings() -> impl Strategy<Value = Vec<(i64, f64)>> {
    let step = prop_oneof![6 => 0i64..3_000_000, 3 => 0i64..600_000_000, 1 => 0i64..50_000_000_000];
    proptest::collection::vec((step, -1e6..1e6f64), 0..120).prop_map(|steps| {
        let mut time = 1_800_000_000_000_000;
        let reading = |(step, value)| {
            time += step;
            (time, value)
        };
        steps.into_iter().map(reading).collect()
    })
}

proptest! {
    #[test]
    fn windows_of_any_cuts_merge_to_the_integral(
        readings in readings(),
        cuts in proptest::collection::vec(0usize..120, 0..12),
    ) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(readings.len())).collect();
        cuts.extend([0, readings.len()]);
        cuts.sort_unstable();
        let mut merged = Fold::default();
        cuts.windows(2).for_each(|pair| merged.merge(&fold(&readings[pair[0]..pair[1]])));
        assert_means(&merged, &readings);
    }

    /// As dashboards do: windows of one width, merged into a longer span.
    #[test]
    fn windows_of_each_width_merge_to_the_integral(readings in readings()) {
        for width in WIDTHS_US {
            let mut merged = Fold::default();
            for window in readings.chunk_by(|a, b| start_of(a.0, width) == start_of(b.0, width)) {
                merged.merge(&fold(window));
            }
            assert_means(&merged, &readings);
        }
    }
}
