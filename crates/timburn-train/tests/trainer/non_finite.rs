//! A value that is no number ends the run, names the step's samples and reaches no checkpoint.

use std::path::Path;
use std::sync::Arc;

use timburn_core::Error;
use timburn_core::error::TrainError;
use timburn_data::loader::LoaderOptions;
use timburn_data::{Loader, Pipeline, Rgb8Image, Splits};
use timburn_train::checkpoint::CheckpointReader;
use timburn_train::{Checkpoint, Recipe};

use super::patterns::Patterns;
use super::tiny::{Tiny, White};
use super::watch::Watch;
use super::{alone, fit, recipe};

const TEXT: &str = r#"
    epochs = 2
    batch_size = 4
    accumulate = 2
    lr = 0.05
    seed = 5
    [checkpoints]
    every_steps = 1
    keep_last = 20
"#;

fn white(_: usize, image: Rgb8Image) -> timburn_core::Result<Rgb8Image> {
    Ok(Rgb8Image { pixels: vec![255; image.pixels.len()], ..image })
}

/// 32 pictures, number 17 white.
fn data() -> Splits {
    let one_white = |index, image| if index == 17 { white(index, image) } else { Ok(image) };
    Patterns::new(3, 32, 16, 1).changed(one_white).with(Patterns::new(3, 6, 16, 2))
}

/// The step of epoch 0 that gets picture 17, from 1, and all its samples, by a loader of the test's own.
fn culprit(recipe: &Recipe, splits: &Splits) -> (u64, Vec<usize>) {
    let options = LoaderOptions { batch_size: 4, seed: recipe.train.seed, ..LoaderOptions::default() };
    let pipeline = Arc::new(Pipeline::new(recipe.augment.train.clone()).unwrap());
    let loader = Loader::new(splits.train.clone(), pipeline, options).unwrap();
    let indices: Vec<usize> = loader.epoch(0).flat_map(|batch| batch.unwrap().indices).collect();
    let step = indices.iter().position(|index| *index == 17).expect("every picture comes") / 8;
    (step as u64 + 1, indices[step * 8..][..8].to_vec())
}

/// Runs into the white picture; checks the names and that every checkpoint is of a step before, and all numbers.
fn runs_into(white: White, text: &str, what: &str) {
    let _alone = alone();
    let (recipe, splits, folder) = (recipe(16, text), data(), tempfile::tempdir().unwrap());
    let (step, expected) = culprit(&recipe, &splits);
    assert!(step > 1, "another seed: the first step has it");
    let mut watch = Watch::default();
    let error = fit(&recipe, Tiny::new(3, white), &splits, Some(folder.path()), &mut watch).err().expect("an error");
    let Error::Train(TrainError::NonFiniteSamples { what: found, indices, names }) = &error else { panic!("{error}") };
    assert_eq!((found.as_str(), indices), (what, &expected));
    assert_eq!(*names, expected.iter().map(|index| format!("pattern-{index}")).collect::<Vec<_>>());
    assert!(error.to_string().contains("pattern-17") && error.exit_code() == 5, "{error}");
    assert!(watch.ending.is_none() && watch.epochs.is_empty());

    let reader = CheckpointReader::new(folder.path());
    assert_eq!(reader.latest().unwrap().expect("a checkpoint").1.step, step - 1);
    all_finite(folder.path());
    assert!(reader.best_path().unwrap().is_none_or(|best| all_numbers(&best)));
}

fn all_numbers(checkpoint: &Path) -> bool {
    let checkpoint = Checkpoint::load(checkpoint).unwrap();
    checkpoint.groups.values().flat_map(|group| group.tensors.values()).all(|tensor| tensor.values().unwrap().iter().all(|x| x.is_finite()))
}

fn all_finite(folder: &Path) {
    let entries = CheckpointReader::new(folder).list().unwrap();
    assert!(!entries.is_empty());
    entries.iter().for_each(|entry| assert!(all_numbers(&entry.path), "{}", entry.path.display()));
}

#[test]
fn a_loss_that_is_no_number() {
    runs_into(White::SpoilsLogits, TEXT, "loss");
}

#[test]
fn gradients_that_are_no_numbers_under_a_finite_loss() {
    runs_into(White::SpoilsGradient, &TEXT.replace("lr =", "clip = { norm = 1.0 }\nlr ="), "gradients");
    // Nothing needs the gradients' norm here: the weights tell.
    runs_into(White::SpoilsGradient, TEXT, "weights");
}

#[test]
fn logits_of_a_validation_picture_that_are_no_numbers_are_never_the_best() {
    let _alone = alone();
    let one_white = |index, image| if index == 4 { white(index, image) } else { Ok(image) };
    let splits = Patterns::new(3, 32, 16, 1).with(Patterns::new(3, 6, 16, 2).changed(one_white));
    let folder = tempfile::tempdir().unwrap();
    let mut watch = Watch::default();
    let text = TEXT.replace("every_steps = 1", "every_steps = 3");
    let error = fit(&recipe(16, &text), Tiny::new(3, White::SpoilsLogits), &splits, Some(folder.path()), &mut watch).err().unwrap();
    let Error::Train(TrainError::NonFiniteSamples { what, indices, names }) = &error else { panic!("{error}") };
    assert_eq!((what.as_str(), indices.as_slice(), names.join(" ").as_str()), ("logits", &[4][..], "pattern-4"));
    let reader = CheckpointReader::new(folder.path());
    assert_eq!((reader.latest().unwrap().unwrap().1.step, reader.best_path().unwrap()), (3, None));
    all_finite(folder.path());
}
