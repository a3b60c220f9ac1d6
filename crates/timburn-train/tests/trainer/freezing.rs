//! Frozen stages through real steps: nothing of them moves, everything else does.

use burn::tensor::Tensor;
use timburn_core::Error;
use timburn_core::error::ModelError;
use timburn_models::{ImageModel, ModelOptions, create};
use timburn_train::{Learner, Targets, freeze_until};

use super::common::{bits, unit};
use super::{alone, device, recipe};

/// Everything that moves weights: momentum, decay on all of them, averaging.
const TEXT: &str = r#"
    epochs = 1
    lr = 0.1
    decay_norms_and_biases = true
    [optimizer]
    name = "sgd"
    momentum = 0.9
    nesterov = true
    weight_decay = 0.05
    [ema]
    decay = 0.5
"#;

fn frozen_stays(name: &str, text: &str, stage: &str, frozen_stages: usize) {
    let options = ModelOptions { classes: Some(5), ..ModelOptions::default() };
    let model = freeze_until(create(name, &options, &device().autodiff()).unwrap(), stage).unwrap();
    let frozen: Vec<_> = model.layer_groups().into_iter().take(frozen_stages).collect();
    let mut learner = Learner::new(&recipe(32, text), model, &device(), 4).unwrap();
    let start = bits(learner.model());
    for number in 0..3 {
        let device = learner.device().clone();
        let values: Vec<f32> = unit(&format!("images {number}"), 4 * 3 * 32 * 32).map(|x| 4.0 * x - 2.0).collect();
        let images = Tensor::<1>::from_floats(values.as_slice(), &device).reshape([4, 3, 32, 32]);
        let labels = Tensor::from_ints([0, 1, 2, 3], &device);
        learner.backward(images, Targets::classes(&[0, 1, 2, 3], 5, &device).unwrap(), labels).unwrap();
        learner = learner.update().unwrap().0;
    }
    let mut counts = (0, 0);
    for (what, now) in [("weights", bits(learner.model())), ("average", bits(&learner.valid()))] {
        assert_eq!(now.len(), start.len());
        for ((key, now), (_, start)) in now.iter().zip(&start) {
            let is_frozen = frozen.iter().any(|group| group.contains(key));
            assert_eq!(now == start, is_frozen, "{name} frozen up to {stage}: {what} {key}");
            if is_frozen { counts.0 += 1 } else { counts.1 += 1 }
        }
    }
    assert!(counts.0 > 4 && counts.1 >= 4, "{name}, {stage}: {counts:?}");
    let (tensors, _) = learner.state().unwrap();
    assert!(!tensors.optimizer.tensors.keys().any(|key| frozen.iter().any(|group| group.contains(key))), "momentum of a frozen weight");
}

#[test]
fn up_to_the_stem_a_stage_or_the_head() {
    let _alone = alone();
    for (stage, count) in [("stem", 1), ("layer2", 3), ("body", 4)] {
        frozen_stays("resnet20", TEXT, stage, count);
    }
}

#[test]
fn other_optimizers_and_families() {
    let _alone = alone();
    for optimizer in ["adamw", "lamb"] {
        let text = TEXT.replace("\"sgd\"\n    momentum = 0.9\n    nesterov = true", &format!("{optimizer:?}"));
        frozen_stays("resnet20", &text, "layer1", 2);
    }
    let stages = create("efficientnet_lite0", &ModelOptions::default(), &device()).unwrap().stages();
    let position = stages.iter().position(|stage| stage.name == "blocks.5").expect("the recipe's stage");
    frozen_stays("efficientnet_lite0", TEXT, "blocks.5", position + 1);
}

#[test]
fn an_unknown_stage_is_refused_with_the_known_ones() {
    let model = create("resnet20", &ModelOptions::default(), &device().autodiff()).unwrap();
    let error = freeze_until(model, "layer9").unwrap_err();
    let Error::Model(ModelError::UnknownStage { name, stages }) = &error else { panic!("{error}") };
    assert_eq!((name.as_str(), stages.join(" ").as_str()), ("layer9", "stem layer1 layer2 layer3 body none"));
}
