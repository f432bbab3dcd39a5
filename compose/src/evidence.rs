//! The commands of those who trust nobody: `verify`, `prove`, `verify-proof`, `export`, `checkpoint`,
//! `keys`.
//!
//! They read the archive alone, whether a stack runs or not, and need no server.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use rand::rngs::SysRng;
use stillwell_ingest::keys::{self, rotation};
use stillwell_ingest::proof::{self, Sought};
use stillwell_ingest::store::{self, ArchiveStore};
use stillwell_ingest::verify::{self, Level, Options, Report, kafka};
use stillwell_ingest::{evidence, keys::public_path};
use stillwell_schema::checkpoint::SignedCheckpoint;
use stillwell_schema::{ArchiveUrl, Offset, StoreOptions};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::endpoints::Endpoints;
use crate::stages;

mod export;
mod proofs;
mod show;

pub use export::ExportArgs;
pub use proofs::VerifyProofArgs;
pub(crate) use show::plain;

const VERIFY_EXAMPLES: &str = "\
Examples:
  stillwell verify                                        all of it, of the stack on stillwell-data
  stillwell verify --archive /mnt/backup/archive --public-key archive.pub.pem
  stillwell verify --level chain --checkpoint kept.json   quick: has anything been cut off or rewritten?
  stillwell verify --level kafka                          and does Kafka, where it still has them, hold the same records?
  stillwell verify --json > report.json

Exit code: 0 sound, 1 something is wrong, 2 it could not be verified.";

const PROVE_EXAMPLES: &str = "\
Examples:
  stillwell prove --machine press-07 --sensor oil --time 2026-11-25T06:00:00Z > proof.json
  stillwell verify-proof proof.json --public-key archive.pub.pem
  stillwell verify-proof proofs.jsonl --public-key archive.pub.pem    a proof a line
  stillwell verify-proof pack --public-key archive.pub.pem            a folder that `stillwell export` wrote
  stillwell verify-proof pack --public-key archive.pub.pem --checkpoint kept.json

Exit code: 0 all of it holds, 1 something does not, or could not be read, 3 nothing of an audit pack is wrong, but some
of it could not be checked here: it says what, and why.";

const KEYS_EXAMPLES: &str = "\
Examples:
  stillwell keys show                              the key in use, and those before
  stillwell keys rotate --reason 'yearly change'   then restart what writes into the archive";

/// Commands on evidence.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check an archive against its own hashes, signatures and checkpoints
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(VerifyArgs),
    /// Prove that one reading is in the archive
    #[command(after_help = PROVE_EXAMPLES)]
    Prove(ProveArgs),
    /// Check such a proof, a file of them or an audit pack with a public key alone
    #[command(after_help = PROVE_EXAMPLES)]
    VerifyProof(VerifyProofArgs),
    /// Write an audit pack: the readings of machines and times, their records, and what proves them
    #[command(after_help = export::EXAMPLES)]
    Export(ExportArgs),
    /// Sign where every lane ends now, and print it: a copy kept elsewhere shows a later truncation
    Checkpoint(CheckpointArgs),
    /// The keys that sign the archive
    #[command(subcommand, after_help = KEYS_EXAMPLES)]
    Keys(KeysCommand),
}

/// Which archive.
#[derive(Args, Clone, Debug)]
pub struct ArchiveArgs {
    /// The archive's folder or bucket (s3://bucket/prefix); without it, the config's or that of the data folder
    #[arg(long, value_name = "DIR|URL")]
    archive: Option<ArchiveUrl>,
    /// Data folder of the stack whose archive and key are meant
    #[arg(long, default_value = "stillwell-data", value_name = "DIR")]
    data: PathBuf,
}

/// What is verified, and against what.
#[derive(Args, Debug)]
pub struct VerifyArgs {
    #[command(flatten)]
    archive: ArchiveArgs,
    /// How deep
    #[arg(long, value_enum, default_value = "records")]
    level: LevelArg,
    /// A public key of the archive that you trust (PEM or hex); without it, signatures are taken as they are
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
    /// A checkpoint that was kept elsewhere
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Only this topic
    #[arg(long)]
    topic: Option<String>,
    /// Kafka brokers, for --level kafka; without it, those of the config or of the running stack
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// How deep a verification goes.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum LevelArg {
    /// Entries, signatures and checkpoints
    Chain,
    /// And the hash of every file
    Files,
    /// And every record in them
    Records,
    /// And every record that Kafka still has, read again
    Kafka,
}

