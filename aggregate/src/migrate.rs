//! The tables and views, in numbered steps that are applied once and never change.
//!
//! [`mod@statements`] cuts a step into its statements; [`layout`] writes them for one server or a cluster; [`lifetimes`]
//! says for how long windows are kept, which may change at every start; [`turn`] sees to it that one process migrates at
//! a time.

mod layout;
mod lifetimes;
mod statements;
mod turn;

use clickhouse::Row;
use serde::Deserialize;
use sha2::{Digest, Sha256};

pub use self::layout::{Cluster, Layout, REPLICA_NAME, REPLICA_PATH};
use self::lifetimes::Stored;
pub use self::lifetimes::{Keep, KeepError};
use self::statements::{DATABASE, has_shown, statements, with_shown};
use self::turn::Turn;
use crate::error::AggregateError;
use crate::settings::ClickHouseSettings;
use crate::store::{ClickHouse, identifier, quote};

const STEPS: &[(&str, &str)] = &[
    ("0001_tables", include_str!("../sql/0001_tables.sql")),
    ("0002_views", include_str!("../sql/0002_views.sql")),
    ("0003_generations", include_str!("../sql/0003_generations.sql")),
    ("0004_kinds", include_str!("../sql/0004_kinds.sql")),
    ("0005_lateness", include_str!("../sql/0005_lateness.sql")),
    ("0006_machines", include_str!("../sql/0006_machines.sql")),
    ("0007_sagas", include_str!("../sql/0007_sagas.sql")),
    ("0009_refused", include_str!("../sql/0009_refused.sql")),
    ("0010_keys", include_str!("../sql/0010_keys.sql")),
    ("0011_fleet", include_str!("../sql/0011_fleet.sql")),
    ("0012_direct", include_str!("../sql/0012_direct.sql")),
];

const LEDGER: &str = "CREATE TABLE IF NOT EXISTS {database}.migrations (name String, sha256 String, applied DateTime DEFAULT now()) ENGINE = ReplacingMergeTree ORDER BY name";

#[derive(Row, Deserialize)]
struct Applied {
    name: String,
    sha256: String,
}

/// Which table a view of windows is over.
#[derive(Row, Deserialize)]
struct Shown {
    view: String,
    table_name: String,
}

/// Makes the database and everything in it that is missing, and has windows kept as `layout` says. Of many processes that
/// call it at once, one does what is to be done, and the others wait.
///
/// # Errors
/// [`AggregateError::ClickHouse`], or [`AggregateError::Migration`] where an applied step has changed.
pub async fn migrate(settings: &ClickHouseSettings, layout: &Layout) -> Result<(), AggregateError> {
    let store = ClickHouse::new(settings);
    let database = settings.database.as_str();
    for statement in [DATABASE, LEDGER] {
        run(&store, layout.render(statement, database)?).await?;
    }
    if !missing(&store).await?.is_empty() {
        let turn = Turn::take(&store).await?;
        // Another process may have applied them while this one waited.
        let applied = apply(&store, layout, database, &turn).await;
        if !matches!(applied, Err(AggregateError::Overtaken)) {
            turn.give().await?;
        }
        applied?;
    }
    let tables: Vec<Stored> = store.rows(&lifetimes::stored(database)).await?;
    run(&store, lifetimes::changes(&tables, layout)).await
}

/// The steps that are not applied yet.
async fn missing(store: &ClickHouse) -> Result<Vec<(&'static str, &'static str)>, AggregateError> {
    let applied: Vec<Applied> = store.rows("SELECT name, sha256 FROM {database}.migrations FINAL").await?;
    let mut missing = Vec::new();
    for (name, sql) in STEPS {
        match applied.iter().find(|step| step.name == *name) {
            Some(step) if step.sha256 == sha256(sql) => {}
            Some(_) => return Err(AggregateError::Migration { name: (*name).to_owned() }),
            None => missing.push((*name, *sql)),
        }
    }
    Ok(missing)
}

