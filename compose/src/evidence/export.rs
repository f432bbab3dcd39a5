//! `export`: writes an audit pack.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use stillwell_ingest::export::{self, Options, Query};
use stillwell_ingest::keys;

use super::{ArchiveArgs, bar, parse_time, show};
use crate::config::Config;
use crate::stages;

pub(super) const EXAMPLES: &str = "\
Examples:
  stillwell export --machine press-07 --from 2026-11-01T00:00:00Z --to 2026-11-02T00:00:00Z --out pack
  stillwell export --machine 'press-1*' --machine oven-2 --from 2026-11-01T00:00:00Z --to 2026-12-01T00:00:00Z --dry-run
  stillwell verify-proof pack --public-key archive.pub.pem

The folder holds readings (Parquet and CSV), the records that they came from, a proof of each, the signed entries, the
public key, and README.html, which says how it is checked, with stillwell and without.

Ctrl-C or a kill leaves no pack, but what was written of it, hidden beside DIR as .DIR.<id>.tmp: remove it.

Exit code: 0 written, 1 not: then nothing is left, and the message says what mends it.";

/// What is exported, and where to.
#[derive(Args, Debug)]
pub struct ExportArgs {
    #[command(flatten)]
    archive: ArchiveArgs,
    /// Machine; * stands for any text; may be given several times
    #[arg(long = "machine", required = true, value_name = "PATTERN")]
    machines: Vec<String>,
    /// From this source time on: RFC 3339, or µs since the epoch
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    from: i64,
    /// Before this source time
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    to: i64,
    /// Only of this topic
    #[arg(long)]
    topic: Option<String>,
    /// The folder to write, which is not there yet
    #[arg(long, value_name = "DIR", required_unless_present = "dry_run")]
    out: Option<PathBuf>,
    /// A public key of the archive that you trust (PEM or hex); without it, the archive's own word is taken
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
    /// Say what would be exported, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[allow(clippy::print_stdout)]
pub(super) fn run(args: &ExportArgs, config: &Config) -> anyhow::Result<u8> {
    if args.from >= args.to {
        bail!("--from is not before --to, so no time lies between them");
    }
    let store = args.archive.open(config)?;
    let options = Options {
        query: Query {
            topic: args.topic.clone(),
            machines: args.machines.clone(),
            from_us: args.from,
            to_us: args.to,
        },
        archive: args.archive.url(config)?.to_string(),
        trusted: args.public_key.as_deref().map(keys::load_public).transpose()?,
        made_us: stages::clock().now_us(),
    };
    let bar = bar(0);
    let tick = |bytes| {
        bar.inc_length(bytes);
        bar.inc(bytes);
    };
    let out = args.out.as_deref().filter(|_| !args.dry_run);
    let Some(out) = out else {
        let plan = export::plan(&*store, &options, &tick);
        bar.finish_and_clear();
        let plan = plan?;
        match args.json {
            true => println!("{}", serde_json::to_string_pretty(&plan)?),
            false => print!("{}", show::planned(&plan)),
        }
        return Ok(0);
    };
    let manifest = export::export(&*store, &options, out, &tick);
    bar.finish_and_clear();
    let manifest = manifest?;
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&manifest)?),
        false => print!("{}", show::exported(&manifest, out, options.trusted.is_some())),
    }
    Ok(0)
}
