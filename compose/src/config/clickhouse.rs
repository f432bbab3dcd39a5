//! `[clickhouse]` and `[views]`: where ClickHouse is, how its tables are laid out, and how long windows are kept.

use anyhow::Context;
use serde::{Deserialize, Serialize};
use stillwell_aggregate::{Cluster, Keep, Layout, REPLICA_NAME, REPLICA_PATH};

use super::Config;

/// `[clickhouse]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClickHouse {
    /// Its HTTP interface; empty where `up` runs its own.
    pub url: String,
    /// User.
    pub user: String,
    /// Password.
    pub password: String,
    /// Database.
    pub database: String,
    /// The cluster that its tables lie on; empty for one server.
    pub cluster: String,
    /// Where replicas of a table meet; the usual path where empty.
    pub replica_path: String,
    /// A replica's name there; the usual one where empty.
    pub replica_name: String,
    /// A storage policy of the server; its default where empty.
    pub storage_policy: String,
}

impl Default for ClickHouse {
    fn default() -> Self {
        Self {
            url: String::new(),
            user: "default".into(),
            password: String::new(),
            database: "stillwell".into(),
            cluster: String::new(),
            replica_path: String::new(),
            replica_name: String::new(),
            storage_policy: String::new(),
        }
    }
}

impl ClickHouse {
    /// Takes `http://[user[:password]@]host:port`.
    pub fn set_url(&mut self, url: &str) {
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let (login, host) = rest.rsplit_once('@').map_or((None, rest), |(login, host)| (Some(login), host));
        self.url = format!("{scheme}://{host}");
        if let Some(login) = login {
            let (user, password) = login.split_once(':').unwrap_or((login, ""));
            self.user = user.to_owned();
            self.password = password.to_owned();
        }
    }

    /// The URL with user and password.
    #[must_use]
    pub fn full_url(&self) -> String {
        let (scheme, host) = self.url.split_once("://").unwrap_or(("http", &self.url));
        format!("{scheme}://{}:{}@{host}", self.user, self.password)
    }
}

/// `[views]`: how long windows are kept after they were last written, such as `90d`; for ever where empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Views {
    /// Those of 10 s.
    pub keep_10s: String,
    /// Those of a minute.
    pub keep_1m: String,
    /// Those of an hour.
    pub keep_1h: String,
    /// Those of a day.
    pub keep_1d: String,
}

impl Default for Views {
    fn default() -> Self {
        Self {
            keep_10s: "90d".to_owned(),
            keep_1m: "2y".to_owned(),
            keep_1h: "10y".to_owned(),
            keep_1d: String::new(),
        }
    }
}

impl Config {
    /// How the tables are laid out.
    ///
    /// # Errors
    /// Names the key that is wrong.
    pub fn layout(&self) -> anyhow::Result<Layout> {
        let Views { keep_10s, keep_1m, keep_1h, keep_1d } = &self.views;
        let keep = [
            keep("keep_10s", keep_10s)?,
            keep("keep_1m", keep_1m)?,
            keep("keep_1h", keep_1h)?,
            keep("keep_1d", keep_1d)?,
        ];
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let ClickHouse { cluster, replica_path, replica_name, storage_policy, .. } = &self.clickhouse;
        let or = |text: &str, usual: &str| given(text).unwrap_or_else(|| usual.to_owned());
        let cluster = given(cluster).map(|name| Cluster {
            name,
            replica_path: or(replica_path, REPLICA_PATH),
            replica_name: or(replica_name, REPLICA_NAME),
        });
        Ok(Layout { cluster, storage_policy: given(storage_policy), keep })
    }
}

fn keep(key: &str, text: &str) -> anyhow::Result<Option<Keep>> {
    let given = Some(text).filter(|text| !text.is_empty());
    given.map(str::parse).transpose().with_context(|| format!("[views] {key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn by_default_one_server_keeps_coarse_windows_longer() {
        let layout = Config::default().layout().unwrap();
        let keep = ["90d", "730d", "3650d"].map(|text| Some(text.parse().unwrap()));
        assert_eq!(layout.keep, [keep[0], keep[1], keep[2], None]);
        assert_eq!((layout.cluster, layout.storage_policy), (None, None));
    }

    #[test]
    fn a_cluster_has_the_usual_paths_where_none_are_given() {
        let layout = config("[clickhouse]\ncluster = 'plant'\nreplica_name = 'r1'").layout().unwrap();
        let cluster = layout.cluster.unwrap();
        assert_eq!((&*cluster.replica_path, &*cluster.replica_name), (REPLICA_PATH, "r1"));
    }

    #[test]
    fn a_length_of_time_that_is_none_is_named() {
        let error = format!("{:#}", config("[views]\nkeep_1m = '2 years'").layout().unwrap_err());
        assert!(error.contains("[views] keep_1m") && error.contains("2 years"), "{error}");
    }

    #[test]
    fn a_clickhouse_url_may_carry_a_login() {
        let mut clickhouse = ClickHouse::default();
        clickhouse.set_url("http://reader:se:cret@db:8123");
        assert_eq!((&*clickhouse.url, &*clickhouse.user), ("http://db:8123", "reader"));
        assert_eq!(clickhouse.full_url(), "http://reader:se:cret@db:8123");
    }
}
