//! The store that a process sees: it answers late, in another order than it was asked, not at all, or that
//! something failed of which nothing, a part or everything was done.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clickhouse::error::Error;
use stillwell_schema::TopicPartition;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::life::Life;
use super::oracle;
use super::tables::{self, Row, Tables, rows};
use super::world::{Weather, World};
use crate::error::AggregateError;
use crate::lateness::LatenessRow;
use crate::scoring::restore::Rows as MachineRows;
use crate::store::{
    HighRow, RefusedRow, SeriesRow, Standing, Store, TablePosition, Targets, WindowKey, WindowRow,
};

/// The longest that a write takes effect after its writer has given it up, or died, ms.
const LINGERS_MS: u64 = 20_000;

/// The store as one process sees it.
#[derive(Clone)]
pub(super) struct Model {
    pub(super) world: Arc<World>,
    pub(super) life: Arc<Life>,
}

/// What becomes of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Stored,
    /// It fails, and nothing is stored.
    Refused,
    /// It fails, and the first rows are stored.
    Begun,
    /// It fails, and any rows are stored.
    Torn,
    /// All is stored, and the answer is lost.
    Unknown,
    /// The answer is lost, and all is stored later.
    Lingers,
}

impl Model {
    /// A step of the process, which may be its last, and a way of some length.
    async fn pass(&self) {
        self.life.step(&self.world).await;
        let delay = self.world.delay();
        if delay > Duration::ZERO {
            sleep(delay).await;
        }
        self.life.moves().await;
    }

    fn fails(&self) -> bool {
        let percent = match self.world.weather() {
            Weather::Calm => 0,
            Weather::Fair => self.world.habits.errors,
            Weather::Gusty => 50,
            Weather::Outage => 100,
        };
        self.world.chance(percent)
    }

    fn error(&self) -> AggregateError {
        let passing = "Code: 241. DB::Exception: Memory limit exceeded. (MEMORY_LIMIT_EXCEEDED)";
        let errors = [Error::TimedOut, Error::BadResponse(passing.to_owned())];
        let at = self.world.index(errors.len());
        errors.into_iter().nth(at).unwrap().into()
    }

    async fn ask<T: Send>(&self, look: impl FnOnce(&Tables) -> T + Send) -> Result<T, AggregateError> {
        self.pass().await;
        if self.fails() {
            self.world.counts.add("questions that failed", 1);
            return Err(self.error());
        }
        let answer = look(&self.world.tables.lock().unwrap());
        self.pass().await;
        Ok(answer)
    }

    fn outcome(&self) -> Outcome {
        if !self.fails() {
            return Outcome::Stored;
        }
        let outcomes = [Outcome::Refused, Outcome::Begun, Outcome::Torn, Outcome::Unknown, Outcome::Lingers];
        outcomes[self.world.index(outcomes.len())]
    }

    /// Writes of which the server knows already: they take effect even if the process dies, the first part perhaps
    /// well before the rest.
    async fn leave(&self, table: &str, rows: Vec<Row>) {
        let (model, table) = (self.clone(), table.to_owned());
        let (done, stored) = oneshot::channel();
        let cut = self.world.index(rows.len() + 1);
        let delays = [self.world.delay(), self.world.delay()];
        tokio::spawn(async move {
            let mut first = rows;
            let rest = first.split_off(cut);
            for (rows, delay) in [first, rest].into_iter().zip(delays) {
                sleep(delay).await;
                model.store(&table, rows);
            }
            // Whoever wrote it may be gone.
            let _ = done.send(());
        });
        let _ = stored.await;
    }

    fn linger(&self, table: &str, rows: Vec<Row>) {
        let (model, table) = (self.clone(), table.to_owned());
        let delay = Duration::from_millis(self.world.below(LINGERS_MS));
        tokio::spawn(async move {
            sleep(delay).await;
            model.store(&table, rows);
        });
    }

