//! What every timburn crate speaks of: errors, device names, class lists, preprocessing and seeds.
//!
//! No modules, no threads, and of files only how one is written whole or not at all, and how it is downloaded: a `timburn` type that two
//! crates share lives here, everything else lives where it is used.

pub mod classes;
#[cfg(feature = "device")]
pub mod device;
pub mod digest;
pub mod disk;
pub mod error;
pub mod fetch;
pub mod panic;
pub mod preprocessing;
pub mod protobuf;
pub mod seed;
pub mod suggest;

pub use classes::Classes;
#[cfg(feature = "device")]
pub use device::{device_name, open_device};
pub use error::{Error, Result, WeightsError};
pub use preprocessing::Preprocessing;
