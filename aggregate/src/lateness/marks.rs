//! What metrics show of lateness and skew. Machines are not told apart, of which there may be any number: each
//! lane shows its two extremes, and the table behind `machine_lateness` knows whose they are.

use metrics::{counter, gauge, histogram};
use stillwell_schema::TopicPartition;

/// Late readings of a chunk, by their lags.
#[allow(clippy::cast_precision_loss, reason = "lags in seconds need no microsecond")]
pub(super) fn late(lags_us: &[i64]) {
    if lags_us.is_empty() {
        return;
    }
    counter!("stillwell_late_readings_total", "stage" => "aggregate").increment(lags_us.len() as u64);
    let lags = histogram!("stillwell_lateness_seconds", "stage" => "aggregate");
    lags_us.iter().for_each(|&lag_us| lags.record(lag_us as f64 / 1e6));
}

/// Readings of a chunk whose machines are beyond the bound.
pub(super) fn unmeasured(readings: usize) {
    if readings > 0 {
        counter!("stillwell_unmeasured_lateness_total").increment(readings as u64);
    }
}

/// The clocks of a lane that are furthest ahead and furthest behind, by the least skew of each machine since the
/// last time, µs: what transport adds is least in those.
#[allow(clippy::cast_precision_loss, reason = "skews in seconds need no microsecond")]
pub(super) fn skew(lane: &TopicPartition, skews_us: impl Iterator<Item = i64>) {
    let wider = |ends: Option<(i64, i64)>, skew: i64| {
        Some(ends.map_or((skew, skew), |(least, most)| (least.min(skew), most.max(skew))))
    };
    let Some((least, most)) = skews_us.fold(None, wider) else { return };
    for (extreme, skew_us) in [("ahead", least), ("behind", most)] {
        let (topic, partition) = (lane.topic.to_string(), lane.partition.to_string());
        gauge!("stillwell_clock_skew_seconds", "topic" => topic, "partition" => partition, "extreme" => extreme)
            .set(skew_us as f64 / 1e6);
    }
}
