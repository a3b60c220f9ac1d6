//! Fine-tuning from a bundle to a bundle.

use std::sync::Arc;
use std::time::Duration;

use timburn_core::error::TrainError;
use timburn_core::{Classes, Error, Result};
use timburn_data::{Dataset, Splits};
use timburn_infer::Predictor;
use timburn_models::blocks::head::Mlp;
use timburn_models::{Head, ImageModel, ModelOptions};
use timburn_train::trainer::StepEvent;
use timburn_train::transfer::{Baselines, Epochs, FineTune, FineTuned, HeadEpoch, Phase, TransferObserver};
use timburn_train::{Observer, StopFlag};
use timburn_weights::{Bundle, Card, ModelSpec};

use crate::{Shades, alone, bits, body, device, model_bits, preprocessing, pretrained};

fn bundle() -> Bundle {
    let options = ModelOptions::classes(4);
    Bundle {
        model: ModelSpec { architecture: "resnet20".into(), options: options.clone() },
        classes: Classes::new(["a", "b", "c", "d"].map(String::from).to_vec()),
        preprocessing: preprocessing(),
        card: Card { name: Some("resnet20.another_life".into()), licence: Some("CC0-1.0".into()), ..Card::default() },
        ranges: None,
        weights: timburn_models::state_dict(&pretrained(&options)),
    }
}

fn splits(train: &[usize], validation: Option<&[usize]>, test: Option<Shades>) -> Splits {
    Splits { train: Shades::set(train), validation: validation.map(Shades::set), test: test.map(|test| Arc::new(test) as _) }
}

fn two_classes() -> Splits {
    splits(&[10, 10], Some(&[5, 5]), Some(Shades::new(&[4, 4])))
}

fn job(epochs: u64) -> FineTune {
    FineTune { batch_size: 8, workers: 1, head_epochs: 3, ..FineTune::new(epochs) }
}

fn fit(job: &FineTune, splits: Splits) -> Result<FineTuned> {
    job.fit(&bundle(), splits, &device())
}

/// Notes the phases, and asks for a stop at one of these moments.
#[derive(Default)]
struct Watch {
    phases: Vec<Phase>,
    baselines: Option<Baselines>,
    extracted: usize,
    steps: u64,
    stop: StopFlag,
    at_extracted: usize,
    at_step: u64,
    at_head_epoch: u64,
}

impl Observer for Watch {
    fn step(&mut self, event: &StepEvent) -> Result<()> {
        self.steps = event.step;
        if self.steps == self.at_step {
            self.stop.request();
        }
        Ok(())
    }
}

impl TransferObserver for Watch {
    fn phase(&mut self, phase: &Phase) -> Result<()> {
        self.phases.push(phase.clone());
        Ok(())
    }
    fn extracted(&mut self, passes: usize) {
        self.extracted += passes;
        if self.at_extracted > 0 && self.extracted >= self.at_extracted {
            self.stop.request();
        }
    }
    fn head_epoch(&mut self, epoch: &HeadEpoch) {
        if epoch.epoch + 1 == self.at_head_epoch {
            self.stop.request();
        }
    }
    fn baselines(&mut self, baselines: &Baselines) {
        self.baselines = Some(baselines.clone());
    }
}

fn watched(job: &FineTune, watch: &mut Watch) -> Result<FineTuned> {
    FineTune { stop: watch.stop.clone(), ..job.clone() }.fit_observed(&bundle(), two_classes(), &device(), watch)
}

