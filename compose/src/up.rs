//! `stillwell up`: everything on one machine, started in order, stopped in order.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use metrics_exporter_prometheus::PrometheusHandle;
use stillwell_schema::health::{Board, State};
use stillwell_source::settings::KafkaSettings;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::config::{Config, Query, Scoring};
use crate::endpoints::Endpoints;
use crate::engines::clickhouse::{self, ClickHouse};
use crate::engines::fetch::{Sources, cache_folder};
use crate::engines::kafka::Kafka;
use crate::engines::ports::Ports;
use crate::engines::supervise::{Engine, Supervised};
use crate::load::generate::{self, GenerateArgs};
use crate::stages::{self, Running, Stages};
use crate::topics;

const EXAMPLES: &str = "\
Examples:
  stillwell up --demo                       everything, with a simulated plant
  stillwell up --data /var/lib/stillwell    keep everything in that folder
  stillwell up --http 0.0.0.0:8080          open the page to other machines
  stillwell up --kafka broker:9092 --clickhouse http://user:password@db:8123";

/// The plant's load steps come some minutes apart, and a machine is to have shown them before it is judged: of
/// 18 faults all are seen with 400 rows too, but then there are three times as many false alarms.
const DEMO_COMMISSIONING_ROWS: usize = 900;

/// Arguments of `up`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct UpArgs {
    /// Folder that holds everything it keeps
    #[arg(long, default_value = "stillwell-data", value_name = "DIR")]
    pub data: PathBuf,
    /// Also run a simulated plant with faults
    #[arg(long)]
    pub demo: bool,
    /// Use these Kafka brokers in place of a local Kafka
    #[arg(long, value_name = "HOST:PORT")]
    pub kafka: Option<String>,
    /// Use this ClickHouse in place of a local one, as http://user:password@host:port
    #[arg(long, value_name = "URL")]
    pub clickhouse: Option<String>,
    /// Address of the page and of SQL over HTTP [default: a loopback port, 8080 if free]
    #[arg(long, value_name = "ADDR")]
    pub http: Option<String>,
    /// Address of the PostgreSQL wire [default: a loopback port, 5433 if free]
    #[arg(long, value_name = "ADDR")]
    pub pg: Option<String>,
    /// Stages to run: all, none, or a list of ingest, aggregate, query
    #[arg(long, default_value = "all", value_name = "LIST")]
    pub stages: Stages,
    /// Folder with libchdb.so and kafka/*.jar fetched elsewhere
    #[arg(long, value_name = "FOLDER")]
    pub engines: Option<PathBuf>,
}

/// What runs, in the order in which it was started.
#[derive(Default)]
struct Stack {
    kafka: Option<Supervised>,
    clickhouse: Option<Supervised>,
    ingest: Option<Running>,
    aggregate: Option<Running>,
    query: Option<Running>,
    demo: Option<(CancellationToken, JoinHandle<()>)>,
}

/// Runs until `stop`.
///
/// # Errors
/// What keeps it from starting; what was started is stopped first.
pub async fn run(
    args: UpArgs,
    mut config: Config,
    metrics: PrometheusHandle,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    fs::create_dir_all(&args.data).with_context(|| format!("cannot create {}", args.data.display()))?;
    let data = args.data.canonicalize().context("cannot find the data folder")?;
    let _lock = lock(&data)?;
    Endpoints::remove(&data);
    for folder in ["logs", "keys"] {
        fs::create_dir_all(data.join(folder))
            .with_context(|| format!("cannot write into {}", data.display()))?;
    }
    apply(&args, &mut config);
    take_member(&mut config, &data)?;
    let mut stack = Stack::default();
    let mut started = stack.start(&args, config, &data, metrics, &stop).await;
    if stop.is_cancelled() {
        // What it did not come to is what was asked for.
        started = Ok(());
    }
    if started.is_ok() {
        stop.cancelled().await;
        say("stopping; what was received is made durable first");
    }
    Endpoints::remove(&data);
    stack.stop().await;
    if started.is_ok() {
        say("stopped");
    }
    started
}

fn apply(args: &UpArgs, config: &mut Config) {
    if args.demo && config.scoring == Scoring::default() {
        config.scoring.commissioning_rows = DEMO_COMMISSIONING_ROWS;
    }
    if let Some(brokers) = &args.kafka {
        config.kafka.brokers.clone_from(brokers);
    }
    if let Some(url) = &args.clickhouse {
        config.clickhouse.set_url(url);
    }
    if let Some(http) = &args.http {
        config.query.http.clone_from(http);
    }
    if let Some(pg) = &args.pg {
        config.query.pg.clone_from(pg);
    }
}

