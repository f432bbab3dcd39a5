//! What a log amounts to: which steps were touched, and which way the saga goes.

use super::{Event, Line};

/// Where a saga is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// On the way to its end.
    Forward,
    /// On the way back.
    Backward,
    /// At its end.
    Finished,
    /// Taken back.
    Undone,
    /// At its end, for good.
    Forgotten,
}

impl Phase {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "under way",
            Self::Backward => "being undone",
            Self::Finished => "finished",
            Self::Undone => "undone",
            Self::Forgotten => "finished for good",
        }
    }

    /// Whether it is still to be brought to an end.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Forward | Self::Backward)
    }
}

/// What became of the steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Which way it goes.
    pub phase: Phase,
    /// By step: begun, or done, and not compensated since.
    pub touched: Vec<bool>,
    /// By step: done, and not compensated since.
    pub done: Vec<bool>,
    /// The number of the next line.
    pub next_seq: u64,
}

impl Progress {
    /// Of the lines of a saga of these steps, in order. Once it is to be undone it never goes forward again, whatever
    /// a process adds that did not know.
    #[must_use]
    pub fn of(lines: &[Line], steps: &[&str]) -> Self {
        let mut progress = Self {
            phase: Phase::Forward,
            touched: vec![false; steps.len()],
            done: vec![false; steps.len()],
            next_seq: 0,
        };
        for line in lines {
            progress.next_seq = progress.next_seq.max(line.seq + 1);
            match steps.iter().position(|step| *step == line.step) {
                Some(step) => progress.step(step, line.event),
                None => progress.whole(line.event),
            }
        }
        progress
    }

    fn step(&mut self, step: usize, event: Event) {
        match event {
            Event::Started => self.touched[step] = true,
            Event::Done => (self.touched[step], self.done[step]) = (true, true),
            Event::Compensating => {
                self.phase = Phase::Backward;
                self.done[step] = false;
            }
            Event::Compensated => (self.touched[step], self.done[step]) = (false, false),
            _ => {}
        }
    }

    fn whole(&mut self, event: Event) {
        self.phase = match (event, self.phase) {
            (Event::Compensating, Phase::Forward | Phase::Finished) => Phase::Backward,
            (Event::Finished, Phase::Forward) => Phase::Finished,
            (Event::Undone, Phase::Forward | Phase::Backward) => Phase::Undone,
            (Event::Forgotten, Phase::Finished) => Phase::Forgotten,
            (_, phase) => phase,
        };
    }

    /// The step that is next: to be done, or on the way back to be compensated. None where there is none left.
    #[must_use]
    pub fn next(&self) -> Option<usize> {
        match self.phase {
            Phase::Forward => self.done.iter().position(|done| !done),
            Phase::Backward => self.touched.iter().rposition(|touched| *touched),
            Phase::Finished | Phase::Undone | Phase::Forgotten => None,
        }
    }
}
