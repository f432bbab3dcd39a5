//! The connection to ClickHouse: statements, typed rows and Native bytes.

use std::time::Duration;

use bytes::Bytes;
use clickhouse::error::Error;
use clickhouse::{Client, Compression, RowOwned, RowRead};
use tokio::time::timeout;

use crate::error::AggregateError;
use crate::settings::ClickHouseSettings;

/// Statements that name windows by the thousand are long.
const QUERY_BYTES_MAX: &str = "268435456";
/// How long the server may take. What takes longer is given up and tried again; a repetition changes nothing.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);
const SEND_WITHIN: Duration = Duration::from_secs(60);
const INSERT_WITHIN: Duration = Duration::from_secs(300);

/// A connection pool and the database it speaks of.
#[derive(Clone)]
pub(crate) struct Store {
    client: Client,
    database: String,
}

impl Store {
    pub(crate) fn new(settings: &ClickHouseSettings) -> Self {
        let client = Client::default()
            .with_url(&settings.url)
            .with_user(&settings.user)
            .with_password(&settings.password)
            .with_compression(Compression::None)
            .with_setting("max_query_size", QUERY_BYTES_MAX);
        Self { client, database: identifier(&settings.database) }
    }

    /// Runs a statement that holds no values of users; the database's name stands for each `{database}`.
    pub(crate) async fn execute(&self, sql: &str) -> Result<(), AggregateError> {
        let sql = sql.replace("{database}", &self.database);
        let done = timeout(ANSWER_WITHIN, self.client.query_raw(&sql).execute()).await;
        Ok(done.unwrap_or(Err(Error::TimedOut))?)
    }

    /// The rows of a query. The database's name stands for the first `{database}`, which comes before the
    /// first value: a value may hold any text.
    pub(crate) async fn rows<T>(&self, sql: &str) -> Result<Vec<T>, AggregateError>
    where
        T: RowOwned + RowRead,
    {
        let sql = sql.replacen("{database}", &self.database, 1);
        let rows = timeout(ANSWER_WITHIN, self.client.query_raw(&sql).fetch_all()).await;
        Ok(rows.unwrap_or(Err(Error::TimedOut))?)
    }

    /// Inserts Native blocks, whole or not at all as far as ClickHouse promises it for one statement; the
    /// rows are absolute, so a repetition changes nothing.
    pub(crate) async fn insert(
        &self,
        table: &str,
        blocks: impl IntoIterator<Item = Bytes>,
    ) -> Result<(), AggregateError> {
        let sql = format!("INSERT INTO {}.{table} FORMAT Native", self.database);
        let mut insert = self
            .client
            .insert_formatted_with(sql)
            // Late data and replays may touch any number of months.
            .with_setting("max_partitions_per_insert_block", "0")
            // What is answered is stored, whatever the server's default.
            .with_setting("async_insert", "0")
            .with_timeouts(Some(SEND_WITHIN), Some(INSERT_WITHIN));
        for block in blocks {
            insert.send(block).await?;
        }
        Ok(insert.end().await?)
    }
}

/// A name of SQL.
fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

/// A string literal of SQL.
pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_are_quoted() {
        assert_eq!(identifier("a`b\\"), r"`a\`b\\`");
        assert_eq!(quote("a'b\\"), r"'a\'b\\'");
    }
}
