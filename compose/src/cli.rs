//! The command line.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand};
use metrics_exporter_prometheus::PrometheusHandle;
use stillwell_schema::health::{Board, State};
use tokio_util::sync::CancellationToken;

use crate::ask::{self, Format};
use crate::config::{Config, DOCUMENTED};
use crate::endpoints::Endpoints;
use crate::engines::clickhouse::server::ServerArgs;
use crate::engines::fetch::{Sources, cache_folder};
use crate::engines::guard;
use crate::load::generate::{self, GenerateArgs};
use crate::load::replay::{self, ReplayArgs};
use crate::stages::{self, Running, Stages};
use crate::up::{self, UpArgs};

const EXAMPLES: &str = "\
Examples:
  stillwell up --demo                       everything on this machine, with a simulated plant
  stillwell replay recordings/*.csv.gz      recordings into the running stack
  stillwell sql 'select * from anomalies'   one statement
  stillwell ingest --config stillwell.toml  one stage alone
  stillwell config > stillwell.toml         every setting, with its default";

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
    Ingest(StageArgs),
    /// Run the read side's writer alone
    Aggregate(StageArgs),
    /// Run the query side alone
    Query(StageArgs),
    /// A simulated plant into Kafka
    Generate(Box<GenerateArgs>),
    /// Recordings into Kafka
    Replay(Box<ReplayArgs>),
    /// Ask a running stack one statement
    Sql(SqlArgs),
    /// Health and watermarks of a running stack
    Status(DataArgs),
    /// Print every setting with its default
    Config,
    /// Fetch the local engines into the cache
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

#[derive(Args, Clone, Debug)]
struct DataArgs {
    /// Data folder of the running stack
    #[arg(long, default_value = "stillwell-data", value_name = "DIR")]
    data: PathBuf,
}

#[derive(Args, Clone, Debug)]
struct SqlArgs {
    /// The statement
    statement: String,
    /// Data folder of the running stack
    #[arg(long, default_value = "stillwell-data", value_name = "DIR")]
    data: PathBuf,
    /// How the answer is printed
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
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
        let env = |name: &str| std::env::var(name).ok();
        let mut config = Config::load(self.config.as_deref(), env)?;
        config.telemetry.log_format = self.log_format.unwrap_or(config.telemetry.log_format);
        config.telemetry.log = self.log.unwrap_or(config.telemetry.log);
        crate::telemetry::init_logs(&config.telemetry, env)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(execute(self.command, config))?;
        // A blocking read of a terminal or a broker that is away must not hold up the exit.
        runtime.shutdown_timeout(std::time::Duration::from_secs(1));
        Ok(0)
    }
}

#[allow(clippy::print_stdout, clippy::print_stderr)]
async fn execute(command: Command, config: Config) -> anyhow::Result<()> {
    let stop = stop_signal();
    match command {
        Command::Up(args) => up::run(*args, config, crate::telemetry::init_metrics()?, stop).await,
        Command::Ingest(args) => stage(args, config, Stages { ingest: true, ..Stages::NONE }, stop).await,
        Command::Aggregate(args) => {
            stage(args, config, Stages { aggregate: true, ..Stages::NONE }, stop).await
        }
        Command::Query(args) => stage(args, config, Stages { query: true, ..Stages::NONE }, stop).await,
        Command::Generate(args) => {
            let report = generate::run(*args, stages::clock(), stop).await?;
            eprintln!("{report}");
            Ok(())
        }
        Command::Replay(args) => {
            let report = replay::run(*args, stages::clock(), stop).await?;
            eprintln!("{report}");
            Ok(())
        }
        Command::Sql(args) => {
            print!("{}", ask::sql(&http_of(&args.data)?, &args.statement, args.format)?);
            Ok(())
        }
        Command::Status(args) => {
            print!("{}", ask::status(&http_of(&args.data)?)?);
            Ok(())
        }
        Command::Fetch => {
            let cache = cache_folder(|name| std::env::var(name).ok())?;
            Sources { cache: cache.clone(), folder: None }.fetch(true, true)?;
            eprintln!("stillwell: engines are in {}", cache.display());
            Ok(())
        }
        Command::Config | Command::Completions { .. } | Command::ClickhouseServer(_) | Command::Guard(_) => {
            Ok(())
        }
    }
}

/// Cancelled by Ctrl-C or SIGTERM. Another one says that stopping is under way.
#[allow(clippy::print_stderr)]
fn stop_signal() -> CancellationToken {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        let (Ok(mut interrupt), Ok(mut terminate)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            return;
        };
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
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

fn http_of(data: &Path) -> anyhow::Result<String> {
    Endpoints::read(data)?.http.context("the stack runs no query side; start one with `stillwell query`")
}

/// Runs one stage against the servers of the config, or of a running stack.
async fn stage(
    args: StageArgs,
    mut config: Config,
    which: Stages,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    complete(&args, &mut config)?;
    let board = Board::default();
    let metrics: PrometheusHandle = crate::telemetry::init_metrics()?;
    if which.query {
        let settings = stages::query_settings(&config, &args.data, (8080, 5433))?;
        let server = stillwell_query::bind(settings, board.clone(), metrics, stages::clock()).await?;
        let bound = server.bound();
        board.set("query", State::Ok, "");
        announce(&format!("query: http://{} and postgres://{}/stillwell", bound.http, bound.pg));
        return Ok(server.run(stop).await?);
    }
    let running = if which.ingest {
        Running::ingest(&config, &args.data, &board)?
    } else {
        stillwell_aggregate::migrate(&stages::clickhouse_settings(&config)).await?;
        Running::aggregate(&config, &board)?
    };
    announce(&format!("{which} runs; Ctrl-C stops it in order"));
    stop.cancelled().await;
    running.stop().await;
    Ok(())
}

#[allow(clippy::print_stderr)]
fn announce(line: &str) {
    eprintln!("stillwell: {line}");
}

/// Flags over the config, and a running stack's servers where both say nothing.
fn complete(args: &StageArgs, config: &mut Config) -> anyhow::Result<()> {
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
    if config.kafka.brokers.is_empty() || config.clickhouse.url.is_empty() {
        let running = Endpoints::read(&args.data)
            .context("no servers: name them in the config, by flags, or by --data of a running stack")?;
        if config.kafka.brokers.is_empty() {
            config.kafka.brokers = running.kafka;
        }
        if config.clickhouse.url.is_empty() {
            config.clickhouse.set_url(&running.clickhouse);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
