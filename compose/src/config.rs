//! The config: one TOML file, the environment over it, flags over that.
//!
//! Every key has a default; `stillwell config` prints them all with what they mean ([`DOCUMENTED`]). Unknown
//! keys are refused. `STILLWELL_<SECTION>_<KEY>` overrides a key, as in `STILLWELL_QUERY_HTTP`; for `[kafka]`,
//! `STILLWELL_KAFKA_SASL_PASSWORD` is the property `sasl.password`. The environment's unknown keys are refused
//! too. `STILLWELL_ARCHIVE_STORE_REGION` is the option `region` of `[archive_store]`. Topics and retention classes are
//! lists, which the file alone can give.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use stillwell_schema::ArchiveUrl;

mod clickhouse;
mod life;
mod reconcile;
mod topic;

pub use clickhouse::{ClickHouse, Views};
pub use life::{Compaction, RetentionClass};
pub use reconcile::Reconcile;
pub use topic::{Registry, Sparkplug, Topic};

/// The default config, documented. It parses to [`Config::default`].
pub const DOCUMENTED: &str = include_str!("config/default.toml");

/// Names of the environment that are no keys.
const OTHER_NAMES: &[&str] = &["STILLWELL_CONFIG", "STILLWELL_CACHE", "STILLWELL_SEED"];

mod archive_store;

pub use archive_store::ArchiveStore;

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where Kafka is.
    pub kafka: Kafka,
    /// What is read.
    pub topic: Vec<Topic>,
    /// Where the schemas of Avro and Protobuf are.
    pub registry: Registry,
    /// The write side.
    pub ingest: Ingest,
    /// What the archive's object store needs to know.
    pub archive_store: ArchiveStore,
    /// How small files are merged.
    pub compaction: Compaction,
    /// How long what is kept.
    pub retention: Vec<RetentionClass>,
    /// Where ClickHouse is.
    pub clickhouse: ClickHouse,
    /// How long the views keep what.
    pub views: Views,
    /// The read side's writer.
    pub aggregate: Aggregate,
    /// The machine registry.
    pub machines: Machines,
    /// The scorer.
    pub scoring: Scoring,
    /// The query side.
    pub query: Query,
    /// How views and archive are held against each other.
    pub reconcile: Reconcile,
    /// Logs.
    pub telemetry: Telemetry,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            kafka: Kafka::default(),
            topic: vec![Topic::default()],
            registry: Registry::default(),
            ingest: Ingest::default(),
            archive_store: ArchiveStore::default(),
            compaction: Compaction::default(),
            retention: Vec::new(),
            clickhouse: ClickHouse::default(),
            views: Views::default(),
            aggregate: Aggregate::default(),
            machines: Machines::default(),
            scoring: Scoring::default(),
            query: Query::default(),
            reconcile: Reconcile::default(),
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

/// `[ingest]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ingest {
    /// Where the archive lies: a folder, or `s3://bucket/prefix` (also `gs://`, `az://`); `archive` in the data
    /// folder where empty.
    pub archive: String,
    /// The key that signs entries; `keys/archive.pem` in the data folder where empty.
    pub key_file: PathBuf,
    /// Freshness: a batch is committed when its first record is this old.
    pub flush_interval_ms: u64,
    /// A batch is committed when it holds this many bytes of records.
    pub file_bytes_max: usize,
    /// Memory for all that is read and not committed yet.
    pub memory_bytes_max: usize,
    /// How often the end of every lane is signed.
    pub checkpoint_interval_s: u64,
}

impl Default for Ingest {
    fn default() -> Self {
        Self {
            archive: String::new(),
            key_file: PathBuf::new(),
            flush_interval_ms: 5000,
            file_bytes_max: 64 << 20,
            memory_bytes_max: 256 << 20,
            checkpoint_interval_s: 3600,
        }
    }
}