#[test]
fn a_head_alone_is_a_probe_and_its_bundle_predicts_the_same() {
    let mut watch = Watch::default();
    let tuned = watched(&job(0), &mut watch).unwrap();
    assert_eq!((tuned.chosen, tuned.examined, tuned.interrupted), ("head", "test set", false));
    let names: Vec<_> = tuned.phases.iter().map(|phase| (phase.name, phase.epochs)).collect();
    assert_eq!(names, [("head", 0)]);
    let [Phase::Features { passes: 30 }, Phase::Baselines, Phase::Head, Phase::NoBody { reason }, Phase::Test] = &watch.phases[..] else {
        panic!("{:?}", watch.phases)
    };
    assert_eq!((watch.extracted, reason.as_str()), (30, "no epochs were asked for"));
    assert_eq!(watch.baselines, Some(tuned.baselines.clone()));
    // Brightness is told by any body.
    assert_eq!((tuned.validation.top(1), tuned.validation.samples), (Some(1.0), 10));
    assert_eq!(tuned.test.as_ref().map(|test| (test.top(1), test.samples)), Some((Some(1.0), 8)));
    assert_eq!(tuned.baselines, Baselines { knn: 1.0, probe: 1.0 });
    assert_eq!(body(&model_bits(&tuned.model)), body(&bits(&bundle().weights)));

    let card = &tuned.bundle.card;
    assert_eq!((card.source.as_deref(), card.licence.as_deref()), (Some("resnet20.another_life"), Some("CC0-1.0")));
    assert_eq!((card.measured.top1, card.measured.top5), (Some(100.0), None));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.timburn");
    tuned.save(&path).unwrap();
    let again = Bundle::open(&path).unwrap();
    assert_eq!(again.classes.names, ["shade 0", "shade 1"]);
    assert_eq!((again.preprocessing.clone(), again.model.clone()), (preprocessing(), tuned.bundle.model.clone()));
    assert_eq!(model_bits(&again.load(&device()).unwrap()), model_bits(&tuned.model));

    // A photograph: what the bundle's predictor says is what the model itself says.
    let photograph = include_bytes!("../../../timburn-data/assets/chelsea.jpg");
    let prediction = Predictor::open(&path, &device()).unwrap().classify_bytes(photograph, "cat").unwrap();
    let picture = timburn_data::decode_bytes(photograph, "cat", &Default::default()).unwrap();
    let images = timburn_data::to_tensor(&[timburn_data::prepare(&picture, &preprocessing())], &preprocessing(), &device()).unwrap();
    let expected = crate::common::host(burn::tensor::activation::softmax(tuned.model.forward(images), 1));
    for guess in prediction.top(2) {
        assert!((guess.probability - expected[guess.index]).abs() < 1e-4, "{guess:?} {expected:?}");
    }
}

#[test]
fn the_better_phase_is_chosen_and_runs_repeat() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    for (epochs, lr) in [(2, 1e-3), (1, 1.0)] {
        let one = FineTune { lr, checkpoints: Some(folder.path().join(format!("{lr}"))), ..job(epochs) };
        let tuned = fit(&one, two_classes()).unwrap();
        let [head, body_phase] = &tuned.phases[..] else { panic!("{:?}", tuned.phases) };
        assert_eq!((head.name, body_phase.name, body_phase.epochs), ("head", "body", epochs));
        let key = |report: &timburn_train::Report| (report.top(1).unwrap(), -report.loss.unwrap());
        let expected = if key(&body_phase.report) > key(&head.report) { "body" } else { "head" };
        assert_eq!(tuned.chosen, expected);
        let kept = if expected == "body" { body_phase } else { head };
        assert_eq!(tuned.validation, kept.report);
        assert_eq!(expected == "head", body(&model_bits(&tuned.model)) == body(&bits(&bundle().weights)));
        assert_eq!(bits(&tuned.bundle.weights), model_bits(&tuned.model));

        let again = fit(&FineTune { checkpoints: None, ..one }, two_classes()).unwrap();
        // Without checkpoints the last weights count; with them the best, which may be others.
        assert_eq!(again.phases[0].report, tuned.phases[0].report);
        if epochs == 1 {
            assert_eq!(model_bits(&again.model), model_bits(&tuned.model));
            assert_eq!(tuned.chosen, "head", "a rate of 1 destroys the network");
        }
    }
}

#[test]
fn the_test_set_takes_no_part() {
    let _alone = alone();
    let mut absurd = Shades::new(&[4, 4]);
    absurd.labels.iter_mut().for_each(|label| *label = 1 - *label);
    let run = |test| fit(&job(1), splits(&[10, 10], Some(&[5, 5]), test)).unwrap();
    let (none, right, wrong) = (run(None), run(Some(Shades::new(&[4, 4]))), run(Some(absurd)));
    for other in [&right, &wrong] {
        assert_eq!(model_bits(&other.model), model_bits(&none.model));
        assert_eq!((other.validation.clone(), other.chosen), (none.validation.clone(), none.chosen));
        assert_eq!(other.baselines, none.baselines);
    }
    assert_eq!((none.test.is_none(), none.examined, none.examination.report.samples), (true, "validation set", 10));
    assert_eq!(none.examination.predictions.len(), 10);
    let accuracy = |tuned: &FineTuned| tuned.test.as_ref().and_then(|test| test.top(1)).unwrap();
    assert!((accuracy(&right) + accuracy(&wrong) - 1.0).abs() < 1e-12);
    assert_eq!((right.examined, right.examination.report.samples), ("test set", 8));
}

