//! The command line.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand};
use metrics_exporter_prometheus::PrometheusHandle;
use stillwell_schema::health::{Board, State};
use tokio_util::sync::CancellationToken;

use crate::ask::{self, AskedArgs, Format};
use stillwell_schema::ArchiveUrl;

use crate::config::{Config, DOCUMENTED, Query};
use crate::decode::{self, DecodeArgs};
use crate::dlq;
use crate::endpoints::Endpoints;
use crate::engines::clickhouse::server::ServerArgs;
use crate::engines::fetch::{Sources, cache_folder};
use crate::engines::guard;
use crate::evidence;
use crate::life;
use crate::lineage;
use crate::load::generate::{self, GenerateArgs};
use crate::load::replay::{self, ReplayArgs};
use crate::machines;
use crate::migrations::{self, MigrationsArgs};
use crate::rebuild::{self, RebuildArgs};
use crate::reconcile::{self, ReconcileArgs};
use crate::saga;
use crate::stages::{self, Running, Stages};
use crate::telemetry;
use crate::up::{self, UpArgs};

const EXAMPLES: &str = "\
Examples:
  stillwell up --demo                       everything on this machine, with a simulated plant
  stillwell replay recordings/*.csv.gz      recordings into the running stack
  stillwell sql 'select * from anomalies'   one statement
  stillwell ingest --config stillwell.toml  one stage alone
  stillwell config > stillwell.toml         every setting, with its default";

const STAGE_EXAMPLES: &str = "\
Examples:
  stillwell ingest --config stillwell.toml             one stage, the servers of the config
  stillwell aggregate --kafka broker:9092 --clickhouse http://user:password@db:8123
  stillwell up --stages ingest,aggregate & stillwell query    beside a running stack, through its data folder

A stage alone serves /health and /metrics: query on its own address, the others where [telemetry] http says.";

const SQL_EXAMPLES: &str = "\
Examples:
  stillwell sql 'select machine, count(*) from readings group by machine'
  stillwell sql --format csv 'select * from readings_1h' > hours.csv
  stillwell sql --http http://plant:8080 'select * from anomalies order by time desc limit 10'";

/// Keeps a factory's sensor stream as evidence, as live views, scored, and answers in SQL.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES, propagate_version = true)]
pub struct Cli {
    /// Config file (TOML); see `stillwell config`
    #[arg(long, global = true, env = "STILLWELL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Log format: text or json
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Log filter, such as debug or stillwell_ingest=debug,warn
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start everything on this machine
    Up(Box<UpArgs>),
    /// Run the write side alone
    #[command(after_help = STAGE_EXAMPLES)]
    Ingest(StageArgs),
    /// Run the read side's writer alone
    #[command(after_help = STAGE_EXAMPLES)]
    Aggregate(StageArgs),
    /// Run the query side alone
    #[command(after_help = STAGE_EXAMPLES)]
    Query(StageArgs),
    /// A simulated plant into Kafka
    Generate(Box<GenerateArgs>),
    /// Recordings into Kafka
    Replay(Box<ReplayArgs>),
    /// Ask a running stack one statement
    Sql(SqlArgs),
    /// From a cell of a view to its window, its readings' files and rows, Kafka offsets and traces
    #[command(after_help = lineage::EXAMPLES)]
    Lineage(LineageArgs),
    /// Health and watermarks of a running stack; exits with 1 where a part has failed
    Status(AskedArgs),
    #[command(flatten)]
    Evidence(evidence::Command),
    /// Dead letters: look through what could not be read, and send it again
    #[command(subcommand)]
    Dlq(dlq::Command),
    /// The machine registry: which machine stands where, with which sensors, since when
    #[command(subcommand)]
    Machines(machines::Command),
    /// Show what a topic's format and mapping make of a record's bytes
    Decode(DecodeArgs),
    #[command(flatten)]
    Life(life::Command),
    /// Build a view anew from the archive: compare it, put it in place of the one in use, or keep it as of a moment
    #[command(after_help = rebuild::EXAMPLES)]
    Rebuild(Box<RebuildArgs>),
    /// Operations of several steps: what became of them, and how to go on with them or take them back
    #[command(subcommand, after_help = saga::EXAMPLES)]
    Saga(saga::Command),
    /// Compare the views with the archive
    #[command(after_help = reconcile::EXAMPLES)]
    Reconcile(ReconcileArgs),
    /// Print every setting with its default
    Config,
    /// Print the statements that make ClickHouse's tables, for one server or a cluster
    #[command(after_help = migrations::EXAMPLES)]
    Migrations(MigrationsArgs),
    /// Fetch the local engines into the cache, such as before a machine is cut off from the registries
    Fetch,
    /// Print a shell's completions
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
    #[command(hide = true)]
    ClickhouseServer(ServerArgs),
    #[command(hide = true)]
    Guard(GuardArgs),
}

#[derive(Args, Clone, Debug)]
struct StageArgs {
    /// Data folder: of a running stack, whose servers are used where the config names none
    #[arg(long, default_value = "stillwell-data", value_name = "DIR")]
    data: PathBuf,
    /// Kafka brokers
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
    /// ClickHouse, as http://user:password@host:port
    #[arg(long, value_name = "URL")]
    clickhouse: Option<String>,
    /// Address of the page and of SQL over HTTP (query)
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// Address of the PostgreSQL wire (query)
    #[arg(long, value_name = "ADDR")]
    pg: Option<String>,
}

impl StageArgs {
    /// The servers of a comparison.
    fn of(args: &ReconcileArgs) -> Self {
        let (data, clickhouse) = (args.data.clone(), args.clickhouse.clone());
        Self { data, kafka: None, clickhouse, http: None, pg: None }
    }
}

#[derive(Args, Clone, Debug)]
#[command(after_help = SQL_EXAMPLES)]
struct SqlArgs {
    /// The statement
    statement: String,
    #[command(flatten)]
    asked: AskedArgs,
    /// How the answer is printed
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Args, Clone, Debug)]
struct LineageArgs {
    #[command(flatten)]
    cell: lineage::CellArgs,
    #[command(flatten)]
    asked: AskedArgs,
}

#[derive(Args, Clone, Debug)]
struct GuardArgs {
    #[arg(long)]
    pid_file: PathBuf,
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

impl Cli {
    /// Runs the command to its end and says how the process exits.
    ///
    /// # Errors
    /// What went wrong and what mends it.
    #[allow(clippy::print_stdout)]
    pub fn run(self) -> anyhow::Result<u8> {
        // These two are an engine's own process: nothing of ours is set up in it.
        match self.command {
            Command::ClickhouseServer(args) => {
                crate::engines::clickhouse::server::main(&args)?;
                return Ok(0);
            }
            Command::Guard(args) => {
                let (program, rest) = args.command.split_first().context("no program to guard")?;
                return guard::main(&args.pid_file, program, rest);
            }
            Command::Config => {
                print!("{DOCUMENTED}");
                return Ok(0);
            }
            Command::Completions { shell } => {
                clap_complete::generate(shell, &mut Self::command(), "stillwell", &mut std::io::stdout());
                return Ok(0);
            }
            _ => {}
        }
        let mut config = Config::load(self.config.as_deref(), std::env::vars())?;
        config.telemetry.log_format = self.log_format.unwrap_or(config.telemetry.log_format);
        telemetry::init_logs(&config.telemetry, self.log, |name| std::env::var(name).ok())?;
        match &self.command {
            // One request each: Ctrl-C ends them as it ends any program.
            Command::Sql(args) => {
                let base = args.asked.base(&config)?;
                return ask::print_sql(&base, &args.statement, args.format);
            }
            Command::Decode(args) => return decode::run(args, &config),
            Command::Lineage(args) => return lineage::run(&args.cell, &args.asked.base(&config)?),
            Command::Status(args) => return ask::print_status(&args.base(&config)?),
            _ => {}
        }
        // These read an archive with all of the machine's threads, and no server.
        let command = match self.command {
            Command::Evidence(command) => return evidence::run(command, &config),
            Command::Life(command) => return life::run(command, &config),
            Command::Migrations(args) => return migrations::run(&args, config),
            Command::Reconcile(args) => {
                complete(&StageArgs::of(&args), &mut config, Stages { query: true, ..Stages::NONE })?;
                return reconcile::run(&args, &config);
            }
            command => command,
        };
        let command = match command {
            Command::Dlq(command) => {
                return interruptible(move |stop| dlq::run(command, &config, &stop));
            }
            Command::Machines(command) => {
                return interruptible(move |stop| machines::run(&command, &config, &stop));
            }
            Command::Rebuild(args) => return answering(|stop| rebuild::run(*args, config, stop)),
            Command::Saga(command) => return answering(|stop| saga::run(command, config, stop)),
            command => command,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(execute(command, config))?;
        // A blocking read of a terminal or a broker that is away must not hold up the exit.
        runtime.shutdown_timeout(std::time::Duration::from_secs(1));
        Ok(0)
    }
}

/// Runs what blocks, and hands it the signal to stop.
fn interruptible(
    work: impl FnOnce(CancellationToken) -> anyhow::Result<u8> + Send + 'static,
) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(async {
        let stop = stop_signal();
        tokio::task::spawn_blocking(move || work(stop)).await
    })?;
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    code
}

/// Runs what says itself how the process exits, and hands it the signal to stop.
fn answering<F: Future<Output = anyhow::Result<u8>>>(
    work: impl FnOnce(CancellationToken) -> F,
) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(async { work(stop_signal()).await });
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    code
}

#[allow(clippy::print_stderr)]
async fn execute(command: Command, config: Config) -> anyhow::Result<()> {
    let stop = stop_signal();
    match command {
        Command::Up(args) => up::run(*args, config, telemetry::init_metrics()?, stop).await,
        Command::Ingest(args) => stage(args, config, Stages { ingest: true, ..Stages::NONE }, stop).await,
        Command::Aggregate(args) => {
            stage(args, config, Stages { aggregate: true, ..Stages::NONE }, stop).await
        }
        Command::Query(args) => stage(args, config, Stages { query: true, ..Stages::NONE }, stop).await,
        Command::Generate(mut args) => {
            args.target.complete(&config)?;
            let report = generate::run(*args, stages::clock(), stop).await?;
            eprintln!("{report}");
            Ok(())
        }
        Command::Replay(mut args) => {
            args.target.complete(&config)?;
            let report = replay::run(*args, stages::clock(), stop).await?;
            eprintln!("{report}");
            Ok(())
        }
        Command::Fetch => {
            let cache = cache_folder(|name| std::env::var(name).ok())?;
            let sources = Sources { cache: cache.clone(), folder: None };
            tokio::task::spawn_blocking(move || sources.fetch(true, true, &stop)).await??;
            eprintln!("stillwell: engines are in {}", cache.display());
            Ok(())
        }
        Command::Sql(_)
        | Command::Lineage(_)
        | Command::Status(_)
        | Command::Evidence(_)
        | Command::Decode(_)
        | Command::Life(_)
        | Command::Rebuild(_)
        | Command::Saga(_)
        | Command::Dlq(_)
        | Command::Machines(_)
        | Command::Reconcile(_)
        | Command::Config
        | Command::Migrations(_)
        | Command::Completions { .. }
        | Command::ClickhouseServer(_)
        | Command::Guard(_) => Ok(()),
    }
}

/// Cancelled by Ctrl-C, SIGTERM, or the end of the terminal. Another one says that stopping is under way.
#[allow(clippy::print_stderr)]
fn stop_signal() -> CancellationToken {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()), signal(SignalKind::hangup()))
        else {
            return;
        };
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            if stopping.is_cancelled() {
                eprintln!(
                    "stillwell: still stopping; kill -9 loses nothing, the next start goes on from here"
                );
            }
            stopping.cancel();
        }
    });
    stop
}

/// Runs one stage against the servers of the config, or of a running stack.
async fn stage(
    args: StageArgs,
    mut config: Config,
    which: Stages,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    complete(&args, &mut config, which)?;
    let board = Board::default();
    let metrics: PrometheusHandle = telemetry::init_metrics()?;
    if which.query {
        tokio::spawn(telemetry::watch_self(metrics.clone()));
        let settings = stages::query_settings(&config, &args.data, (8080, 5433))?;
        let server = stillwell_query::bind(settings, board.clone(), metrics, stages::clock()).await?;
        let bound = server.bound();
        board.set("query", State::Ok, "");
        announce(&format!("query: http://{} and postgres://{}/stillwell", bound.http, bound.pg));
        return Ok(server.run(stop).await?);
    }
    let ops = Query::address(&config.telemetry.http, 0)?;
    let ops = telemetry::serve(ops, board.clone(), metrics, stop.clone()).await?;
    let running = if which.ingest {
        Running::ingest(&config, &args.data, &board)?
    } else {
        stillwell_aggregate::migrate(&stages::clickhouse_settings(&config), &config.layout()?).await?;
        Running::aggregate(&config, &board)?
    };
    announce(&format!(
        "{which} runs; health at http://{ops}/health, metrics at /metrics; Ctrl-C stops it in order"
    ));
    stop.cancelled().await;
    running.stop().await;
    Ok(())
}

#[allow(clippy::print_stderr)]
fn announce(line: &str) {
    eprintln!("stillwell: {line}");
}

/// Flags over the config, and what a running stack says where both leave open what the stage needs.
fn complete(args: &StageArgs, config: &mut Config, which: Stages) -> anyhow::Result<()> {
    if let Some(brokers) = &args.kafka {
        config.kafka.brokers.clone_from(brokers);
    }
    if let Some(url) = &args.clickhouse {
        config.clickhouse.set_url(url);
    }
    for (flag, key) in [(&args.http, &mut config.query.http), (&args.pg, &mut config.query.pg)] {
        if let Some(address) = flag {
            key.clone_from(address);
        }
    }
    let open_kafka = (which.ingest || which.aggregate) && config.kafka.brokers.is_empty();
    let open_clickhouse = (which.aggregate || which.query) && config.clickhouse.url.is_empty();
    match Endpoints::read(&args.data) {
        Ok(running) => {
            if open_kafka {
                config.kafka.brokers = running.kafka;
            }
            if open_clickhouse {
                config.clickhouse.set_url(&running.clickhouse);
            }
            use_archive(config, &running.archive);
        }
        Err(error) if open_kafka || open_clickhouse => {
            return Err(error)
                .context("no servers: name them in the config, by flags, or by --data of a running stack");
        }
        // It has all that it needs.
        Err(_) => {}
    }
    Ok(())
}

/// Two writers of one group with two archives would tear one topic apart: a running stack's is used, unless
/// the config names one.
fn use_archive(config: &mut Config, running: &ArchiveUrl) {
    if config.ingest.archive.is_empty() {
        config.ingest.archive = running.to_string();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    fn stage_args(data: &std::path::Path, more: &[&str]) -> StageArgs {
        let words = ["stillwell", "ingest", "--data", data.to_str().unwrap()];
        match Cli::parse_from(words.iter().chain(more)).command {
            Command::Ingest(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_stage_needs_its_own_servers_only() {
        let folder = tempfile::tempdir().unwrap();
        let ingest = Stages { ingest: true, ..Stages::NONE };
        let mut config = Config::default();
        let args = stage_args(folder.path(), &["--kafka", "b:9092"]);
        complete(&args, &mut config, ingest).unwrap();
        assert_eq!(config.kafka.brokers, "b:9092");
        let error =
            complete(&args, &mut Config::default(), Stages { aggregate: true, ..ingest }).unwrap_err();
        assert!(format!("{error:#}").contains("--data"), "{error:#}");
    }

    #[test]
    fn a_stage_beside_a_running_stack_writes_into_its_archive() {
        let folder = tempfile::tempdir().unwrap();
        let running = Endpoints {
            http: None,
            pg: None,
            kafka: "k:1".to_owned(),
            clickhouse: "http://u:p@c:2".to_owned(),
            archive: "/elsewhere".parse().unwrap(),
            pid: std::process::id(),
        };
        running.write(folder.path()).unwrap();
        let mut config = Config::default();
        complete(&stage_args(folder.path(), &[]), &mut config, Stages::ALL).unwrap();
        assert_eq!((&*config.kafka.brokers, &*config.clickhouse.user), ("k:1", "u"));
        assert_eq!(config.ingest.archive, "/elsewhere");
    }
}
