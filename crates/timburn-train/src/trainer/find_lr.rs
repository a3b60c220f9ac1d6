//! The learning-rate finder: a short run at growing rates, on a copy of the model.

use std::ops::ControlFlow;

use burn::tensor::Device;
use timburn_core::error::TrainError;
use timburn_core::{Error, Result};
use timburn_kernels::release_memory;
use timburn_models::ImageModel;

use super::{Learner, TrainData, backward, with_class_weights};
use crate::lr_finder::{LrFinder, Point, Sweep, steepest, valley};
use crate::recipe::Recipe;
use crate::schedule::Rates;

/// What a sweep found.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundLr {
    /// Learning rate and smoothed loss of every step.
    pub points: Vec<Point>,
    /// Where the loss falls fastest.
    pub steepest: Option<f64>,
    /// In the middle of the longest valley: fastai's suggestion.
    pub valley: Option<f64>,
}

/// Trains `model` (which the caller keeps a copy of, if it is to be used afterwards) with the recipe's data, augmentation, loss and
/// optimizer, while the learning rate grows from step to step. `progress` is called after each step and may end the sweep there: what was
/// found until then is the result.
///
/// # Errors
/// As [`Trainer::fit`](super::Trainer::fit); a loss that becomes infinite only ends the sweep.
pub fn find_lr<M: ImageModel>(
    recipe: &Recipe,
    model: M,
    data: &TrainData,
    device: &Device,
    finder: LrFinder,
    progress: &mut dyn FnMut(&Point) -> ControlFlow<()>,
) -> Result<FoundLr> {
    let found = sweep(recipe, model, data, device, finder, progress);
    release_memory();
    found
}

fn sweep<M: ImageModel>(
    recipe: &Recipe,
    model: M,
    data: &TrainData,
    device: &Device,
    finder: LrFinder,
    progress: &mut dyn FnMut(&Point) -> ControlFlow<()>,
) -> Result<FoundLr> {
    finder.validate()?;
    let loader = data.train_loader(recipe, recipe.augment.size(0))?;
    let mut learner = Learner::new(&with_class_weights(recipe, data)?, model, device, u64::MAX >> 16)?;
    let mut sweep = Sweep::new(finder);
    let (mut epoch, mut number) = (0, 0);
    let mut batches = loader.epoch(epoch);
    while let Some(lr) = sweep.next_lr() {
        for _ in 0..recipe.train.accumulate {
            let batch = match batches.next() {
                Some(batch) => batch?,
                None => {
                    epoch += 1;
                    number = 0;
                    batches = loader.epoch(epoch);
                    continue;
                }
            };
            number += 1;
            backward(&mut learner, recipe, data, (epoch, number), &batch)?;
        }
        match learner.update_at(Rates { lr, momentum: None }) {
            Ok((next, update)) => {
                learner = next;
                if let Some(update) = update {
                    sweep.record(update.loss);
                }
            }
            Err(Error::Train(TrainError::NonFinite { .. })) => break,
            Err(error) => return Err(error),
        }
        if sweep.points().last().is_some_and(|point| progress(point).is_break()) {
            break;
        }
    }
    let settled = sweep.settled();
    Ok(FoundLr { points: sweep.points().to_vec(), steepest: steepest(&settled), valley: valley(&settled) })
}
