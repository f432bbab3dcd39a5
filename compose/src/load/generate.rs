//! `stillwell generate`: the simulated plant into Kafka, paced by the clock or as fast as it goes.

use std::fmt;
use std::fs::File;
use std::io::{LineWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use stillwell_schema::Clock;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::parse::{duration, time_us};
use super::plant::Plant;
use super::producer::LoadProducer;
use super::progress::{Progress, grouped};
use super::target::TargetArgs;
use super::transport::{Transport, TroubleArgs, TroubleReport};
use super::wire::{Format, Outgoing};
use resume::Resume;
use stream::Stream;

mod resume;
mod stream;

/// In live running, a record waits this long for more readings of its machine.
const LINGER_US: i64 = 100_000;
/// Stopping is noticed within this.
const NAP_MAX_US: i64 = 50_000;

const EXAMPLES: &str = "\
Examples:
  stillwell generate                                     12 machines, a reading per sensor and second
  stillwell generate --history 2h                        two hours of past first, then live
  stillwell generate --machines 200 --sensors 50 --rate 20000
  stillwell generate --rate 0 --count 10000000 --machines 200 --sensors 50 --per-record 1000
  stillwell generate --rate 0 --count 500000 --from 2026-01-05T06:00:00Z --seed 7    the same again
  stillwell generate --faults-every 30s --fault-log faults.jsonl --late 0.01 --malformed 0.001";

/// A simulated plant into Kafka.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct GenerateArgs {
    /// Machines: pumps, motors and ovens in turn
    #[arg(long, default_value_t = 12)]
    pub machines: usize,
    /// Sensors per machine
    #[arg(long, default_value_t = 6)]
    pub sensors: usize,
    /// How often each machine is sampled
    #[arg(long, default_value = "1s", value_parser = duration, value_name = "DURATION")]
    pub interval: Duration,
    /// Readings per second over all machines, in place of --interval; 0 is as fast as it goes, with the
    /// past that --count readings need, at --interval, ending now
    #[arg(long, value_name = "READINGS")]
    pub rate: Option<f64>,
    /// First produce this much past, as fast as it goes, and then go on live
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    pub history: Option<Duration>,
    /// Time of the first reading, RFC 3339, in place of --history; with --rate 0 the plant is a function of
    /// this and the seed
    #[arg(long, value_parser = time_us, value_name = "TIME", conflicts_with = "history")]
    pub from: Option<i64>,
    /// Keep in this file how far the plant is, and go on from there at the next start
    #[arg(long, value_name = "FILE")]
    pub resume: Option<PathBuf>,
    /// Stop after this many readings (those that faults drop do not count)
    #[arg(long, value_name = "READINGS")]
    pub count: Option<u64>,
    /// Form of a record's value
    #[arg(long, value_enum, default_value_t = Format::Array)]
    pub format: Format,
    /// Readings per record at most, in arrays and batches
    #[arg(long, default_value_t = 100, value_name = "READINGS")]
    pub per_record: usize,
    /// Everything follows from the seed and the time
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Mean time between faults of the plant; 0s for none
    #[arg(long, default_value = "5m", value_parser = duration, value_name = "DURATION")]
    pub faults_every: Duration,
    /// No fault starts in this first stretch of the plant's time
    #[arg(long, default_value = "10m", value_parser = duration, value_name = "DURATION")]
    pub faults_after: Duration,
    /// Write each fault to this file as a line of JSON
    #[arg(long, value_name = "FILE")]
    pub fault_log: Option<PathBuf>,
    /// Show no progress
    #[arg(long)]
    pub quiet: bool,
    /// Where to.
    #[command(flatten)]
    pub target: TargetArgs,
    /// What the network does.
    #[command(flatten)]
    pub trouble: TroubleArgs,
}

impl Default for GenerateArgs {
    fn default() -> Self {
        Self {
            target: TargetArgs::default(),
            machines: 12,
            sensors: 6,
            interval: Duration::from_secs(1),
            rate: None,
            history: None,
            from: None,
            resume: None,
            count: None,
            format: Format::Array,
            per_record: 100,
            seed: 1,
            faults_every: Duration::from_secs(300),
            faults_after: Duration::from_secs(600),
            fault_log: None,
            quiet: false,
            trouble: TroubleArgs::default(),
        }
    }
}