/// Which reading is proven.
#[derive(Args, Debug)]
pub struct ProveArgs {
    #[command(flatten)]
    archive: ArchiveArgs,
    /// Machine
    #[arg(long)]
    machine: String,
    /// Sensor
    #[arg(long)]
    sensor: String,
    /// Source timestamp: RFC 3339, or µs since the epoch
    #[arg(long, value_parser = parse_time, allow_hyphen_values = true)]
    time: i64,
    /// Only in this topic
    #[arg(long)]
    topic: Option<String>,
    /// Only this record, as partition:offset
    #[arg(long, value_name = "P:OFFSET", value_parser = parse_place)]
    record: Option<(i32, Offset)>,
}

/// Where a checkpoint goes.
#[derive(Args, Debug)]
pub struct CheckpointArgs {
    #[command(flatten)]
    archive: ArchiveArgs,
    /// Write it here instead of to stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What is done with keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// The key in use, where it lies, and the changes so far
    Show(ArchiveArgs),
    /// Put a new key in place of the old one
    Rotate(RotateArgs),
}

/// Whose key is changed, and why.
#[derive(Args, Debug)]
pub struct RotateArgs {
    #[command(flatten)]
    archive: ArchiveArgs,
    /// Why, kept in the archive for ever
    #[arg(long)]
    reason: String,
}

/// Runs a command to its end and says how the process exits.
///
/// # Errors
/// What went wrong and what mends it.
#[allow(clippy::print_stdout)]
pub fn run(command: Command, config: &Config) -> anyhow::Result<u8> {
    match command {
        Command::Verify(args) => verify(&args, config),
        Command::Prove(args) => prove(args, config),
        Command::VerifyProof(args) => proofs::verify(&args, config),
        Command::Export(args) => export::run(&args, config),
        Command::Checkpoint(args) => checkpoint(&args, config),
        Command::Keys(KeysCommand::Show(args)) => {
            let (store, key_file) = (args.open(config)?, args.key_file(config));
            print!("{}", show::keys(&key_file, evidence::key_ring(&*store)?.as_ref())?);
            Ok(0)
        }
        Command::Keys(KeysCommand::Rotate(args)) => rotate(&args, config),
    }
}

impl ArchiveArgs {
    pub(crate) fn url(&self, config: &Config) -> anyhow::Result<ArchiveUrl> {
        let running = || Endpoints::read(&self.data).ok().map(|running| running.archive);
        match &self.archive {
            Some(named) => Ok(named.clone()),
            None if config.ingest.archive.is_empty()
                && let Some(running) = running() =>
            {
                Ok(running)
            }
            None => stages::archive(config, &self.data),
        }
    }

    pub(crate) fn open(&self, config: &Config) -> anyhow::Result<Arc<dyn ArchiveStore>> {
        let url = self.url(config)?;
        let options = match &url {
            ArchiveUrl::Folder(folder) if !folder.is_dir() => {
                bail!("there is no archive at {url}; name its folder or bucket with --archive or --data")
            }
            // The options are the configured archive's, which may be another.
            ArchiveUrl::Folder(_) => StoreOptions::default(),
            ArchiveUrl::Bucket(_) => stages::archive_options(config, &url)?,
        };
        Ok(store::open(&url, &options)?)
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    pub(crate) fn key_file(&self, config: &Config) -> PathBuf {
        stages::key_file(config, &self.data)
    }
}

/// Neither sound nor wrong is what could not be read: it was not verified.
fn verify(args: &VerifyArgs, config: &Config) -> anyhow::Result<u8> {
    try_verify(args, config).or_else(|error| {
        show::not_verified(&format!("{error:#}"));
        Ok(2)
    })
}

#[allow(clippy::print_stdout)]
fn try_verify(args: &VerifyArgs, config: &Config) -> anyhow::Result<u8> {
    let store = args.archive.open(config)?;
    let options = Options {
        level: match args.level {
            LevelArg::Chain => Level::Chain,
            LevelArg::Files => Level::Files,
            LevelArg::Records | LevelArg::Kafka => Level::Records,
        },
        key: args.public_key.as_deref().map(keys::load_public).transpose()?,
        checkpoint: args.checkpoint.as_deref().map(read_checkpoint).transpose()?,
        topic: args.topic.clone(),
    };
    let lanes = evidence::lanes(&*store, options.topic.as_deref())?;
    let bytes = if options.level == Level::Chain { 0 } else { verify::data_bytes(&*store, &lanes)? };
    let bar = bar(bytes);
    let report = verify::verify(&*store, &options, &|bytes| bar.inc(bytes));
    bar.finish_and_clear();
    let mut report = report?;
    if report.lanes.is_empty() {
        bail!("the archive at {} holds no lane that is asked for", args.archive.url(config)?);
    }
    let compared = match args.level {
        LevelArg::Kafka => compare(&*store, &mut report, args, config),
        _ => Ok(()),
    };
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => print!("{}", show::report(&report)),
    }
    // What is wrong was found, whatever Kafka says.
    if report.sound {
        compared.context("the archive was not held against kafka")?;
    }
    Ok(u8::from(!report.sound))
}

