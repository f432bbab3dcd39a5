//! `stillwell replay`: recordings into Kafka, one machine per run, at their own pace or as fast as it goes.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use stillwell_schema::Clock;
use tokio_util::sync::CancellationToken;

use super::producer::LoadProducer;
use super::progress::{Progress, grouped};
use super::recording::{Layout, Recording};
use super::target::TargetArgs;
use super::wire::{Encoder, Format, Outgoing, WireSensor};

/// Stopping is noticed within this.
const NAP_MAX_US: i64 = 50_000;

const EXAMPLES: &str = "\
Examples:
  stillwell replay recordings/skab recordings/gecco      as fast as it goes, with the recorded times
  stillwell replay run.csv.gz --pace 60x --start now     a minute a second, as if it happened now
  stillwell replay export.csv --machine press-07 --time-column timestamp --skip-column operator

A recording is a CSV file (.csv or .csv.gz) with a column of times and one column per sensor. Times are
RFC 3339, YYYY-MM-DD HH:MM:SS (UTC), or an integer epoch. Empty fields and nan are missing values, and
fields that are no number are sent as text.";

/// Recordings into Kafka.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ReplayArgs {
    /// Files, or folders of .csv and .csv.gz files
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Machine name of a single file; else it is made of the folder's and the file's names
    #[arg(long)]
    pub machine: Option<String>,
    /// Recorded pace (1x), a multiple of it (60x), or as fast as it goes (max); at a pace, all files start
    /// together
    #[arg(long, default_value = "max")]
    pub pace: Pace,
    /// Times of the readings: as recorded, or moved to now (the recording starts now; with --pace max, it
    /// ends now)
    #[arg(long, value_enum, default_value_t = Start::Recorded)]
    pub start: Start,
    /// Form of a record's value
    #[arg(long, value_enum, default_value_t = Format::Array)]
    pub format: Format,
    /// Readings per record at most, in arrays and batches
    #[arg(long, default_value_t = 100, value_name = "READINGS")]
    pub per_record: usize,
    /// Rows of each file at most
    #[arg(long, value_name = "ROWS")]
    pub limit: Option<u64>,
    /// Column of times
    #[arg(long, default_value = "time", value_name = "NAME")]
    pub time_column: String,
    /// Columns that are no sensors; may be repeated
    #[arg(long = "skip-column", default_values = ["phase", "label"], value_name = "NAME")]
    pub skip_columns: Vec<String>,
    /// Show no progress
    #[arg(long)]
    pub quiet: bool,
    /// Where to.
    #[command(flatten)]
    pub target: TargetArgs,
}

/// How fast a recording is played.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As fast as it goes.
    Max,
    /// This many times the recorded pace.
    Times(f64),
}

impl FromStr for Pace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self::Max);
        }
        match text.strip_suffix('x').unwrap_or(text).parse::<f64>() {
            Ok(times) if times > 0.0 && times.is_finite() => Ok(Self::Times(times)),
            _ => Err("say max, 1x, or a multiple such as 60x".to_owned()),
        }
    }
}

/// What the times of the readings are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Start {
    /// Moved to now.
    Now,
    /// As recorded.
    Recorded,
}

/// What was replayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct ReplayReport {
    /// Files read to their end or limit.
    pub files: u64,
    /// Rows read.
    pub rows: u64,
    /// Readings sent.
    pub readings: u64,
    /// Records confirmed by the broker.
    pub records: u64,
    /// How long it took.
    pub seconds: f64,
}

impl fmt::Display for ReplayReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [files, rows, readings, records] =
            [self.files, self.rows, self.readings, self.records].map(grouped);
        write!(f, "{readings} readings of {rows} rows of {files} files in {records} records in ")?;
        write!(f, "{:.1} s", self.seconds)
    }
}

/// Replays until all files are delivered or it is told to stop.
///
/// # Errors
/// If a file cannot be read as a recording, Kafka cannot be reached, or a record is not delivered.
pub async fn run(
    args: ReplayArgs,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) -> anyhow::Result<ReplayReport> {
    // Reading files and the producer block, so neither runs on the runtime's threads.
    tokio::task::spawn_blocking(move || {
        let runs = runs(&args)?;
        let producer = LoadProducer::connect(&args.target)?;
        let send = |record: &Outgoing| producer.send(record, &stop);
        play(&args, runs, &*clock, &stop, send, || Ok(producer.finish(&stop)?.delivered))
    })
    .await?
}

