//! Schedules against `torch.optim.lr_scheduler`, point by point; chains; the learning rate finder against fastai.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::{floats, golden};
use serde_json::{Value, json};
use timburn_core::Error;
use timburn_train::schedule::{Curve, Plateau, Rates, Update};
use timburn_train::{Schedule, ScheduleConfig};

fn config(value: Value) -> ScheduleConfig {
    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{value}: {error}"))
}

fn close(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= 1e-12 * expected.abs().max(1e-6)
}

#[test]
fn every_schedule_equals_pytorch_at_every_step() {
    let goldens = golden("schedules.json");
    let lr = goldens["lr"].as_f64().expect("a rate");
    let cases = goldens.as_object().expect("cases");
    for (name, case) in cases.iter().filter(|(name, _)| *name != "lr") {
        let epochs = case["epochs"].as_f64().expect("a number");
        let mut schedule = Schedule::new(config(case["config"].clone()), lr, epochs, 1).expect(name);
        let metrics = case.get("metrics").map(floats);
        let momentum = case.get("momentum").map(floats);
        for (step, expected) in floats(&case["lr"]).into_iter().enumerate() {
            let found = schedule.rates(step as u64);
            assert!(close(found.lr, expected), "{name}: step {step}: {} for {expected}", found.lr);
            assert_eq!(found.momentum.is_some(), momentum.is_some(), "{name}");
            if let (Some(found), Some(expected)) = (found.momentum, &momentum) {
                assert!(close(found, expected[step]), "{name}: momentum at step {step}: {found} for {}", expected[step]);
            }
            if let Some(metrics) = &metrics {
                schedule.observe(step as u64, |_| metrics[step]);
            }
        }
    }
    assert_eq!(cases.len(), 24, "every case was walked");
}

#[test]
fn epochs_of_many_steps() {
    let chain = json!([{"curve": {"name": "step", "step_size": 2}}]);
    let by_epoch = Schedule::new(config(json!({"update": "epoch", "chain": chain})), 1.0, 6.0, 10).expect("valid");
    for step in 0..60 {
        let expected = 0.1f64.powi(step / 20);
        assert!(close(by_epoch.rates(step as u64).lr, expected), "step {step}");
    }
    // Per step, a cosine over epochs is one over steps.
    let cosine = ScheduleConfig::new(Curve::Cosine { t_max: None, eta_min: 0.0 });
    let by_step = Schedule::new(cosine.clone(), 2.0, 6.0, 10).expect("valid");
    let by_epoch = Schedule::new(cosine.update(Update::Epoch), 2.0, 6.0, 10).expect("valid");
    for step in 0..60u64 {
        let at = |steps: f64| 1.0 + (std::f64::consts::PI * steps / 60.0).cos();
        assert!(close(by_step.rates(step).lr, at(step as f64)));
        assert!(close(by_epoch.rates(step).lr, at((step / 10 * 10) as f64)));
    }
}

#[test]
fn one_cycle_then_plateau() {
    let chain = json!({"chain": [
        {"curve": {"name": "one_cycle"}, "epochs": 3},
        {"curve": {"name": "plateau", "patience": 0, "factor": 0.5}, "lr": 0.02},
    ]});
    let mut schedule = Schedule::new(config(chain.clone()), 0.175, 6.0, 10).expect("valid");
    let alone = Schedule::new(config(json!({"chain": [{"curve": {"name": "one_cycle"}}]})), 0.175, 3.0, 10).expect("valid");
    for step in 0..30 {
        assert_eq!(schedule.rates(step), alone.rates(step));
    }
    let after = |lr| Rates { lr, momentum: None };
    assert_eq!(schedule.rates(30), after(0.02), "the plateau has its own rate, and the optimizer its own momentum");
    // Metrics of One-Cycle's epochs are not the plateau's.
    for epoch in 0..3 {
        schedule.observe(epoch, |_| f64::from(epoch as u32));
    }
    assert_eq!(schedule.rates(30), after(0.02));
    schedule.observe(3, |_| 1.0);
    schedule.observe(4, |_| 1.0);
    assert_eq!(schedule.rates(50), after(0.01));

    let state = schedule.state();
    let saved = serde_json::to_string(&state).expect("JSON");
    let mut resumed = Schedule::new(config(chain.clone()), 0.175, 6.0, 10).expect("valid");
    assert_ne!(resumed, schedule);
    resumed.load_state(&serde_json::from_str::<Vec<_>>(&saved).expect("back")).expect("fits");
    assert_eq!(resumed, schedule);
    assert!(matches!(resumed.load_state(&[]), Err(Error::Argument { .. })));

    // Without a rate of its own the plateau goes on from One-Cycle's end.
    let mut chain = chain;
    chain["chain"][1].as_object_mut().expect("a segment").remove("lr");
    let schedule = Schedule::new(config(chain), 0.175, 6.0, 10).expect("valid");
    assert_eq!(schedule.rates(30).lr, alone.rates(29).lr);
}

