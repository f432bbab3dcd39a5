//! How the tables are laid out: on one server as the steps say, or over the shards and replicas of a cluster.
//!
//! On a cluster every table is two: `<name>_local` of a Replicated engine holds the rows of a shard, and `<name>`, of
//! the engine Distributed, is what all statements read and write. Views are the same on every server.
//!
//! **Invariant:** all rows of one key of a ReplacingMergeTree are on one shard, as its sharding key is made of columns
//! of its `ORDER BY` alone. So FINAL, which each shard applies to its own rows, is right for the whole table.

use crate::error::AggregateError;
use crate::store::{identifier, quote};

use super::lifetimes::Keep;
use super::statements::{Columns, Statement, Table};

/// Where tables lie, and for how long windows are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The cluster; none on one server.
    pub cluster: Option<Cluster>,
    /// A storage policy of the server; its default where there is none.
    pub storage_policy: Option<String>,
    /// How long windows of 10 s, 1 m, 1 h and 1 d are kept after they were last written; for ever where not given.
    pub keep: [Option<Keep>; 4],
}

/// A cluster, as the servers' `remote_servers` name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Where replicas of a table meet in Keeper. `{database}` and `{table}` are filled in here, and all else in
    /// braces by each server's macros. Replicas of one shard must have the same path, shards different ones.
    pub replica_path: String,
    /// A replica's name there.
    pub replica_name: String,
}

/// Paths that hold for servers with the macros `shard` and `replica`, as is usual.
pub const REPLICA_PATH: &str = "/clickhouse/tables/{shard}/{database}/{table}";
/// The usual name of a replica.
pub const REPLICA_NAME: &str = "{replica}";

impl Layout {
    /// What a statement of the steps is in this layout, for the database of this name. The name's placeholder stays
    /// where it is.
    ///
    /// # Errors
    /// [`AggregateError::Statement`] for a form that cannot be laid out.
    pub(crate) fn render(&self, sql: &str, database: &str) -> Result<Vec<String>, AggregateError> {
        if self.cluster.is_none() && self.storage_policy.is_none() {
            return Ok(vec![sql.to_owned()]);
        }
        let cannot = || AggregateError::Statement { sql: sql.to_owned() };
        let statement = Statement::parse(sql).ok_or_else(cannot)?;
        let Some(cluster) = &self.cluster else {
            return Ok(vec![match &statement {
                Statement::Table(table) => self.on_one_server(table),
                _ => sql.to_owned(),
            }]);
        };
        let on = self.on();
        Ok(match statement {
            Statement::Database => {
                vec![format!("CREATE DATABASE IF NOT EXISTS {{database}}{on} ENGINE = Atomic")]
            }
            Statement::Table(table) => {
                let sharding = sharding(&table).ok_or_else(cannot)?;
                self.on_cluster(cluster, &table, database, &sharding).into()
            }
            Statement::View { verb, name, query } => vec![format!("{verb}{{database}}.{name}{on} {query}")],
            Statement::Alter { name, change } => {
                let tables = if is_of_columns(change) {
                    vec![local(name), name.to_owned()]
                } else {
                    vec![local(name)]
                };
                let alter = |table| format!("ALTER TABLE {{database}}.{table}{on} {change}");
                tables.into_iter().map(alter).collect()
            }
            Statement::Drop { name } => {
                let tables = [name.to_owned(), local(name)];
                // Its path in Keeper is free before the next statement.
                tables.map(|table| format!("DROP TABLE IF EXISTS {{database}}.{table}{on} SYNC")).into()
            }
            Statement::Exchange { one, other } => {
                let (one, other) = (local(one), local(other));
                vec![format!("EXCHANGE TABLES {{database}}.{one} AND {{database}}.{other}{on}")]
            }
            Statement::Insert => vec![sql.to_owned()],
        })
    }

    /// What stands behind the name of a table that is altered.
    pub(super) fn on(&self) -> String {
        self.cluster.as_ref().map(|of| format!(" ON CLUSTER {}", identifier(&of.name))).unwrap_or_default()
    }

