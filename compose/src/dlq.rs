//! `stillwell dlq`: looks through what could not be read, and sends it again once it can be.
//!
//! Reading order: [`filter`] says which letters are meant; [`read`] goes through a dead letter topic; [`print`] and
//! [`histogram`] show what is there; [`redrive`] sends letters again through a [`sender`], exactly once, notes each
//! in the [`audit`] topic beside the letters, and tells what came of it in a [`report`].

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use stillwell_source::settings::KafkaSettings;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::load::target::TargetArgs;
use crate::stages;

mod audit;
mod filter;
mod histogram;
mod print;
mod read;
mod redrive;
mod report;
mod sender;

use filter::Filter;
use redrive::RedriveArgs;

const LIST_EXAMPLES: &str = "\
Examples:
  stillwell dlq list                                   the first hundred, and what became of them
  stillwell dlq list --class bad_time --since 2h
  stillwell dlq list --message 'sensor.*missing' --json";

const SHOW_EXAMPLES: &str = "\
Examples:
  stillwell dlq show 17              the letter at offset 17, as `stillwell dlq list` shows it
  stillwell dlq show 17 --topic mes";

const HISTOGRAM_EXAMPLES: &str = "\
Examples:
  stillwell dlq histogram
  stillwell dlq histogram --class missing_field --json";

const AUDIT_EXAMPLES: &str = "\
Examples:
  stillwell dlq audit                who sent what again, when and why
  stillwell dlq audit --json";

/// What is done with dead letters.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// List letters with their errors and what became of them
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Show one letter whole, and what today's decoder makes of it
    #[command(after_help = SHOW_EXAMPLES)]
    Show(ShowArgs),
    /// Count letters by class, topic and hour
    #[command(after_help = HISTOGRAM_EXAMPLES)]
    Histogram(HistogramArgs),
    /// Send letters that can be read now to their topics again, each exactly once
    Redrive(Box<RedriveArgs>),
    /// List who sent what again, when and why
    #[command(after_help = AUDIT_EXAMPLES)]
    Audit(AuditArgs),
}

/// Which Kafka is meant.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Where")]
pub struct WhereArgs {
    /// Kafka brokers; without it, those of the config, or the Kafka of the stack that runs on --data
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
    /// Data folder of a running stack
    #[arg(long, default_value = "stillwell-data", value_name = "DIR")]
    data: PathBuf,
}

/// `list`.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// Letters at most, the oldest first
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: usize,
    /// Print JSON, one object a letter, with key, value and headers
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    place: WhereArgs,
}

/// `show`.
#[derive(Args, Clone, Debug)]
pub struct ShowArgs {
    /// The letter's offset in the dead letter topic, or its partition and offset as in 0:17
    #[arg(value_name = "OFFSET", value_parser = filter::letter)]
    letter: filter::LetterPlace,
    /// The source topic; without it, the config's only one
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: WhereArgs,
}

/// `histogram`.
#[derive(Args, Clone, Debug)]
pub struct HistogramArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    place: WhereArgs,
}

/// `audit`.
#[derive(Args, Clone, Debug)]
pub struct AuditArgs {
    /// The source topic; without it, all of the config's
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: WhereArgs,
}

/// Runs it; the exit code is 2 where letters are left that cannot be sent again.
///
/// # Errors
/// What went wrong and what mends it.
pub fn run(command: Command, config: &Config, stop: &CancellationToken) -> anyhow::Result<u8> {
    match command {
        Command::List(args) => print::list(&args, config, stop),
        Command::Show(args) => print::show(&args, config, stop),
        Command::Histogram(args) => histogram::run(&args, config, stop),
        Command::Redrive(args) => redrive::run(&args, config, stop),
        Command::Audit(args) => audit::print(&args, config, stop),
    }
}

impl WhereArgs {
    /// Kafka as whoever reads a topic from aside takes it.
    pub(crate) fn kafka(&self, config: &Config) -> anyhow::Result<KafkaSettings> {
        let mut target =
            TargetArgs { kafka: self.kafka.clone(), data: self.data.clone(), ..TargetArgs::default() };
        target.complete(config)?;
        let mut config = config.clone();
        config.kafka.brokers = target.brokers()?;
        stages::kafka_settings(&config)
    }
}

/// The dead letter topics of the config, or of its topic `named`; each once.
fn dead_letter_topics(config: &Config, named: Option<&str>) -> anyhow::Result<Vec<String>> {
    let meant = config.topic.iter().filter(|topic| named.is_none_or(|name| topic.name == name));
    let topics: BTreeSet<String> = meant.map(crate::config::Topic::dead_letters).collect();
    if topics.is_empty() {
        let names: Vec<&str> = config.topic.iter().map(|topic| topic.name.as_str()).collect();
        bail!("the config has no topic {:?}; it has {}", named.unwrap_or_default(), names.join(", "));
    }
    Ok(topics.into_iter().collect())
}

/// The one dead letter topic that is meant.
fn only_topic(config: &Config, named: Option<&str>) -> anyhow::Result<String> {
    let mut topics = dead_letter_topics(config, named)?;
    if topics.len() > 1 {
        bail!("the config has several dead letter topics; say --topic");
    }
    topics.pop().context("the config has no topic")
}

/// Prints to stdout; whoever closed it has seen enough.
pub(crate) fn put(out: &mut impl std::io::Write, text: &str) -> anyhow::Result<bool> {
    match out.write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true).context("cannot write the answer"),
    }
}