impl GenerateArgs {
    /// The plant of `stillwell up --demo`: two hours of past, the first of them without faults, which is
    /// more than commissioning needs; then live, with a fault every half minute and a little trouble.
    #[must_use]
    pub fn demo() -> Self {
        Self {
            history: Some(Duration::from_secs(7200)),
            format: Format::Batch,
            per_record: 600,
            faults_every: Duration::from_secs(30),
            faults_after: Duration::from_secs(3600),
            quiet: true,
            trouble: TroubleArgs { late: 0.002, out_of_order: 0.002, duplicate: 0.001, malformed: 0.0005 },
            ..Self::default()
        }
    }

    /// How fast, and from when on.
    fn pace(&self, now_us: i64) -> anyhow::Result<Pace> {
        if self.machines == 0 || self.sensors == 0 {
            bail!("a plant has at least one machine with one sensor");
        }
        let row = self.machines as f64 * self.sensors as f64;
        let history_us = self.history.unwrap_or_default().as_secs_f64() * 1e6;
        let (interval_us, live) = match self.rate {
            Some(rate) if rate > 0.0 && rate.is_finite() => (row / rate * 1e6, true),
            Some(0.0) => (self.interval.as_secs_f64() * 1e6, false),
            Some(rate) => bail!("--rate {rate} is no rate; say readings per second, or 0"),
            None => (self.interval.as_secs_f64() * 1e6, true),
        };
        if interval_us < 1.0 {
            bail!("machines cannot be sampled more often than once a microsecond; give them more sensors");
        }
        let past_us = match (live, self.count) {
            (true, _) => history_us,
            (false, Some(count)) => history_us.max((count as f64 / row).ceil() * interval_us),
            (false, None) => bail!("--rate 0 needs --count: how many readings to make"),
        };
        let start_us = self.from.unwrap_or(now_us - past_us as i64);
        Ok(Pace { start_us, interval_us: interval_us as i64, live })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pace {
    start_us: i64,
    interval_us: i64,
    live: bool,
}

/// What was produced.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct GenerateReport {
    /// Readings of the plant, each counted once.
    pub readings: u64,
    /// Records confirmed by the broker, second and damaged copies included.
    pub records: u64,
    /// Faults that began.
    pub faults: u64,
    /// What the network did.
    pub trouble: TroubleReport,
    /// How long it took.
    pub seconds: f64,
}

impl fmt::Display for GenerateReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TroubleReport { late, out_of_order, duplicates, duplicate_readings, malformed } = self.trouble;
        let (readings, records) = (grouped(self.readings), grouped(self.records));
        write!(
            f,
            "{readings} readings in {records} records in {:.1} s; {} faults; ",
            self.seconds, self.faults
        )?;
        write!(f, "records: {late} late, {out_of_order} out of order, {duplicates} twice ")?;
        write!(f, "({duplicate_readings} readings), {malformed} malformed extra")
    }
}

/// Runs until `--count` readings are delivered or it is told to stop.
///
/// # Errors
/// If the arguments contradict each other, Kafka cannot be reached, or a record is not delivered.
pub async fn run(
    args: GenerateArgs,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) -> anyhow::Result<GenerateReport> {
    // Making readings is CPU work and the producer blocks, so neither runs on the runtime's threads.
    tokio::task::spawn_blocking(move || Drive::new(args, clock, stop)?.run()).await?
}

struct Drive {
    stream: Stream,
    transport: Transport,
    producer: LoadProducer,
    fault_log: Option<LineWriter<File>>,
    progress: Progress,
    resume: Option<Resume>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
    live: bool,
    report: GenerateReport,
}

