//! Transfer learning: what a network learnt elsewhere, put to work on other pictures.
//!
//! A frozen body says the same about a picture in every epoch, so it is asked once: [`Extraction`] gives [`Features`], on which a head trains
//! in seconds ([`HeadTraining`]), a logistic regression is fitted ([`Probe`]) and neighbours are compared ([`knn_accuracy`]). [`FineTune`]
//! does all of it, then trains the body too.

mod body;
mod features;
mod fine_tune;
mod head;
mod knn;
mod lbfgs;
mod observer;
mod probe;
mod store;
mod tuned;

pub use features::{Extraction, Features};
pub use fine_tune::{Epochs, FineTune};
pub use head::{HeadEpoch, HeadTraining, examine_features, score, with_probe};
pub use knn::knn_accuracy;
pub use observer::{Baselines, Phase, PhaseReport, TransferObserver};
pub use probe::Probe;
pub use tuned::{FineTuned, SharedPictures};

use timburn_core::Result;
use timburn_models::{ImageModel, state_dict};

/// A hash of everything in `model` but its head: what its features depend on.
///
/// # Errors
/// [`Error::Device`](timburn_core::Error::Device) when the weights cannot be read back.
pub fn body_digest<M: ImageModel>(model: &M) -> Result<String> {
    let groups = model.layer_groups();
    let head = groups.last();
    let mut hasher = blake3::Hasher::new();
    for (key, tensor) in &state_dict(model).tensors {
        if head.is_some_and(|head| head.contains(key)) {
            continue;
        }
        hasher.update(key.as_bytes());
        hasher.update(format!("{:?}", tensor.shape).as_bytes());
        let failed = |reason| timburn_core::error::DeviceError::Failed { name: key.clone(), reason };
        hasher.update(&tensor.bytes().map_err(failed)?);
    }
    Ok(hasher.finalize().to_hex().to_string())
}
