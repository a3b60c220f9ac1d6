//! The nearest neighbours' classes: the simplest thing features can be used for.

use burn::tensor::{Device, Tensor};
use timburn_core::Result;

use super::Features;
use crate::tensors::host;

/// Pictures compared at once.
const CHUNK: usize = 256;
/// Temperature of the neighbours' votes (Wu et al. 2018; DINO).
const TEMPERATURE: f32 = 0.07;

/// Share of the pictures of `validation` whose class the `k` nearest pictures of `train` agree on: cosine similarity s, votes e^(s / 0.07).
///
/// # Errors
/// Those of reading features; [`Error::Device`](timburn_core::Error::Device).
pub fn knn_accuracy(train: &Features, validation: &Features, classes: usize, k: usize, device: &Device) -> Result<f64> {
    let known = normalized(train.tensor(device)?).transpose();
    let asked = normalized(validation.tensor(device)?);
    let mut right = 0;
    for start in (0..validation.len()).step_by(CHUNK) {
        let count = CHUNK.min(validation.len() - start);
        let similarities = host(asked.clone().narrow(0, start, count).matmul(known.clone()))?;
        let labels = validation.labels().get(start..).unwrap_or_default();
        for (row, &label) in similarities.chunks_exact(train.len().max(1)).zip(labels) {
            right += usize::from(vote(row, train.labels(), classes, k) == label);
        }
    }
    Ok(right as f64 / validation.len().max(1) as f64)
}

/// Rows of length 1.
fn normalized(rows: Tensor<2>) -> Tensor<2> {
    let lengths = (rows.clone().square().sum_dim(1) + 1e-12).sqrt();
    rows / lengths
}

/// The class with the most votes; of equals the first.
fn vote(similarities: &[f32], labels: &[usize], classes: usize, k: usize) -> usize {
    let mut nearest: Vec<(f32, usize)> = similarities.iter().copied().zip(labels.iter().copied()).collect();
    let k = k.clamp(1, nearest.len().max(1));
    if k < nearest.len() {
        nearest.select_nth_unstable_by(k - 1, |a, b| b.0.total_cmp(&a.0));
    }
    let mut votes = vec![0.0; classes];
    for &(similarity, label) in nearest.iter().take(k) {
        if let Some(votes) = votes.get_mut(label) {
            *votes += ((similarity - 1.0) / TEMPERATURE).exp();
        }
    }
    votes.iter().enumerate().fold((0, 0.0), |best, (class, &votes)| if votes > best.1 { (class, votes) } else { best }).0
}

#[cfg(test)]
mod tests {
    use super::vote;

    #[test]
    fn near_neighbours_outvote_many_far_ones() {
        let similarities = [0.99, 0.2, 0.21, 0.22, 0.98];
        assert_eq!(vote(&similarities, &[1, 0, 0, 0, 1], 2, 5), 1);
        assert_eq!(vote(&similarities, &[1, 0, 0, 0, 2], 3, 1), 1);
        assert_eq!(vote(&[], &[], 2, 3), 0);
    }
}
