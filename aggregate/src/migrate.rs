//! The tables and views, in numbered steps that are applied once and never change.

use clickhouse::Row;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::client::{Store, quote};
use crate::error::AggregateError;
use crate::settings::ClickHouseSettings;

const STEPS: &[(&str, &str)] = &[
    ("0001_tables", include_str!("../sql/0001_tables.sql")),
    ("0002_views", include_str!("../sql/0002_views.sql")),
    ("0006_machines", include_str!("../sql/0006_machines.sql")),
];

const LEDGER: &str = "CREATE TABLE IF NOT EXISTS {database}.migrations (name String, sha256 String, applied DateTime DEFAULT now()) ENGINE = ReplacingMergeTree ORDER BY name";

#[derive(Row, Deserialize)]
struct Applied {
    name: String,
    sha256: String,
}

/// Makes the database and everything in it that is missing. Safe to call from many processes at once.
///
/// # Errors
/// [`AggregateError::ClickHouse`], or [`AggregateError::Migration`] where an applied step has changed.
pub async fn migrate(settings: &ClickHouseSettings) -> Result<(), AggregateError> {
    let store = Store::new(settings);
    store.execute("CREATE DATABASE IF NOT EXISTS {database} ENGINE = Atomic").await?;
    store.execute(LEDGER).await?;
    let applied: Vec<Applied> = store.rows("SELECT name, sha256 FROM {database}.migrations FINAL").await?;
    for (name, sql) in STEPS {
        let sha256 = hex::encode(Sha256::digest(sql));
        match applied.iter().find(|step| step.name == *name) {
            Some(step) if step.sha256 == sha256 => continue,
            Some(_) => return Err(AggregateError::Migration { name: (*name).to_owned() }),
            None => {}
        }
        for statement in statements(sql) {
            store.execute(statement).await?;
        }
        let (name, sha256) = (quote(name), quote(&sha256));
        store
            .execute(&format!("INSERT INTO {{database}}.migrations (name, sha256) VALUES ({name}, {sha256})"))
            .await?;
    }
    Ok(())
}

/// The statements of a file: each ends with a semicolon at the end of a line.
fn statements(sql: &str) -> impl Iterator<Item = &str> {
    sql.split(";\n")
        .map(str::trim)
        .filter(|statement| statement.lines().any(|l| !l.is_empty() && !l.starts_with("--")))
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
                assert_eq!(code.matches("CREATE ").count(), 1, "{name}: {code}");
                assert!(code.contains("{database}."), "{name}: {code}");
            }
        }
    }
}
