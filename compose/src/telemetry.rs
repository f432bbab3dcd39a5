//! Logs, metrics and health of the process.

use std::fs;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::routing::get;
use metrics::{describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use stillwell_query::{health_of, metrics_of};
use stillwell_schema::health::Board;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use tracing_subscriber::EnvFilter;

use crate::config::Telemetry;

/// From what counts as late to a week.
const LATENESS_SECONDS: [f64; 9] = [15.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21_600.0, 86_400.0, 604_800.0];

/// How often the process looks at itself.
const SELF_EVERY: Duration = Duration::from_secs(5);

/// Sets up logging to standard error. A filter of the command line goes before `RUST_LOG`, and that before the
/// config's.
///
/// # Errors
/// If the filter or the format is not understood.
pub fn init_logs(
    settings: &Telemetry,
    flag: Option<String>,
    env: impl Fn(&str) -> Option<String>,
) -> anyhow::Result<()> {
    let filter = flag.or_else(|| env("RUST_LOG")).unwrap_or_else(|| settings.log.clone());
    let filter =
        EnvFilter::try_new(&filter).with_context(|| format!("log filter {filter:?} is not understood"))?;
    let is_terminal = std::io::stderr().is_terminal();
    let logs =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(is_terminal);
    match settings.log_format.as_str() {
        "text" => logs.with_target(false).init(),
        "json" => logs.json().init(),
        other => anyhow::bail!("log format {other:?} is neither text nor json"),
    }
    Ok(())
}

/// Installs the metrics recorder of the process.
///
/// # Errors
/// If one is installed already.
pub fn init_metrics() -> anyhow::Result<PrometheusHandle> {
    let seconds: Vec<f64> = vec![0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];
    // From 64 KiB by fours to 1 GiB.
    let bytes: Vec<f64> = (8..16).map(|power| 4f64.powi(power)).collect();
    let handle = PrometheusBuilder::new()
        .set_buckets(&seconds)
        .and_then(|builder| {
            builder.set_buckets_for_metric(Matcher::Full("stillwell_batch_bytes".to_owned()), &bytes)
        })
        .and_then(|builder| {
            let lateness = Matcher::Full("stillwell_lateness_seconds".to_owned());
            builder.set_buckets_for_metric(lateness, &LATENESS_SECONDS)
        })
        .context("cannot set histogram buckets")?
        .install_recorder()
        .context("cannot install the metrics recorder")?;
    describe_gauge!("process_resident_memory_bytes", "resident memory of this process");
    describe_gauge!("process_cpu_seconds", "CPU time of this process, user and system");
    describe_gauge!("stillwell_lane_state", "1 for the state that a lane is in, 0 for the others");
    describe_gauge!(
        "stillwell_store_wait_seconds",
        "for how long a lane's commit has been waiting for the archive's store; 0 while none waits"
    );
    describe_gauge!("stillwell_machine_versions", "versions of machines in a stage's copy of the registry");
    describe_gauge!(
        "stillwell_machines_age_seconds",
        "time since the machine registry's topic was last read to its end, as a stage's copy shows it"
    );
    describe_counter!(
        "stillwell_machine_records_refused_total",
        "records of the machine registry that say nothing and were passed over"
    );
    describe_histogram!("stillwell_alert_seconds", "from when an alert is raised until it is published");
    describe_memory();
    describe_honesty();
    Ok(handle)
}

fn describe_honesty() {
    describe_gauge!(
        "stillwell_watermark_offset",
        "next offset of a stage in a partition, by mark: received, durable (ingest), visible (aggregate)"
    );
    describe_counter!(
        "stillwell_late_readings_total",
        "readings more than 10 s behind the largest time of their machine"
    );
    describe_counter!(
        "stillwell_unmeasured_lateness_total",
        "readings of machines beyond the 100,000 of a partition whose lateness is measured"
    );
    describe_histogram!("stillwell_lateness_seconds", "by how much late readings are behind");
    describe_gauge!(
        "stillwell_clock_skew_seconds",
        "Kafka timestamp less newest reading time, of the machines of a partition that are furthest ahead (least) and behind (most); the view machine_lateness says which"
    );
    describe_counter!("stillwell_reconciled_hours_total", "hours whose views were compared with the archive");
    describe_gauge!(
        "stillwell_reconcile_differences",
        "machines times hours whose views differ from the archive"
    );
}

fn describe_memory() {
    describe_gauge!("stillwell_memory_budget_bytes", "memory_bytes_max of a stage");
    describe_gauge!("stillwell_memory_budget_used_bytes", "what a stage holds of its budget");
    describe_gauge!(
        "stillwell_memory_used_bytes",
        "what a stage holds of its budget: kafka (what librdkafka may read ahead, chunks that are being cut or wait for room), chunks (not decoded yet, with what decoding will make of them), batches (open), decoders (what they know of their streams), encoders (batches on their way, and encoding them), files (not committed yet)"
    );
    describe_gauge!("stillwell_memory_peak_bytes", "the most that a stage has held at once");
    describe_counter!(
        "stillwell_flushes_total",
        "commits begun, by reason: freshness, size, memory, gaps, failures, stop"
    );
    describe_histogram!("stillwell_batch_bytes", "bytes of records in a commit");
}

/// Keeps the process's own gauges up to date, and the histograms of `metrics` trimmed, for ever.
pub async fn watch_self(metrics: PrometheusHandle) {
    let mut tick = tokio::time::interval(SELF_EVERY);
    loop {
        tick.tick().await;
        metrics.run_upkeep();
        if let Some((memory_bytes, cpu_seconds)) = measure() {
            gauge!("process_resident_memory_bytes").set(memory_bytes);
            gauge!("process_cpu_seconds").set(cpu_seconds);
        }
    }
}

/// Serves `/health` and `/metrics` of a process without the query side, until `stop`; says where.
///
/// # Errors
/// If the address cannot be had.
pub async fn serve(
    address: SocketAddr,
    board: Board,
    metrics: PrometheusHandle,
    stop: CancellationToken,
) -> anyhow::Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind(address);
    let listener = listener.await.with_context(|| format!("cannot listen on {address}"))?;
    let bound = listener.local_addr()?;
    tokio::spawn(watch_self(metrics.clone()));
    let router = Router::new()
        .route("/health", get(move || async move { health_of(&board) }))
        .route("/metrics", get(move || async move { metrics_of(&metrics) }));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
        {
            warn!(%error, "health and metrics are no longer served");
        }
    });
    Ok(bound)
}

/// Resident bytes and CPU seconds, from `/proc/self/stat` (proc(5)); none where there is no such file.
fn measure() -> Option<(f64, f64)> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // Fields after the command's closing parenthesis start with the state, field 3.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
    const PAGE_BYTES: f64 = 4096.0;
    const TICKS_PER_SECOND: f64 = 100.0;
    Some((number(24)? * PAGE_BYTES, (number(14)? + number(15)?) / TICKS_PER_SECOND))
}
