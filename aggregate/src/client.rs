//! The connection to ClickHouse: statements, typed rows and Native bytes.

use bytes::Bytes;
use clickhouse::{Client, Compression, RowOwned, RowRead};

use crate::error::AggregateError;
use crate::settings::ClickHouseSettings;

/// Statements that name windows by the thousand are long.
const QUERY_BYTES_MAX: &str = "268435456";

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
        Self { client, database: settings.database.clone() }
    }

    /// Puts the database's name in place of `{database}`.
    pub(crate) fn named(&self, sql: &str) -> String {
        sql.replace("{database}", &self.database)
    }

    pub(crate) async fn execute(&self, sql: &str) -> Result<(), AggregateError> {
        // A question mark is a placeholder to the client; ours stand for themselves.
        let sql = self.named(sql).replace('?', "??");
        Ok(self.client.query(&sql).execute().await?)
    }

    pub(crate) async fn rows<T>(&self, sql: &str) -> Result<Vec<T>, AggregateError>
    where
        T: RowOwned + RowRead,
    {
        let sql = self.named(sql).replace('?', "??");
        Ok(self.client.query(&sql).fetch_all().await?)
    }

    /// Inserts Native blocks, whole or not at all as far as ClickHouse promises it for one statement; the
    /// rows are absolute, so a repetition changes nothing.
    pub(crate) async fn insert(&self, table: &str, blocks: Bytes) -> Result<(), AggregateError> {
        let sql = format!("INSERT INTO {}.{table} FORMAT Native", self.database);
        let mut insert = self.client.insert_formatted_with(sql);
        insert.send(blocks).await?;
        Ok(insert.end().await?)
    }
}

/// A string literal of SQL.
pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