/// `[aggregate]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Aggregate {
    /// How often views of 10 s and last readings are brought up to date.
    pub flush_interval_ms: u64,
    /// How often views of longer windows are, where these are many.
    pub coarse_flush_interval_ms: u64,
    /// Memory for records in flight.
    pub memory_bytes_max: usize,
    /// Memory for windows.
    pub windows_bytes_max: usize,
    /// Series of one machine.
    pub series_per_machine_max: usize,
    /// Series of a process.
    pub series_max: usize,
    /// Where alerts go.
    pub alerts_topic: String,
}

impl Default for Aggregate {
    fn default() -> Self {
        Self {
            flush_interval_ms: 500,
            coarse_flush_interval_ms: 5000,
            memory_bytes_max: 256 << 20,
            windows_bytes_max: 1 << 30,
            series_per_machine_max: 10_000,
            series_max: 1_000_000,
            alerts_topic: "stillwell.alerts".into(),
        }
    }
}

/// `[machines]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Machines {
    /// The registry's topic; empty where there is none.
    pub topic: String,
}

impl Default for Machines {
    fn default() -> Self {
        Self { topic: "stillwell.machines".into() }
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
    /// Names under which HTTP clients may reach this server, beside IP addresses and `localhost`.
    pub hosts: Vec<String>,
    /// A statement ends after this.
    pub timeout_ms: u64,
    /// An answer over HTTP holds at most this many rows, whatever the request asks for.
    pub rows_max: usize,
    /// Memory of all statements together.
    pub memory_bytes_max: usize,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            http: String::new(),
            pg: String::new(),
            hosts: Vec::new(),
            timeout_ms: 30_000,
            rows_max: 1_000_000,
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
    /// Where `/health` and `/metrics` of a process without the query side listen; a free loopback port where
    /// empty.
    pub http: String,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { log_format: "text".into(), log: "warn,stillwell=info".into(), http: String::new() }
    }
}