/// Reads the topics again, with the brokers of the config or of the running stack.
fn compare(
    store: &dyn ArchiveStore,
    report: &mut Report,
    args: &VerifyArgs,
    config: &Config,
) -> anyhow::Result<()> {
    let mut config = config.clone();
    if let Some(brokers) = &args.kafka {
        config.kafka.brokers.clone_from(brokers);
    }
    if config.kafka.brokers.is_empty() {
        config.kafka.brokers = Endpoints::read(&args.archive.data)?.kafka;
    }
    let bar = bar(0);
    let stop = CancellationToken::new();
    let tick = |bytes| {
        bar.inc_length(bytes);
        bar.inc(bytes);
    };
    kafka::compare(store, &stages::kafka_settings(&config)?, report, &stop, &tick)?;
    bar.finish_and_clear();
    Ok(())
}

pub(crate) fn bar(bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{bar:30} {percent:>3}%  {bytes} of {total_bytes}, {bytes_per_sec}  {eta}",
    );
    let bar = ProgressBar::new(bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn read_checkpoint(path: &Path) -> anyhow::Result<SignedCheckpoint> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes).to_vec();
    SignedCheckpoint::parse(line).with_context(|| format!("{} is no checkpoint", path.display()))
}

#[allow(clippy::print_stdout)]
fn prove(args: ProveArgs, config: &Config) -> anyhow::Result<u8> {
    let store = args.archive.open(config)?;
    let ProveArgs { machine, sensor, time: time_us, topic, record: place, .. } = args;
    let sought = Sought { machine, sensor, time_us, topic, place };
    let failure = Cell::new(None);
    let decoder_of =
        |topic: &str| stages::decoder(config, topic).map_err(|error| failure.set(Some(error))).ok();
    let proved = proof::prove(&*store, &sought, &decoder_of);
    if let Some(error) = failure.take() {
        // It says which key or file is wrong, which a search of the archive cannot know.
        return Err(error.context("the reading's record cannot be decoded"));
    }
    let (proof, matches) = proved?;
    println!("{}", serde_json::to_string_pretty(&proof)?);
    show::others(matches, &proof);
    if stages::decoder(config, &proof.record.topic)
        .is_ok_and(|mut decoder| proof.needs_history(&mut *decoder))
    {
        show::by_itself();
    }
    Ok(0)
}

#[allow(clippy::print_stdout)]
fn checkpoint(args: &CheckpointArgs, config: &Config) -> anyhow::Result<u8> {
    let store = args.archive.open(config)?;
    let key_file = args.archive.key_file(config);
    rotation::settle(&key_file, &*store)?;
    let key = keys::load(&key_file)?;
    let now_us = stages::clock().now_us();
    let signed = evidence::checkpoint(&*store, &key, "stillwell checkpoint", now_us)?;
    let signed = signed.context("the archive holds nothing yet")?;
    let mut line = signed.bytes.clone();
    line.push(b'\n');
    match &args.out {
        Some(path) => {
            fs::write(path, &line).with_context(|| format!("cannot write {}", path.display()))?;
            show::checkpoint(&signed, path);
        }
        None => print!("{}", String::from_utf8_lossy(&line)),
    }
    Ok(0)
}

#[allow(clippy::print_stdout)]
fn rotate(args: &RotateArgs, config: &Config) -> anyhow::Result<u8> {
    let (store, path) = (args.archive.open(config)?, args.archive.key_file(config));
    let now_us = stages::clock().now_us();
    let done = rotation::rotate(&path, &*store, &mut SysRng, now_us, &args.reason)?;
    // From here on the change itself cannot be taken back unseen.
    evidence::checkpoint(&*store, &keys::load(&path)?, "stillwell keys rotate", now_us)?;
    print!("{}", show::rotated(&done, &path, &public_path(&path)));
    Ok(0)
}

/// A time, µs UTC, of RFC 3339 or of a number.
pub(crate) fn parse_time(text: &str) -> Result<i64, String> {
    if let Ok(us) = text.parse() {
        return Ok(us);
    }
    let time = chrono::DateTime::parse_from_rfc3339(text);
    time.map(|time| time.timestamp_micros())
        .map_err(|_| "is neither RFC 3339, such as 2026-11-25T06:00:00Z, nor µs since the epoch".to_owned())
}

fn parse_place(text: &str) -> Result<(i32, Offset), String> {
    let parts = text.split_once(':').and_then(|(partition, offset)| {
        Some((partition.parse().ok()?, Offset(offset.parse().ok().filter(|offset| *offset >= 0)?)))
    });
    parts.ok_or_else(|| "is no partition:offset, such as 3:41200".to_owned())
}
