//! How well models find labelled events in recordings, beside window-PCA:
//!
//! ```text
//! cargo run --release -p stillwell-models --example evaluate -- FOLDER…
//! ```
//!
//! A folder holds `<run>.csv.gz` with columns `time,phase,<sensor…>,label`. A model is trained on the first 400 rows
//! (or all rows of phase `train`, with `--whole`), and scores all the others. Printed per folder: ROC AUC of the scores
//! against the row labels, F1 of the rows above the threshold, labelled events with an alarm inside, and false alarms
//! per 1,000 normal rows.

#![allow(clippy::print_stdout, reason = "a table for people")]

use std::error::Error;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use flate2::read::GzDecoder;
use stillwell_models::pca::WindowPca;
use stillwell_models::{Alarm, ScorerState, TrainSettings, train};

struct Recording {
    sensors: Vec<String>,
    train: Vec<f32>,
    test: Vec<f32>,
    labels: Vec<bool>,
}

fn read(path: &Path, is_whole: bool) -> Result<Recording, Box<dyn Error>> {
    let mut text = String::new();
    GzDecoder::new(std::fs::File::open(path)?).read_to_string(&mut text)?;
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers()?.clone();
    let sensors: Vec<String> = header.iter().skip(2).take(header.len() - 3).map(str::to_owned).collect();
    let mut recording = Recording { sensors, train: Vec::new(), test: Vec::new(), labels: Vec::new() };
    for (number, record) in reader.records().enumerate() {
        let record = record?;
        let is_train = if is_whole { &record[1] == "train" } else { number < 400 };
        let cells = record.iter().skip(2).take(record.len() - 3).map(|cell| cell.parse().unwrap_or(f32::NAN));
        if is_train {
            recording.train.extend(cells);
        } else {
            recording.test.extend(cells);
            recording.labels.push(&record[record.len() - 1] == "1");
        }
    }
    Ok(recording)
}

#[derive(Default)]
struct Tally {
    runs: f64,
    auc: f64,
    hits: f64,
    above: f64,
    positive: f64,
    normal: f64,
    events: f64,
    found: f64,
    false_alarms: f64,
}

impl Tally {
    fn take(&mut self, scores: &[f32], threshold: f32, raised: &[bool], labels: &[bool]) {
        if labels.iter().any(|&label| label) {
            self.runs += 1.0;
            self.auc += auc(scores, labels);
        }
        for (at, (&score, &label)) in scores.iter().zip(labels).enumerate() {
            let is_above = score > threshold;
            self.above += f64::from(u8::from(is_above));
            self.positive += f64::from(u8::from(label));
            self.hits += f64::from(u8::from(is_above && label));
            self.normal += f64::from(u8::from(!label));
            self.false_alarms += f64::from(u8::from(raised[at] && !label));
            if label && (at == 0 || !labels[at - 1]) {
                let length = labels[at..].iter().take_while(|&&label| label).count();
                self.events += 1.0;
                let is_found = scores[at..at + length].iter().any(|&score| score > threshold);
                self.found += f64::from(u8::from(is_found));
            }
        }
    }

    fn print(&self, name: &str) {
        let (precision, recall) = (self.hits / self.above.max(1.0), self.hits / self.positive.max(1.0));
        let f1 = 2.0 * precision * recall / (precision + recall).max(1e-9);
        println!(
            "{name:14} AUC {:.3}  F1 {f1:.3}  events {}/{}  false alarms/1000 {:.2}",
            self.auc / self.runs.max(1.0),
            self.found,
            self.events,
            1000.0 * self.false_alarms / self.normal.max(1.0)
        );
    }
}

fn auc(scores: &[f32], labels: &[bool]) -> f64 {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    let (mut ranks, mut positive) = (0.0, 0.0);
    for (rank, &at) in order.iter().enumerate() {
        if labels[at] {
            ranks += rank as f64 + 1.0;
            positive += 1.0;
        }
    }
    let negative = scores.len() as f64 - positive;
    (ranks - positive * (positive + 1.0) / 2.0) / (positive * negative).max(1.0)
}

fn main() -> Result<(), Box<dyn Error>> {
    let (mut is_whole, mut folders) = (false, Vec::new());
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--whole" => is_whole = true,
            folder => folders.push(PathBuf::from(folder)),
        }
    }
    for folder in folders {
        let (mut ours, mut theirs) = (Tally::default(), Tally::default());
        let (mut train_s, mut score_s, mut rows) = (0.0, 0.0, 0.0);
        let mut runs: Vec<PathBuf> =
            std::fs::read_dir(&folder)?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
        runs.sort();
        for run in runs.iter().filter(|run| run.extension().is_some_and(|extension| extension == "gz")) {
            let recording = read(run, is_whole)?;
            let began = Instant::now();
            let model = train(&recording.sensors, &recording.train, &TrainSettings::default())?;
            train_s += began.elapsed().as_secs_f64();
            let began = Instant::now();
            let scores = model.score(&mut ScorerState::new(&model), &recording.test);
            score_s += began.elapsed().as_secs_f64();
            rows += scores.len() as f64;
            let raised: Vec<bool> = scores.iter().map(|score| score.alarm == Alarm::Raised).collect();
            let values: Vec<f32> = scores.iter().map(|score| score.score).collect();
            ours.take(&values, model.threshold(), &raised, &recording.labels);
            if recording.sensors.len() <= 20 {
                let pca = WindowPca::fit(recording.sensors.len(), &recording.train)?;
                let raw = pca.score(&recording.test);
                let raised: Vec<bool> =
                    (0..raw.len()).map(|at| raw[at] > 2.0 && (at == 0 || raw[at - 1] <= 2.0)).collect();
                theirs.take(&raw, 2.0, &raised, &recording.labels);
            }
        }
        println!(
            "{} ({} runs): training {:.0} ms a run, scoring {:.1} µs a row",
            folder.display(),
            runs.len(),
            1e3 * train_s / runs.len() as f64,
            1e6 * score_s / rows
        );
        ours.print("autoencoder");
        theirs.print("window-PCA");
    }
    Ok(())
}
