//! The yardstick: principal components of windows of rows, with Hotelling's T² and the Q statistic (squared
//! prediction error), as Jackson and Mudholkar (1979) use them for process control.

use crate::error::ModelError;
use crate::features::{WINDOW, references};
use crate::train::ROWS_MIN;

/// Share of the variance that the kept components hold.
const KEPT_SHARE: f64 = 0.9;
/// Quantile of the training statistics that counts as 1.
const LIMIT: f64 = 0.99;

/// Principal components of normal windows.
#[derive(Debug)]
pub struct WindowPca {
    sensors: usize,
    means: Vec<f64>,
    spreads: Vec<f64>,
    /// Kept components, each of unit length, and the variance along each.
    components: Vec<(Vec<f64>, f64)>,
    t2_limit: f64,
    q_limit: f64,
}

impl WindowPca {
    /// Fits on normal rows, `sensors` cells a row, NaN where missing.
    ///
    /// # Errors
    /// [`ModelError::TooFew`] below 64 rows or without a sensor.
    pub fn fit(sensors: usize, rows: &[f32]) -> Result<Self, ModelError> {
        let count = rows.len().checked_div(sensors).unwrap_or(0);
        if count < ROWS_MIN {
            return Err(ModelError::TooFew { rows: count, sensors, least: ROWS_MIN });
        }
        let normal = references(sensors, rows);
        let mut pca = Self {
            sensors,
            means: normal.iter().map(|reference| f64::from(reference.mean)).collect(),
            spreads: normal.iter().map(|reference| f64::from(reference.spread)).collect(),
            components: Vec::new(),
            t2_limit: 1.0,
            q_limit: 1.0,
        };
        let windows = pca.windows(rows);
        let (mut vectors, variances) = eigen(covariance(&windows));
        let total: f64 = variances.iter().sum();
        let mut order: Vec<usize> = (0..variances.len()).collect();
        order.sort_by(|&a, &b| variances[b].total_cmp(&variances[a]));
        let mut held = 0.0;
        for at in order {
            if held >= KEPT_SHARE * total || variances[at] <= 1e-9 {
                break;
            }
            held += variances[at];
            pca.components.push((std::mem::take(&mut vectors[at]), variances[at]));
        }
        let (mut t2, mut q): (Vec<f64>, Vec<f64>) =
            windows.iter().map(|window| pca.statistics(window)).unzip();
        (pca.t2_limit, pca.q_limit) = (quantile(&mut t2), quantile(&mut q));
        Ok(pca)
    }

    /// One score a row: the mean of T² and Q, each in units of its training limit.
    #[must_use]
    pub fn score(&self, rows: &[f32]) -> Vec<f32> {
        #[allow(clippy::cast_possible_truncation, reason = "scores are f32")]
        let score = |window: &Vec<f64>| {
            let (t2, q) = self.statistics(window);
            (f64::midpoint(t2 / self.t2_limit, q / self.q_limit)) as f32
        };
        self.windows(rows).iter().map(score).collect()
    }

    /// A window for each row: it and those before, 0 (the mean) where missing or before the first.
    fn windows(&self, rows: &[f32]) -> Vec<Vec<f64>> {
        let scaled: Vec<f64> = rows
            .iter()
            .enumerate()
            .map(|(at, &value)| {
                let sensor = at % self.sensors;
                let z = (f64::from(value) - self.means[sensor]) / self.spreads[sensor];
                if z.is_nan() { 0.0 } else { z }
            })
            .collect();
        let width = WINDOW * self.sensors;
        (0..rows.len() / self.sensors)
            .map(|row| {
                let to = (row + 1) * self.sensors;
                let mut window = vec![0.0; width.saturating_sub(to)];
                window.extend_from_slice(&scaled[to.saturating_sub(width)..to]);
                window
            })
            .collect()
    }

    fn statistics(&self, window: &[f64]) -> (f64, f64) {
        let (mut t2, mut within) = (0.0, 0.0);
        for (component, variance) in &self.components {
            let along = dot(component, window);
            t2 += along * along / variance;
            within += along * along;
        }
        (t2, (dot(window, window) - within).max(0.0))
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "an index"
)]
fn quantile(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * LIMIT) as usize].max(1e-9)
}

#[allow(clippy::cast_precision_loss, reason = "a count of rows")]
fn covariance(windows: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let width = windows[0].len();
    let mut matrix = vec![vec![0.0; width]; width];
    for window in windows {
        for (row, a) in matrix.iter_mut().zip(window) {
            row.iter_mut().zip(window).for_each(|(cell, b)| *cell += a * b);
        }
    }
    let count = windows.len() as f64;
    matrix.iter_mut().flatten().for_each(|cell| *cell /= count);
    matrix
}

/// Eigenvectors and eigenvalues of a symmetric matrix, by cyclic Jacobi rotations.
fn eigen(mut matrix: Vec<Vec<f64>>) -> (Vec<Vec<f64>>, Vec<f64>) {
    let n = matrix.len();
    // Row `i` becomes the eigenvector of value `i`.
    let mut vectors: Vec<Vec<f64>> =
        (0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    for _ in 0..30 {
        let off: f64 =
            (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| matrix[i][j].powi(2)).sum();
        if off < 1e-12 {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                rotate(&mut matrix, &mut vectors, p, q);
            }
        }
    }
    let values = (0..n).map(|i| matrix[i][i]).collect();
    (vectors, values)
}

/// Turns cell `(p, q)` to zero.
fn rotate(matrix: &mut [Vec<f64>], vectors: &mut [Vec<f64>], p: usize, q: usize) {
    let apart = matrix[p][q];
    if apart.abs() < 1e-15 {
        return;
    }
    let theta = (matrix[q][q] - matrix[p][p]) / (2.0 * apart);
    let tangent = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
    let cosine = 1.0 / (tangent * tangent + 1.0).sqrt();
    let sine = tangent * cosine;
    for row in matrix.iter_mut() {
        let (a, b) = (row[p], row[q]);
        (row[p], row[q]) = (cosine * a - sine * b, sine * a + cosine * b);
    }
    for rows in [matrix, vectors] {
        let (head, tail) = rows.split_at_mut(q);
        for (a, b) in head[p].iter_mut().zip(&mut tail[0]) {
            (*a, *b) = (cosine * *a - sine * *b, sine * *a + cosine * *b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eigenvectors_give_the_matrix_back() {
        let matrix = vec![vec![4.0, 1.0, 0.5], vec![1.0, 3.0, -0.2], vec![0.5, -0.2, 2.0]];
        let (vectors, values) = eigen(matrix.clone());
        for (i, row) in matrix.iter().enumerate() {
            for (j, &cell) in row.iter().enumerate() {
                let back: f64 = (0..3).map(|k| values[k] * vectors[k][i] * vectors[k][j]).sum();
                assert!((back - cell).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn broken_correlation_scores_high() {
        let row = |i: usize| [(i as f32 * 0.37).sin(), (i as f32 * 0.37).sin() * 2.0];
        let rows: Vec<f32> = (0..300).flat_map(row).collect();
        let pca = WindowPca::fit(2, &rows).unwrap();
        let apart: Vec<f32> = (0..50).flat_map(|i| [row(i)[0], -row(i)[1]]).collect();
        let (normal, broken) = (pca.score(&rows), pca.score(&apart));
        assert!(broken.iter().sum::<f32>() / 50.0 > 10.0 * normal.iter().sum::<f32>() / 300.0);
    }
}
