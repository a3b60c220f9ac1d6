//! What a run does besides steps: sizes, scores, choices, ends.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};
use timburn_data::loader::{LoaderOptions, Normalization, Sampling};
use timburn_data::{Loader, Pipeline, Rgb8Image, Splits};
use timburn_models::{ImageModel, Model, ModelOptions, create, load_state_dict, state_dict};
use timburn_train::checkpoint::CheckpointReader;
use timburn_train::recipe::TestTime;
use timburn_train::trainer::Ending;
use timburn_train::{Evaluator, Loss, LossConfig, Precision, Recipe, Report};

use super::common::{bits, host};
use super::patterns::Patterns;
use super::tiny::{Tiny, White};
use super::watch::Watch;
use super::{alone, device, fit, recipe};

fn splits() -> Splits {
    Patterns::new(3, 24, 16, 1).with(Patterns::new(3, 9, 16, 2))
}

fn tiny() -> Tiny {
    Tiny::new(3, White::Harmless)
}

/// A model may come from anywhere: fresh, copied, used, loaded, from a device without autodiff.
#[test]
fn models_that_were_copied_or_used_train_like_fresh_ones() {
    let _alone = alone();
    let recipe = recipe(16, "epochs = 1\nbatch_size = 8\nlr = 0.1");
    let options = ModelOptions { classes: Some(3), seed: 1, ..ModelOptions::default() };
    let fresh = |device: &Device| create("resnet20", &options, device).unwrap();
    let train = |model: Model| bits(&fit(&recipe, model, &splits(), None, &mut Watch::default()).unwrap().model);
    let (plain, autodiff) = (device(), device().autodiff());
    let expected = train(fresh(&autodiff));
    let images = |device: &Device| Tensor::<4>::zeros([1, 3, 16, 16], device);
    let copied = fresh(&autodiff);
    let copy = copied.clone();
    assert!(train(copied) == expected, "copied");
    drop(copy);
    let used = fresh(&autodiff);
    // In evaluation mode: batch norm learns from what it sees in training.
    let _ = used.valid().forward(images(&plain));
    assert!(train(used) == expected, "used");
    let loaded = load_state_dict(&fresh(&autodiff), &state_dict(&fresh(&plain))).unwrap();
    assert!(train(loaded) == expected, "loaded");
    let without = fresh(&plain);
    let _ = without.forward(images(&plain));
    assert!(train(without) == expected, "from a device without autodiff");
}

#[test]
fn pictures_grow_when_the_recipe_says() {
    let _alone = alone();
    let text = r#"
        epochs = 4
        batch_size = 8
        [augment]
        train = [{ op = "random_resized_crop", size = 12 }, "horizontal_flip"]
        evaluation = [{ op = "resize", size = 16 }, { op = "center_crop", size = 16 }, "normalize"]
        progressive = [{ epoch = 1, size = 16 }, { epoch = 3, size = 24 }]
    "#;
    let (recipe, folder) = (recipe(0, text), tempfile::tempdir().unwrap());
    let sizes = |model: &Tiny| model.seen.lock().unwrap().iter().map(|seen| seen.0).collect::<Vec<_>>();
    let (model, mut watch) = (tiny(), Watch::stopping_after(5));
    let seen = model.clone();
    fit(&recipe, model, &splits(), Some(folder.path()), &mut watch).unwrap();
    assert_eq!(sizes(&seen), [12, 12, 12, 16, 16]);
    // Resumed in the middle of the second epoch.
    let model = tiny();
    let seen = model.clone();
    fit(&recipe, model, &splits(), Some(folder.path()), &mut Watch::default()).unwrap();
    assert_eq!(sizes(&seen), [16, 16, 16, 16, 24, 24, 24]);
}

/// Validation labels that are wrong on purpose: what is learned makes the loss there worse, from the first epoch on.
fn contrary() -> Splits {
    let wrong = Patterns::new(3, 9, 16, 2).changed(|index, _| {
        // The picture of the next class.
        let other = Patterns::labelled(3, vec![(index + 1) % 3; index + 1], 16, 2);
        match timburn_data::Dataset::read(&other, index)? {
            timburn_data::Content::Pixels(image) => Ok(image),
            timburn_data::Content::Encoded(_) => panic!("patterns are pixels"),
        }
    });
    Patterns::new(3, 24, 16, 1).with(wrong)
}