#[test]
fn the_rate_may_exceed_one_and_stays_past_the_end() {
    let schedule = Schedule::new(ScheduleConfig::new(Curve::Cosine { t_max: Some(3.0), eta_min: 0.5 }), 8.0, 5.0, 2).expect("valid");
    assert_eq!(schedule.rates(0).lr, 8.0);
    for step in 6..40 {
        assert_eq!(schedule.rates(step).lr, 0.5, "no second rise");
    }
    let cycle = Schedule::new(config(json!({"chain": [{"curve": {"name": "one_cycle"}}]})), 3.0, 1.0, 10).expect("valid");
    assert_eq!(cycle.rates(9), cycle.rates(1000));
}

#[test]
fn a_nan_is_no_improvement() {
    let plateau = Plateau { patience: 1, ..Plateau::default() };
    let mut state = plateau.start(1.0);
    plateau.observe(&mut state, f64::NAN);
    assert_eq!((state.best, state.bad_epochs), (None, 1));
    plateau.observe(&mut state, 2.0);
    assert_eq!((state.best, state.bad_epochs), (Some(2.0), 0));
    plateau.observe(&mut state, f64::NAN);
    plateau.observe(&mut state, f64::NAN);
    assert!(close(state.lr, 0.1));
}

#[test]
fn configurations_are_checked() {
    let new = |value: Value| Schedule::new(config(value), 0.1, 10.0, 5);
    for bad in [
        json!({"chain": []}),
        json!({"chain": [{"curve": {"name": "step", "step_size": 0}}]}),
        json!({"chain": [{"curve": {"name": "multi_step", "milestones": [5, 2]}}]}),
        json!({"chain": [{"curve": {"name": "cosine_restarts", "t_0": 2, "t_mult": 0.5}}]}),
        json!({"chain": [{"curve": {"name": "one_cycle", "pct_start": 0.6, "three_phase": true}}]}),
        json!({"chain": [{"curve": {"name": "plateau", "factor": 1.5}}]}),
        json!({"chain": [{"curve": {"name": "cosine"}}, {"curve": {"name": "plateau"}}]}),
        json!({"chain": [{"curve": {"name": "cosine"}, "epochs": 10}, {"curve": {"name": "plateau"}}]}),
        json!({"warmup": {"epochs": 10}, "chain": [{"curve": {"name": "cosine"}}]}),
        json!({"warmup": {"epochs": 1, "start_factor": 2}, "chain": [{"curve": {"name": "cosine"}}]}),
    ] {
        assert!(matches!(new(bad.clone()), Err(Error::Argument { .. })), "{bad}");
    }
    for unknown in [
        json!({"chain": [{"curve": {"name": "cosin"}}]}),
        json!({"chain": [{"curve": {"name": "cosine", "tmax": 3}}]}),
        json!({"chain": [{"curve": {"name": "constant", "gamma": 3}}]}),
        json!({"chain": [{"curve": {"name": "one_cycle", "pct": 3}}]}),
        json!({"chain": [{"curve": {"name": "plateau", "patients": 3}}]}),
        json!({"chain": [{"curve": {"name": "cosine"}, "epoch": 3}]}),
        json!({"warm_up": {"epochs": 3}, "chain": []}),
    ] {
        assert!(serde_json::from_value::<ScheduleConfig>(unknown.clone()).is_err(), "{unknown}");
    }
    for case in golden("schedules.json").as_object().expect("cases").values().filter(|case| case.is_object()) {
        let parsed = config(case["config"].clone());
        assert_eq!(config(serde_json::to_value(&parsed).expect("JSON")), parsed, "round trip");
    }
}
