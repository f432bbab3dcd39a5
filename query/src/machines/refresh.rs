//! Brings the copy up to date from the views' server, and says how old it is.

use std::time::Duration;

use metrics::gauge;
use stillwell_schema::health::{Board, State};
use stillwell_schema::machines::MachineRegistry;
use tokio_util::sync::CancellationToken;

use super::held::{Freshness, Held};
use super::{Machines, file};
use crate::views::client::MachineRow;
use crate::views::{Views, ViewsError};

/// Its name on the board.
const PART: &str = "query/machines";
/// Between two looks at the server.
const EVERY: Duration = Duration::from_secs(3);
/// A server that does not answer within this time counts as away.
const WITHIN: Duration = Duration::from_secs(20);
/// The aggregator notes that it read the topic every ten seconds: beyond this it, or Kafka, is away.
const AGE_MAX_S: f64 = 60.0;
/// How much older the file's copy may look than it is.
const FILE_EVERY_US: i64 = 60_000_000;

impl Machines {
    /// Keeps the copy fresh until `stop`, and says on `board` how old it is.
    pub(crate) async fn keep_fresh(&self, views: &Views, board: &Board, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let look = async {
                let looked = match tokio::time::timeout(WITHIN, self.refresh(views)).await {
                    Ok(looked) => looked,
                    Err(_) => Err(ViewsError::Unavailable("the server does not answer in time".into())),
                };
                self.tell(board, looked.err());
                tokio::time::sleep(EVERY).await;
            };
            stop.run_until_cancelled(look).await;
        }
        board.remove(PART);
    }

    /// Takes what the server has, if that is as fresh as what is held.
    async fn refresh(&self, views: &Views) -> Result<(), ViewsError> {
        let mark = views.machines_mark().await?;
        let held = self.held();
        // A server that was set up anew, or back, knows less than this copy until its writer has caught up.
        if mark.read_until_us < held.freshness.read_until_us {
            return Ok(());
        }
        let copied_us = Some(self.clock.now_us());
        let freshness = Freshness { read_until_us: mark.read_until_us, copied_us };
        let fresh = if held.fingerprint == Some(mark.fingerprint) {
            Held { freshness, ..Held::clone(&held) }
        } else {
            let rows = views.machines().await?;
            let made = apart(move || held_of(rows, freshness)).await?;
            let is_same = made.registry == held.registry;
            let filed_us = held.filed_us.filter(|_| is_same);
            Held { fingerprint: Some(mark.fingerprint), filed_us, ..made }
        };
        let fresh = self.filed(fresh).await;
        self.replace(fresh);
        Ok(())
    }

    /// Writes the file where what it has is another copy, or too old.
    async fn filed(&self, held: Held) -> Held {
        let (Some(path), Some(read_us)) = (self.file.clone(), held.freshness.read_until_us) else {
            return held;
        };
        if held.filed_us.is_some_and(|filed_us| read_us - filed_us < FILE_EVERY_US) {
            return held;
        }
        apart(move || match file::write(&path, &held) {
            Ok(()) => Held { filed_us: Some(read_us), ..held },
            Err(error) => {
                let path = path.display();
                tracing::warn!(%path, %error, "the copy of the machine registry is not kept over a restart; is its folder writable and the disk not full?");
                // It is tried again when it would be written anew.
                Held { filed_us: Some(read_us), ..held }
            }
        })
        .await
    }

    #[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
    fn tell(&self, board: &Board, trouble: Option<ViewsError>) {
        let held = self.held();
        let age_s = held.freshness.age_s(self.clock.now_us());
        gauge!("stillwell_machine_versions", "stage" => "query").set(held.registry.len() as f64);
        if let Some(age_s) = age_s {
            gauge!("stillwell_machines_age_seconds", "stage" => "query").set(age_s);
        }
        let (state, detail) = says(age_s, trouble.as_ref());
        board.set(PART, state, detail);
    }
}

fn held_of(rows: Vec<MachineRow>, freshness: Freshness) -> Result<Held, ViewsError> {
    let versions = rows.into_iter().map(MachineRow::version).collect::<Result<MachineRegistry, _>>()?;
    Held::of(versions, freshness)
        .map_err(|error| ViewsError::Answer { view: "machines_history", what: error.to_string().into() })
}

/// What the board says of a copy of that age, and of what keeps it from being fresher.
fn says(age_s: Option<f64>, trouble: Option<&ViewsError>) -> (State, String) {
    match (age_s, trouble) {
        (None, None) => (State::Ok, "the registry was never read".to_owned()),
        (None, Some(error)) => (State::Waiting, format!("no copy of the registry yet: {error}")),
        (Some(age_s), Some(error)) => {
            (State::Waiting, format!("its copy is {age_s:.0} s old and answers: {error}"))
        }
        (Some(age_s), None) if age_s > AGE_MAX_S => {
            (State::Waiting, format!("its copy is {age_s:.0} s old: is the aggregator running, and Kafka?"))
        }
        (Some(age_s), None) => (State::Ok, format!("its copy is {age_s:.0} s old")),
    }
}

/// Does what computes, or waits for a disk, where that holds up nobody.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_board_says_how_old_the_copy_is_and_what_is_away() {
        let away = ViewsError::Unavailable("refused".into());
        let check = |age_s, trouble, state, part: &str| {
            let (found, detail) = says(age_s, trouble);
            assert_eq!(found, state, "{detail}");
            assert!(detail.contains(part), "{detail}");
        };
        check(None, None, State::Ok, "never");
        check(None, Some(&away), State::Waiting, "refused");
        check(Some(2.0), None, State::Ok, "2 s old");
        check(Some(90.0), None, State::Waiting, "aggregator");
        check(Some(5.0), Some(&away), State::Waiting, "5 s old and answers: views are unavailable: refused");
    }
}
