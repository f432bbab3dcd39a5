//! `verify-proof`: one proof, a file with a proof on each line, or an audit pack.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use stillwell_ingest::export::check::{self, Audit};
use stillwell_ingest::keys;
use stillwell_ingest::proof::Proof;
use stillwell_source::decode::Decoder;
use uuid::Uuid;

use super::{bar, read_checkpoint, show};
use crate::config::Config;
use crate::stages;

/// The exit code where nothing is wrong, but something could not be checked.
const OPEN: u8 = 3;

/// Which proof is checked, with which key.
#[derive(Args, Debug)]
pub struct VerifyProofArgs {
    /// The proof, a .jsonl file with one on each line, or the folder of an audit pack; - reads a proof from stdin
    proof: PathBuf,
    /// A public key of the archive that you trust (PEM or hex)
    #[arg(long, value_name = "FILE")]
    public_key: PathBuf,
    /// A checkpoint that was kept elsewhere, which an audit pack is held against
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Print the report on an audit pack as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn verify(args: &VerifyProofArgs, config: &Config) -> anyhow::Result<u8> {
    let key = keys::load_public(&args.public_key)?;
    if args.proof.is_dir() {
        return pack(args, &key, config);
    }
    if args.json || args.checkpoint.is_some() {
        bail!(
            "--json and --checkpoint are for the folder of an audit pack, and {} is none",
            args.proof.display()
        );
    }
    match args.proof.extension() {
        Some(extension) if extension == "jsonl" => each_line(&args.proof, &key, config),
        _ => one(&args.proof, &key, config),
    }
}

#[allow(clippy::print_stdout)]
fn one(path: &Path, key: &str, config: &Config) -> anyhow::Result<u8> {
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text)?;
    } else {
        text =
            fs::read_to_string(path).with_context(|| format!("cannot read the proof {}", path.display()))?;
    }
    let proof: Proof = serde_json::from_str(&text)
        .with_context(|| format!("{} is no proof, as `stillwell prove` writes it", path.display()))?;
    let mut decoder = stages::decoder(config, &proof.record.topic)?;
    let entry = proof.check(key, &mut *decoder).context("the proof does not hold")?;
    print!("{}", show::proven(&proof, &entry));
    if proof.needs_history(&mut *decoder) {
        show::by_itself();
    }
    Ok(0)
}

/// Checks every line, and names each that does not hold.
#[allow(clippy::print_stdout)]
fn each_line(path: &Path, key: &str, config: &Config) -> anyhow::Result<u8> {
    let cannot_read = || format!("cannot read the proofs {}", path.display());
    let file = File::open(path).with_context(cannot_read)?;
    let bar = bar(file.metadata().with_context(cannot_read)?.len());
    let (mut lines, mut wrong, mut decoders) = (0, 0, BTreeMap::new());
    for line in BufReader::new(file).split(b'\n') {
        let line = line.with_context(cannot_read)?;
        lines += 1;
        bar.inc(line.len() as u64 + 1);
        if let Err(error) = check_line(&line, key, config, &mut decoders) {
            wrong += 1;
            bar.suspend(|| println!("{}", show::plain(&format!("WRONG  line {lines}: {error:#}"))));
        }
    }
    bar.finish_and_clear();
    if lines == 0 {
        bail!("{} holds no proof", path.display());
    }
    print!("{}", show::proven_lines(lines, wrong));
    Ok(u8::from(wrong > 0))
}

/// Checks one line; `decoders` are those that lines before it needed, by topic.
fn check_line(
    line: &[u8],
    key: &str,
    config: &Config,
    decoders: &mut BTreeMap<String, Box<dyn Decoder>>,
) -> anyhow::Result<()> {
    let proof: Proof = serde_json::from_slice(line).context(
        "is no proof, as `stillwell prove` writes it; of an audit pack, whose proofs need its entries, name the folder",
    )?;
    let topic = &proof.record.topic;
    let mut decoder = match decoders.remove(topic) {
        Some(decoder) => decoder,
        None => stages::decoder(config, topic)?,
    };
    decoder.new_table();
    let checked = proof.check(key, &mut *decoder);
    // What a line taught a decoder must not speak for another.
    if !proof.needs_history(&mut *decoder) {
        decoders.insert(topic.clone(), decoder);
    }
    checked?;
    Ok(())
}

#[allow(clippy::print_stdout)]
fn pack(args: &VerifyProofArgs, key: &str, config: &Config) -> anyhow::Result<u8> {
    let decoder_of = |topic: &str| stages::decoder(config, topic).map_err(|error| format!("{error:#}"));
    let kept = args.checkpoint.as_deref().map(read_checkpoint).transpose()?;
    let salt = Uuid::new_v4().into_bytes();
    let audit = Audit { key, checkpoint: kept.as_ref(), salt, decoder_of: &decoder_of };
    let bar = bar(0);
    let tick = |bytes| {
        bar.inc_length(bytes);
        bar.inc(bytes);
    };
    let report = check::check(&args.proof, &audit, &tick);
    bar.finish_and_clear();
    let report = report?;
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => print!("{}", show::pack(&report)),
    }
    Ok(match (report.sound, report.is_open()) {
        (false, _) => 1,
        (true, true) => OPEN,
        (true, false) => 0,
    })
}