/// Applies the steps that are not applied yet.
async fn apply(
    store: &ClickHouse,
    layout: &Layout,
    database: &str,
    turn: &Turn,
) -> Result<(), AggregateError> {
    for (name, sql) in missing(store).await? {
        for statement in statements(sql) {
            turn.check().await?;
            let statement = over_shown(store, statement).await?;
            run(store, layout.render(&statement, database)?).await?;
        }
        turn.check().await?;
        let (name, sha256) = (quote(name), quote(&sha256(sql)));
        store
            .execute(&format!("INSERT INTO {{database}}.migrations (name, sha256) VALUES ({name}, {sha256})"))
            .await?;
    }
    Ok(())
}

fn sha256(sql: &str) -> String {
    hex::encode(Sha256::digest(sql))
}

/// A statement with the tables that the views of windows are over now.
async fn over_shown(store: &ClickHouse, statement: String) -> Result<String, AggregateError> {
    if !has_shown(&statement) {
        return Ok(statement);
    }
    let shown: Vec<Shown> = store.rows("SELECT view, table_name FROM {database}.shown_tables").await?;
    let table_of = |view: &str| shown.iter().find(|of| of.view == view).map(|of| of.table_name.as_str());
    Ok(with_shown(&statement, table_of))
}

async fn run(store: &ClickHouse, statements: Vec<String>) -> Result<(), AggregateError> {
    for statement in statements {
        store.migrate(&statement).await?;
    }
    Ok(())
}

/// All statements that make a database of this name where there is none, in order.
///
/// # Errors
/// [`AggregateError::Statement`] where one cannot be laid out.
pub fn script(database: &str, layout: &Layout) -> Result<Vec<String>, AggregateError> {
    let steps = STEPS.iter().flat_map(|(_, sql)| statements(sql));
    let mut script = Vec::new();
    for statement in [DATABASE, LEDGER].map(str::to_owned).into_iter().chain(steps) {
        script.extend(layout.render(&with_shown(&statement, |_| None), database)?);
    }
    script.extend(lifetimes::of_new(layout));
    let name = identifier(database);
    Ok(script.iter().map(|statement| statement.replace("{database}", &name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_statement_makes_one_thing() {
        for (name, sql) in STEPS {
            for statement in statements(sql) {
                let code: Vec<&str> = statement.lines().filter(|line| !line.starts_with("--")).collect();
                let code = code.join("\n");
                let verbs = ["CREATE ", "ALTER ", "INSERT ", "EXCHANGE ", "DROP "]
                    .map(|verb| code.matches(verb).count());
                assert_eq!(verbs.iter().sum::<usize>(), 1, "{name}: {code}");
                assert!(code.contains("{database}."), "{name}: {code}");
            }
        }
    }

    #[test]
    fn every_step_can_be_laid_out_over_a_cluster() {
        let (replica_path, replica_name) = (REPLICA_PATH.to_owned(), REPLICA_NAME.to_owned());
        let cluster = Cluster { name: "plant".to_owned(), replica_path, replica_name };
        let keep = [Some("90d".parse().unwrap()), None, None, None];
        let layout = Layout { cluster: Some(cluster), storage_policy: Some("cold".to_owned()), keep };
        let script = script("a`b", &layout).unwrap();
        let count = |part: &str| script.iter().filter(|statement| statement.contains(part)).count();
        let tables = count("ENGINE = Replicated");
        assert!(tables > 10, "{tables}");
        assert_eq!(count("ENGINE = Distributed"), tables, "each table is stored and spoken to");
        assert_eq!(count("storage_policy = 'cold'"), tables);
        assert_eq!(count("MODIFY TTL"), 1);
        for statement in &script {
            assert!(statement.contains(r"`a\`b`"), "{statement}");
            assert!(
                statement.contains("ON CLUSTER `plant`") || statement.starts_with("INSERT "),
                "{statement}"
            );
            assert!(!statement.contains("{database}"), "{statement}");
        }
    }
}
