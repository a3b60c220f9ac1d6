//! Predictions: a photograph in, labels with probabilities out.
//!
//! ```
//! # #[cfg(feature = "embedded")]
//! # fn main() -> timburn_core::Result<()> {
//! use timburn_infer::Predictor;
//!
//! let device = timburn_core::open_device("auto")?;
//! let predictor = Predictor::embedded(&device)?;
//! let prediction = predictor.classify_bytes(timburn_data::sample_photograph(), "sample")?;
//! for guess in prediction.top(5) {
//!     println!("{:6.2} %  {}", 100.0 * guess.probability, guess.label);
//! }
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "embedded"))]
//! # fn main() {}
//! ```

mod compiled;
mod grad_cam;
#[cfg(feature = "flex")]
pub mod graph;
mod precision;
mod prediction;
mod predictor;
pub mod timing;

/// Numbers (f32) in a vector of the kernels that run on this CPU: 16 with AVX-512, 8 with AVX2, 4 with SSE4.2 or NEON; 1 in a build without
/// the backend `flex`, whose kernels they are.
pub fn cpu_vector_lanes() -> usize {
    #[cfg(feature = "flex")]
    return timburn_kernels::infer::vector_lanes();
    #[cfg(not(feature = "flex"))]
    1
}

pub use compiled::Compiled;
pub use grad_cam::{GradCam, HeatMap};
#[cfg(feature = "flex")]
pub use graph::{Calibrator, Graph, GraphOptions};
pub use precision::Precision;
pub use prediction::{Guess, Prediction};
pub use predictor::Predictor;