/// The machine and the file of each run, by machine.
fn runs(args: &ReplayArgs) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let mut files = Vec::new();
    for path in &args.files {
        if path.is_dir() {
            collect(path, &mut files)?;
        } else {
            files.push(path.clone());
        }
    }
    match (&args.machine, files.as_slice()) {
        (_, []) => bail!("no .csv or .csv.gz files in {:?}", args.files),
        (Some(machine), [file]) => return Ok(BTreeMap::from([(machine.clone(), file.clone())])),
        (Some(_), files) => bail!("--machine names one file, but there are {}", files.len()),
        (None, _) => {}
    }
    let mut runs = BTreeMap::new();
    for file in files {
        let machine = machine_of(&file)?;
        if let Some(other) = runs.insert(machine.clone(), file.clone()) {
            bail!(
                "{} and {} are both {machine:?}; replay one with --machine",
                other.display(),
                file.display()
            );
        }
    }
    Ok(runs)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let cannot_read = || format!("cannot read {}", folder.display());
    for entry in std::fs::read_dir(folder).with_context(cannot_read)? {
        let path = entry.with_context(cannot_read)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            collect(&path, files)?;
        } else if name.ends_with(".csv") || name.ends_with(".csv.gz") {
            files.push(path);
        }
    }
    Ok(())
}

/// `skab/valve1-0.csv.gz` is machine `skab-valve1-0`.
fn machine_of(file: &Path) -> anyhow::Result<String> {
    let whole = file.canonicalize().with_context(|| format!("cannot open {}", file.display()))?;
    let name = whole.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let name = name.strip_suffix(".csv").unwrap_or(name);
    let folder = whole.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    Ok(if folder.is_empty() { name.to_owned() } else { format!("{folder}-{name}") })
}

/// One run being played.
struct Player {
    recording: Recording,
    encoder: Encoder,
    /// The time of the row that is next.
    next_us: i64,
    /// The time of the first row.
    first_us: i64,
    /// What is added to each time.
    shift_us: i64,
    rows_left: u64,
}

impl Player {
    /// None where the file has no rows.
    fn open(
        machine: &str,
        path: &Path,
        args: &ReplayArgs,
        now_us: i64,
        bytes: &Arc<AtomicU64>,
    ) -> anyhow::Result<Option<Self>> {
        let layout =
            Layout { time_column: args.time_column.clone(), skip_columns: args.skip_columns.clone() };
        let mut recording = Recording::open(path, &layout, Arc::clone(bytes))?;
        let rows = args.limit.unwrap_or(u64::MAX);
        let Some(first_us) = recording.next_row()?.filter(|_| rows > 0) else { return Ok(None) };
        let shift_us = match (args.start, args.pace) {
            (Start::Recorded, _) => 0,
            (Start::Now, Pace::Times(_)) => now_us - first_us,
            (Start::Now, Pace::Max) => now_us - last_time(path, &layout, rows)?,
        };
        let sensors: Vec<WireSensor<'_>> =
            recording.sensors().map(|name| WireSensor { name, kind: None, unit: None }).collect();
        let encoder = Encoder::new(args.format, args.per_record, machine, &sensors);
        Ok(Some(Self { recording, encoder, next_us: first_us, first_us, shift_us, rows_left: rows - 1 }))
    }

    /// Encodes the next row and reads on; false after the last.
    fn step(&mut self, out: &mut Vec<Outgoing>) -> anyhow::Result<bool> {
        self.encoder.row(self.next_us + self.shift_us, &self.recording.cells(), out);
        let next = if self.rows_left == 0 { None } else { self.recording.next_row()? };
        self.rows_left = self.rows_left.saturating_sub(1);
        match next {
            Some(next_us) => self.next_us = next_us,
            None => self.encoder.flush(out),
        }
        Ok(next.is_some())
    }
}

fn last_time(path: &Path, layout: &Layout, rows: u64) -> anyhow::Result<i64> {
    let mut recording = Recording::open(path, layout, Arc::default())?;
    let mut last = 0;
    for _ in 0..rows {
        match recording.next_row()? {
            Some(time_us) => last = time_us,
            None => break,
        }
    }
    Ok(last)
}

/// What all runs share while they are played.
struct Playing<'a, F> {
    send: F,
    stop: &'a CancellationToken,
    progress: Progress,
    bytes: Arc<AtomicU64>,
    report: ReplayReport,
    files: usize,
}