    fn on_one_server(&self, table: &Table<'_>) -> String {
        let Table { name, columns, engine, arguments, .. } = table;
        let columns = match columns {
            Columns::Listed(list) => (*list).to_owned(),
            Columns::Of(other) => format!("AS {{database}}.{other}"),
        };
        let engine =
            if arguments.is_empty() { (*engine).to_owned() } else { format!("{engine}({arguments})") };
        format!(
            "CREATE TABLE IF NOT EXISTS {{database}}.{name} {columns}\nENGINE = {engine}\n{}",
            self.rest(table)
        )
    }

    fn on_cluster(
        &self,
        cluster: &Cluster,
        table: &Table<'_>,
        database: &str,
        sharding: &str,
    ) -> [String; 2] {
        let Table { name, columns, engine, arguments, .. } = table;
        let (of, local) = (identifier(&cluster.name), local(name));
        let columns = match columns {
            Columns::Listed(list) => (*list).to_owned(),
            Columns::Of(other) => format!("AS {{database}}.{}", self::local(other)),
        };
        // Names are exchanged, and a table keeps the path that it was made with: one that is made to be exchanged has one of
        // its own.
        let in_path =
            if matches!(table.columns, Columns::Of(_)) { format!("{local}-{{uuid}}") } else { local.clone() };
        let path = cluster.replica_path.replace("{database}", database).replace("{table}", &in_path);
        let separator = if arguments.is_empty() { "" } else { ", " };
        let stored = format!(
            "CREATE TABLE IF NOT EXISTS {{database}}.{local} ON CLUSTER {of} {columns}\n\
             ENGINE = Replicated{engine}({}, {}{separator}{arguments})\n{}",
            quote(&path),
            quote(&cluster.replica_name),
            self.rest(table)
        );
        let distributed = format!(
            "CREATE TABLE IF NOT EXISTS {{database}}.{name} ON CLUSTER {of} AS {{database}}.{local}\n\
             ENGINE = Distributed({of}, {{database}}, {local}, {sharding})"
        );
        [stored, distributed]
    }

    fn rest(&self, table: &Table<'_>) -> String {
        let Some(policy) = &self.storage_policy else { return table.rest.to_owned() };
        let before = if table.rest.contains("SETTINGS ") { ", " } else { "\nSETTINGS " };
        format!("{}{before}storage_policy = {}", table.rest, quote(policy))
    }
}

fn local(name: &str) -> String {
    format!("{name}_local")
}

/// What decides a row's shard: its machine, else its lane, else the first column of the key.
fn sharding(table: &Table<'_>) -> Option<String> {
    let key = table.key()?;
    let has = |column: &str| key.contains(&column);
    Some(match key.first()? {
        _ if has("machine") => "cityHash64(machine)".to_owned(),
        _ if has("topic") && has("partition") => "cityHash64(topic, partition)".to_owned(),
        first => format!("cityHash64({first})"),
    })
}

