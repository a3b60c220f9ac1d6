//! The best weights of a run.

use timburn_core::Result;
use timburn_models::StateDict;

use super::Outcome;
use crate::checkpoint::Checkpoint;

impl<M> Outcome<M> {
    /// The weights to use: those of the best checkpoint (averaged ones, where the recipe has them); `None` without checkpoints.
    ///
    /// # Errors
    /// As [`Checkpoint::load`].
    pub fn best_weights(&self) -> Result<Option<StateDict>> {
        let Some(path) = &self.best_checkpoint else { return Ok(None) };
        let mut groups = Checkpoint::load(path)?.groups;
        Ok(groups.remove("ema").or_else(|| groups.remove("model")))
    }
}