    fn store(&self, table: &str, rows: Vec<Row>) {
        let world = &self.world;
        if self.life.is_dead() && !rows.is_empty() {
            world.counts.add("writes of the dead", 1);
        }
        for row in &rows {
            oracle::judge_row(world, row);
        }
        world.note(format_args!("{}: {} rows into {table}", self.life.name, rows.len()));
        let mut tables = world.tables.lock().unwrap();
        rows.into_iter().for_each(|row| tables.put(row));
    }
}

impl Store for Model {
    async fn targets(&self) -> Result<Targets, AggregateError> {
        self.ask(|tables| tables.targets.clone()).await
    }

    async fn standing(&self, lane: &TopicPartition) -> Result<Option<Standing>, AggregateError> {
        let partition = lane.partition;
        self.ask(move |tables| tables.positions.get(&partition).map(|row| row.standing)).await
    }

    async fn positions(&self, lane: &TopicPartition) -> Result<Vec<TablePosition>, AggregateError> {
        let partition = lane.partition;
        self.ask(move |tables| tables.table_positions(partition)).await
    }

    async fn series(&self, lane: &TopicPartition) -> Result<Vec<SeriesRow>, AggregateError> {
        let partition = lane.partition;
        self.ask(move |tables| tables.series(partition)).await
    }

    async fn highs(&self, lane: &TopicPartition, table: &str) -> Result<Vec<HighRow>, AggregateError> {
        let (partition, table) = (lane.partition, table.to_owned());
        self.ask(move |tables| tables.highs(partition, &table)).await
    }

    async fn windows(
        &self,
        lane: &TopicPartition,
        _width: usize,
        table: &str,
        keys: &[WindowKey<'_>],
    ) -> Result<Vec<WindowRow>, AggregateError> {
        self.world.counts.add("windows asked for", keys.len() as u64);
        let key = |key: &WindowKey<'_>| {
            let (machine, sensor) = (key.machine.to_owned(), key.sensor.to_owned());
            (table.to_owned(), lane.partition, machine, sensor, key.start_us)
        };
        let keys: Vec<tables::WindowKey> = keys.iter().map(key).collect();
        self.ask(move |tables| keys.iter().filter_map(|key| tables.windows.get(key).cloned()).collect()).await
    }

    async fn machines(&self, _: &TopicPartition) -> Result<MachineRows, AggregateError> {
        self.ask(|_| MachineRows::default()).await
    }

    async fn lateness(&self, lane: &TopicPartition) -> Result<Vec<LatenessRow>, AggregateError> {
        let partition = lane.partition;
        self.ask(move |tables| tables.lateness(partition)).await
    }

    /// Histories have no bounds of series.
    async fn refused(&self, _: &TopicPartition) -> Result<Vec<RefusedRow>, AggregateError> {
        Ok(Vec::new())
    }

    async fn insert(&self, table: &str, blocks: Vec<Bytes>) -> Result<(), AggregateError> {
        let mut rows: Vec<Row> = blocks.iter().flat_map(|block| rows(table, block)).collect();
        self.pass().await;
        let outcome = self.outcome();
        match outcome {
            Outcome::Stored if self.world.chance(25) => self.leave(table, rows).await,
            Outcome::Stored | Outcome::Unknown => self.store(table, rows),
            Outcome::Refused => {}
            Outcome::Begun => {
                rows.truncate(self.world.index(rows.len() + 1));
                self.store(table, rows);
            }
            Outcome::Torn => {
                rows.retain(|_| self.world.chance(50));
                self.store(table, rows);
            }
            Outcome::Lingers => self.linger(table, rows),
        }
        self.pass().await;
        if outcome == Outcome::Stored {
            return Ok(());
        }
        self.world.note(format_args!("{}: {table} {outcome:?}", self.life.name));
        let met = match outcome {
            Outcome::Stored | Outcome::Refused => "writes refused",
            Outcome::Begun | Outcome::Torn => "writes done in part",
            Outcome::Unknown => "writes done, answer lost",
            Outcome::Lingers => "writes done later",
        };
        self.world.counts.add(met, 1);
        Err(self.error())
    }
}
