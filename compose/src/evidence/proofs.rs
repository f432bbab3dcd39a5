//! `verify-proof`: one proof, a file with a proof on each line, or an audit pack.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use stillwell_ingest::export::check::{self, Audit};
use stillwell_ingest::keys;
use stillwell_ingest::proof::Proof;
use uuid::Uuid;

use super::{bar, show};
use crate::config::Config;
use crate::stages;

/// Which proof is checked, with which key.
#[derive(Args, Debug)]
pub struct VerifyProofArgs {
    /// The proof, a .jsonl file with one on each line, or the folder of an audit pack; - reads a proof from stdin
    proof: PathBuf,
    /// A public key of the archive that you trust (PEM or hex)
    #[arg(long, value_name = "FILE")]
    public_key: PathBuf,
    /// Print the report on an audit pack as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn verify(args: &VerifyProofArgs, config: &Config) -> anyhow::Result<u8> {
    let key = keys::load_public(&args.public_key)?;
    if args.proof.is_dir() {
        return pack(args, &key, config);
    }
    if args.json {
        bail!("--json is for the folder of an audit pack, and {} is none", args.proof.display());
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
    Ok(0)
}

/// Checks every line, and names each that does not hold.
#[allow(clippy::print_stdout)]
fn each_line(path: &Path, key: &str, config: &Config) -> anyhow::Result<u8> {
    let cannot_read = || format!("cannot read the proofs {}", path.display());
    let file = File::open(path).with_context(cannot_read)?;
    let bar = bar(file.metadata().with_context(cannot_read)?.len());
    let (mut lines, mut wrong) = (0, 0);
    for line in BufReader::new(file).lines() {
        let line = line.with_context(cannot_read)?;
        lines += 1;
        bar.inc(line.len() as u64 + 1);
        if let Err(error) = check_line(&line, key, config) {
            wrong += 1;
            bar.suspend(|| println!("WRONG  line {lines}: {error:#}"));
        }
    }
    bar.finish_and_clear();
    if lines == 0 {
        bail!("{} holds no proof", path.display());
    }
    print!("{}", show::proven_lines(lines, wrong));
    Ok(u8::from(wrong > 0))
}

fn check_line(line: &str, key: &str, config: &Config) -> anyhow::Result<()> {
    let proof: Proof = serde_json::from_str(line).context(
        "is no proof, as `stillwell prove` writes it; of an audit pack, whose proofs need its entries, name the folder",
    )?;
    let mut decoder = stages::decoder(config, &proof.record.topic)?;
    proof.check(key, &mut *decoder)?;
    Ok(())
}

#[allow(clippy::print_stdout)]
fn pack(args: &VerifyProofArgs, key: &str, config: &Config) -> anyhow::Result<u8> {
    let decoder_of = |topic: &str| stages::decoder(config, topic).map_err(|error| format!("{error:#}"));
    let audit = Audit { key, salt: Uuid::new_v4().into_bytes(), decoder_of: &decoder_of };
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
    Ok(u8::from(!report.sound))
}
