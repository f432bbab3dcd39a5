//! `stillwell machines`: the machine registry, from files into its topic and back.
//!
//! The topic is the registry ([`stillwell_schema::machines`]); what is shown here is read from it, whether a stack runs
//! or not. Reading order: [`file`] reads and writes the files, [`csv`] those of a spreadsheet; [`plan`] says what a file
//! would change; [`publish`] does that, all of it or nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use stillwell_schema::machines::{MachineRegistry, MachineVersion};
use stillwell_source::machines::MachineLog;
use stillwell_source::scan::{End, ScanError};
use stillwell_source::settings::KafkaSettings;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::dlq::{WhereArgs, put};
use crate::{ask, stages, topics};

mod csv;
mod file;
mod plan;
mod publish;

use plan::Plan;
use publish::Publisher;

const IMPORT_EXAMPLES: &str = "\
Examples:
  stillwell machines import machines.csv --dry-run    what would change
  stillwell machines import machines.csv
  stillwell machines import machines.json --prune     also take back what the file does not have

A CSV file has one line per sensor, with these columns in any order (machine and valid_from must be there):
  machine,valid_from,site,line,model,sensor,unit,low,high,description
  press-07,2026-01-05T06:00:00Z,Linz,L2,HP-400,oil,°C,20,85,return line
  press-07,2026-01-05T06:00:00Z,Linz,L2,HP-400,bearing-1,mm/s,,7.1,
A JSON file is a list of versions:
  [{\"machine\": \"press-07\", \"valid_from\": \"2026-01-05T06:00:00Z\", \"site\": \"Linz\", \"line\": \"L2\",
    \"model\": \"HP-400\", \"sensors\": {\"oil\": {\"unit\": \"°C\", \"low\": 20, \"high\": 85}}}]

A version holds from its valid_from until the machine's next one. Only what differs from the registry is published,
all of it in one transaction: the same file again changes nothing.";

const EXPORT_EXAMPLES: &str = "\
Examples:
  stillwell machines export > machines.json                          as valid now
  stillwell machines export --history --format csv > machines.csv    every version; import takes it back";

const LIST_EXAMPLES: &str = "\
Examples:
  stillwell machines list                                            as valid now
  stillwell sql 'select * from machines_history'                     the same registry, in SQL";

/// What is done with the registry.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Publish the machines of a file to the registry
    #[command(after_help = IMPORT_EXAMPLES)]
    Import(ImportArgs),
    /// Print the registry as a file that import takes
    #[command(after_help = EXPORT_EXAMPLES)]
    Export(ExportArgs),
    /// List the machines as they are now
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
}

/// A file's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A list of versions.
    Json,
    /// A line per sensor.
    Csv,
}

/// `import`.
#[derive(Args, Clone, Debug)]
pub struct ImportArgs {
    /// File that ends in .json or .csv
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Publish nothing: only say what would change
    #[arg(long)]
    dry_run: bool,
    /// Take back the versions that the file does not have
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    place: WhereArgs,
}

/// `export`.
#[derive(Args, Clone, Debug)]
pub struct ExportArgs {
    /// Every version, not only those that are valid now
    #[arg(long)]
    history: bool,
    /// The file's format
    #[arg(long, value_enum, default_value = "json")]
    format: Format,
    #[command(flatten)]
    place: WhereArgs,
}

/// `list`.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    #[command(flatten)]
    place: WhereArgs,
}

/// Runs it.
///
/// # Errors
/// What is wrong with the file, or with Kafka, and what mends it.
pub fn run(command: &Command, config: &Config, stop: &CancellationToken) -> anyhow::Result<u8> {
    let text = match command {
        Command::Import(args) => import(args, config, stop)?,
        Command::Export(args) => export(args, config, stop)?,
        Command::List(args) => list(args, config, stop)?,
    };
    put(&mut std::io::stdout().lock(), &text)?;
    Ok(0)
}

/// The file is judged before Kafka is asked; the topic is read when nobody else can publish to it from here.
fn import(args: &ImportArgs, config: &Config, stop: &CancellationToken) -> anyhow::Result<String> {
    let machines = file::read(&args.file)?;
    let (kafka, topic) = (args.place.kafka(config)?, topic(config)?);
    let mut publisher = None;
    if !args.dry_run {
        let wanted = vec![topics::Wanted::machines(topic)];
        tokio::runtime::Handle::current().block_on(topics::make(&kafka, wanted))?;
        publisher = Some(Publisher::connect(&kafka, topic)?);
    }
    let plan = Plan::of(machines, &registry(&kafka, topic, stop)?, args.prune);
    if let Some(publisher) = publisher {
        publisher.publish(&plan.changes())?;
    }
    Ok(plan.text(args.dry_run))
}

fn export(args: &ExportArgs, config: &Config, stop: &CancellationToken) -> anyhow::Result<String> {
    let registry = registry(&args.place.kafka(config)?, topic(config)?, stop)?;
    let versions: Vec<&MachineVersion> = match args.history {
        true => registry.versions().collect(),
        false => registry.at(stages::clock().now_us()).collect(),
    };
    match args.format {
        Format::Json => file::json(&versions),
        Format::Csv => csv::write(&versions),
    }
}

fn list(args: &ListArgs, config: &Config, stop: &CancellationToken) -> anyhow::Result<String> {
    let registry = registry(&args.place.kafka(config)?, topic(config)?, stop)?;
    let names = ["machine", "site", "line", "model", "sensors", "valid_from", "versions"];
    let columns = names.map(|name| json!({ "name": name }));
    let mut counts = BTreeMap::<&str, usize>::new();
    for version in registry.versions() {
        *counts.entry(&version.machine).or_default() += 1;
    }
    let row = |version: &MachineVersion| {
        let MachineVersion { machine, site, line, model, valid_from, sensors } = version;
        json!([machine, site, line, model, sensors.len(), valid_from, counts[machine.as_str()]])
    };
    let rows: Vec<_> = registry.at(stages::clock().now_us()).map(row).collect();
    ask::table(&json!({ "columns": columns, "rows": rows }))
}

fn topic(config: &Config) -> anyhow::Result<&str> {
    match config.machines.topic.as_str() {
        "" => bail!("the config has no registry: give it a topic in [machines]"),
        topic => Ok(topic),
    }
}

/// What the topic says now; nothing, where there is none yet.
fn registry(kafka: &KafkaSettings, topic: &str, stop: &CancellationToken) -> anyhow::Result<MachineRegistry> {
    let (mut registry, mut refused) = (MachineRegistry::default(), 0u64);
    let read = MachineLog::new(kafka, topic)?.read(stop, |record| match record.change {
        Ok(change) => {
            registry.apply(change);
        }
        Err(_) => refused += 1,
    });
    match read {
        Ok(End::Whole) | Err(ScanError::NoTopic(_)) => {}
        Ok(End::Stopped) => bail!("stopped; nothing was published"),
        Err(error) => return Err(error).with_context(|| format!("cannot read the registry in {topic}")),
    }
    if refused > 0 {
        note(&format!("{refused} records of {topic} say nothing and were passed over"));
    }
    Ok(registry)
}

#[allow(clippy::print_stderr)]
fn note(line: &str) {
    eprintln!("stillwell: {line}");
}
