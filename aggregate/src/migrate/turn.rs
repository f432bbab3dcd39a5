//! One process at a time migrates.
//!
//! **Invariant:** while a process applies steps there is the table `migrating`, which ClickHouse makes for one of them
//! alone, and the process says again and again that it lives. One that has not for a while counts as gone: its table is
//! moved aside, to a name of its own, so that two who wait cannot both move it. One that was silent and lives sees before
//! its next statement that the table is not its own any more, and gives up; what its last one may still do is what a step
//! that was cut off may leave, which each step bears.
//!
//! Over a cluster this holds for processes that speak to the same server.

use std::time::Duration;

use clickhouse::Row;
use clickhouse::error::Error;
use serde::Deserialize;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::error::AggregateError;
use crate::store::ClickHouse;

/// Between two signs of life, and between two looks of those who wait.
const BEAT: Duration = Duration::from_secs(2);
/// How long one may take.
const BEAT_WITHIN: Duration = Duration::from_secs(5);
/// Without a sign of life for so long, whoever migrated is gone.
const GONE_S: i64 = 20;

const TAKE: &str =
    "CREATE TABLE {database}.migrating (at DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC')) ENGINE = Memory";
const LIVE: &str = "INSERT INTO {database}.migrating (at) VALUES (now64(6, 'UTC'))";
const GIVE: &str = "DROP TABLE IF EXISTS {database}.migrating SYNC";

/// The table of whoever migrates, and how long ago it was last heard of.
#[derive(Row, Deserialize)]
struct Other {
    uuid: String,
    silent_s: i64,
}

/// A table that was moved aside.
#[derive(Row, Deserialize)]
struct Left {
    name: String,
}

/// The turn of this process.
pub(super) struct Turn {
    store: ClickHouse,
    /// Of its table.
    uuid: String,
    beat: JoinHandle<()>,
}

impl Turn {
    /// Waits until no other process migrates.
    pub(super) async fn take(store: &ClickHouse) -> Result<Self, AggregateError> {
        let mut is_told = false;
        loop {
            match store.execute(TAKE).await {
                Ok(()) => break,
                Err(error) if says(&error, &["TABLE_ALREADY_EXISTS"]) => {}
                Err(error) => return Err(error),
            }
            if !std::mem::replace(&mut is_told, true) {
                tracing::info!("another process prepares ClickHouse; waiting for it");
            }
            if let Some(other) = other(store).await?.filter(|other| other.silent_s >= GONE_S) {
                tracing::warn!(silent_s = other.silent_s, "who prepared ClickHouse is gone; taking over");
                move_aside(store, &other).await?;
            }
            tokio::time::sleep(BEAT).await;
        }
        let uuid = other(store).await?.map_or_else(String::new, |own| own.uuid);
        let living = store.clone();
        let beat = tokio::spawn(async move {
            loop {
                tokio::time::sleep(BEAT).await;
                let _ = timeout(BEAT_WITHIN, living.execute(LIVE)).await;
            }
        });
        Ok(Self { store: store.clone(), uuid, beat })
    }

    /// Whether it is still this process's.
    ///
    /// # Errors
    /// [`AggregateError::Overtaken`] where it is not.
    pub(super) async fn check(&self) -> Result<(), AggregateError> {
        let is_own = other(&self.store).await?.is_some_and(|now| now.uuid == self.uuid);
        if is_own { Ok(()) } else { Err(AggregateError::Overtaken) }
    }

    /// Lets others migrate.
    pub(super) async fn give(self) -> Result<(), AggregateError> {
        self.check().await?;
        self.beat.abort();
        self.store.execute(GIVE).await?;
        let sql = format!(
            "SELECT name FROM system.tables WHERE database = {} AND match(name, '^migrating_[0-9a-f]{{32}}$')",
            self.store.database_literal()
        );
        let left: Vec<Left> = self.store.ask(&sql).await?;
        for Left { name } in left {
            self.store.execute(&format!("DROP TABLE IF EXISTS {{database}}.{name} SYNC")).await?;
        }
        Ok(())
    }
}

/// Moves the table of one that is gone aside, unless another that waits was first.
async fn move_aside(store: &ClickHouse, other: &Other) -> Result<(), AggregateError> {
    let sql = format!("RENAME TABLE {{database}}.migrating TO {{database}}.migrating_{}", other.uuid);
    match store.execute(&sql).await {
        Err(error) if !says(&error, &["UNKNOWN_TABLE", "TABLE_ALREADY_EXISTS"]) => Err(error),
        _ => Ok(()),
    }
}

/// An error on the way leaves the turn to who comes next, once this process was silent for long enough.
impl Drop for Turn {
    fn drop(&mut self) {
        self.beat.abort();
    }
}

/// Whether it is a refusal of the server with one of these codes.
fn says(error: &AggregateError, codes: &[&str]) -> bool {
    let AggregateError::ClickHouse(Error::BadResponse(text)) = error else { return false };
    codes.iter().any(|code| text.contains(code))
}

async fn other(store: &ClickHouse) -> Result<Option<Other>, AggregateError> {
    let sql = format!(
        "SELECT replaceAll(toString(held.uuid), '-', '') AS uuid, toInt64(dateDiff('second', greatest(held.made, toDateTime(lives.at)), now())) AS silent_s FROM (SELECT uuid, metadata_modification_time AS made FROM system.tables WHERE database = {} AND name = 'migrating') AS held CROSS JOIN (SELECT max(at) AS at FROM {}) AS lives",
        store.database_literal(),
        store.named("migrating")
    );
    match store.ask::<Other>(&sql).await {
        Ok(found) => Ok(found.into_iter().next()),
        // It goes at this moment.
        Err(error) if says(&error, &["UNKNOWN_TABLE", "TABLE_IS_DROPPED"]) => Ok(None),
        Err(error) => Err(error),
    }
}
