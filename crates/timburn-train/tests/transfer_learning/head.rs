//! Training of a head on features.

use timburn_core::Error;
use timburn_core::error::TrainError;
use timburn_models::blocks::head::Mlp;
use timburn_models::{Head, Model, ModelOptions};
use timburn_train::optimizer::{AdamW, OptimizerConfig};
use timburn_train::recipe::OptimizerSection;
use timburn_train::transfer::{HeadEpoch, HeadTraining, score};
use timburn_train::{Recipe, StopFlag};

use crate::common::unit;
use crate::{alone, body, clouds, device, features, model_bits, pretrained};

fn training(epochs: u64, lr: f64) -> HeadTraining {
    let mut recipe = Recipe::default();
    recipe.train.epochs = epochs;
    recipe.train.lr = lr;
    recipe.train.batch_size = 8;
    recipe.train.seed = 4;
    recipe.optimizer = OptimizerSection(OptimizerConfig::AdamW(AdamW::default()));
    HeadTraining { recipe, patience: 100 }
}

fn model(head: Head) -> Model {
    pretrained(&ModelOptions { head, ..ModelOptions::classes(3) })
}

fn labels(count: usize) -> Vec<usize> {
    (0..count).map(|at| at % 3).collect()
}

#[test]
fn heads_learn_and_the_body_stays() {
    let _alone = alone();
    let mlp = Head::Mlp(Mlp { widths: vec![32], ..Mlp::default() });
    for (head, width) in [(Head::Linear, 64), (Head::Fastai, 128), (mlp, 64), (Head::Cosine(Default::default()), 64)] {
        // 65 pictures: the last batch would be one.
        let (train, validation) = (clouds("train", width, &labels(65), 2), clouds("validation", width, &labels(30), 1));
        let start = model(head.clone());
        let before = score(&start, &validation, &device()).unwrap();
        let mut epochs: Vec<HeadEpoch> = Vec::new();
        let run = || training(12, 3e-3).run(start.clone(), (&train, &validation), &device(), &mut |epoch| epochs.push(epoch.clone()));
        let (trained, report) = { run }().unwrap();
        assert_eq!(epochs.iter().map(|epoch| epoch.epoch).collect::<Vec<_>>(), (0..12).collect::<Vec<_>>());
        assert!(epochs.iter().all(|epoch| epoch.loss.is_finite()), "{head:?}");
        assert!(report.top(1) > Some(0.8) && report.top(1) > before.top(1), "{head:?}: {:?} after {:?}", report.top(1), before.top(1));

        // The best epoch is what is left, and the model is the one that was scored.
        let lowest = epochs.iter().map(|epoch| epoch.report.loss.unwrap()).fold(f64::INFINITY, f64::min);
        assert_eq!(report.loss, Some(lowest), "{head:?}");
        assert_eq!(score(&trained, &validation, &device()).unwrap(), report, "{head:?}");
        let (old, new) = (model_bits(&start), model_bits(&trained));
        assert_eq!(body(&old), body(&new), "{head:?}");
        assert_ne!(old, new, "{head:?}");

        // Again to the bit.
        let (again, _) = training(12, 3e-3).run(start.clone(), (&train, &validation), &device(), &mut |_| {}).unwrap();
        assert_eq!(model_bits(&again), new, "{head:?}");
        let mut other = training(12, 3e-3);
        other.recipe.train.seed = 5;
        let (other, _) = other.run(start, (&train, &validation), &device(), &mut |_| {}).unwrap();
        assert_ne!(model_bits(&other), new, "{head:?}: another order");
    }
}

