//! What a body makes of samples, and a map of it in two dimensions.

use timburn_core::{Error, Result};

/// Pooled features of some samples of an evaluation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FeatureSample {
    width: usize,
    values: Vec<f32>,
    /// Index in the data set of each sample.
    pub indices: Vec<usize>,
    /// True class of each sample.
    pub classes: Vec<usize>,
}

impl FeatureSample {
    /// None yet, of `width` values a sample.
    pub fn new(width: usize) -> Self {
        Self { width, ..Self::default() }
    }

    /// Adds a sample.
    ///
    /// # Errors
    /// [`Error::Argument`] for another number of values than the width, or values that are not finite.
    pub fn add(&mut self, index: usize, class: usize, values: &[f32]) -> Result<()> {
        if values.len() != self.width || !values.iter().all(|value| value.is_finite()) {
            let expected = format!("{} finite values", self.width);
            return Err(Error::Argument { name: "features", value: format!("{} values", values.len()), expected });
        }
        self.values.extend_from_slice(values);
        self.indices.push(index);
        self.classes.push(class);
        Ok(())
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// Values of a sample.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The samples' values, one row each.
    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.width.max(1))
    }

    /// The samples on the two directions in which they differ most.
    pub fn principal_components(&self) -> Components {
        principal_components(&self.values, self.width)
    }
}

/// Samples on their first two principal components.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Components {
    /// Place of each sample, in the units of the features.
    pub points: Vec<[f64; 2]>,
    /// Share of the variance that each direction holds, in `[0, 1]`.
    pub explained: [f64; 2],
}

/// Directions that are iterated on: the more beyond two, the faster the first two converge.
const DIRECTIONS: usize = 8;
const MOST_ITERATIONS: usize = 300;

/// Principal components by orthogonal iteration on the centred values, never on their covariance, which for 2,048 features is the larger of
/// both. The sign of a direction is that in which its entry of largest size is positive. Deterministic.
fn principal_components(values: &[f32], width: usize) -> Components {
    let samples = values.len().checked_div(width).unwrap_or(0);
    if samples < 2 {
        return Components { points: vec![[0.0; 2]; samples], explained: [0.0; 2] };
    }
    let mut means = vec![0f64; width];
    for row in values.chunks_exact(width) {
        means.iter_mut().zip(row).for_each(|(mean, value)| *mean += f64::from(*value) / samples as f64);
    }
    let centred: Vec<Vec<f64>> =
        values.chunks_exact(width).map(|row| row.iter().zip(&means).map(|(value, mean)| f64::from(*value) - mean).collect()).collect();
    let total: f64 = centred.iter().map(|row| dot(row, row)).sum();
    if total <= 0.0 {
        return Components { points: vec![[0.0; 2]; samples], explained: [0.0; 2] };
    }

    let count = DIRECTIONS.min(width).min(samples);
    let mut directions = orthonormal(start(count, width));
    let mut variances = vec![0f64; count];
    for _ in 0..MOST_ITERATIONS {
        let images = multiply(&centred, &directions);
        let products: Vec<Vec<f64>> = directions.iter().map(|a| images.iter().map(|b| dot(a, b)).collect()).collect();
        // Within their span, the directions of largest variance (Rayleigh and Ritz).
        let (ritz, turn) = eigen(products);
        let change = ritz.iter().zip(&variances).take(2).map(|(new, old)| (new - old).abs()).fold(0.0, f64::max);
        variances = ritz;
        let next: Vec<Vec<f64>> = turn.iter().map(|weights| combine(&images, weights)).collect();
        directions = orthonormal(next);
        if change <= 1e-14 * total {
            break;
        }
    }
    for direction in &mut directions {
        let largest = direction.iter().copied().fold(0.0, |best: f64, value| if value.abs() > best.abs() { value } else { best });
        if largest < 0.0 {
            direction.iter_mut().for_each(|value| *value = -*value);
        }
    }
    let along = |row: &[f64], which: usize| directions.get(which).map_or(0.0, |direction| dot(row, direction));
    let share = |which: usize| variances.get(which).map_or(0.0, |variance| (variance / total).clamp(0.0, 1.0));
    Components { points: centred.iter().map(|row| [along(row, 0), along(row, 1)]).collect(), explained: [share(0), share(1)] }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    // Eight sums at once: one alone waits for itself.
    let mut sums = [0f64; 8];
    let (blocks, rest) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in blocks.0.iter().zip(rest.0) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f64>() + blocks.1.iter().zip(rest.1).map(|(a, b)| a * b).sum::<f64>()
}

/// `Xᵀ X v` of each direction `v`.
fn multiply(centred: &[Vec<f64>], directions: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut images = vec![vec![0f64; directions.first().map_or(0, Vec::len)]; directions.len()];
    for row in centred {
        for (image, direction) in images.iter_mut().zip(directions) {
            let along = dot(row, direction);
            image.iter_mut().zip(row).for_each(|(value, x)| *value += along * x);
        }
    }
    images
}

