//! Checkpoints that survive `kill -9`, a full disk and a power cut.
//!
//! A checkpoint is a folder `000012-step-1200` of safetensors files, `state.json` and `manifest.json`, which holds length and BLAKE3 of the
//! others. It is written aside, every file and the folder made durable, and renamed; only then are older ones removed. So at any instant the
//! newest complete checkpoint can be loaded, and the loader, which verifies every byte, refuses anything else and takes the one before.
//!
//! The first number counts the saves, so that the newest is the one saved last, also after a run went back to an earlier step.
//!
//! ```
//! use serde_json::json;
//! use timburn_models::{StateDict, WeightTensor};
//! use timburn_train::{Checkpoint, CheckpointStore};
//!
//! # let folder = tempfile::tempdir().unwrap();
//! # let folder = folder.path().join("checkpoints");
//! let mut store = CheckpointStore::open(&folder, 3)?;
//! assert!(store.latest()?.is_none());
//!
//! let mut model = StateDict::new("the model");
//! model.tensors.insert("fc.bias".into(), WeightTensor::from_f32(vec![2], vec![0.5, -0.5]));
//! let groups = [("model".to_owned(), model)].into();
//! store.save(&Checkpoint { step: 1200, epoch: 3, groups, state: json!({ "learning_rate": 0.1 }) })?;
//! store.mark_best(1200)?;
//!
//! let (path, checkpoint) = store.latest()?.expect("one was saved");
//! assert!(path.ends_with("000001-step-1200"));
//! assert_eq!(checkpoint.groups["model"].tensors["fc.bias"].values().unwrap(), [0.5, -0.5]);
//! # Ok::<(), timburn_core::Error>(())
//! ```

mod manifest;
mod name;
mod reader;
mod state;
mod store;
mod write;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use timburn_core::Result;
use timburn_models::StateDict;

pub use name::Entry;
pub use reader::CheckpointReader;
pub use store::CheckpointStore;

/// Everything a run needs to go on as if it had not been interrupted.
#[derive(Debug, Clone, Default)]
pub struct Checkpoint {
    /// Optimizer steps done.
    pub step: u64,
    /// Epochs completed.
    pub epoch: u64,
    /// Tensors by group: `model`, `optimizer`, `ema`, …. A group's name is also its file's: lower-case letters, digits and `_`.
    pub groups: BTreeMap<String, StateDict>,
    /// All else: position in the data, schedule, plateau, loss scale, best metric. Every number comes back bit-equal. JSON knows neither NaN
    /// nor infinities: `serde_json` makes `null` of them before they get here.
    pub state: Value,
}

impl Checkpoint {
    /// Reads the checkpoint in the folder `path` and verifies every byte of it.
    ///
    /// # Errors
    /// [`Damaged`](timburn_core::error::CheckpointError::Damaged) for anything that is not as it was written,
    /// [`Version`](timburn_core::error::CheckpointError::Version) for a format of the future.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        manifest::load(path.as_ref())
    }
}
