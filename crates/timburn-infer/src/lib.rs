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
mod cpu;
mod grad_cam;
#[cfg(feature = "flex")]
pub mod graph;
mod precision;
mod prediction;
mod predictor;
pub mod timing;

pub use compiled::Compiled;
pub use cpu::CpuKernels;
pub use grad_cam::{GradCam, HeatMap};
#[cfg(feature = "flex")]
pub use graph::{Calibrator, Graph, GraphOptions, even_ranges};
pub use precision::Precision;
pub use prediction::{Guess, Prediction};
pub use predictor::Predictor;