/// A change that a Distributed table must know of too.
fn is_of_columns(change: &str) -> bool {
    ["ADD COLUMN", "DROP COLUMN", "MODIFY COLUMN", "RENAME COLUMN"]
        .iter()
        .any(|verb| change.starts_with(verb))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(policy: Option<&str>) -> Layout {
        let cluster = Cluster {
            name: "plant".to_owned(),
            replica_path: REPLICA_PATH.to_owned(),
            replica_name: REPLICA_NAME.to_owned(),
        };
        Layout { cluster: Some(cluster), storage_policy: policy.map(str::to_owned), ..Layout::default() }
    }

    const TABLE: &str = "CREATE TABLE IF NOT EXISTS {database}.rows (\n    machine String\n)\n\
                         ENGINE = ReplacingMergeTree(version)\nORDER BY (topic, machine)";

    fn check(sql: &str, expected: &[&str]) {
        assert_eq!(layout(None).render(sql, "stillwell").unwrap(), expected, "{sql}");
    }

    #[test]
    fn a_table_is_stored_by_shard_and_spoken_to_as_one() {
        check(
            TABLE,
            &[
                "CREATE TABLE IF NOT EXISTS {database}.rows_local ON CLUSTER `plant` (\n    machine String\n)\n\
                 ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/stillwell/rows_local', \
                 '{replica}', version)\nORDER BY (topic, machine)",
                "CREATE TABLE IF NOT EXISTS {database}.rows ON CLUSTER `plant` AS {database}.rows_local\n\
                 ENGINE = Distributed(`plant`, {database}, rows_local, cityHash64(machine))",
            ],
        );
    }

    #[test]
    fn other_statements_reach_every_server() {
        check(
            "CREATE DATABASE IF NOT EXISTS {database} ENGINE = Atomic",
            &["CREATE DATABASE IF NOT EXISTS {database} ON CLUSTER `plant` ENGINE = Atomic"],
        );
        check(
            "CREATE OR REPLACE VIEW {database}.v AS SELECT 1",
            &["CREATE OR REPLACE VIEW {database}.v ON CLUSTER `plant` AS SELECT 1"],
        );
        check(
            "ALTER TABLE {database}.t\n    ADD COLUMN IF NOT EXISTS a Int8",
            &[
                "ALTER TABLE {database}.t_local ON CLUSTER `plant` ADD COLUMN IF NOT EXISTS a Int8",
                "ALTER TABLE {database}.t ON CLUSTER `plant` ADD COLUMN IF NOT EXISTS a Int8",
            ],
        );
        check(
            "ALTER TABLE {database}.t MODIFY TTL a",
            &["ALTER TABLE {database}.t_local ON CLUSTER `plant` MODIFY TTL a"],
        );
        check(
            "DROP TABLE IF EXISTS {database}.t",
            &[
                "DROP TABLE IF EXISTS {database}.t ON CLUSTER `plant` SYNC",
                "DROP TABLE IF EXISTS {database}.t_local ON CLUSTER `plant` SYNC",
            ],
        );
        check("INSERT INTO {database}.t SELECT 1", &["INSERT INTO {database}.t SELECT 1"]);
    }

    #[test]
    fn a_table_that_is_made_to_be_exchanged_has_a_path_of_its_own() {
        let sql = "CREATE TABLE IF NOT EXISTS {database}.u AS {database}.t ENGINE = ReplacingMergeTree(v) ORDER BY machine";
        let made = layout(None).render(sql, "s").unwrap();
        assert!(
            made[0].contains("AS {database}.t_local") && made[0].contains("/s/u_local-{uuid}'"),
            "{}",
            made[0]
        );
    }

    #[test]
    fn a_shard_is_chosen_by_columns_of_the_key() {
        for (order, expected) in [
            ("(machine, sensor, start, topic, partition)", Some("cityHash64(machine)")),
            ("(topic, partition, table_name)", Some("cityHash64(topic, partition)")),
            ("(saga, seq)", Some("cityHash64(saga)")),
            ("width", Some("cityHash64(width)")),
            ("tuple()", None),
        ] {
            let rest = format!("ORDER BY {order}");
            let (columns, engine) = (Columns::Listed("(a Int8)"), "ReplacingMergeTree");
            let table = Table { name: "t", columns, engine, arguments: "", rest: &rest };
            assert_eq!(sharding(&table).as_deref(), expected, "{order}");
        }
    }

    #[test]
    fn a_storage_policy_goes_into_every_table() {
        let one = Layout { storage_policy: Some("cold".to_owned()), ..Layout::default() };
        let rendered = one.render(TABLE, "stillwell").unwrap();
        assert_eq!(rendered, [format!("{TABLE}\nSETTINGS storage_policy = 'cold'")]);
        let clustered = layout(Some("cold")).render(TABLE, "stillwell").unwrap();
        assert!(clustered[0].ends_with("SETTINGS storage_policy = 'cold'"), "{}", clustered[0]);
        assert!(!clustered[1].contains("SETTINGS"), "{}", clustered[1]);
        assert_eq!(Layout::default().render(TABLE, "stillwell").unwrap(), [TABLE]);
    }

    #[test]
    fn a_form_that_is_not_known_is_refused() {
        let error = layout(None).render("OPTIMIZE TABLE {database}.t", "stillwell").unwrap_err();
        assert!(error.to_string().contains("OPTIMIZE"), "{error}");
    }
}
