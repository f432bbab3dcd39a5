//! Settings into running stages: each is a task of this process, started again with backoff where it ends
//! in an error, and stopped in order.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use metrics_exporter_prometheus::PrometheusHandle;
use stillwell_aggregate::AggregateSettings;
use stillwell_ingest::IngestSettings;
use stillwell_ingest::life::compact;
use stillwell_query::{Limits, QuerySettings, Server};
use stillwell_schema::health::{Board, State};
use stillwell_schema::{ArchiveUrl, Clock, StoreOptions, SystemClock};
use stillwell_source::consumer::{self, ConsumerError};
use stillwell_source::decode::avro::AvroSettings;
use stillwell_source::decode::sparkplug::SparkplugSettings;
use stillwell_source::decode::{Decoder, decoder_for};
use stillwell_source::mapping::Mapping;
use stillwell_source::registry::{Password, RegistrySettings, Schemas};
use stillwell_source::settings::{Format, FormatSettings, KafkaSettings, Share, TimeUnit, TopicSettings};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::config::{Config, Query, Registry, Sparkplug, Topic};

mod fencings;

use fencings::Fencings;

/// Between two starts of a stage that ends in an error.
const RESTART: Duration = Duration::from_secs(2);

/// Which stages run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stages {
    /// The write side.
    pub ingest: bool,
    /// The read side's writer.
    pub aggregate: bool,
    /// The query side.
    pub query: bool,
}

impl Stages {
    /// All of them.
    pub const ALL: Self = Self { ingest: true, aggregate: true, query: true };
    /// None: engines only.
    pub const NONE: Self = Self { ingest: false, aggregate: false, query: false };
}

impl FromStr for Stages {
    type Err = anyhow::Error;

    /// `all`, `none`, or a list such as `ingest,query`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut stages = Self::NONE;
        for word in text.split(',').filter(|word| !word.is_empty()) {
            match word {
                "all" => stages = Self::ALL,
                "none" => {}
                "ingest" => stages.ingest = true,
                "aggregate" => stages.aggregate = true,
                "query" => stages.query = true,
                _ => bail!("{word:?} is no stage; there are ingest, aggregate and query"),
            }
        }
        Ok(stages)
    }
}

impl fmt::Display for Stages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = [(self.ingest, "ingest"), (self.aggregate, "aggregate"), (self.query, "query")];
        let names: Vec<&str> = named.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
        f.write_str(if names.is_empty() { "none" } else { "" })?;
        f.write_str(&names.join(","))
    }
}

/// Kafka as the stages take it.
///
/// # Errors
/// If no broker is named, or a property is not text or not the user's to set.
pub fn kafka_settings(config: &Config) -> anyhow::Result<KafkaSettings> {
    if config.kafka.brokers.is_empty() {
        bail!("no kafka: name brokers in the config or with --kafka, or a running stack with --data");
    }
    let properties = config.kafka.flat_properties()?;
    let settings = KafkaSettings { brokers: config.kafka.brokers.clone(), properties };
    consumer::check_properties(&settings)?;
    Ok(settings)
}

/// All topics, with the schemas that lie in files.
///
/// # Errors
/// Names the key or the file that is wrong.
pub(crate) fn topics(config: &Config) -> anyhow::Result<Vec<TopicSettings>> {
    let schemas = registry(config)?;
    config.topic.iter().map(|of| topic(of, schemas.clone())).collect()
}

/// The schema registry, if there is one.
///
/// # Errors
/// Where its address or its authorities are not right.
pub fn registry(config: &Config) -> anyhow::Result<Option<Schemas>> {
    Ok(registry_settings(config)?.map(Schemas::open).transpose()?)
}

/// How the schema registry is reached, if there is one; its files are not looked at.
///
/// # Errors
/// Names the key that is wrong.
pub(crate) fn registry_settings(config: &Config) -> anyhow::Result<Option<RegistrySettings>> {
    let Registry { url, user, password, password_file, ca_file, timeout_ms } = config.registry.clone();
    if url.is_empty() {
        return Ok(None);
    }
    let is_file = !password_file.as_os_str().is_empty();
    if is_file && !password.is_empty() {
        bail!("[registry] has both password and password_file: give one");
    }
    let settings = RegistrySettings {
        url,
        user,
        password: if is_file { Password::File(password_file) } else { Password::Plain(password) },
        ca_file: (!ca_file.as_os_str().is_empty()).then_some(ca_file),
        timeout: Duration::from_millis(timeout_ms),
    };
    settings.check().context("[registry] url")?;
    Ok(Some(settings))
}

