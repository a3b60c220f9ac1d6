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
    /// The same, with the samples of the data set it happened on.
    #[error("non-finite {what} on {}{}", names.iter().take(8).map(String::as_str).collect::<Vec<_>>().join(", "), if names.len() > 8 { format!(" and {} more", names.len() - 8) } else { String::new() })]
    NonFiniteSamples {
        /// What was not finite.
        what: String,
        /// Indices of the samples in the data set.
        indices: Vec<usize>,
        /// Their names.
        names: Vec<String>,
    },
    /// It was asked to stop before there was anything to keep.
    #[error("stopped before there was anything to keep")]
    Interrupted,
    /// Mixed precision overflowed at every scale.
    #[error("{skipped} steps in a row overflowed and were skipped; the loss scale is down to {scale}")]
    LossScale {
        /// Consecutive skipped steps.
        skipped: u32,
        /// The loss scale after the last of them.
        scale: f64,
    },
}
