//! Events out of scores, with hysteresis.

/// An event ends when the score has stayed below this share of the threshold …
const CLEAR_BELOW: f32 = 0.8;
/// … for so many rows on end.
const CLEAR_ROWS: u32 = 20;

/// What a row's score means for its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// All is normal.
    Off,
    /// An event begins with this row.
    Raised,
    /// An event goes on.
    On,
    /// An event ends with this row.
    Cleared,
}

/// Whether an event goes on, and for how long it has been quiet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AlarmState {
    pub(crate) is_on: bool,
    pub(crate) quiet_rows: u32,
}

impl AlarmState {
    pub(crate) fn take(&mut self, score: f32, threshold: f32) -> Alarm {
        if !self.is_on {
            if score <= threshold {
                return Alarm::Off;
            }
            *self = Self { is_on: true, quiet_rows: 0 };
            return Alarm::Raised;
        }
        if score >= threshold * CLEAR_BELOW {
            self.quiet_rows = 0;
            return Alarm::On;
        }
        self.quiet_rows += 1;
        if self.quiet_rows < CLEAR_ROWS {
            return Alarm::On;
        }
        *self = Self::default();
        Alarm::Cleared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_outlasts_short_dips() {
        let mut state = AlarmState::default();
        assert_eq!(state.take(1.0, 1.0), Alarm::Off);
        assert_eq!(state.take(1.1, 1.0), Alarm::Raised);
        for _ in 0..CLEAR_ROWS - 1 {
            assert_eq!(state.take(0.1, 1.0), Alarm::On);
        }
        assert_eq!(state.take(0.85, 1.0), Alarm::On, "above the lower mark the count begins anew");
        for _ in 0..CLEAR_ROWS - 1 {
            assert_eq!(state.take(0.1, 1.0), Alarm::On);
        }
        assert_eq!(state.take(0.1, 1.0), Alarm::Cleared);
        assert_eq!(state.take(0.1, 1.0), Alarm::Off);
    }
}
