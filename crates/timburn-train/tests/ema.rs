//! The moving average of a model against timm's, and what it must not share with the live model.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};
use common::{autodiff, bits, floats, formula_weights, golden, relative_error, unit};
use timburn_models::blocks::{BatchNorm2d, Builder};
use timburn_models::state_dict::KeyPath;
use timburn_models::{ImageModel, Model, ModelOptions, create, load_state_dict, state_dict};
use timburn_train::{Ema, EmaConfig};

/// Sets every tensor of a module by the generator's formula.
struct Fill {
    path: KeyPath,
    update: u64,
}

impl ModuleMapper for Fill {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = format!("{}.{}", self.path.key(), self.update);
        param.map(|old| {
            let shape = old.dims();
            let values: Vec<f32> = unit(&name, shape.iter().product()).map(|u| 2.0 * u - 1.0).collect();
            Tensor::from_data(TensorData::new(values, shape), &autodiff()).require_grad()
        })
    }
}

#[test]
fn ten_updates_equal_timm() {
    for (name, case) in golden("ema.json").as_object().expect("cases") {
        let config: EmaConfig = serde_json::from_value(case["config"].clone()).expect(name);
        let mut live = BatchNorm2d::new(4, 1e-5, 1.0, &Builder::new(&autodiff(), 0)).train();
        let mut ema = Ema::new(config.clone(), &live).expect(name);
        for (update, decay) in (1..).zip(floats(&case["decays"])) {
            live = live.map(&mut Fill { path: KeyPath::default(), update });
            ema = ema.update(&live);
            assert!((config.decay(update) - decay).abs() < 1e-12, "{name}: decay of update {update}");
        }
        let found = ema.state();
        assert_eq!(found.tensors.len(), 4);
        for (key, expected) in case["final"].as_object().expect("tensors") {
            let values: Vec<f64> = found.tensors[key].values().expect("host").into_iter().map(f64::from).collect();
            let error = relative_error(&values, &floats(expected));
            assert!(error < 1e-6, "{name}: {key}: {error:.1e}");
        }
    }
}

fn model() -> Model {
    let model = create("resnet20", &ModelOptions::default(), &autodiff()).expect("resnet20");
    load_state_dict(&model, &formula_weights(&model, 0.0)).expect("fits").train()
}

#[test]
fn the_average_and_the_model_do_not_touch_each_other() {
    let live = model();
    let start = bits(&live);
    let mut ema = Ema::new(EmaConfig { decay: 0.5, ..EmaConfig::default() }, &live).expect("valid");
    let images = || Tensor::<4>::ones([2, 3, 32, 32], &autodiff());
    // A training step's forward pass moves the live statistics, and only those.
    live.forward(images());
    assert_eq!(bits(ema.model()), start, "the average does not see the live model's batches");
    let moved = bits(&live);
    assert_ne!(moved, start);
    ema = ema.update(&live);
    assert_eq!(bits(ema.model()), moved, "the first update copies");
    assert_eq!(bits(&live), moved, "an update leaves the live model alone");
    live.forward(images());
    let twice = bits(&live);
    ema = ema.update(&live);
    let average = bits(ema.model());
    assert_eq!(bits(&live), twice);
    let (statistic, mean): (Vec<_>, Vec<_>) = average
        .iter()
        .zip(moved.iter().zip(&twice))
        .filter(|((key, _), _)| key == "bn1.running_mean")
        .map(|((_, found), ((_, a), (_, b)))| {
            let half = |(a, b): (&u32, &u32)| (f32::from_bits(*a) + f32::from_bits(*b)) / 2.0;
            (f32::from_bits(found[0]), half((&a[0], &b[0])))
        })
        .unzip();
    assert!(statistic.len() == 1 && (statistic[0] - mean[0]).abs() < 1e-6, "{statistic:?} {mean:?}");
    // Evaluating the average changes nothing anywhere.
    ema.model().forward(images().without_autodiff());
    assert_eq!(bits(ema.model()), average);
    assert_eq!(bits(&live), twice);
}

#[test]
fn a_saved_average_goes_on_bit_for_bit() {
    let live = model();
    let config = EmaConfig { use_warmup: true, ..EmaConfig::default() };
    let step = |ema: Ema<Model>| {
        live.forward(Tensor::<4>::ones([2, 3, 32, 32], &autodiff()));
        ema.update(&live)
    };
    let mut ema = Ema::new(config.clone(), &live).expect("valid");
    for _ in 0..3 {
        ema = step(ema);
    }
    let mut resumed = Ema::new(config, &model()).expect("valid");
    resumed.load_state(&ema.state(), ema.updates()).expect("fits");
    let (ema, resumed) = (step(ema), resumed.update(&live));
    assert_eq!((bits(ema.model()), ema.updates()), (bits(resumed.model()), resumed.updates()));
    let mut resumed = resumed;
    let mut bad = ema.state();
    bad.tensors.remove("fc.bias");
    assert!(resumed.load_state(&bad, 1).is_err());
    assert_eq!(state_dict(resumed.model()).tensors.len(), ema.state().tensors.len());
}

#[test]
fn configurations_are_checked() {
    for config in [
        EmaConfig { decay: 1.0, ..EmaConfig::default() },
        EmaConfig { warmup_power: 0.0, ..EmaConfig::default() },
        EmaConfig { min_decay: f64::NAN, ..EmaConfig::default() },
    ] {
        assert!(Ema::new(config, &model()).is_err());
    }
    assert!(serde_json::from_str::<EmaConfig>(r#"{"decy": 0.9}"#).is_err());
}