/// Names this folder's member of the consumer groups, so that after a crash the next `up` takes the
/// partitions over at once, and need not wait until the group misses the old one.
fn take_member(config: &mut Config, data: &Path) -> anyhow::Result<()> {
    const PROPERTY: &str = "group.instance.id";
    if config.kafka.flat_properties()?.contains_key(PROPERTY) {
        return Ok(());
    }
    let path = data.join("member");
    let member = match fs::read_to_string(&path) {
        Ok(member) => member,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let member = format!("up-{}", Uuid::new_v4().simple());
            crate::files::write_atomically(&path, member.as_bytes())?;
            member
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    config.kafka.properties.insert(PROPERTY.to_owned(), member.trim().into());
    Ok(())
}

/// One `up` per data folder.
fn lock(data: &Path) -> anyhow::Result<File> {
    let path = data.join("lock");
    let mut file = File::options()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    if file.try_lock().is_err() {
        let pid = fs::read_to_string(&path).unwrap_or_default();
        bail!(
            "{} is in use by process {}; stop it, or choose another folder with --data",
            data.display(),
            pid.trim()
        );
    }
    file.set_len(0)?;
    write!(file, "{}", std::process::id())?;
    Ok(file)
}

impl Stack {
    /// Starts everything, in order. What runs when it fails or is told to stop is kept, to be stopped in order.
    async fn start(
        &mut self,
        args: &UpArgs,
        mut config: Config,
        data: &Path,
        metrics: PrometheusHandle,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let board = Board::default();
        let ports = Ports::of(data)?;
        if args.stages.ingest || args.stages.aggregate {
            // A file that is missing is told before anything runs.
            stages::topics(&config)?;
        }
        self.engines(args, &mut config, data, (ports, &board), stop).await?;
        let kafka = stages::kafka_settings(&config)?;
        tokio::select! {
            prepared = prepare(&config, &kafka) => prepared?,
            () = stop.cancelled() => return Ok(()),
        }
        if args.stages.ingest {
            self.ingest = Some(Running::ingest(&config, data, &board)?);
        }
        if args.stages.aggregate {
            self.aggregate = Some(Running::aggregate(&config, &board)?);
        }
        let mut endpoints = Endpoints {
            http: None,
            pg: None,
            kafka: kafka.brokers.clone(),
            clickhouse: config.clickhouse.full_url(),
            archive: stages::archive(&config, data)?,
            pid: std::process::id(),
        };
        if args.stages.query {
            tokio::spawn(crate::telemetry::watch_self(metrics.clone()));
            self.query(&config, data, ports, &board, metrics, &mut endpoints).await?;
        } else {
            let ops = Query::address(&config.telemetry.http, 0)?;
            let ops = crate::telemetry::serve(ops, board, metrics, stop.clone()).await?;
            say(&format!("health at http://{ops}/health, metrics at /metrics"));
        }
        endpoints.write(data)?;
        if args.demo {
            self.demo(&config, data)?;
        }
        banner(&endpoints, data, args.stages);
        Ok(())
    }

    async fn engines(
        &mut self,
        args: &UpArgs,
        config: &mut Config,
        data: &Path,
        (ports, board): (Ports, &Board),
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let (own_kafka, own_clickhouse) = (config.kafka.brokers.is_empty(), config.clickhouse.url.is_empty());
        let cache = cache_folder(|name| std::env::var(name).ok())?;
        let sources = Sources { cache, folder: args.engines.clone() };
        let stopping = stop.clone();
        let fetch = move || sources.fetch(own_kafka, own_clickhouse, &stopping);
        let engines = tokio::task::spawn_blocking(fetch).await??;
        let kafka = engines.kafka.map(|(jars, java)| Kafka { jars, java, data: data.to_owned(), ports });
        let clickhouse =
            engines.clickhouse.map(|library| ClickHouse { library, data: data.to_owned(), ports });
        if let Some(kafka) = &kafka {
            config.kafka.brokers = kafka.address();
            say(&format!("starting kafka on {}", kafka.address()));
        }
        if let Some(clickhouse) = &clickhouse {
            config.clickhouse.url = clickhouse.url();
            clickhouse::USER.clone_into(&mut config.clickhouse.user);
            config.clickhouse.password = clickhouse.password()?;
            say(&format!("starting clickhouse on {}", clickhouse.url()));
        }
        // Both at once; each is kept as soon as it runs, so that a failure of the other stops it in order.
        let (kafka, clickhouse) =
            tokio::join!(start_engine(kafka, board, stop), start_engine(clickhouse, board, stop));
        let failed: Vec<String> = [kafka.as_ref().err(), clickhouse.as_ref().err()]
            .into_iter()
            .flatten()
            .map(|error| format!("{error:#}"))
            .collect();
        self.kafka = kafka.unwrap_or(None);
        self.clickhouse = clickhouse.unwrap_or(None);
        if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("; ")) }
    }

    async fn query(
        &mut self,
        config: &Config,
        data: &Path,
        ports: Ports,
        board: &Board,
        metrics: PrometheusHandle,
        endpoints: &mut Endpoints,
    ) -> anyhow::Result<()> {
        let settings = stages::query_settings(config, data, (ports.http, ports.pg))?;
        let server = stillwell_query::bind(settings.clone(), board.clone(), metrics.clone(), stages::clock());
        let server = server.await?;
        let bound = server.bound();
        endpoints.http = Some(format!("http://{}", bound.http));
        endpoints.pg = Some(format!("postgres://{}/stillwell", bound.pg));
        board.set("query", State::Ok, "");
        self.query = Some(Running::query(server, &settings, board, &metrics));
        Ok(())
    }

    fn demo(&mut self, config: &Config, data: &Path) -> anyhow::Result<()> {
        let mut args = GenerateArgs::demo();
        args.target.complete(config)?;
        args.target.topic = config.topic.first().map(|topic| topic.name.clone()).unwrap_or_default();
        args.fault_log = Some(data.join("logs/faults.jsonl"));
        args.resume = Some(data.join("plant.json"));
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        let task = tokio::spawn(async move {
            match generate::run(args, Arc::new(stillwell_schema::SystemClock), stopping).await {
                Ok(_) => info!("the simulated plant has stopped"),
                Err(error) => warn!(error = format!("{error:#}"), "the simulated plant has stopped"),
            }
        });
        self.demo = Some((stop, task));
        Ok(())
    }

    /// What makes readings first, then what reads them, then what keeps them.
    async fn stop(self) {
        if let Some((stop, task)) = self.demo {
            stop.cancel();
            // A panic in it was reported where it happened.
            let _ = task.await;
        }
        if let Some(query) = self.query {
            query.stop().await;
        }
        let stages = [self.ingest, self.aggregate].into_iter().flatten().map(Running::stop);
        futures::future::join_all(stages).await;
        for engine in [self.clickhouse, self.kafka].into_iter().flatten() {
            engine.stop().await;
        }
    }
}

