//! The config: one TOML file, the environment over it, flags over that.
//!
//! Every key has a default; `stillwell config` prints them all with what they mean ([`DOCUMENTED`]). Unknown
//! keys are refused. `STILLWELL_<SECTION>_<KEY>` overrides a key, as in `STILLWELL_QUERY_HTTP`.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

/// The default config, documented. It parses to [`Config::default`].
pub const DOCUMENTED: &str = include_str!("config/default.toml");

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where Kafka is.
    pub kafka: Kafka,
    /// What is read.
    pub topic: Vec<Topic>,
    /// The write side.
    pub ingest: Ingest,
    /// Where ClickHouse is.
    pub clickhouse: ClickHouse,
    /// The read side's writer.
    pub aggregate: Aggregate,
    /// The scorer.
    pub scoring: Scoring,
    /// The query side.
    pub query: Query,
    /// Logs.
    pub telemetry: Telemetry,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            kafka: Kafka::default(),
            topic: vec![Topic::default()],
            ingest: Ingest::default(),
            clickhouse: ClickHouse::default(),
            aggregate: Aggregate::default(),
            scoring: Scoring::default(),
            query: Query::default(),
            telemetry: Telemetry::default(),
        }
    }
}

/// `[kafka]`: besides `brokers`, any librdkafka property.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kafka {
    /// `host:port[,host:port]`; empty where `up` runs its own.
    pub brokers: String,
    /// librdkafka properties, by their own names.
    #[serde(flatten)]
    pub properties: BTreeMap<String, toml::Value>,
}

impl Kafka {
    /// The properties as librdkafka takes them: names with dots, however TOML nested them, and text values.
    ///
    /// # Errors
    /// If a value is an array or a date.
    pub fn flat_properties(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let mut flat = BTreeMap::new();
        for (name, value) in &self.properties {
            flatten(name, value, &mut flat)?;
        }
        Ok(flat)
    }
}

fn flatten(name: &str, value: &toml::Value, flat: &mut BTreeMap<String, String>) -> anyhow::Result<()> {
    let text = match value {
        toml::Value::Table(table) => {
            return table.iter().try_for_each(|(key, value)| flatten(&format!("{name}.{key}"), value, flat));
        }
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) => number.to_string(),
        toml::Value::Boolean(yes) => yes.to_string(),
        _ => bail!("[kafka] {name} must be a string, a number or true/false"),
    };
    flat.insert(name.to_owned(), text);
    Ok(())
}

/// One `[[topic]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Partitions, where `up` creates it.
    pub partitions: i32,
    /// Unit of integer times: s, ms, us or ns.
    pub time_unit: String,
    /// Where its undecodable records go; `<name>.dlq` where empty.
    pub dead_letters: String,
}

impl Default for Topic {
    fn default() -> Self {
        Self { name: "readings".into(), partitions: 8, time_unit: "ms".into(), dead_letters: String::new() }
    }
}

impl Topic {
    /// The dead letter topic.
    #[must_use]
    pub fn dead_letters(&self) -> String {
        if self.dead_letters.is_empty() { format!("{}.dlq", self.name) } else { self.dead_letters.clone() }
    }
}

/// `[ingest]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ingest {
    /// The archive's folder; `archive` in the data folder where empty.
    pub archive: PathBuf,
    /// The key that signs entries; `keys/archive.pem` in the data folder where empty.
    pub key_file: PathBuf,
    /// Freshness: a batch is committed when its first record is this old.
    pub flush_interval_ms: u64,
    /// A batch is committed when it holds this many bytes of records.
    pub file_bytes_max: usize,
    /// Memory for what is not committed yet.
    pub memory_bytes_max: usize,
}

impl Default for Ingest {
    fn default() -> Self {
        Self {
            archive: PathBuf::new(),
            key_file: PathBuf::new(),
            flush_interval_ms: 5000,
            file_bytes_max: 64 << 20,
            memory_bytes_max: 256 << 20,
        }
    }
}

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
}

impl Default for ClickHouse {
    fn default() -> Self {
        Self {
            url: String::new(),
            user: "default".into(),
            password: String::new(),
            database: "stillwell".into(),
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

/// `[aggregate]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Aggregate {
    /// How often views are brought up to date.
    pub flush_interval_ms: u64,
    /// Memory for records in flight.
    pub memory_bytes_max: usize,
    /// Where alerts go.
    pub alerts_topic: String,
}

impl Default for Aggregate {
    fn default() -> Self {
        Self { flush_interval_ms: 1000, memory_bytes_max: 256 << 20, alerts_topic: "stillwell.alerts".into() }
    }
}

/// `[scoring]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scoring {
    /// Whether rows are scored.
    pub enabled: bool,
    /// Rows of a machine that its model is trained on.
    pub commissioning_rows: usize,
}

impl Default for Scoring {
    fn default() -> Self {
        Self { enabled: true, commissioning_rows: 400 }
    }
}

/// `[query]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Query {
    /// Where the page and SQL over HTTP listen; a loopback port kept in the data folder where empty.
    pub http: String,
    /// Where the PostgreSQL wire listens; likewise.
    pub pg: String,
    /// A statement ends after this.
    pub timeout_ms: u64,
    /// An answer over HTTP holds at most this many rows.
    pub rows_max: usize,
    /// Memory of all statements together.
    pub memory_bytes_max: usize,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            http: String::new(),
            pg: String::new(),
            timeout_ms: 30_000,
            rows_max: 100_000,
            memory_bytes_max: 256 << 20,
        }
    }
}