/// One topic; `schemas` is the registry of its framed records.
///
/// # Errors
/// Names the key or the file that is wrong.
pub fn topic(topic: &Topic, schemas: Option<Schemas>) -> anyhow::Result<TopicSettings> {
    let mut settings = topic_keys(topic)?;
    settings.format.schemas = schemas;
    settings.format.avro = avro(topic).with_context(|| format!("[[topic]] {}", topic.name))?;
    Ok(settings)
}

/// One topic without its schemas, for which files are read: a machine that decodes nothing need not have them.
///
/// # Errors
/// Names the key that is wrong.
pub(crate) fn topic_keys(topic: &Topic) -> anyhow::Result<TopicSettings> {
    let Topic { name, format, time_unit, .. } = topic;
    let Some(format) = Format::named(format) else {
        let names = Format::ALL.map(Format::name).join(", ");
        bail!("[[topic]] {name}: format {format:?} is none of {names}");
    };
    let mut settings = FormatSettings::of(format);
    if !time_unit.is_empty() {
        settings.time_unit = TimeUnit::named(time_unit)
            .with_context(|| format!("[[topic]] {name}: time_unit {time_unit:?} is none of s, ms, us, ns"))?;
    }
    let mapping = topic.mapping.as_ref().map(|mapping| Mapping::parse(mapping, format)).transpose();
    settings.mapping = mapping.with_context(|| format!("[[topic]] {name}"))?;
    if let Some(sparkplug) = topic.sparkplug.clone() {
        let Sparkplug { topic_header, machine, node_machine, unit_property, kind_property } = sparkplug;
        settings.sparkplug =
            SparkplugSettings { topic_header, machine, node_machine, unit_property, kind_property };
    }
    let share = Share::new(topic.dead_letter_share_max)
        .with_context(|| format!("[[topic]] {name}: dead_letter_share_max is a share from 0 to 1"))?;
    Ok(TopicSettings {
        name: name.clone(),
        format: settings,
        dead_letters: topic.dead_letters(),
        dead_letter_share_max: share,
    })
}

fn avro(topic: &Topic) -> anyhow::Result<AvroSettings> {
    let read = |file: &std::path::PathBuf| {
        std::fs::read_to_string(file).with_context(|| format!("cannot read the schema {}", file.display()))
    };
    let reader = Some(&topic.reader_schema).filter(|file| !file.as_os_str().is_empty());
    let settings = AvroSettings {
        writer: topic.schema_files.iter().map(read).collect::<Result<_, _>>()?,
        reader: reader.into_iter().map(read).collect::<Result<_, _>>()?,
    };
    settings.check().map_err(anyhow::Error::msg)?;
    Ok(settings)
}

/// The write side's settings; `data` is where what the config leaves open lies.
///
/// # Errors
/// Where the config is not right.
pub fn ingest_settings(config: &Config, data: &Path) -> anyhow::Result<IngestSettings> {
    let archive = archive(config, data)?;
    Ok(IngestSettings {
        kafka: kafka_settings(config)?,
        topics: topics(config)?,
        group: "stillwell-ingest".to_owned(),
        archive_options: archive_options(config, &archive)?,
        archive,
        key_file: key_file(config, data),
        flush_interval: Duration::from_millis(config.ingest.flush_interval_ms),
        file_bytes: config.ingest.file_bytes_max,
        memory_bytes: config.ingest.memory_bytes_max,
        checkpoint_interval: Duration::from_secs(config.ingest.checkpoint_interval_s),
        compaction: config.compaction.enabled.then_some(compact::Settings {
            interval: Duration::from_secs(config.compaction.interval_s),
            after: Duration::from_secs(config.compaction.after_s),
            file_bytes_target: config.compaction.file_bytes_target,
            level: config.compaction.level,
        }),
    })
}