#[test]
fn a_run_that_gets_no_better_stops_and_keeps_its_best() {
    let _alone = alone();
    let text = r#"
        epochs = 20
        batch_size = 8
        lr = 0.2
        [checkpoints]
        best = "loss"
        keep_last = 1
        [early_stopping]
        patience = 2
        metric = "loss"
    "#;
    let (recipe, folder) = (recipe(16, text), tempfile::tempdir().unwrap());
    let mut watch = Watch::default();
    let outcome = fit(&recipe, tiny(), &contrary(), Some(folder.path()), &mut watch).unwrap();
    let losses: Vec<f64> = watch.evaluations.iter().map(|event| event.report.loss.unwrap()).collect();
    let best = losses.iter().copied().fold(f64::INFINITY, f64::min);
    let at = losses.iter().position(|loss| *loss == best).unwrap();
    assert_eq!((outcome.ending, watch.ending), (Ending::StoppedEarly, Some(Ending::StoppedEarly)));
    assert_eq!(losses.len(), at + 4, "the best, two that are let pass, one too many: {losses:?}");
    assert!(losses.len() < 20 && watch.epochs.len() == losses.len());
    let reader = CheckpointReader::new(folder.path());
    let kept = reader.best().unwrap().expect("a best one").1;
    assert_eq!((outcome.best, kept.step), (Some(best), 3 * (at as u64 + 1)));
    assert_eq!(reader.latest().unwrap().unwrap().1.step, outcome.step, "and the last one");
    // Its weights give its score.
    let model = load_state_dict(&tiny().valid(), &kept.groups["model"]).unwrap();
    assert_eq!(score(&recipe, &contrary(), &model, TestTime::None).loss, Some(best));
}

fn score(recipe: &Recipe, splits: &Splits, model: &Tiny, test_time: TestTime) -> Report {
    let pipeline = Arc::new(Pipeline::new(recipe.augment.evaluation.clone()).unwrap());
    let options = LoaderOptions { batch_size: 8, sampling: Sampling::Sequential, ..LoaderOptions::default() };
    let loader = Loader::new(splits.validation.clone().unwrap(), pipeline, options).unwrap();
    let loss = Loss::new(LossConfig::default(), 3).unwrap();
    let evaluator = Evaluator {
        loader: &loader,
        normalization: recipe.augment.normalization(),
        loss: Some(&loss),
        test_time,
        top: &[1],
        precision: Precision::F32,
    };
    evaluator.score(model, &device(), &mut |_| ()).unwrap().0
}

#[test]
fn the_best_checkpoint_is_the_best_by_its_metric() {
    let _alone = alone();
    for metric in ["top1", "loss", "balanced_accuracy", "macro_f1"] {
        let text = format!(
            "epochs = 6\nbatch_size = 8\nlr = 1.0\n[checkpoints]\nbest = {metric:?}\nkeep_last = 1\n[schedule]\nchain = [{{ curve = {{ name = \"constant\" }} }}]"
        );
        let (recipe, folder) = (recipe(16, &text), tempfile::tempdir().unwrap());
        let mut watch = Watch::default();
        let outcome = fit(&recipe, tiny(), &splits(), Some(folder.path()), &mut watch).unwrap();
        let values: Vec<f64> = watch.evaluations.iter().map(|event| recipe.checkpoints.best.of(&event.report).unwrap()).collect();
        let better = |a: f64, b: f64| if metric == "loss" { a < b } else { a > b };
        // The first of equals.
        let best = (0..values.len()).reduce(|best, at| if better(values[at], values[best]) { at } else { best }).unwrap();
        assert_eq!(outcome.best, Some(values[best]), "{metric}");
        let kept = CheckpointReader::new(folder.path()).best().unwrap().unwrap();
        assert_eq!(kept.1.step, watch.evaluations[best].step, "{metric}: {values:?}");
        assert_eq!(outcome.best_checkpoint, Some(kept.0));
        assert!(values.iter().any(|value| *value != values[0]), "{metric} never changed");
        let model = load_state_dict(&tiny().valid(), &kept.1.groups["model"]).unwrap();
        assert_eq!(recipe.checkpoints.best.of(&score(&recipe, &splits(), &model, TestTime::None)), Some(values[best]));
    }
}

