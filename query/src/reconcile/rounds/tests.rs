use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use super::super::Verdict;
use super::super::results::tests::outcome;
use super::*;

/// What each hour says of machine `a`; an hour without one cannot be compared.
#[derive(Default)]
struct Scripted {
    states: Mutex<BTreeMap<i64, Option<Verdict>>>,
    asked: Mutex<Vec<i64>>,
}

impl Scripted {
    fn says(&self, hour_us: i64, state: Option<Verdict>) {
        self.states.lock().unwrap().insert(hour_us, state);
    }

    fn take_asked(&self) -> Vec<i64> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

impl Hours for Arc<Scripted> {
    async fn within(&self, from_us: i64, until_us: i64) -> Result<Vec<i64>, QueryError> {
        let states = self.states.lock().unwrap();
        Ok(states.range(from_us..until_us).rev().map(|(&hour_us, _)| hour_us).collect())
    }

    async fn check(&self, hour_us: i64) -> Result<Vec<Outcome>, QueryError> {
        self.asked.lock().unwrap().push(hour_us);
        match self.states.lock().unwrap().get(&hour_us) {
            Some(Some(state)) => Ok(vec![outcome(hour_us, "a", *state)]),
            Some(None) => Err(QueryError::Internal(format!("hour {} is away", hour_us / HOUR_US))),
            // Nothing is left of it.
            None => Ok(Vec::new()),
        }
    }

    fn now_us(&self) -> i64 {
        100 * HOUR_US
    }
}

/// Rounds over hours of a day, which keep what they found in `folder`.
fn rounds(folder: &std::path::Path) -> (Arc<Scripted>, Rounds<Arc<Scripted>>) {
    let hours = Arc::new(Scripted::default());
    let settings = ReconcileSettings {
        interval: None,
        look_back: Duration::from_secs(24 * 3600),
        file: Some(folder.join("reconciliation.jsonl")),
    };
    let rounds = Rounds::new(Arc::clone(&hours), Arc::default(), settings, Board::default());
    (hours, rounds)
}

fn hours(all: impl IntoIterator<Item = i64>) -> Vec<i64> {
    all.into_iter().map(|hour| hour * HOUR_US).collect()
}

#[tokio::test]
async fn an_old_difference_is_compared_again_until_it_is_mended() {
    let folder = tempfile::tempdir().unwrap();
    let (script, first) = rounds(folder.path());
    script.says(99 * HOUR_US, Some(Verdict::Equal));
    // Well before what the rounds look back to.
    for hour in 1..=6 {
        script.says(hour * HOUR_US, Some(Verdict::Differs));
        first.results.put(hour * HOUR_US, vec![outcome(hour * HOUR_US, "a", Verdict::Differs)]);
    }
    let (mut notes, mut turn) = (None, Turn::default());
    assert!(first.round(&mut notes, &mut turn).await.unwrap());
    assert_eq!(script.take_asked(), hours([99, 6, 5, 4, 3]));
    script.says(2 * HOUR_US, Some(Verdict::Equal));
    script.states.lock().unwrap().remove(&HOUR_US);
    assert!(first.round(&mut notes, &mut turn).await.unwrap());
    assert_eq!(script.take_asked(), hours([99, 2, 1]));
    assert_eq!(first.results.differing_hours(), hours([6, 5, 4, 3]));

    drop((first, notes));
    let (script, second) = rounds(folder.path());
    let (mut notes, mut turn) = (None, Turn::default());
    assert!(second.round(&mut notes, &mut turn).await.unwrap());
    assert_eq!(
        script.take_asked(),
        hours([6, 5, 4, 3]),
        "the file knows what differs, and what does not any more"
    );
    assert_eq!(second.results.differing().0, 0);
}

#[tokio::test]
async fn an_hour_that_cannot_be_compared_holds_up_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (script, rounds) = rounds(folder.path());
    script.says(99 * HOUR_US, None);
    script.says(98 * HOUR_US, Some(Verdict::Differs));
    script.says(97 * HOUR_US, None);
    script.says(96 * HOUR_US, Some(Verdict::Equal));
    let (mut notes, mut turn) = (None, Turn::default());
    let error = rounds.round(&mut notes, &mut turn).await.unwrap_err();
    assert!(error.to_string().contains("hour 99 is away"), "{error}");
    assert_eq!(script.take_asked(), hours([99, 98, 97, 96]));
    assert_eq!(rounds.results.differing_hours(), hours([98]));
    assert_eq!(rounds.results.all().len(), 2);
}

#[test]
fn the_newest_hours_have_every_round_and_the_others_their_turn() {
    let hours: Vec<i64> = (0..9).rev().collect();
    let mut turn = Turn::default();
    assert_eq!(turn.next(&hours, &[]), [8, 7, 6, 5, 4, 3]);
    assert_eq!(turn.next(&hours, &[]), [8, 7, 2, 1, 0]);
    // An hour later, the one before last is old, and has its turn with the others.
    let hours: Vec<i64> = (1..10).rev().collect();
    assert_eq!(turn.next(&hours, &[]), [9, 8, 7, 6, 5, 4]);
    assert_eq!(turn.next(&[], &[]), [0i64; 0]);
    assert_eq!(turn.next(&[3], &[3, 2]), [3, 2]);
}

#[test]
fn the_board_names_what_differs_and_what_mends_it() {
    let mut outcome = outcome(0, "press-07", Verdict::Differs);
    outcome.detail = "oil: 3 readings, the archive holds 4".into();
    let text = difference(2, &outcome);
    assert!(text.contains("2 machine-hours") && text.contains("press-07 at 1970-01-01T00:00:00"), "{text}");
    assert!(text.contains("stillwell rebuild"), "{text}");
    outcome.lacking = 1;
    let text = difference(2, &outcome);
    assert!(text.contains("stillwell verify") && !text.contains("stillwell rebuild"), "{text}");
}