/// Where the archive lies.
///
/// # Errors
/// If the config names no place.
pub fn archive(config: &Config, data: &Path) -> anyhow::Result<ArchiveUrl> {
    match config.ingest.archive.as_str() {
        "" => Ok(ArchiveUrl::Folder(data.join("archive"))),
        place => place.parse().context("[ingest] archive"),
    }
}

/// What an archive's store needs to know: the config's options, over those of the environment.
///
/// # Errors
/// If the store does not know one of them.
pub fn archive_options(config: &Config, url: &ArchiveUrl) -> anyhow::Result<StoreOptions> {
    let given = &config.archive_store;
    let options = given.options.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.to_string()));
    let environment = match url {
        ArchiveUrl::Folder(_) => BTreeMap::new(),
        ArchiveUrl::Bucket(bucket) => {
            let own = |(name, _): &(&String, &String)| name.starts_with(bucket.scheme.environment());
            given.environment.iter().filter(own).map(|(n, v)| (n.clone(), v.clone())).collect()
        }
    };
    let options = StoreOptions { config: options.collect(), environment };
    stillwell_ingest::store::check_options(url, &options).context("[archive_store]")?;
    Ok(options)
}

/// The key that signs the archive.
#[must_use]
pub fn key_file(config: &Config, data: &Path) -> std::path::PathBuf {
    let file = &config.ingest.key_file;
    if file.as_os_str().is_empty() { data.join("keys/archive.pem") } else { file.clone() }
}

/// The decoder of a topic's records.
///
/// # Errors
/// If the config names no such topic, or is not right.
pub fn decoder(config: &Config, topic: &str) -> anyhow::Result<Box<dyn Decoder>> {
    let found = config.topic.iter().find(|known| known.name == topic);
    let found = found.with_context(|| format!("the config has no [[topic]] {topic}"))?;
    Ok(decoder_for(&self::topic(found, registry(config)?)?))
}

/// ClickHouse as the aggregator takes it.
#[must_use]
pub fn clickhouse_settings(config: &Config) -> stillwell_aggregate::ClickHouseSettings {
    let clickhouse = config.clickhouse.clone();
    stillwell_aggregate::ClickHouseSettings {
        url: clickhouse.url,
        user: clickhouse.user,
        password: clickhouse.password,
        database: clickhouse.database,
    }
}

fn aggregate_settings(config: &Config) -> anyhow::Result<AggregateSettings> {
    Ok(AggregateSettings {
        kafka: kafka_settings(config)?,
        topics: topics(config)?,
        group: "stillwell-aggregate".to_owned(),
        clickhouse: clickhouse_settings(config),
        alerts_topic: config.aggregate.alerts_topic.clone(),
        machines_topic: config.machines.topic.clone(),
        scoring: stillwell_aggregate::ScoringSettings {
            enabled: config.scoring.enabled,
            commissioning_rows: config.scoring.commissioning_rows,
            ..Default::default()
        },
        flush_interval: Duration::from_millis(config.aggregate.flush_interval_ms),
        coarse_flush_interval: Duration::from_millis(config.aggregate.coarse_flush_interval_ms),
        series: stillwell_aggregate::SeriesLimits {
            per_machine: config.aggregate.series_per_machine_max,
            total: config.aggregate.series_max,
        },
        windows_bytes_max: config.aggregate.windows_bytes_max,
        memory_bytes: config.aggregate.memory_bytes_max,
    })
}