/// Plays the runs; `send` takes the records, and says false when told to stop; `finish` says how many were
/// delivered.
fn play(
    args: &ReplayArgs,
    runs: BTreeMap<String, PathBuf>,
    clock: &dyn Clock,
    stop: &CancellationToken,
    send: impl Fn(&Outgoing) -> anyhow::Result<bool>,
    finish: impl FnOnce() -> anyhow::Result<u64>,
) -> anyhow::Result<ReplayReport> {
    let total: u64 = runs.values().filter_map(|path| path.metadata().ok()).map(|m| m.len()).sum();
    let mut playing = Playing {
        send,
        stop,
        progress: Progress::new(Some(total), args.quiet),
        bytes: Arc::default(),
        report: ReplayReport::default(),
        files: runs.len(),
    };
    let played = match args.pace {
        Pace::Max => playing.one_after_the_other(args, runs, clock),
        Pace::Times(times) => playing.together(args, runs, clock, times),
    };
    // A file that breaks off takes nothing from what was sent before.
    playing.report.records = finish()?;
    playing.report.seconds = playing.progress.seconds();
    played.with_context(|| format!("not all was replayed: {}", playing.report))?;
    playing.progress.finish();
    Ok(playing.report)
}

impl<F: Fn(&Outgoing) -> anyhow::Result<bool>> Playing<'_, F> {
    fn one_after_the_other(
        &mut self,
        args: &ReplayArgs,
        runs: BTreeMap<String, PathBuf>,
        clock: &dyn Clock,
    ) -> anyhow::Result<()> {
        let now_us = clock.now_us();
        for (machine, path) in runs {
            let mut player = Player::open(&machine, &path, args, now_us, &self.bytes)?;
            while let Some(playing) = &mut player {
                if self.stop.is_cancelled() {
                    return Ok(());
                }
                if !self.step(&machine, playing)? {
                    player = None;
                }
            }
            self.report.files += 1;
        }
        Ok(())
    }

    /// All runs start now; each row is sent when it is due, at once with all that are due before the next.
    fn together(
        &mut self,
        args: &ReplayArgs,
        runs: BTreeMap<String, PathBuf>,
        clock: &dyn Clock,
        times: f64,
    ) -> anyhow::Result<()> {
        let start_us = clock.now_us();
        let mut players = Vec::new();
        for (machine, path) in runs {
            match Player::open(&machine, &path, args, start_us, &self.bytes)? {
                Some(player) => players.push((machine, player)),
                None => self.report.files += 1,
            }
        }
        let due = |player: &Player| {
            start_us.saturating_add(((player.next_us - player.first_us) as f64 / times) as i64)
        };
        while !players.is_empty() && !self.stop.is_cancelled() {
            let now_us = clock.now_us();
            let mut i = 0;
            while i < players.len() {
                let (machine, player) = &mut players[i];
                let mut more = true;
                while more && due(player) <= now_us && !self.stop.is_cancelled() {
                    more = self.step(machine, player)?;
                }
                let mut rest = Vec::new();
                player.encoder.flush(&mut rest);
                self.hand_over(machine, &rest)?;
                if more {
                    i += 1;
                } else {
                    players.swap_remove(i);
                    self.report.files += 1;
                }
            }
            let next_us = players.iter().map(|(_, player)| due(player)).min().unwrap_or(now_us);
            let nap_us = (next_us - clock.now_us()).clamp(0, NAP_MAX_US);
            std::thread::sleep(Duration::from_micros(nap_us.unsigned_abs()));
        }
        Ok(())
    }

    /// Plays one row; false after the run's last.
    fn step(&mut self, machine: &str, player: &mut Player) -> anyhow::Result<bool> {
        let mut out = Vec::new();
        let more = player.step(&mut out)?;
        self.report.rows += 1;
        self.hand_over(machine, &out)?;
        Ok(more)
    }

    fn hand_over(&mut self, machine: &str, records: &[Outgoing]) -> anyhow::Result<()> {
        for record in records {
            if !(self.send)(record)? {
                return Ok(());
            }
            self.report.readings += u64::from(record.readings);
        }
        let (bytes, files) = (self.bytes.load(Ordering::Relaxed), self.files);
        let done = self.report.files;
        self.progress.at(bytes, self.report.readings, || format!("file {} of {files}: {machine}", done + 1));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