impl Query {
    /// An address of this section, or loopback with a port.
    ///
    /// # Errors
    /// If it is no `host:port`.
    pub fn address(text: &str, port: u16) -> anyhow::Result<SocketAddr> {
        if text.is_empty() {
            return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
        }
        text.parse().with_context(|| format!("{text:?} is not an address such as 127.0.0.1:8080"))
    }
}

/// `[telemetry]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// `text` or `json`.
    pub log_format: String,
    /// Filter, such as `info` or `stillwell_ingest=debug,warn`.
    pub log: String,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { log_format: "text".into(), log: "warn,stillwell=info".into() }
    }
}

impl Config {
    /// Reads a file, if one is named, and lays the environment over it.
    ///
    /// # Errors
    /// Names the file and the key that is wrong.
    pub fn load(file: Option<&Path>, env: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let text = match file {
            Some(path) => fs::read_to_string(path)
                .with_context(|| format!("cannot read the config {}", path.display()))?,
            None => String::new(),
        };
        let name = file.map_or_else(|| "the config".to_owned(), |path| path.display().to_string());
        let config: Self = toml::from_str(&text)
            .with_context(|| format!("{name} is not right; `stillwell config` prints every key"))?;
        config.with_environment(env)
    }

    fn with_environment(self, env: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let mut whole = toml::Table::try_from(self).context("cannot lay out the config")?;
        for (section, keys) in &mut whole {
            let Some(keys) = keys.as_table_mut() else { continue };
            for (key, value) in keys.iter_mut() {
                let name = format!("STILLWELL_{}_{}", section.to_uppercase(), key.to_uppercase());
                let Some(text) = env(&name) else { continue };
                *value = match value {
                    toml::Value::Integer(_) => toml::Value::Integer(
                        text.parse().with_context(|| format!("{name}={text} is not a whole number"))?,
                    ),
                    toml::Value::Boolean(_) => toml::Value::Boolean(
                        text.parse().with_context(|| format!("{name}={text} is not true or false"))?,
                    ),
                    _ => toml::Value::String(text),
                };
            }
        }
        whole.try_into().context("the environment does not fit the config")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_config_is_the_default() {
        assert_eq!(toml::from_str::<Config>(DOCUMENTED).unwrap(), Config::default());
    }

    #[test]
    fn unknown_keys_are_refused() {
        for text in ["[ingest]\nflush_ms = 1", "[inget]", "[[topic]]\nname='a'\nparts=3"] {
            assert!(toml::from_str::<Config>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_environment_lies_over_the_file() {
        let env = |name: &str| match name {
            "STILLWELL_INGEST_FLUSH_INTERVAL_MS" => Some("7".to_owned()),
            "STILLWELL_SCORING_ENABLED" => Some("false".to_owned()),
            "STILLWELL_KAFKA_BROKERS" => Some("broker:9092".to_owned()),
            _ => None,
        };
        let config = Config::load(None, env).unwrap();
        assert_eq!(
            (config.ingest.flush_interval_ms, config.scoring.enabled, &*config.kafka.brokers),
            (7, false, "broker:9092")
        );
        assert!(Config::load(None, |n| (n == "STILLWELL_SCORING_ENABLED").then(|| "yes".into())).is_err());
    }

    #[test]
    fn any_librdkafka_property_can_be_given() {
        let config: Config =
            toml::from_str("[kafka]\nbrokers='b:1'\nsecurity.protocol='SSL'\n'fetch.min.bytes'=1").unwrap();
        let flat = config.kafka.flat_properties().unwrap();
        assert_eq!(flat["security.protocol"], "SSL");
        assert_eq!(flat["fetch.min.bytes"], "1");
    }

    #[test]
    fn a_clickhouse_url_may_carry_a_login() {
        let mut clickhouse = ClickHouse::default();
        clickhouse.set_url("http://reader:se:cret@db:8123");
        assert_eq!((&*clickhouse.url, &*clickhouse.user), ("http://db:8123", "reader"));
        assert_eq!(clickhouse.full_url(), "http://reader:se:cret@db:8123");
    }
}
