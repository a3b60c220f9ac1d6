//! What every timburn crate speaks of: errors, device names, class lists, preprocessing and seeds.
//!
//! No modules, no threads, and of files only the way to write one whole or not at all: a `timburn` type that two crates share lives here, everything else lives where it is used.

pub mod classes;
pub mod device;
pub mod disk;
pub mod error;
pub mod preprocessing;
pub mod seed;
pub mod suggest;

pub use classes::Classes;
pub use device::open_device;
pub use error::{Error, Result, WeightsError};
pub use preprocessing::Preprocessing;