#[test]
fn a_validation_set_is_made_where_there_is_none() {
    for test in [None, Some(Shades::new(&[3, 3]))] {
        let has_test = test.is_some();
        let tuned = fit(&FineTune { validation: 0.3, ..job(0) }, splits(&[10, 10], None, test)).unwrap();
        assert_eq!((tuned.data.train().len(), tuned.data.validation().len()), (14, 6));
        assert_eq!((tuned.validation.samples, tuned.test.is_some()), (6, has_test));
    }
    // None at all: the test set decides, and is not called a test of anything.
    let tuned = fit(&FineTune { validation: 0.0, ..job(0) }, splits(&[10, 10], None, Some(Shades::new(&[3, 3])))).unwrap();
    assert_eq!((tuned.validation.samples, tuned.test.is_none(), tuned.examined), (6, true, "test set, which also made the choices"));
    assert!(tuned.data.scores_on_test);
    assert!(fit(&FineTune { validation: 0.0, ..job(0) }, splits(&[10, 10], None, None)).is_err());

    let error = fit(&job(0), splits(&[5, 5], Some(&[0, 0]), None)).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("validation pictures = 0"), "{error}");

    let few = fit(&FineTune { per_class: Some(3), ..job(0) }, two_classes()).unwrap();
    let labels: Vec<usize> = (0..few.data.train().len()).map(|index| few.data.train().label(index)).collect();
    assert_eq!((labels.len(), labels.iter().sum::<usize>(), few.validation.samples), (6, 3, 10));
}

#[test]
fn one_logit_for_two_classes() {
    let _alone = alone();
    let one = FineTune { single_logit: true, ..job(1) };
    let tuned = fit(&one, two_classes()).unwrap();
    assert_eq!((tuned.model.num_classes(), tuned.bundle.classes.len()), (1, 2));
    assert_eq!((tuned.validation.top(1), tuned.validation.auroc), (Some(1.0), Some(1.0)));
    assert_eq!(tuned.bundle.model.options.classes, Some(1));
    assert!(matches!(fit(&one, splits(&[4, 4, 4], Some(&[2, 2, 2]), None)), Err(Error::Argument { .. })));
    for single_logit in [true, false] {
        let error = fit(&FineTune { single_logit, ..one.clone() }, splits(&[9], Some(&[3]), None)).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("classes of the data"), "{error}");
    }
}

#[test]
fn classes_are_balanced_in_every_phase() {
    let _alone = alone();
    let uneven = || splits(&[16, 4], Some(&[5, 5]), None);
    let heads = [Head::Linear, Head::Fastai];
    for (head, single_logit) in heads.iter().flat_map(|head| [(head, false), (head, true)]) {
        let one = FineTune { head: head.clone(), single_logit, ..job(0) };
        let plain = fit(&one, uneven()).unwrap();
        let balanced = fit(&FineTune { balanced: true, ..one.clone() }, uneven()).unwrap();
        assert_ne!(model_bits(&plain.model), model_bits(&balanced.model), "{head:?} {single_logit}");
        // With the body: timed, and trained.
        let within = Epochs::Within { time: Duration::from_secs(3600), most: 1 };
        let whole = fit(&FineTune { balanced: true, epochs: within, ..one }, uneven()).unwrap();
        assert_eq!(whole.phases.len(), 2, "{head:?} {single_logit}");
    }
    // A class without pictures cannot be weighed.
    assert!(matches!(fit(&FineTune { balanced: true, ..job(0) }, splits(&[8, 0], Some(&[3, 3]), None)), Err(Error::Argument { .. })));
}

#[test]
fn a_stop_is_heard_in_every_phase() {
    let _alone = alone();
    // In the features: there is nothing yet.
    let mut watch = Watch { at_extracted: 8, ..Watch::default() };
    assert!(matches!(watched(&job(1), &mut watch), Err(Error::Train(TrainError::Interrupted))));
    assert_eq!((watch.phases.len(), watch.extracted < 30), (1, true));

    // After them, before a head was fitted: still nothing.
    let mut watch = Watch { at_extracted: 30, ..Watch::default() };
    assert!(matches!(watched(&job(5), &mut watch), Err(Error::Train(TrainError::Interrupted))));
    assert_eq!((watch.phases.last(), watch.steps), (Some(&Phase::Baselines), 0));

    // In the head's training: its best epoch so far is the result, the body is not trained.
    let mut watch = Watch { at_head_epoch: 2, ..Watch::default() };
    let mlp = Head::Mlp(Mlp { widths: vec![8], ..Mlp::default() });
    let tuned = watched(&FineTune { head: mlp, ..job(5) }, &mut watch).unwrap();
    assert!(tuned.interrupted && tuned.test.is_none() && watch.steps == 0);
    assert_eq!((tuned.chosen, tuned.phases.len(), tuned.phases[0].epochs), ("head", 1, 2));
    assert_eq!((tuned.examination.report.samples, tuned.examination.predictions.len()), (10, 0));
    assert!(matches!(&watch.phases[..], [.., Phase::NoBody { reason }] if reason.contains("stop")), "{:?}", watch.phases);

    // In the body: what there is is the result.
    for (at_step, checkpoints) in [(1, false), (3, false), (3, true)] {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = Watch { at_step, ..Watch::default() };
        let five = FineTune { checkpoints: checkpoints.then(|| folder.path().to_owned()), ..job(5) };
        let tuned = watched(&five, &mut watch).unwrap();
        assert!(tuned.interrupted && tuned.test.is_none() && watch.steps == at_step, "{:?}", watch.phases);
        assert_eq!((tuned.examined, tuned.validation.top(1)), ("validation set", Some(1.0)));
        // Two steps are an epoch.
        assert!(tuned.phases.iter().filter(|phase| phase.name == "body").all(|phase| phase.epochs == at_step / 2));
        tuned.save(folder.path().join("model.timburn")).unwrap();
    }
}

