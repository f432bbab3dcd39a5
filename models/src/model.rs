//! A trained model of one machine.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use sha2::{Digest, Sha256};

use crate::bytes::{Reader, Writer};
use crate::error::ModelError;
use crate::features::Reference;
use crate::network::{Network, Shape, floats};

const MAGIC: &[u8] = b"SWMODEL1";

/// A model: what is normal of each sensor and of all together, and from which score on it is not.
#[derive(Debug)]
pub struct Model {
    pub(crate) parts: Parts,
    pub(crate) shape: Shape,
    network: Network,
    device: Device,
    hash: String,
}

/// What a model is made of.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) sensors: Vec<String>,
    pub(crate) references: Vec<Reference>,
    /// Normal size of each output's residual, never 0.
    pub(crate) residuals: Vec<f32>,
    pub(crate) threshold: f32,
    pub(crate) rows: u32,
    pub(crate) weights: Vec<f32>,
}

impl Model {
    pub(crate) fn new(parts: Parts) -> Self {
        let shape = Shape::of(parts.sensors.len());
        let device = Device::flex();
        let network = Network::new(&shape, &parts.weights, &device).valid();
        let hash = hex::encode(Sha256::digest(parts.to_bytes()));
        Self { parts, shape, network, device, hash }
    }

    /// SHA-256 of its bytes, lower-case hex.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Names of its sensors, in the order of a row's cells.
    #[must_use]
    pub fn sensors(&self) -> &[String] {
        &self.parts.sensors
    }

    /// Scores above it are anomalies.
    #[must_use]
    pub fn threshold(&self) -> f32 {
        self.parts.threshold
    }

    /// Rows that it was trained and calibrated on.
    #[must_use]
    pub fn rows(&self) -> u32 {
        self.parts.rows
    }

    /// Gives the newest rows back: `inputs` is `[batch, input]` row by row.
    pub(crate) fn reconstruct(&self, inputs: Vec<f32>, batch: usize) -> Vec<f32> {
        let data = TensorData::new(inputs, [batch, self.shape.input]);
        floats(self.network.forward(Tensor::<2>::from_data(data, &self.device)).into_data())
    }

    /// Its bytes, which [`Model::from_bytes`] reads.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.parts.to_bytes()
    }

    /// Reads what [`Model::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`ModelError::Bytes`] where it is something else, or has numbers that are not finite.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ModelError> {
        let mut from = Reader::new(bytes, "model");
        from.magic(MAGIC)?;
        let count = from.count(4)?;
        if count == 0 {
            return Err(from.wrong("it has no sensor"));
        }
        let sensors = (0..count).map(|_| from.text()).collect::<Result<Vec<_>, _>>()?;
        let rows = from.u32()?;
        let threshold = from.f32s(1)?[0];
        let mut references = Vec::with_capacity(count);
        for _ in 0..count {
            let floats = from.f32s(3)?;
            let counts = from.u32s(2)?;
            references.push(Reference {
                mean: floats[0],
                spread: floats[1],
                slow_spread: floats[2],
                still_max: counts[0],
                gap_max: counts[1],
            });
        }
        let shape = Shape::of(count);
        let residuals = from.f32s(shape.output)?;
        let weights = from.f32s(shape.weights())?;
        from.end()?;
        let parts = Parts { sensors, references, residuals, threshold, rows, weights };
        if parts.not_finite().is_some() {
            return Err(from.wrong("some numbers are not finite"));
        }
        Ok(Self::new(parts))
    }
}

impl Parts {
    /// What of it is not finite, if anything.
    pub(crate) fn not_finite(&self) -> Option<&'static str> {
        let references = self.references.iter().flat_map(|one| [one.mean, one.spread, one.slow_spread]);
        let all_finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
        [
            ("weights", all_finite(&self.weights)),
            ("references", references.into_iter().all(f32::is_finite)),
            ("residuals", all_finite(&self.residuals)),
            ("threshold", self.threshold.is_finite()),
        ]
        .into_iter()
        .find_map(|(what, is_finite)| (!is_finite).then_some(what))
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer { bytes: MAGIC.to_vec() };
        out.u32(u32::try_from(self.sensors.len()).unwrap_or(u32::MAX));
        self.sensors.iter().for_each(|sensor| out.text(sensor));
        out.u32(self.rows);
        out.f32s(&[self.threshold]);
        for reference in &self.references {
            out.f32s(&[reference.mean, reference.spread, reference.slow_spread]);
            out.u32s(&[reference.still_max, reference.gap_max]);
        }
        out.f32s(&self.residuals);
        out.f32s(&self.weights);
        out.bytes
    }
}