fn combine(vectors: &[Vec<f64>], weights: &[f64]) -> Vec<f64> {
    let mut sum = vec![0f64; vectors.first().map_or(0, Vec::len)];
    for (vector, weight) in vectors.iter().zip(weights) {
        sum.iter_mut().zip(vector).for_each(|(sum, value)| *sum += weight * value);
    }
    sum
}

/// Directions to begin with, the same on every run and along no axis.
fn start(count: usize, width: usize) -> Vec<Vec<f64>> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
    };
    (0..count).map(|_| (0..width).map(|_| next()).collect()).collect()
}

/// Gram and Schmidt, twice over; a vector that depends on those before it becomes zero.
fn orthonormal(mut vectors: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    for at in 0..vectors.len() {
        let (done, rest) = vectors.split_at_mut(at);
        let Some(vector) = rest.first_mut() else { break };
        let before = dot(vector, vector).sqrt();
        for _ in 0..2 {
            for other in done.iter() {
                let along = dot(vector, other);
                vector.iter_mut().zip(other).for_each(|(value, x)| *value -= along * x);
            }
        }
        let norm = dot(vector, vector).sqrt();
        let scale = if norm > 1e-12 * before { 1.0 / norm } else { 0.0 };
        vector.iter_mut().for_each(|value| *value *= scale);
    }
    vectors
}

/// Eigenvalues of a small symmetric matrix, descending, and the eigenvector of each: Jacobi's rotations.
fn eigen(mut matrix: Vec<Vec<f64>>) -> (Vec<f64>, Vec<Vec<f64>>) {
    let size = matrix.len();
    let mut vectors: Vec<Vec<f64>> = (0..size).map(|row| (0..size).map(|column| f64::from(u8::from(row == column))).collect()).collect();
    for _ in 0..50 {
        let off: f64 = (0..size).flat_map(|row| (0..row).map(move |column| (row, column))).map(|(r, c)| matrix[r][c].powi(2)).sum();
        let diagonal: f64 = (0..size).map(|at| matrix[at][at].powi(2)).sum();
        if off <= 1e-30 * diagonal {
            break;
        }
        for p in 0..size {
            for q in p + 1..size {
                // The mean of both: they differ by rounding.
                let across = f64::midpoint(matrix[p][q], matrix[q][p]);
                if across == 0.0 {
                    continue;
                }
                let angle = 0.5 * (2.0 * across).atan2(matrix[q][q] - matrix[p][p]);
                let (sin, cos) = angle.sin_cos();
                for row in matrix.iter_mut().chain(&mut vectors) {
                    (row[p], row[q]) = (cos * row[p] - sin * row[q], sin * row[p] + cos * row[q]);
                }
                let (upper, lower) = matrix.split_at_mut(q);
                if let (Some(p), Some(q)) = (upper.get_mut(p), lower.first_mut()) {
                    for (a, b) in p.iter_mut().zip(q) {
                        (*a, *b) = (cos * *a - sin * *b, sin * *a + cos * *b);
                    }
                }
            }
        }
    }
    let mut order: Vec<usize> = (0..size).collect();
    order.sort_by(|&a, &b| matrix[b][b].total_cmp(&matrix[a][a]));
    let column = |at: usize| vectors.iter().map(|row| row[at]).collect();
    (order.iter().map(|&at| matrix[at][at]).collect(), order.iter().map(|&at| column(at)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_matrices_are_diagonalised() {
        let matrix = vec![vec![4.0, 1.0, 0.5], vec![1.0, 3.0, -2.0], vec![0.5, -2.0, 1.0]];
        let (values, vectors) = eigen(matrix.clone());
        assert!(values.windows(2).all(|pair| pair[0] >= pair[1]));
        for (value, vector) in values.iter().zip(&vectors) {
            for (row, x) in matrix.iter().zip(vector) {
                assert!((dot(row, vector) - value * x).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn degenerate_features_have_a_map_too() {
        let map = |rows: &[&[f32]]| {
            let mut features = FeatureSample::new(rows.first().map_or(3, |row| row.len()));
            rows.iter().enumerate().for_each(|(index, row)| features.add(index, 0, row).unwrap());
            features.principal_components()
        };
        assert!(map(&[]).points.is_empty());
        assert_eq!(map(&[&[1.0, 2.0]]).points, [[0.0, 0.0]]);
        assert_eq!(map(&[&[1.0, 2.0], &[1.0, 2.0], &[1.0, 2.0]]).explained, [0.0, 0.0]);
        // Points on a line: the first direction holds all.
        let line = map(&[&[0.0, 0.0], &[3.0, 4.0], &[6.0, 8.0]]);
        assert!((line.explained[0] - 1.0).abs() < 1e-12 && line.explained[1].abs() < 1e-12);
        assert!(line.points.iter().zip([-5.0, 0.0, 5.0]).all(|(point, at)| (point[0] - at).abs() < 1e-9 && point[1].abs() < 1e-9));
        let one_wide = map(&[&[1.0], &[2.0], &[4.0]]);
        assert!((one_wide.explained[0] - 1.0).abs() < 1e-12);
        let mut features = FeatureSample::new(2);
        assert!(features.add(0, 0, &[1.0]).is_err() && features.add(0, 0, &[1.0, f32::NAN]).is_err() && features.is_empty());
    }
}
