use serde::{Deserialize, Serialize};

/// Confidence against accuracy, in bins of equal width. Bin `b` of `n` holds confidences in `(b / n, (b + 1) / n]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    /// (samples, sum of confidences, right ones) per bin.
    bins: Vec<(u64, f64, u64)>,
}

/// One bin of a reliability diagram. The means are 0 for an empty one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// Largest confidence in the bin.
    pub upper: f64,
    /// Samples in it.
    pub samples: u64,
    /// Their mean confidence.
    pub confidence: f64,
    /// Share of right ones among them.
    pub accuracy: f64,
}

impl Calibration {
    /// Empty bins.
    pub fn new(bins: usize) -> Self {
        Self { bins: vec![(0, 0.0, 0); bins.max(1)] }
    }

    /// Counts a sample whose class was predicted with this confidence, in `[0, 1]`.
    pub fn add(&mut self, confidence: f64, right: bool) {
        let count = self.bins.len();
        let at = ((confidence * count as f64).ceil() as usize).saturating_sub(1).min(count - 1);
        if let Some((samples, sum, hits)) = self.bins.get_mut(at) {
            *samples += 1;
            *sum += confidence;
            *hits += u64::from(right);
        }
    }

    /// The bins, from low confidence to high.
    pub fn bins(&self) -> Vec<ReliabilityBin> {
        let bins = self.bins.iter().enumerate().map(|(at, &(samples, sum, hits))| {
            let mean = |sum: f64| if samples > 0 { sum / samples as f64 } else { 0.0 };
            ReliabilityBin { upper: (at + 1) as f64 / self.bins.len() as f64, samples, confidence: mean(sum), accuracy: mean(hits as f64) }
        });
        bins.collect()
    }

    /// `Σ_b (samples_b / samples) |accuracy_b - confidence_b|`.
    pub fn expected_error(&self) -> Option<f64> {
        let samples: u64 = self.bins.iter().map(|bin| bin.0).sum();
        let gaps = self.bins.iter().map(|&(_, confidence, hits)| (hits as f64 - confidence).abs());
        (samples > 0).then(|| gaps.sum::<f64>() / samples as f64)
    }
}
