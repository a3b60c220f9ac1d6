//! Lists of transforms that published recipes use.

use timburn_core::preprocessing::Preprocessing;
use timburn_core::suggest::{did_you_mean, nearest};
use timburn_core::{Error, Result};

use super::crop::{CenterCrop, Flip, RandomCrop, RandomResizedCrop, Resize};
use super::ops::{FillMode, Padding};
use super::params::{Amount, Filter, Size};
use super::policy::{RandAugment, Set};
use super::warp::Generator;
use super::{Normalize, Transform};

/// Names that [`by_name`] knows.
pub const NAMES: [&str; 7] = ["imagenet_train", "imagenet_eval", "cifar_train", "rsb_a1", "rsb_a2", "rsb_a3", "keras_generator"];

/// A preset by its name, at its usual size (224 pixels; 160 for `rsb_a3`, 32 for `cifar_train`).
///
/// # Errors
/// [`Error::Argument`] with the nearest names.
pub fn by_name(name: &str) -> Result<Vec<Transform>> {
    Ok(match name {
        "imagenet_train" => imagenet_train(224),
        "imagenet_eval" => imagenet_eval(&Preprocessing::torchvision(224, 256)),
        "cifar_train" => cifar_train(),
        "rsb_a1" => rsb_a1(224),
        "rsb_a2" => rsb_a2(224),
        "rsb_a3" => rsb_a3(160),
        "keras_generator" => keras_generator(224),
        _ => {
            let expected = format!("one of {}{}", NAMES.join(", "), did_you_mean(&nearest(name, NAMES)));
            return Err(Error::Argument { name: "preset", value: name.into(), expected });
        }
    })
}

/// torchvision's classification training: random resized crop, flip, ImageNet's statistics.
pub fn imagenet_train(size: usize) -> Vec<Transform> {
    vec![
        Transform::RandomResizedCrop(RandomResizedCrop::new(size)),
        Transform::HorizontalFlip(Flip::default()),
        Transform::Normalize(Normalize::default()),
    ]
}

/// What a set of weights wants at evaluation, as [`crate::prepare`] and [`crate::to_tensor`] do it.
pub fn imagenet_eval(spec: &Preprocessing) -> Vec<Transform> {
    let interpolation = Filter::from(spec.interpolation);
    vec![
        Transform::Resize(Resize { size: Size::Side(spec.resize), mode: spec.mode, interpolation, antialias: true }),
        Transform::CenterCrop(CenterCrop { size: Size::Side(spec.input) }),
        Transform::Normalize(Normalize { mean: spec.mean, std: spec.std, channels: spec.channels }),
    ]
}

/// The usual CIFAR-10 training: 4 black pixels around, a crop of 32×32, flip (He et al. 2016).
pub fn cifar_train() -> Vec<Transform> {
    let spec = Preprocessing::cifar10();
    vec![
        Transform::RandomCrop(RandomCrop { size: Size::Side(spec.input), padding: 4, padding_mode: Padding::Constant, fill: [0; 3] }),
        Transform::HorizontalFlip(Flip::default()),
        Transform::Normalize(Normalize { mean: spec.mean, std: spec.std, channels: spec.channels }),
    ]
}

/// Procedure A1 of "ResNet strikes back" (Wightman et al. 2021) in timm: `rand-m7-mstd0.5-inc1`, no erasing. Its Mixup, CutMix and repeated
/// augmentation are the batch's and the sampler's. Train at 224.
pub fn rsb_a1(size: usize) -> Vec<Transform> {
    rsb(size, 7.0)
}

/// Procedure A2: as [`rsb_a1`]; the two differ in epochs and regularisation.
pub fn rsb_a2(size: usize) -> Vec<Transform> {
    rsb(size, 7.0)
}

/// Procedure A3: `rand-m6-mstd0.5-inc1`. Train at 160.
pub fn rsb_a3(size: usize) -> Vec<Transform> {
    rsb(size, 6.0)
}

fn rsb(size: usize, magnitude: f64) -> Vec<Transform> {
    vec![
        Transform::RandomResizedCrop(RandomResizedCrop { interpolation: Filter::Random, ..RandomResizedCrop::new(size) }),
        Transform::HorizontalFlip(Flip::default()),
        Transform::RandAugment(RandAugment { set: Set::Timm, magnitude, magnitude_std: 0.5, increasing: true, ..RandAugment::default() }),
        Transform::Normalize(Normalize::default()),
    ]
}

/// The augmentation of the Keras cats-and-dogs tutorials: squashed to `size`, then `ImageDataGenerator(rotation_range=40,
/// width_shift_range=0.2, height_shift_range=0.2, shear_range=0.2, zoom_range=0.2, horizontal_flip=True, fill_mode="nearest")`.
///
/// No normalisation: that belongs to the model.
pub fn keras_generator(size: usize) -> Vec<Transform> {
    let generator = Generator {
        rotation: 40.0,
        width_shift: 0.2,
        height_shift: 0.2,
        shear: 0.2,
        zoom: Amount::Spread(0.2),
        fill_mode: FillMode::Nearest,
        fill: [0; 3],
    };
    let size = Size::Exact { height: size, width: size };
    let mode = timburn_core::preprocessing::ResizeMode::Squash;
    vec![
        Transform::Resize(Resize { size, mode, interpolation: Filter::Nearest, antialias: true }),
        Transform::KerasAffine(generator),
        Transform::HorizontalFlip(Flip::default()),
    ]
}
