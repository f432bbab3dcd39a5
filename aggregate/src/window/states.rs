//! String states of one series within one span of time: how long each was held, and how often they changed.
//!
//! A state holds from its reading until the next one. Merging is exact where the parts follow each other in time.

/// Distinct states of a window; the time in any more is kept under [`OTHER`].
const STATES_MAX: usize = 64;

/// Bytes of a state that tell it from others.
const STATE_BYTES_MAX: usize = 256;

/// The name that stands for states beyond the first 64 of a window.
pub const OTHER: &str = "(other)";

/// What readings with a string state amount to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct States {
    /// Readings with a state.
    pub count: u64,
    /// The state of the earliest time; of equal times, the one that came first.
    pub first: Option<Box<str>>,
    /// Its time, µs.
    pub first_time: i64,
    /// The state of the latest time; of equal times, the one that came last.
    pub last: Option<Box<str>>,
    /// Its time, µs.
    pub last_time: i64,
    /// Changes from one reading to the next.
    pub transitions: u64,
    /// Readings that came after a later one of the window; times and transitions are exact while this is 0.
    pub disordered: u64,
    /// Time in each state from `first_time` to `last_time`, µs, by name.
    pub held: Vec<(Box<str>, i64)>,
}

impl States {
    /// Of no reading.
    pub const NONE: Self = Self {
        count: 0,
        first: None,
        first_time: 0,
        last: None,
        last_time: 0,
        transitions: 0,
        disordered: 0,
        held: Vec::new(),
    };

    /// The first state; empty without a reading.
    #[must_use]
    pub fn first(&self) -> &str {
        self.first.as_deref().unwrap_or_default()
    }

    /// The last state; empty without a reading.
    #[must_use]
    pub fn last(&self) -> &str {
        self.last.as_deref().unwrap_or_default()
    }

    /// Folds in one reading; of a long state its first 256 bytes count.
    pub fn add(&mut self, time_us: i64, state: &str) {
        let state = &state[..state.floor_char_boundary(STATE_BYTES_MAX)];
        if self.count == 0 {
            (self.first, self.first_time) = (Some(state.into()), time_us);
            (self.last, self.last_time) = (Some(state.into()), time_us);
        } else if time_us >= self.last_time {
            self.follow(time_us, state);
            if self.last() != state {
                self.last = Some(state.into());
            }
            self.last_time = time_us;
        } else {
            self.disordered += 1;
            if time_us < self.first_time {
                (self.first, self.first_time) = (Some(state.into()), time_us);
            }
        }
        self.count += 1;
    }

    /// Folds in what came after, in the order of arrival.
    pub fn merge(&mut self, later: &Self) {
        if later.count == 0 {
            return;
        }
        if self.count == 0 {
            self.clone_from(later);
            return;
        }
        self.disordered += later.disordered;
        if later.first_time >= self.last_time {
            self.follow(later.first_time, later.first());
            self.transitions += later.transitions;
            later.held.iter().for_each(|(state, span)| self.hold(state, *span));
        } else {
            self.disordered += later.count;
        }
        self.count += later.count;
        if later.first_time < self.first_time {
            (self.first, self.first_time) = (later.first.clone(), later.first_time);
        }
        if later.last_time >= self.last_time {
            (self.last, self.last_time) = (later.last.clone(), later.last_time);
        }
    }

    /// Bytes of memory held.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let names = self.held.iter().map(|(state, _)| state.len()).sum::<usize>();
        size_of::<Self>() + self.held.capacity() * size_of::<(Box<str>, i64)>() + names
    }

    /// The last state held until the next reading.
    fn follow(&mut self, time_us: i64, state: &str) {
        let last = self.last.take();
        let name = last.as_deref().unwrap_or_default();
        self.hold(name, time_us - self.last_time);
        self.transitions += u64::from(name != state);
        self.last = last;
    }

    fn hold(&mut self, state: &str, span_us: i64) {
        if span_us == 0 {
            return;
        }
        match self.place(state) {
            Ok(at) => self.held[at].1 += span_us,
            Err(at) if self.held.len() < STATES_MAX => self.held.insert(at, (state.into(), span_us)),
            Err(_) => match self.place(OTHER) {
                Ok(at) => self.held[at].1 += span_us,
                Err(at) => self.held.insert(at, (OTHER.into(), span_us)),
            },
        }
    }

    fn place(&self, state: &str) -> Result<usize, usize> {
        self.held.binary_search_by(|(name, _)| (**name).cmp(state))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fold(readings: &[(i64, u8)]) -> States {
        let mut states = States::default();
        readings.iter().for_each(|&(time, state)| states.add(time, &format!("s{state}")));
        states
    }

    /// Time in each state and changes, by going through the readings in the order of time.
    fn by_hand(readings: &[(i64, u8)]) -> (Vec<(Box<str>, i64)>, u64) {
        let mut held = std::collections::BTreeMap::new();
        let mut transitions = 0;
        for pair in readings.windows(2) {
            *held.entry(format!("s{}", pair[0].1).into_boxed_str()).or_insert(0) += pair[1].0 - pair[0].0;
            transitions += u64::from(pair[0].1 != pair[1].1);
        }
        (held.into_iter().filter(|&(_, span)| span > 0).collect(), transitions)
    }

    proptest! {
        #[test]
        fn any_cut_merges_to_the_whole(
            steps in proptest::collection::vec((0i64..5, 0u8..4), 0..60),
            cuts in proptest::collection::vec(0usize..60, 0..6),
        ) {
            let mut time = 0;
            let readings: Vec<(i64, u8)> = steps.into_iter().map(|(step, state)| { time += step; (time, state) }).collect();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(readings.len())).collect();
            cuts.extend([0, readings.len()]);
            cuts.sort_unstable();
            let mut merged = States::default();
            cuts.windows(2).for_each(|pair| merged.merge(&fold(&readings[pair[0]..pair[1]])));
            prop_assert_eq!(&merged, &fold(&readings));
            prop_assert_eq!((merged.held, merged.transitions), by_hand(&readings));
        }
    }

    #[test]
    fn a_state_that_comes_late_is_counted_and_makes_times_inexact() {
        let states = fold(&[(10, 1), (20, 2), (15, 3), (5, 4)]);
        assert_eq!((states.count, states.disordered), (4, 2));
        assert_eq!((states.first(), states.last(), states.transitions), ("s4", "s2", 1));
    }

    #[test]
    fn free_text_does_not_grow_without_bound() {
        let mut states = States::default();
        (0..1000i64).for_each(|time| states.add(time, &time.to_string()));
        assert_eq!(states.held.len(), STATES_MAX + 1);
        assert_eq!(states.held.iter().map(|(_, span)| span).sum::<i64>(), 999);
    }
}
