/// Training that cannot go on.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// NaN or infinity where training needs finite numbers.
    #[error("non-finite {what}{}", if samples.is_empty() { String::new() } else { format!(" (samples {samples:?} of the batch)") })]
    NonFinite {
        /// What was not finite: `loss`, `logits`, `gradients`, a metric's name.
        what: String,
        /// Positions in the batch, where they are known.
        samples: Vec<usize>,
    },
    /// Mixed precision overflowed at every scale.
    #[error("{skipped} steps in a row overflowed and were skipped; the loss scale is down to {scale}")]
    LossScale {
        /// Consecutive skipped steps.
        skipped: u32,
        /// The loss scale after the last of them.
        scale: f64,
    },
}
