//! Fits a model to a machine's commissioning rows.
//!
//! The first part of the rows trains the network, with a little noise on its inputs (a denoising autoencoder,
//! Vincent et al. 2008); the held-out rest says how large residuals and scores are when all is normal.

use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Tensor, TensorData};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use crate::error::ModelError;
use crate::features::{CHANNELS, INPUT_CHANNELS, references};
use crate::model::{Model, Parts};
use crate::network::{Network, Shape, first_weights};
use crate::score::{Examined, ScorerState, gather, smooth};

/// Fewer rows say nothing.
pub const ROWS_MIN: usize = 64;
/// A residual is never held for smaller than this, in spreads.
const RESIDUAL_MIN: f32 = 0.08;

/// How a model is trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainSettings {
    /// Of the first weights, the order of rows and the noise.
    pub seed: u64,
    /// Passes over the rows.
    pub epochs: usize,
    /// Rows a step.
    pub batch: usize,
    /// Step size at the start; it falls to a tenth.
    pub learning_rate: f64,
    /// Noise on the inputs, in spreads.
    pub noise: f32,
    /// Share of cells that a step leaves out, so that the network gets along without any of them.
    pub missing: f32,
    /// Share of the rows that trains; the rest calibrates.
    pub fit_share: f64,
    /// The threshold over the largest calibration score.
    pub margin: f32,
}

impl Default for TrainSettings {
    fn default() -> Self {
        Self {
            seed: 1,
            epochs: 40,
            batch: 50,
            learning_rate: 4e-3,
            noise: 0.15,
            missing: 0.05,
            fit_share: 0.75,
            margin: 1.5,
        }
    }
}

/// Trains a model on `rows`, one cell a sensor and row, NaN where missing. The same rows and settings give
/// the same model. Takes tens of milliseconds for a few hundred rows.
///
/// # Errors [`ModelError::TooFew`] below 64 rows or without a sensor, [`ModelError::Ragged`] where the last
/// row is cut, [`ModelError::NotFinite`] where training comes to no numbers.
pub fn train(sensors: &[String], rows: &[f32], settings: &TrainSettings) -> Result<Model, ModelError> {
    let width = sensors.len();
    if width == 0 || rows.len() / width < ROWS_MIN {
        let count = rows.len().checked_div(width).unwrap_or(0);
        return Err(ModelError::TooFew { rows: count, sensors: width, least: ROWS_MIN });
    }
    if !rows.len().is_multiple_of(width) {
        return Err(ModelError::Ragged { cells: rows.len(), sensors: width });
    }
    let count = rows.len() / width;
    let shape = Shape::of(width);
    let mut parts = Parts {
        sensors: sensors.to_vec(),
        references: references(width, rows),
        residuals: vec![1.0; shape.output],
        threshold: f32::MAX,
        rows: u32::try_from(count).unwrap_or(u32::MAX),
        weights: first_weights(&shape, settings.seed),
    };
    let draft = Model::new(parts.clone());
    let Examined { inputs, targets, stalled } = draft.examine(&mut ScorerState::new(&draft), rows);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a count"
    )]
    let fitted = ((count as f64 * settings.fit_share) as usize).clamp(1, count - 1);
    parts.weights = fit(&shape, &inputs, &targets, fitted, settings);
    let model = Model::new(parts.clone());
    let outputs = model.reconstruct(inputs, count);
    parts.residuals = residual_sizes(&shape, &targets, &outputs, fitted);

    let model = Model::new(parts.clone());
    let mut state = ScorerState::new(&model);
    let raw = (0..count).map(|row| {
        let cells = row * shape.output..(row + 1) * shape.output;
        let (seen, given) = (&targets[cells.clone()], &outputs[cells]);
        let raw = gather(&model.by_sensor(&state, seen, given, &stalled[row * width..(row + 1) * width]));
        model.settle(&mut state, seen, given);
        raw
    });
    let highest = smooth(raw).skip(fitted).fold(1.0, f32::max);
    parts.threshold = settings.margin * highest;
    match parts.not_finite() {
        Some(what) => Err(ModelError::NotFinite { what }),
        None => Ok(Model::new(parts)),
    }
}

