//! Scores of rows, in the windows that hold them.

use super::{LaneFold, Missing};

/// A score of a row that a series is part of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// Series number within the lane.
    pub series: u32,
    /// The time of the series' last reading in the row, µs.
    pub time_us: i64,
    /// That of the record which completed the row.
    pub offset: i64,
    /// The score.
    pub score: f32,
}

impl LaneFold {
    /// Folds a score into the windows of a series that hold its time. Where one of them is not in memory any more, it
    /// waits for [`LaneFold::score_rest`].
    pub fn score(&mut self, score: Scored) {
        if self.missing(score.series, score.time_us).next().is_some() {
            self.unscored.push(score);
            return;
        }
        let Scored { series, time_us, offset, score } = score;
        if let Some(tally) = self.series[series as usize].score(time_us, offset, score, self.widths) {
            self.grow(tally);
            self.mark(series);
        }
        let of = &self.series[series as usize];
        if let Some(totals) = &mut self.totals
            && let Some(total) = totals.total_with(of)
        {
            totals.score(Scored { series: total, time_us, offset, score });
        }
    }

    /// Stored windows that scores wait for, sorted.
    #[must_use]
    pub fn missing_for_scores(&self) -> Vec<Missing> {
        let of = |scored: &Scored| self.missing(scored.series, scored.time_us);
        Missing::in_order(self.unscored.iter().flat_map(of).collect())
    }

    /// Folds the scores in that waited for windows, which are brought now.
    pub fn score_rest(&mut self) {
        std::mem::take(&mut self.unscored).into_iter().for_each(|scored| self.score(scored));
    }

    /// Takes note of the last score of a row that the series is part of.
    pub fn score_latest(&mut self, series: u32, score: f32) {
        if self.series[series as usize].score_latest(score) {
            self.mark(series);
        }
    }

    /// Stored windows of a series that hold `time_us` and are not in memory.
    pub fn missing(&self, series: u32, time_us: i64) -> impl Iterator<Item = Missing> + use<> {
        let of = &self.series[series as usize];
        let missing =
            of.missing(time_us, self.widths).map(|(width, start)| Missing::new(series, width, start));
        let mut missing: Vec<Missing> = missing.collect();
        if let Some((totals, total)) =
            self.totals.as_ref().and_then(|totals| Some((totals, totals.total_with(of)?)))
        {
            missing.extend(totals.missing(total, time_us).map(Missing::of_total));
        }
        missing.into_iter()
    }
}