#[test]
fn a_worse_end_is_not_the_result_and_patience_ends_it() {
    let _alone = alone();
    // Labels of the training set that say nothing about those of the validation set: the longer, the worse.
    let (train, mut wrong) = (clouds("patience", 64, &labels(24), 1), labels(24));
    wrong.rotate_left(1);
    let validation = features(&train.rows(0, 0..24).unwrap(), &wrong, 1);
    let start = model(Head::Linear);
    let run = |patience| {
        let mut epochs = Vec::new();
        let training = HeadTraining { patience, ..training(9, 3e-2) };
        let (trained, report) =
            training.run(start.clone(), (&train, &validation), &device(), &mut |epoch| epochs.push(epoch.report.loss.unwrap())).unwrap();
        (epochs, model_bits(&trained), report)
    };
    let (epochs, whole, report) = run(100);
    assert_eq!(epochs.len(), 9);
    let best = (0..9).min_by(|&a, &b| epochs[a].total_cmp(&epochs[b])).unwrap();
    assert!(best < 6, "{epochs:?}");
    assert_eq!(report.loss, Some(epochs[best]));
    let (early, shortened, _) = run(2);
    assert_eq!(early.len(), best + 3, "{epochs:?}");
    assert_eq!(early, epochs[..best + 3]);
    assert_eq!(shortened, whole);
}

#[test]
fn a_stop_ends_it_within_a_step_and_keeps_the_best_epoch() {
    let _alone = alone();
    let (train, validation) = (clouds("stop", 64, &labels(48), 1), clouds("stop validation", 64, &labels(24), 1));
    let start = model(Head::Linear);
    let run = |after: u64| {
        let stop = StopFlag::default();
        if after == 0 {
            stop.request();
        }
        let mut epochs = Vec::new();
        let trained = training(50, 1e-3).run_until(start.clone(), (&train, &validation), &device(), &stop, &mut |epoch| {
            epochs.push(epoch.report.loss.unwrap());
            if epochs.len() as u64 == after {
                stop.request();
            }
        });
        (epochs, trained)
    };
    let (epochs, nothing) = run(0);
    assert!(epochs.is_empty() && matches!(nothing, Err(Error::Train(TrainError::Interrupted))));
    let (epochs, kept) = run(2);
    let (_, report) = kept.unwrap();
    assert_eq!(epochs.len(), 2);
    assert_eq!(report.loss, epochs.iter().copied().min_by(f64::total_cmp));
}

#[test]
fn every_epoch_has_its_view() {
    let _alone = alone();
    let (one, validation) = (clouds("view", 64, &labels(16), 1), clouds("validation", 64, &labels(12), 1));
    let rows = one.rows(0, 0..16).unwrap();
    let noise: Vec<f32> = unit("noise", rows.len()).collect();
    let two = features(&[rows, noise].concat(), &labels(16), 2);
    let losses = |train| {
        let mut losses = Vec::new();
        training(4, 1e-3).run(model(Head::Linear), (train, &validation), &device(), &mut |epoch| losses.push(epoch.loss)).unwrap();
        losses
    };
    let (once, twice) = (losses(&one), losses(&two));
    assert_eq!(once[0], twice[0], "the first epoch sees the first view");
    assert_ne!(once[1], twice[1], "the second epoch sees the second one");
}

#[test]
fn what_cannot_be_trained_is_an_error() {
    let good = clouds("good", 64, &labels(12), 1);
    let mut rows = good.rows(0, 0..12).unwrap();
    rows[100] = f32::NAN;
    let bad = features(&rows, &labels(12), 1);
    let run = |training: HeadTraining, train, validation| {
        training.run(model(Head::Linear), (train, validation), &device(), &mut |_| {}).map(|(_, report)| report)
    };
    assert!(matches!(run(training(2, 1e-3), &bad, &good), Err(Error::Train(TrainError::NonFinite { .. }))));
    assert!(matches!(run(training(2, 1e-3), &good, &bad), Err(Error::Train(TrainError::NonFinite { .. }))));
    assert!(matches!(run(training(0, 1e-3), &good, &good), Err(Error::Argument { .. })));
    // A picture alone trains too.
    let single = clouds("single", 64, &[2], 1);
    let report = run(training(1, 1e-3), &single, &single).unwrap();
    assert_eq!(report.samples, 1);
}
