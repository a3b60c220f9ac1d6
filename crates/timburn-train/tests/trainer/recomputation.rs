//! `train.gradient_checkpointing`: activations computed again in the backward pass change nothing but memory and time.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{GradientCheckpointingStrategy, Tensor};
use timburn_models::state_dict::KeyPath;
use timburn_models::{ImageModel, Model, ModelOptions, create};
use timburn_train::{Learner, Targets};

use super::common::{bits, host, unit};
use super::tiny::{Tiny, White};
use super::{alone, device, recipe};

fn text(recompute: bool) -> String {
    format!("epochs = 1\nlr = 0.1\ngradient_checkpointing = {recompute}\nclip = {{ norm = 1.0 }}\n[ema]\ndecay = 0.9\n")
}

fn model(name: &str) -> Model {
    // Where a mask is drawn anew in the backward pass, gradients go wrong.
    let options = ModelOptions { classes: Some(5), drop_path: 0.3, dropout: Some(0.3), ..ModelOptions::default() };
    create(name, &options, &device().autodiff()).expect("a model")
}

fn step<M: ImageModel>(mut learner: Learner<M>, number: usize) -> (Learner<M>, f64, f64) {
    let device = learner.device().clone();
    let values: Vec<f32> = unit(&format!("images {number}"), 4 * 3 * 32 * 32).map(|x| 4.0 * x - 2.0).collect();
    let images = Tensor::<1>::from_floats(values.as_slice(), &device).reshape([4, 3, 32, 32]);
    let labels = Tensor::from_ints([0, 1, 2, 3], &device);
    learner.backward(images, Targets::classes(&[0, 1, 2, 3], 5, &device).unwrap(), labels).unwrap();
    let (learner, update) = learner.update().unwrap();
    let update = update.expect("a step");
    (learner, update.loss, update.gradient_norm.expect("clipped"))
}

/// Strategies of all trainable parameters.
fn strategies<M: Module>(model: &M) -> Vec<(String, GradientCheckpointingStrategy)> {
    #[derive(Default)]
    struct Collect(KeyPath, Vec<(String, GradientCheckpointingStrategy)>);
    impl ModuleVisitor for Collect {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.0.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.0.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.val().is_require_grad() {
                self.1.push((self.0.key(), param.val().gradient_checkpointing_strategy().expect("autodiff")));
            }
        }
    }
    let mut collect = Collect::default();
    model.visit(&mut collect);
    collect.1
}

fn all_recompute<M: ImageModel>(learner: &Learner<M>) -> bool {
    let found = strategies(learner.model());
    let wrong: Vec<_> = found.iter().filter(|(_, strategy)| *strategy != GradientCheckpointingStrategy::Balanced).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    found.len() > 20
}

#[test]
fn losses_gradients_weights_and_statistics_are_bit_equal() {
    let _alone = alone();
    for name in ["resnet20", "efficientnet_lite0"] {
        let plain = Learner::new(&recipe(32, &text(false)), model(name), &device(), 4).unwrap();
        let recomputing = Learner::new(&recipe(32, &text(true)), model(name), &device(), 4).unwrap();
        assert!(all_recompute(&recomputing), "{name}");
        let start = bits(plain.model());
        assert!(start == bits(recomputing.model()), "{name}: they start alike");
        let (mut plain, mut recomputing) = (plain, recomputing);
        for number in 0..3 {
            let (left, right) = (step(plain, number), step(recomputing, number));
            assert_eq!((left.1, left.2), (right.1, right.2), "{name}: loss and norm of the gradients, step {number}");
            (plain, recomputing) = (left.0, right.0);
            for ((key, left), (_, right)) in bits(plain.model()).into_iter().zip(bits(recomputing.model())) {
                assert!(left == right, "{name}: {key} differs after step {number}");
            }
        }
        assert!(all_recompute(&recomputing), "{name}: after steps");
        assert!(bits(&plain.valid()) == bits(&recomputing.valid()), "{name}: averaged weights");
        // Neither run may have stood still.
        assert!(bits(plain.model()).iter().zip(&start).all(|(now, then)| now.1 != then.1), "{name}: a tensor did not change");

        let (tensors, state) = recomputing.state().unwrap();
        let restored = Learner::new(&recipe(32, &text(true)), model(name), &device(), 4).unwrap().load_state(&tensors, &state).unwrap();
        assert!(all_recompute(&restored), "{name}: after a resume");
    }
}

/// One update of the running mean is a tenth of the batch's mean, two are 19 hundredths.
#[test]
fn statistics_move_once_per_step() {
    let _alone = alone();
    let learner = Learner::new(&recipe(32, &text(true)), Tiny::new(5, White::Harmless), &device(), 4).unwrap();
    let values: Vec<f32> = unit("images 0", 4 * 3 * 32 * 32).map(|x| 4.0 * x - 2.0).collect();
    let images = Tensor::<1>::from_floats(values.as_slice(), &device()).reshape([4, 3, 32, 32]);
    let mean = learner.model().valid().conv1.forward(images).swap_dims(0, 1).reshape([8, -1]).mean_dim(1);
    let expected = host(mean).into_iter().map(|mean| 0.1 * mean);
    let (learner, ..) = step(learner, 0);
    let found = host(learner.model().bn1.running_mean.value());
    for (found, expected) in found.into_iter().zip(expected) {
        assert!((found - expected).abs() < 1e-6 && expected.abs() > 1e-5, "{found} instead of {expected}");
    }
}