/// Fits the network to the first `fitted` rows; gives its weights.
fn fit(shape: &Shape, inputs: &[f32], targets: &[f32], fitted: usize, settings: &TrainSettings) -> Vec<f32> {
    let device = Device::flex().autodiff();
    let mut network = Network::new(shape, &first_weights(shape, settings.seed), &device);
    let mut optimizer = AdamWConfig::new().with_weight_decay(1e-4).init();
    let mut chance = SmallRng::seed_from_u64(settings.seed ^ 0x5eed);
    let mut order: Vec<usize> = (0..fitted).collect();
    let steps = settings.epochs * fitted.div_ceil(settings.batch);
    let mut step = 0;
    for _ in 0..settings.epochs {
        order.shuffle(&mut chance);
        for some in order.chunks(settings.batch) {
            #[allow(clippy::cast_precision_loss, reason = "a share of the steps")]
            let rate = settings.learning_rate * (1.0 - 0.9 * f64::from(step) / steps as f64);
            let batch = Batch::new(shape, inputs, targets, some, settings, &mut chance);
            let loss = batch.loss(shape, &network, &device);
            let gradients = GradientsParams::from_grads(loss.backward(), &network);
            network = optimizer.step(rate, network, gradients);
            step += 1;
        }
    }
    network.valid().weights()
}

/// Some rows, as a step takes them.
struct Batch {
    count: usize,
    inputs: Vec<f32>,
    targets: Vec<f32>,
    mask: Vec<f32>,
}

impl Batch {
    fn new(
        shape: &Shape,
        inputs: &[f32],
        targets: &[f32],
        rows: &[usize],
        settings: &TrainSettings,
        chance: &mut SmallRng,
    ) -> Self {
        let mut batch = Self { count: rows.len(), inputs: Vec::new(), targets: Vec::new(), mask: Vec::new() };
        for &row in rows {
            for cell in inputs[row * shape.input..(row + 1) * shape.input].chunks_exact(INPUT_CHANNELS) {
                if cell[CHANNELS] == 0.0 || chance.random::<f32>() < settings.missing {
                    batch.inputs.extend([0.0; INPUT_CHANNELS]);
                    continue;
                }
                // The sum of three uniform numbers is close enough to a bell.
                let mut bell =
                    || 2.0 * (chance.random::<f32>() + chance.random::<f32>() + chance.random::<f32>()) - 3.0;
                batch.inputs.extend(cell[..CHANNELS].iter().map(|feature| feature + settings.noise * bell()));
                batch.inputs.push(1.0);
            }
            for &target in &targets[row * shape.output..(row + 1) * shape.output] {
                batch.targets.push(if target.is_nan() { 0.0 } else { target });
                batch.mask.push(f32::from(u8::from(!target.is_nan())));
            }
        }
        batch
    }

    /// Mean square of the residuals of what is there.
    fn loss(self, shape: &Shape, network: &Network, device: &Device) -> Tensor<1> {
        let Self { count, inputs, targets, mask } = self;
        let present: f32 = mask.iter().sum();
        let inputs = Tensor::<2>::from_data(TensorData::new(inputs, [count, shape.input]), device);
        let targets = Tensor::<2>::from_data(TensorData::new(targets, [count, shape.output]), device);
        let mask = Tensor::<2>::from_data(TensorData::new(mask, [count, shape.output]), device);
        let residuals = (network.forward(inputs) - targets) * mask;
        (residuals.clone() * residuals).sum().div_scalar(present.max(1.0))
    }
}

/// The normal size of each output's residual: root mean square over the held-out rows, but no less than over
/// the fitted ones.
fn residual_sizes(shape: &Shape, targets: &[f32], outputs: &[f32], fitted: usize) -> Vec<f32> {
    let size = |output: usize, from: usize, to: usize| {
        let (mut sum, mut count) = (0.0f64, 0.0f64);
        for row in from..to {
            let at = row * shape.output + output;
            if !targets[at].is_nan() {
                sum += f64::from(targets[at] - outputs[at]).powi(2);
                count += 1.0;
            }
        }
        #[allow(clippy::cast_possible_truncation, reason = "statistics in f64, sizes in f32")]
        let size = if count == 0.0 { 1.0 } else { (sum / count).sqrt() as f32 };
        size
    };
    let rows = targets.len() / shape.output;
    (0..CHANNELS * shape.sensors)
        .map(|output| size(output, 0, fitted).max(size(output, fitted, rows)).max(RESIDUAL_MIN))
        .collect()
}