#[test]
fn scores_and_checkpoints_come_every_so_many_steps_and_epochs() {
    let _alone = alone();
    // Six steps an epoch. The metric of the best never improves after the first score.
    let text = r#"
        epochs = 5
        batch_size = 4
        lr = 1e-9
        [evaluation]
        every_steps = 4
        every_epochs = 3
        [checkpoints]
        every_steps = 5
        every_epochs = 4
        keep_last = 100
        best = "loss"
        [early_stopping]
        patience = 100
    "#;
    let (recipe, folder) = (recipe(16, text), tempfile::tempdir().unwrap());
    let mut watch = Watch::default();
    fit(&recipe, tiny(), &splits(), Some(folder.path()), &mut watch).unwrap();
    let steps: Vec<u64> = watch.evaluations.iter().map(|event| event.step).collect();
    // Multiples of 4; 18 ends the third epoch, 30 the run; 12 and 24 end epochs and are scored once.
    assert_eq!(steps, [4, 8, 12, 16, 18, 20, 24, 28, 30]);
    let best: Vec<u64> = watch.evaluations.iter().filter(|event| event.best).map(|event| event.step).collect();
    let saved: Vec<u64> = CheckpointReader::new(folder.path()).list().unwrap().into_iter().map(|entry| entry.step).collect();
    // Multiples of 5, the fourth epoch's end, the run's end, and the best ones.
    let mut expected = [vec![5, 10, 15, 20, 24, 25, 30], best].concat();
    expected.sort_unstable();
    expected.dedup();
    assert_eq!(saved, expected);
    assert!(watch.epochs[2].evaluation.is_some() && watch.epochs[0].evaluation.is_none());
}

#[test]
fn classes_are_shown_equally_often_when_asked() {
    let _alone = alone();
    let labels: Vec<usize> = (0..27)
        .map(|index| {
            if index < 20 {
                0
            } else if index < 24 {
                1
            } else {
                2
            }
        })
        .collect();
    for (sampling, expected) in [("class_balanced", [18, 18, 18]), ("shuffled", [40, 8, 6])] {
        let train = Patterns::labelled(3, labels.clone(), 16, 1);
        let text = format!("epochs = 2\nbatch_size = 9\n[loader]\nsampling = {sampling:?}");
        let mut watch = Watch::default();
        fit(&recipe(16, &text), tiny(), &train.clone().with(Patterns::new(3, 6, 16, 2)), None, &mut watch).unwrap();
        let mut counts = [0; 3];
        train.read.lock().unwrap().iter().for_each(|index| counts[labels[*index]] += 1);
        assert_eq!(counts, expected, "{sampling}");
        assert_eq!(watch.epochs.iter().map(|epoch| epoch.samples).collect::<Vec<_>>(), [27, 27]);
    }
}

#[test]
fn the_flip_at_test_time_averages_both_views() {
    let _alone = alone();
    let mirrored = |_: usize, image: Rgb8Image| {
        let rows = image.pixels.chunks(3 * image.width).flat_map(|row| row.chunks(3).rev().flatten().copied());
        Ok(Rgb8Image { pixels: rows.collect(), ..image })
    };
    let text = "epochs = 3\nbatch_size = 8\nlr = 0.2\n[evaluation]\ntest_time = \"flip\"";
    let recipe = recipe(16, text);
    let mut watch = Watch::default();
    let outcome = fit(&recipe, tiny(), &splits(), None, &mut watch).unwrap();
    let (flipped, plain) =
        (score(&recipe, &splits(), &outcome.model, TestTime::Flip), score(&recipe, &splits(), &outcome.model, TestTime::None));
    assert_eq!(watch.evaluations.last().unwrap().report.loss, flipped.loss, "the run uses it");
    assert_ne!(flipped.loss, plain.loss);

    // By hand: the mean of the probabilities of the pictures and of their mirror images.
    let probabilities = |splits: &Splits| {
        let pipeline = Arc::new(Pipeline::new(recipe.augment.evaluation.clone()).unwrap());
        let options = LoaderOptions { batch_size: 9, sampling: Sampling::Sequential, ..LoaderOptions::default() };
        let loader = Loader::new(splits.validation.clone().unwrap(), pipeline, options).unwrap();
        let batch = loader.epoch(0).next().unwrap().unwrap();
        let normalization: Normalization = recipe.augment.normalization();
        let images = batch.images(&normalization, &device()).unwrap();
        (host(softmax(outcome.model.forward(images), 1)), batch.labels)
    };
    let mirror = Patterns::new(3, 24, 16, 1).with(Patterns::new(3, 9, 16, 2).changed(mirrored));
    let ((one, labels), (other, _)) = (probabilities(&splits()), probabilities(&mirror));
    let means = one.iter().zip(&other).map(|(a, b)| f64::from(a + b) / 2.0).collect::<Vec<_>>();
    let expected = -labels.iter().enumerate().map(|(row, label)| means[row * 3 + label].ln()).sum::<f64>() / 9.0;
    let found = flipped.loss.unwrap();
    assert!((found - expected).abs() < 1e-5, "{found} instead of {expected}");
    assert!(!bits(&outcome.model).is_empty());
}
