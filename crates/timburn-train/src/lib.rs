//! The parts of training that touch the disk, none of which knows a model type or a loop.
//!
//! | to do this | start at |
//! |---|---|
//! | save and resume a run that may be killed at any instant | [`CheckpointStore`] |
//! | keep what a run leaves behind: recipe, environment, metrics, bad files | [`RunFolder`] |
//! | let TensorBoard show it | [`EventWriter`] |
//! | draw curves, a confusion matrix, a reliability diagram | [`plots`] |

pub mod checkpoint;
mod lock;
pub mod plots;
pub mod run;

pub use checkpoint::{Checkpoint, CheckpointStore};
pub use run::{EventWriter, RunFolder};