/// The query side's settings; ports are for addresses that the config leaves open.
///
/// # Errors
/// Where the config is not right.
pub fn query_settings(config: &Config, data: &Path, ports: (u16, u16)) -> anyhow::Result<QuerySettings> {
    let (clickhouse, archive) = (config.clickhouse.clone(), archive(config, data)?);
    Ok(QuerySettings {
        http: Query::address(&config.query.http, ports.0)?,
        pg: Query::address(&config.query.pg, ports.1)?,
        archive_options: archive_options(config, &archive)?,
        archive,
        topics: config.topic.iter().map(|topic| topic.name.clone()).collect(),
        has_machines: !config.machines.topic.is_empty(),
        machines_file: Some(data.join("machines.json")),
        hosts: config.query.hosts.clone(),
        clickhouse: stillwell_query::ClickHouseSettings {
            url: clickhouse.url,
            user: clickhouse.user,
            password: clickhouse.password,
            database: clickhouse.database,
        },
        limits: Limits {
            time: Duration::from_millis(config.query.timeout_ms),
            rows_max: config.query.rows_max,
            memory_bytes: config.query.memory_bytes_max,
            ..Limits::default()
        },
        reconcile: config.reconcile.settings(data),
    })
}

/// A stage that runs.
pub struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    /// Starts the write side.
    ///
    /// # Errors
    /// Where the config is not right.
    pub fn ingest(config: &Config, data: &Path, board: &Board) -> anyhow::Result<Self> {
        let settings = ingest_settings(config, data)?;
        let boards = board.clone();
        Ok(Self::keep("ingest", board, move |stop| {
            stillwell_ingest::run(settings.clone(), clock(), boards.clone(), stop)
        }))
    }

    /// Starts the read side's writer.
    ///
    /// # Errors
    /// Where the config is not right.
    pub fn aggregate(config: &Config, board: &Board) -> anyhow::Result<Self> {
        let settings = aggregate_settings(config)?;
        let boards = board.clone();
        Ok(Self::keep("aggregate", board, move |stop| {
            stillwell_aggregate::run(settings.clone(), clock(), boards.clone(), stop)
        }))
    }

    /// Starts the query side, which listens already; started again, it listens on the same addresses.
    #[must_use]
    pub fn query(
        server: Server,
        settings: &QuerySettings,
        board: &Board,
        metrics: &PrometheusHandle,
    ) -> Self {
        let bound = server.bound();
        let settings = QuerySettings { http: bound.http, pg: bound.pg, ..settings.clone() };
        let (boards, metrics) = (board.clone(), metrics.clone());
        let first = Mutex::new(Some(server));
        Self::keep("query", board, move |stop| {
            let first = first.lock().unwrap_or_else(PoisonError::into_inner).take();
            let (settings, board, metrics) = (settings.clone(), boards.clone(), metrics.clone());
            async move {
                let server = match first {
                    Some(server) => server,
                    None => stillwell_query::bind(settings, board, metrics, clock()).await?,
                };
                server.run(stop).await
            }
        })
    }

    /// Runs a stage until it is stopped, again and again where it ends in an error.
    fn keep<F, E>(
        name: &'static str,
        board: &Board,
        stage: impl Fn(CancellationToken) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        let stop = CancellationToken::new();
        let (stopping, board) = (stop.clone(), board.clone());
        let task = tokio::spawn(async move {
            let mut fencings = Fencings::default();
            while let Err(error) = stage(stopping.clone()).await {
                let error = anyhow::Error::new(error);
                let is_fenced =
                    error.chain().any(|cause| matches!(cause.downcast_ref(), Some(ConsumerError::Fenced)));
                let is_final = is_fenced && fencings.add(Instant::now());
                let why = error.to_string();
                error!(stage = name, error = why, is_final, "stage ended");
                board.set(name, State::Failed, why);
                if is_final {
                    return;
                }
                tokio::select! {
                    () = tokio::time::sleep(RESTART) => {}
                    () = stopping.cancelled() => return,
                }
            }
        });
        Self { stop, task }
    }

    /// Stops it, in order: what it received is made durable first.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            error!(error = error.to_string(), "stage did not end in order");
        }
    }
}

/// The machine's clock.
#[must_use]
pub fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_named_and_unknown_ones_refused() {
        assert_eq!("all".parse::<Stages>().unwrap(), Stages::ALL);
        assert_eq!("none".parse::<Stages>().unwrap(), Stages::NONE);
        let two: Stages = "ingest,query".parse().unwrap();
        assert_eq!((two.to_string(), Stages::NONE.to_string()), ("ingest,query".into(), "none".into()));
        assert!("ingst".parse::<Stages>().is_err());
    }
}