#[test]
fn too_little_time_trains_no_body() {
    for (time, said) in [(Duration::ZERO, "no epochs"), (Duration::from_nanos(1), "of the time given 0.0 s are left")] {
        let mut watch = Watch::default();
        let tuned = watched(&FineTune { epochs: Epochs::Within { time, most: 5 }, ..job(0) }, &mut watch).unwrap();
        assert_eq!((tuned.phases.len(), tuned.chosen, tuned.interrupted), (1, "head", false));
        let reason = watch.phases.iter().find_map(|phase| if let Phase::NoBody { reason } = phase { Some(reason) } else { None });
        assert!(reason.is_some_and(|reason| reason.contains(said)), "{reason:?}");
    }
}

#[test]
fn what_is_frozen_stays_and_an_unknown_stage_costs_no_time() {
    let _alone = alone();
    let mut watch = Watch::default();
    let error = watched(&FineTune { freeze: Some("layer9".into()), ..job(1) }, &mut watch).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("layer9") && error.to_string().contains("layer3"), "{error}");
    assert!(watch.phases.is_empty());

    // The statistics of the rest follow the batches only where that is asked for.
    for batch_statistics in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Some(folder.path().to_owned());
        let one = FineTune { freeze: Some("layer2".into()), checkpoints, lr: 1e-4, batch_statistics, ..job(1) };
        // Noise in the labels leaves something to learn.
        let mut train = Shades::new(&[10, 10]);
        train.labels[3] = 0;
        let tuned = fit(&one, Splits { train: Arc::new(train), ..two_classes() }).unwrap();
        assert_eq!(tuned.phases.len(), 2);
        let store = timburn_train::CheckpointStore::open(folder.path(), 1).unwrap();
        let trained = bits(&store.latest().unwrap().expect("a checkpoint").1.groups["model"]);
        let start = bits(&bundle().weights);
        for (key, bytes) in body(&start) {
            let frozen = ["conv1", "bn1", "layer1", "layer2"].iter().any(|stage| key.starts_with(&format!("{stage}.")));
            let kept = frozen || (!batch_statistics && key.contains(".running_"));
            assert_eq!(trained[&key] == bytes, kept, "{key}");
        }
        let thawed = timburn_models::trainable_parameters(&tuned.model);
        assert_eq!(
            thawed,
            timburn_models::trainable_parameters(&fit(&job(0), two_classes()).unwrap().model),
            "the model is not left frozen"
        );
    }
}

#[test]
fn a_cache_changes_nothing_and_serves_every_head_with_the_same_pool() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let cached = |head: Head| FineTune { cache: Some(folder.path().to_owned()), head, ..job(0) };
    let files = || std::fs::read_dir(folder.path()).unwrap().count();
    let memory = fit(&job(0), two_classes()).unwrap();
    for _ in 0..2 {
        assert_eq!(model_bits(&fit(&cached(Head::Linear), two_classes()).unwrap().model), model_bits(&memory.model));
        assert_eq!(files(), 4, "rows and index of training and validation set");
    }
    fit(&cached(Head::Cosine(Default::default())), two_classes()).unwrap();
    assert_eq!(files(), 4);
    // Twice the features.
    fit(&cached(Head::Fastai), two_classes()).unwrap();
    assert_eq!(files(), 8);
}

#[test]
fn bad_files_of_every_part_are_told() {
    let broken = |set: Shades, index| Arc::new(Shades { broken: vec![index], ..set });
    let splits = Splits {
        train: broken(Shades { folder: "train", ..Shades::new(&[10, 10]) }, 3),
        validation: Some(broken(Shades { folder: "validation", ..Shades::new(&[5, 5]) }, 4)),
        test: Some(broken(Shades { folder: "test", ..Shades::new(&[4, 4]) }, 5)),
    };
    let tuned = fit(&job(0), splits).unwrap();
    let names: Vec<&str> = tuned.bad.iter().map(|bad| bad.name.as_str()).collect();
    assert_eq!(names, ["train:3", "validation:4", "test:5"]);
    assert_eq!((tuned.validation.samples, tuned.test.map(|test| test.samples)), (9, Some(7)));
}