impl Config {
    /// Reads a file, if one is named, and lays the environment over it.
    ///
    /// # Errors
    /// Names the file and the key that is wrong.
    pub fn load(
        file: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> anyhow::Result<Self> {
        let text = match file {
            Some(path) => fs::read_to_string(path)
                .with_context(|| format!("cannot read the config {}", path.display()))?,
            None => String::new(),
        };
        let name = file.map_or_else(|| "the config".to_owned(), |path| path.display().to_string());
        let config: Self = toml::from_str(&text)
            .with_context(|| format!("{name} is not right; `stillwell config` prints every key"))?;
        let env: Vec<_> = env.into_iter().collect();
        let ambient = archive_store::ambient(&env);
        let mut config = config.with_environment(env)?;
        config.archive_store.environment = ambient;
        let url = std::mem::take(&mut config.clickhouse.url);
        if !url.is_empty() {
            config.clickhouse.set_url(&url);
        }
        config.check()?;
        Ok(config)
    }

    fn with_environment(self, env: impl IntoIterator<Item = (String, String)>) -> anyhow::Result<Self> {
        let mut whole = toml::Table::try_from(self).context("cannot lay out the config")?;
        for (name, text) in env {
            let is_other = OTHER_NAMES.contains(&name.as_str()) || name.starts_with("STILLWELL_TEST_");
            if name.starts_with("STILLWELL_") && !is_other {
                override_key(&mut whole, &name, text)?;
            }
        }
        whole.try_into().context("the environment does not fit the config")
    }

    /// What no type says.
    fn check(&self) -> anyhow::Result<()> {
        let least = stillwell_models::train::ROWS_MIN;
        if self.scoring.enabled && self.scoring.commissioning_rows < least {
            bail!("[scoring] commissioning_rows must be at least {least}: fewer rows say nothing");
        }
        if !self.ingest.archive.is_empty() {
            self.ingest.archive.parse::<ArchiveUrl>().context("[ingest] archive")?;
        }
        let names: BTreeSet<&str> = self.topic.iter().map(|topic| topic.name.as_str()).collect();
        if names.is_empty() || names.contains("") || names.len() < self.topic.len() {
            bail!("there must be at least one [[topic]], each with a name of its own");
        }
        if names.contains(self.machines.topic.as_str()) {
            bail!("[machines] topic {:?} is a [[topic]] too: give it a name of its own", self.machines.topic);
        }
        // Files are read where records are: whoever only looks at what was read need not have them.
        crate::stages::registry_settings(self)?;
        for topic in &self.topic {
            crate::stages::topic_keys(topic)?;
        }
        self.layout()?;
        self.retention.iter().try_for_each(RetentionClass::check)
    }
}

/// Lays one variable over the key that it names.
fn override_key(whole: &mut toml::Table, name: &str, text: String) -> anyhow::Result<()> {
    let words = name.trim_start_matches("STILLWELL_").to_lowercase();
    let place = whole.iter_mut().find_map(|(section, keys)| {
        let key = words.strip_prefix(section.as_str())?.strip_prefix('_')?;
        Some((section.as_str(), keys.as_table_mut()?, key))
    });
    let Some((section, keys, key)) = place else {
        bail!("{name} in the environment names no section; `stillwell config` prints every key");
    };
    let value = match keys.get(key) {
        Some(toml::Value::Integer(_)) => toml::Value::Integer(
            text.parse().with_context(|| format!("{name}={text} is not a whole number"))?,
        ),
        Some(toml::Value::Boolean(_)) => {
            toml::Value::Boolean(text.parse().with_context(|| format!("{name}={text} is not true or false"))?)
        }
        Some(toml::Value::Array(_)) => {
            let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
            toml::Value::Array(words.map(|word| toml::Value::String(word.to_owned())).collect())
        }
        Some(_) => toml::Value::String(text),
        None if section == "kafka" => {
            override_property(keys, &key.replace('_', "."), text);
            return Ok(());
        }
        None if section == "archive_store" => toml::Value::String(text),
        None => bail!("{name} in the environment names no key; `stillwell config` prints every key"),
    };
    keys.insert(key.to_owned(), value);
    Ok(())
}

/// Sets a librdkafka property, however the file has nested its name.
fn override_property(keys: &mut toml::Table, property: &str, text: String) {
    let inner = keys.iter_mut().find_map(|(name, value)| {
        let rest = property.strip_prefix(name.as_str())?.strip_prefix('.')?;
        Some((value.as_table_mut()?, rest))
    });
    match inner {
        Some((table, rest)) => override_property(table, rest, text),
        None => {
            keys.insert(property.to_owned(), toml::Value::String(text));
        }
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

    fn env(set: &[(&str, &str)]) -> Vec<(String, String)> {
        set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_environment_lies_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.toml");
        fs::write(&file, "[kafka]\nsasl.username='file'\nsasl.mechanism='PLAIN'\n[query]\nhttp='1.1.1.1:1'")
            .unwrap();
        let set = env(&[
            ("STILLWELL_INGEST_FLUSH_INTERVAL_MS", "7"),
            ("STILLWELL_SCORING_ENABLED", "false"),
            ("STILLWELL_KAFKA_BROKERS", "broker:9092"),
            ("STILLWELL_KAFKA_SASL_USERNAME", "env"),
            ("STILLWELL_KAFKA_SASL_PASSWORD", "secret"),
            ("STILLWELL_CLICKHOUSE_URL", "http://reader:word@db:8123"),
            ("STILLWELL_CACHE", "/c"),
            ("HOME", "/h"),
        ]);
        let config = Config::load(Some(&file), set).unwrap();
        assert_eq!(
            (config.ingest.flush_interval_ms, config.scoring.enabled, &*config.kafka.brokers),
            (7, false, "broker:9092")
        );
        let kafka = config.kafka.flat_properties().unwrap();
        let properties = [("sasl.mechanism", "PLAIN"), ("sasl.password", "secret"), ("sasl.username", "env")];
        assert_eq!(kafka, properties.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        assert_eq!((&*config.clickhouse.url, &*config.clickhouse.user), ("http://db:8123", "reader"));
        assert_eq!(config.query.http, "1.1.1.1:1");
    }

    #[test]
    fn options_of_the_archives_store_come_from_file_and_environment() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.toml");
        fs::write(&file, "[ingest]\narchive='s3://plant/a'\n[archive_store]\nregion='file'\nallow_http=true")
            .unwrap();
        let set = env(&[
            ("STILLWELL_ARCHIVE_STORE_REGION", "env"),
            ("STILLWELL_ARCHIVE_STORE_ENDPOINT", "http://127.0.0.1:1"),
            ("AWS_ACCESS_KEY_ID", "own"),
            ("AWS_SECRET_ACCESS_KEY", "hush"),
            ("AZURE_STORAGE_ACCOUNT_KEY", "hush"),
        ]);
        let config = Config::load(Some(&file), set).unwrap();
        assert!(!format!("{config:?}").contains("hush"));
        let options = |config: &Config| {
            let url = crate::stages::archive(config, Path::new("/data")).unwrap();
            crate::stages::archive_options(config, &url)
        };
        let given_options = options(&config).unwrap();
        let given = [("allow_http", "true"), ("endpoint", "http://127.0.0.1:1"), ("region", "env")];
        assert_eq!(
            given_options.config,
            given.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
        );
        assert_eq!(
            given_options.environment.into_keys().collect::<Vec<_>>(),
            ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
        );
        for (text, part) in [
            ("[ingest]\narchive='s4://plant'", "s4"),
            ("[ingest]\narchive='s3://plant'\n[archive_store]\nregoin='x'", "regoin"),
            ("[archive_store]\nregion='x'", "folder"),
        ] {
            fs::write(&file, text).unwrap();
            let loaded = Config::load(Some(&file), env(&[]));
            let error = loaded.and_then(|config| options(&config));
            let error = format!("{:#}", error.unwrap_err());
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn what_the_environment_gets_wrong_is_named() {
        for (name, value) in [
            ("STILLWELL_SCORING_ENABLED", "yes"),
            ("STILLWELL_INGEST_FLUSH_MS", "1"),
            ("STILLWELL_INGESTION_ARCHIVE", "/a"),
            ("STILLWELL_SCORING_COMMISSIONING_ROWS", "10"),
        ] {
            let error = format!("{:#}", Config::load(None, env(&[(name, value)])).unwrap_err());
            assert!(error.contains(name) || error.contains("commissioning_rows"), "{name}: {error}");
        }
    }

    #[test]
    fn files_that_only_decoding_needs_are_read_by_what_decodes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.toml");
        let topic = "[[topic]]\nname='a'\nformat='avro'\n";
        for (text, part) in [
            (format!("{topic}schema_files=['/nowhere/a.avsc']"), "/nowhere/a.avsc"),
            (format!("{topic}reader_schema='/nowhere/r.avsc'"), "/nowhere/r.avsc"),
            (format!("{topic}[registry]\nurl='https://r'\nca_file='/nowhere/ca.pem'"), "/nowhere/ca.pem"),
        ] {
            fs::write(&file, &text).unwrap();
            let config = Config::load(Some(&file), env(&[])).unwrap();
            let error = crate::stages::decoder(&config, "a").err().unwrap();
            let error = format!("{error:#}");
            assert!(error.contains(part), "{text}: {error}");
        }
        for (text, part) in [
            (format!("{topic}time_unit='h'"), "time_unit"),
            (format!("{topic}[registry]\nurl='r:8081'"), "r:8081"),
        ] {
            fs::write(&file, &text).unwrap();
            let error = format!("{:#}", Config::load(Some(&file), env(&[])).unwrap_err());
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn any_librdkafka_property_can_be_given() {
        let config: Config =
            toml::from_str("[kafka]\nbrokers='b:1'\nsecurity.protocol='SSL'\n'fetch.min.bytes'=1").unwrap();
        let flat = config.kafka.flat_properties().unwrap();
        assert_eq!(flat["security.protocol"], "SSL");
        assert_eq!(flat["fetch.min.bytes"], "1");
    }
}
