//! What all compiled graphs have in common, whatever their values are.

use std::sync::{Mutex, PoisonError};

use timburn_core::Result;
use timburn_kernels::infer::{Buffer, ConvSpec, Map, Plain, ViewMut};

use super::plan::{Plan, Planned};
use super::{BATCH, Wanted, argument, run};

/// A compiled graph.
pub(super) trait Network: Sync + Sized {
    /// What activations are stored as.
    type Value: Plain;
    /// A layer, ready to run.
    type Step: Planned;

    fn steps(&self) -> &[Self::Step];

    /// Channels of the images.
    fn channels(&self) -> usize;

    /// The value that is the last stage's output.
    fn features(&self) -> usize;

    /// Shape of the classifier, as a pointwise convolution.
    fn head(&self) -> Option<&ConvSpec>;

    /// Bytes of the classifier's packed parameters.
    fn head_bytes(&self) -> usize;

    /// Working memory that no call has.
    fn scratch(&self) -> &Mutex<Vec<Vec<Buffer<Self::Value>>>>;

    /// Lays out `n` images.
    fn load(&self, map: &Map, n: usize, images: &[f32], target: &mut [Self::Value]);

    /// Writes the border of a value.
    fn clear(&self, value: usize, map: &Map, n: usize, values: &mut [Self::Value]);

    /// Computes `n` images of value `target`; its border is there already.
    fn compute(
        &self,
        step: &Self::Step,
        plan: &Plan,
        slots: &[Buffer<Self::Value>],
        n: usize,
        target: usize,
        output: ViewMut<'_, Self::Value>,
    );

    /// The last stage's output, `[n, features, h, w]`.
    fn feature_map(&self, plan: &Plan, slots: &[Buffer<Self::Value>], n: usize) -> Vec<f32>;

    /// Means of its channels, `[n, features]`.
    fn pool(&self, plan: &Plan, slots: &[Buffer<Self::Value>], n: usize) -> Vec<f32>;

    /// Logits of `n` images' means; none without a classifier.
    fn classify(&self, pooled: &[f32], n: usize) -> Option<Vec<f32>>;

    /// What follows the steps.
    fn end(&self, plan: &Plan, slots: &[Buffer<Self::Value>], n: usize, wanted: Wanted) -> Vec<f32> {
        if wanted == Wanted::FeatureMap {
            return self.feature_map(plan, slots, n);
        }
        let pooled = self.pool(plan, slots, n);
        let logits = if wanted == Wanted::Logits { self.classify(&pooled, n) } else { None };
        logits.unwrap_or(pooled)
    }

    fn parameter_bytes(&self) -> usize {
        self.steps().iter().map(Planned::bytes).sum::<usize>() + self.head_bytes()
    }

    fn memory(&self, images: usize, size: [usize; 2]) -> Result<usize> {
        let plan = self.plan(size)?;
        let values = plan.slots.iter().fold(0usize, |sum, slot| sum.saturating_add(slot.len(images.min(BATCH))));
        Ok(values.saturating_mul(size_of::<Self::Value>()))
    }

    fn plan(&self, size: [usize; 2]) -> Result<Plan> {
        Plan::new(self.steps(), self.channels(), self.features(), size)
            .ok_or_else(|| argument("image size", &format!("{}x{}", size[0], size[1]), "an image that the network's kernels fit in"))
    }

    /// Values of one image `[channels, height, width]` of `shape`, of which there are `len`.
    fn check(&self, len: usize, shape: [usize; 4]) -> Result<usize> {
        let [n, channels, height, width] = shape;
        let image = channels.checked_mul(height).and_then(|len| len.checked_mul(width));
        // No memory holds more than this many values.
        let image = image.filter(|image| *image < usize::MAX / 64 && channels == self.channels() && image.checked_mul(n) == Some(len));
        let expected = || format!("{len} values of [n, {}, height, width]", self.channels());
        image.ok_or_else(|| argument("images", &format!("{shape:?}"), &expected()))
    }

    fn results(&self, images: &[f32], shape: [usize; 4], wanted: Wanted) -> Result<Vec<f32>> {
        let image = self.check(images.len(), shape)?;
        let plan = self.plan([shape[2], shape[3]])?;
        let pool = || self.scratch().lock().unwrap_or_else(PoisonError::into_inner);
        let mut slots = pool().pop().unwrap_or_default();
        let mut results = Vec::new();
        run::together(|| {
            for batch in images.chunks(BATCH * image) {
                results.extend(run::run(self, &plan, batch, batch.len() / image, &mut slots, wanted, |_, _| {}));
            }
        });
        pool().push(slots);
        Ok(results)
    }
}