async fn start_engine<E: Engine>(
    engine: Option<E>,
    board: &Board,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Supervised>> {
    match engine {
        Some(engine) => Supervised::start(engine, board.clone(), stop).await.map(Some),
        None => Ok(None),
    }
}

/// Topics and tables.
async fn prepare(config: &Config, kafka: &KafkaSettings) -> anyhow::Result<()> {
    topics::ensure(config, kafka).await?;
    stillwell_aggregate::migrate(&stages::clickhouse_settings(config), &config.layout()?)
        .await
        .with_context(|| format!("cannot prepare clickhouse at {}", config.clickhouse.url))
}

#[allow(clippy::print_stdout)]
fn banner(endpoints: &Endpoints, data: &Path, stages: Stages) {
    println!();
    if let (Some(http), Some(pg)) = (&endpoints.http, &endpoints.pg) {
        let pg = pg.trim_start_matches("postgres://").trim_end_matches("/stillwell");
        let (host, port) = pg.rsplit_once(':').unwrap_or((pg, "5433"));
        println!("  page      {http}/");
        println!("  sql       curl -H 'content-type: text/plain' -d 'select * from latest' {http}/v1/sql");
        println!("  psql      psql -h {host} -p {port} -d stillwell");
    } else {
        println!("  stages    {stages}");
    }
    println!("  kafka     {}", endpoints.kafka);
    println!("  archive   {}", endpoints.archive);
    println!("  logs      {}", data.join("logs").display());
    println!("\n  Ctrl-C stops everything in order.\n");
}

#[allow(clippy::print_stderr)]
fn say(line: &str) {
    eprintln!("stillwell: {line}");
}
