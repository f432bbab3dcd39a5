//! One machine of a lane.

use stillwell_source::series::NameCode;

use crate::fold::Origin;
use crate::histogram::Histogram;

/// A reading that is further behind its machine's largest time is late: the least width of a window, within which
/// order says nothing.
const LATE_US: i64 = 10_000_000;

/// What is known of a machine's times.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    /// Its name.
    pub(super) name: NameCode,
    /// Everything below this offset is in.
    pub(super) version: i64,
    /// Readings.
    pub(super) readings: u64,
    /// Late ones among them.
    pub(super) late: u64,
    /// Lags of the late ones, ms.
    pub(super) lags: Histogram,
    /// The largest lag, µs.
    pub(super) lag_max_us: i64,
    /// The least skew, µs; says nothing while `skews` is empty, as `skew_last_us`.
    pub(super) skew_min_us: i64,
    /// The skew of the last record, µs.
    pub(super) skew_last_us: i64,
    /// Skews, ms.
    pub(super) skews: Histogram,
    /// The largest time but for early readings, µs.
    pub(super) high_us: Option<i64>,
    /// The least skew since the last snapshot, µs.
    pub(super) recent_skew_us: Option<i64>,
    /// The last record, whose newest time is not known before the next one.
    pub(super) open: Option<(Origin, i64)>,
    /// Whether the lane lists it as changed.
    pub(super) is_listed: bool,
}

impl Machine {
    pub(super) fn new(name: NameCode) -> Self {
        Self {
            name,
            version: 0,
            readings: 0,
            late: 0,
            lags: Histogram::default(),
            lag_max_us: 0,
            skew_min_us: i64::MAX,
            skew_last_us: 0,
            skews: Histogram::default(),
            high_us: None,
            recent_skew_us: None,
            open: None,
            is_listed: false,
        }
    }

    /// Folds readings of one record in, in their order, and hands out the lags of late ones, µs.
    pub(super) fn fold(&mut self, origin: Origin, times_us: &[i64], lags_us: &mut Vec<i64>) {
        let (mut high, mut newest) = (self.high_us.unwrap_or(i64::MIN), i64::MIN);
        for &time in times_us {
            newest = newest.max(time);
            if time > high {
                if !origin.is_early(time) {
                    high = time;
                }
            } else if time < high.saturating_sub(LATE_US) {
                self.add_late(high.saturating_sub(time));
                lags_us.push(high.saturating_sub(time));
            }
        }
        self.high_us = (high > i64::MIN).then_some(high);
        self.readings += times_us.len() as u64;
        self.sample(origin, newest);
    }

    #[allow(clippy::cast_precision_loss, reason = "a bucket is a percent wide")]
    fn add_late(&mut self, lag_us: i64) {
        self.late += 1;
        self.lag_max_us = self.lag_max_us.max(lag_us);
        self.lags.add(lag_us as f64 / 1e3);
    }

    /// Takes note of the newest time of a record, or of a part of one.
    fn sample(&mut self, origin: Origin, newest_us: i64) {
        match &mut self.open {
            Some((of, newest)) if of.offset == origin.offset => *newest = newest_us.max(*newest),
            _ => {
                self.settle();
                self.open = Some((origin, newest_us));
            }
        }
    }

    /// Counts the skew of the last record, of which nothing more comes. Without a Kafka timestamp there is none.
    #[allow(clippy::cast_precision_loss, reason = "a bucket is a percent wide")]
    pub(super) fn settle(&mut self) {
        let Some((origin, newest_us)) = self.open.take() else { return };
        if origin.timestamp_ms <= 0 {
            return;
        }
        let skew_us = origin.timestamp_ms.saturating_mul(1000).saturating_sub(newest_us);
        self.skew_last_us = skew_us;
        self.skew_min_us = self.skew_min_us.min(skew_us);
        self.skews.add(skew_us as f64 / 1e3);
        self.recent_skew_us = Some(self.recent_skew_us.map_or(skew_us, |least| least.min(skew_us)));
    }
}