impl Drive {
    fn new(args: GenerateArgs, clock: Arc<dyn Clock>, stop: CancellationToken) -> anyhow::Result<Self> {
        let mut pace = args.pace(clock.now_us())?;
        let resume = args.resume.as_deref().map(|file| Resume::open(file, pace.start_us)).transpose()?;
        let origin_us = resume.as_ref().map_or(pace.start_us, Resume::origin_us);
        // What came before the start is past, also where the plant stood still for longer.
        pace.start_us = resume.as_ref().map_or(pace.start_us, |resume| pace.start_us.max(resume.next_us()));
        let fault_log = args.fault_log.as_ref().map(|path| {
            let file = File::options().create(true).append(true).open(path);
            file.map(LineWriter::new).with_context(|| format!("cannot write {}", path.display()))
        });
        let plant = Plant::new(args.machines, args.sensors, args.seed);
        Ok(Self {
            fault_log: fault_log.transpose()?,
            producer: LoadProducer::connect(&args.target)?,
            stream: Stream::new(&args, plant, origin_us, pace.start_us, pace.interval_us),
            transport: Transport::new(args.trouble, args.seed),
            progress: Progress::new(args.count, args.quiet),
            resume,
            clock,
            stop,
            live: pace.live,
            report: GenerateReport::default(),
        })
    }

    fn run(mut self) -> anyhow::Result<GenerateReport> {
        let mut made = Vec::new();
        let mut flushed_us = self.clock.now_us();
        while !self.stop.is_cancelled() && !self.stream.is_done() {
            if self.live {
                let now_us = self.clock.now_us();
                let due_us = self.stream.next_us();
                if due_us > now_us {
                    let flush_us = flushed_us + LINGER_US;
                    if now_us >= flush_us || due_us >= flush_us {
                        self.stream.flush(&mut made);
                        flushed_us = now_us;
                        self.send(&mut made)?;
                        self.note(now_us)?;
                    }
                    nap((due_us - now_us).min(NAP_MAX_US));
                    continue;
                }
            }
            self.stream.step(&mut made);
            self.log_faults()?;
            self.send(&mut made)?;
        }
        self.stream.flush(&mut made);
        self.send(&mut made)?;
        let mut held = Vec::new();
        self.transport.finish(&mut held);
        self.hand_over(&held)?;
        self.finish()
    }

    fn send(&mut self, made: &mut Vec<Outgoing>) -> anyhow::Result<()> {
        let mut arriving = Vec::with_capacity(made.len());
        for record in made.drain(..) {
            self.transport.pass(record, &mut arriving);
        }
        self.hand_over(&arriving)
    }

    fn hand_over(&mut self, records: &[Outgoing]) -> anyhow::Result<()> {
        // What is made is sent also when told to stop, so that the report's counts are those of the topic; only
        // a broker that takes nothing any more is not waited for then.
        for record in records {
            if !self.producer.send(record, &self.stop)? {
                bail!("stopped while the broker takes no records; those that wait are lost");
            }
        }
        let readings = self.stream.readings();
        let failed = self.producer.counts().failed;
        self.progress.at(readings, readings, || match failed {
            0 => String::new(),
            failed => format!("{failed} records not delivered"),
        });
        Ok(())
    }

    fn log_faults(&mut self) -> anyhow::Result<()> {
        for fault in self.stream.take_begun() {
            self.report.faults += 1;
            let line = serde_json::to_string(&fault.line(self.stream.plant()))?;
            info!(fault = line, "a fault begins in the simulated plant");
            if let Some(log) = &mut self.fault_log {
                writeln!(log, "{line}").context("cannot write the fault log")?;
            }
        }
        Ok(())
    }

    /// Notes how far the plant is: all before the next step is handed over.
    fn note(&mut self, now_us: i64) -> anyhow::Result<()> {
        let next_us = self.stream.next_us();
        self.resume.as_mut().map_or(Ok(()), |resume| resume.note(next_us, now_us))
    }

    fn finish(mut self) -> anyhow::Result<GenerateReport> {
        let delivered = self.producer.finish(&self.stop)?;
        self.note(i64::MAX)?;
        self.report.readings = self.stream.readings();
        self.report.records = delivered.delivered;
        self.report.trouble = self.transport.report();
        self.report.seconds = self.progress.seconds();
        self.progress.finish();
        Ok(self.report)
    }
}

fn nap(us: i64) {
    std::thread::sleep(Duration::from_micros(us.max(0).unsigned_abs()));
}

#[cfg(test)]
mod tests;
