//! The network: an autoencoder over a window of rows, which gives back the newest of them.
//!
//! `[batch, WINDOW · INPUT_CHANNELS · sensors]` → hidden → code → hidden → `[batch, CHANNELS · sensors]`. The
//! code is narrower than the row, so only what the sensors do together passes.

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData, activation};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::features::{CHANNELS, INPUT_CHANNELS, WINDOW};

/// Sizes of a network, all following from the number of sensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Sensors.
    pub sensors: usize,
    /// Cells of the input.
    pub input: usize,
    /// Units of the outer layers.
    pub hidden: usize,
    /// Units of the code.
    pub code: usize,
    /// Cells of the output.
    pub output: usize,
}

impl Shape {
    /// The sizes for a number of sensors.
    #[must_use]
    pub fn of(sensors: usize) -> Self {
        Self {
            sensors,
            input: WINDOW * INPUT_CHANNELS * sensors,
            hidden: (3 * sensors).clamp(16, 64),
            code: sensors.div_ceil(2).clamp(1, 10),
            output: CHANNELS * sensors,
        }
    }

    /// Inputs and outputs of each layer.
    fn layers(&self) -> [(usize, usize); 4] {
        [
            (self.input, self.hidden),
            (self.hidden, self.code),
            (self.code, self.hidden),
            (self.hidden, self.output),
        ]
    }

    /// Number of weights in all.
    #[must_use]
    pub fn weights(&self) -> usize {
        self.layers().iter().map(|(inputs, outputs)| (inputs + 1) * outputs).sum()
    }
}

/// The autoencoder.
#[derive(Module, Debug)]
pub struct Network {
    first: Linear,
    code: Linear,
    second: Linear,
    output: Linear,
}

impl Network {
    /// A network with given weights: per layer the matrix row by row `[inputs, outputs]`, then the bias.
    ///
    /// # Panics
    /// If there are not [`Shape::weights`] of them.
    #[must_use]
    pub fn new(shape: &Shape, weights: &[f32], device: &Device) -> Self {
        assert_eq!(weights.len(), shape.weights(), "as many weights as the shape has");
        let mut rest = weights;
        let [first, code, second, output] = shape.layers().map(|(inputs, outputs)| {
            let (matrix, tail) = rest.split_at(inputs * outputs);
            let (bias, tail) = tail.split_at(outputs);
            rest = tail;
            let mut linear = LinearConfig::new(inputs, outputs).init(device);
            linear.weight = Param::from_data(TensorData::new(matrix.to_vec(), [inputs, outputs]), device);
            linear.bias = Some(Param::from_data(TensorData::new(bias.to_vec(), [outputs]), device));
            linear
        });
        Self { first, code, second, output }
    }

    /// Its weights, as [`Network::new`] takes them.
    #[must_use]
    pub fn weights(&self) -> Vec<f32> {
        let mut all = Vec::new();
        for linear in [&self.first, &self.code, &self.second, &self.output] {
            all.extend(floats(linear.weight.val().into_data()));
            all.extend(linear.bias.iter().flat_map(|bias| floats(bias.val().into_data())));
        }
        all
    }

    /// `[batch, input]` → `[batch, output]`.
    #[must_use]
    pub fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        let hidden = activation::relu(self.first.forward(input));
        let code = self.code.forward(hidden);
        let hidden = activation::relu(self.second.forward(code));
        self.output.forward(hidden)
    }
}

/// The f32 values of a tensor's data.
pub(crate) fn floats(data: TensorData) -> Vec<f32> {
    data.try_into_vec::<f32>().unwrap_or_default()
}

/// First weights, after Glorot and Bengio (2010): uniform within `sqrt(6 / (inputs + outputs))`, biases 0.
#[must_use]
pub fn first_weights(shape: &Shape, seed: u64) -> Vec<f32> {
    let mut chance = SmallRng::seed_from_u64(seed);
    let mut weights = Vec::with_capacity(shape.weights());
    for (inputs, outputs) in shape.layers() {
        #[allow(clippy::cast_precision_loss, reason = "layer sizes are small")]
        let bound = (6.0 / (inputs + outputs) as f32).sqrt();
        weights.extend((0..inputs * outputs).map(|_| bound * (2.0 * chance.random::<f32>() - 1.0)));
        weights.extend((0..outputs).map(|_| 0.0));
    }
    weights
}
