//! The tables and views, in numbered steps that are applied once and never change.

use clickhouse::Row;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::error::AggregateError;
use crate::settings::ClickHouseSettings;
use crate::store::{ClickHouse, quote};

const STEPS: &[(&str, &str)] = &[
    ("0001_tables", include_str!("../sql/0001_tables.sql")),
    ("0002_views", include_str!("../sql/0002_views.sql")),
    ("0003_generations", include_str!("../sql/0003_generations.sql")),
    ("0004_kinds", include_str!("../sql/0004_kinds.sql")),
    ("0007_sagas", include_str!("../sql/0007_sagas.sql")),
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
    let store = ClickHouse::new(settings);
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
            store.execute(&statement).await?;
        }
        let (name, sha256) = (quote(name), quote(&sha256));
        store
            .execute(&format!("INSERT INTO {{database}}.migrations (name, sha256) VALUES ({name}, {sha256})"))
            .await?;
    }
    Ok(())
}

/// The names of the four widths, for which a statement that names `{width}` is run.
const WIDTHS: [&str; 4] = ["10s", "1m", "1h", "1d"];

/// The statements of a file: each ends with a semicolon at the end of a line.
fn statements(sql: &str) -> impl Iterator<Item = String> {
    sql.split(";\n")
        .map(str::trim)
        .filter(|statement| statement.lines().any(|l| !l.is_empty() && !l.starts_with("--")))
        .flat_map(|statement| {
            let runs = if statement.contains("{width}") { WIDTHS.len() } else { 1 };
            WIDTHS[..runs].iter().map(move |width| statement.replace("{width}", width))
        })
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
                let verbs = ["CREATE ", "ALTER ", "INSERT "].map(|verb| code.matches(verb).count());
                assert_eq!(verbs.iter().sum::<usize>(), 1, "{name}: {code}");
                assert!(code.contains("{database}."), "{name}: {code}");
            }
        }
    }
}
