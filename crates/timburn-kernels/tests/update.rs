//! Updates of parameters, against the same formulas in Burn's operations, bit for bit.
#![cfg(feature = "flex")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use burn::tensor::{DType, Device, FloatDType, Tensor};
use common::{host, random};
use timburn_kernels::{AdamStep, SgdStep, adam_step, lerp, sgd_step};

/// Of one value; of several tasks and a rest that fills no vector.
const LENGTHS: [usize; 3] = [1, 1003, 100_003];

fn bits<const D: usize>(tensor: Tensor<D>) -> Vec<u32> {
    host(tensor).into_iter().map(f32::to_bits).collect()
}

#[test]
fn gradient_descent_has_the_bits_of_single_operations() {
    let device = Device::flex();
    for len in LENGTHS {
        for (momentum, nesterov, weight_decay) in
            [(0.0, false, 0.0), (0.0, false, 1e-2), (0.9, false, 0.0), (0.9, true, 0.0), (0.9, false, 1e-2), (0.9, true, 1e-2)]
        {
            let [param, g, b] = [(); 3].map(|()| random([len], &device));
            let penalised = if weight_decay > 0.0 { g.clone() + param.clone() * weight_decay } else { g.clone() };
            let buffer = b.clone() * momentum + penalised.clone();
            let direction = match (momentum > 0.0, nesterov) {
                (false, _) => penalised,
                (true, false) => buffer.clone(),
                (true, true) => penalised + buffer.clone() * momentum,
            };
            let expected = param.clone() - direction * 0.03;
            let kept = param.clone();
            let before = bits(param.clone());
            let step = SgdStep { lr: 0.03, momentum, nesterov, weight_decay };
            let (found, found_buffer) = sgd_step(param, g.clone(), (momentum > 0.0).then_some(b), step);
            let what = format!("{len} values, momentum {momentum}, nesterov {nesterov}, decay {weight_decay}");
            assert_eq!(bits(found), bits(expected), "{what}");
            assert_eq!(found_buffer.map(bits), (momentum > 0.0).then(|| bits(buffer)), "{what}");
            assert_eq!(bits(kept), before, "{what}: what somebody else holds stays");
        }
    }
}

#[test]
fn adam_has_the_bits_of_single_operations() {
    let device = Device::flex();
    for len in LENGTHS {
        for (penalty, decay, betas) in
            [(0.0, 0.0, [0.9, 0.999]), (0.01, 0.0, [0.9, 0.999]), (0.0, 0.05, [0.9, 0.99]), (0.0, 0.05, [0.3, 0.9])]
        {
            let [param, g, mean] = [(); 3].map(|()| random::<1>([len], &device));
            let square = random::<1>([len], &device).square();
            let step = AdamStep { lr: 0.01, betas, eps: 1e-8, penalty, decay, correction: betas.map(|beta| 1.0 - beta * beta) };
            let gradient = if penalty > 0.0 { g.clone() + param.clone() * penalty } else { g.clone() };
            let new_mean = if betas[0] > 0.5 {
                mean.clone() + (gradient.clone() - mean.clone()) * (1.0 - betas[0])
            } else {
                gradient.clone() - (gradient.clone() - mean.clone()) * (1.0 - (1.0 - betas[0]))
            };
            let new_square = square.clone() * betas[1] + gradient.square() * (1.0 - betas[1]);
            let start = if decay > 0.0 { param.clone() * (1.0 - 0.01 * decay) } else { param.clone() };
            let denominator = new_square.clone().sqrt() / step.correction[1].sqrt() + 1e-8;
            let expected = start - new_mean.clone() / denominator * (0.01 / step.correction[0]);
            let (found, moments) = adam_step(param, g, [mean, square], step);
            let what = format!("{len} values, penalty {penalty}, decay {decay}, betas {betas:?}");
            assert_eq!(bits(found), bits(expected), "{what}");
            assert_eq!(moments.map(bits), [new_mean, new_square].map(bits), "{what}");
        }
    }
}

#[test]
fn interpolation_has_the_bits_of_single_operations_and_ends_at_its_ends() {
    let device = Device::flex();
    for len in LENGTHS {
        let [start, end] = [(); 2].map(|()| random::<1>([len], &device));
        for weight in [0.0, 1e-4, 0.4, 0.5, 0.9, 1.0] {
            let far = end.clone() - start.clone();
            let expected = if weight < 0.5 { start.clone() + far * weight } else { end.clone() - far * (1.0 - weight) };
            assert_eq!(bits(lerp(start.clone(), end.clone(), weight)), bits(expected), "{len} values, weight {weight}");
        }
        assert_eq!(bits(lerp(start.clone(), end.clone(), 0.0)), bits(start.clone()));
        assert_eq!(bits(lerp(start, end.clone(), 1.0)), bits(end));
    }
}

#[test]
fn views_other_precisions_and_tracked_tensors_are_updated_too() {
    let step = SgdStep { lr: 0.5, momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    let device = Device::flex();
    let whole = random([4096], &device);
    let view = whole.clone().narrow(0, 100, 2000);
    let (found, _) = sgd_step(view.clone(), view.clone(), None, step);
    assert_eq!(bits(found), bits(view.clone() - view * 0.5));
    let half = whole.clone().cast(FloatDType::BF16);
    let (found, _) = sgd_step(half.clone(), half.clone(), None, step);
    assert_eq!(found.dtype(), DType::BF16);
    assert_eq!(bits(found), bits(half.clone() - half * 0.5));
    let tracked = Tensor::<1>::from_inner(whole).require_grad();
    let (found, _) = sgd_step(tracked.clone(), tracked.clone(), None, step);
    let gradient = tracked.grad(&found.sum().backward()).expect("a gradient");
    assert!(host(gradient).into_iter().all(|value| value == 0.5));
}
