//! One error type for the whole library. Every value names the thing it is about: path, tensor, key, device, expected and found.

mod checkpoint;
mod config;
mod data;
mod device;
mod image;
mod model;
mod train;
mod weights;

pub use checkpoint::CheckpointError;
pub use config::ConfigError;
pub use data::DataError;
pub use device::DeviceError;
pub use image::{ImageError, ImageFault};
pub use model::ModelError;
pub use train::TrainError;
pub use weights::{KeyMismatch, ShapeMismatch, WeightsError};

use std::io;
use std::path::{Path, PathBuf};

/// `Result` with timburn's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Anything that can go wrong in timburn through a user, a file, the network or a device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A device that does not exist, is not compiled in or does not come up.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A model or class list that does not exist or cannot be built as asked.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A configuration that says something impossible.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A data set that cannot be used as it is.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A picture that cannot be decoded safely.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Weights that cannot be found, verified, read or applied.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Training that cannot go on.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A checkpoint or run folder that cannot be written, read or used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The operating system refused a file.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried, as an infinitive: `read`, `create`, `rename`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// An argument outside its range.
    #[error("{name} = {value}: expected {expected}")]
    Argument {
        /// Name of the argument or key.
        name: &'static str,
        /// The value found.
        value: String,
        /// The range or set expected.
        expected: String,
    },
}

impl Error {
    /// Wraps an [`io::Error`] with what was tried and on which path.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// The process exit code that belongs to this error: 1 run time, 2 usage or configuration, 3 data, 4 weights, 5 non-finite training.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Io { .. } | Self::Device(DeviceError::Failed { .. }) => 1,
            Self::Config(_) | Self::Device(_) | Self::Model(_) | Self::Argument { .. } => 2,
            Self::Data(_) | Self::Image(_) => 3,
            Self::Weights(_) => 4,
            Self::Train(TrainError::Interrupted) => 130,
            Self::Train(_) => 5,
            Self::Checkpoint(error) => error.exit_code(),
        }
    }
}
