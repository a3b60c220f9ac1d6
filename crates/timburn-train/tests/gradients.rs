//! Accumulation, clipping and the detection of values that are no numbers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorData};
use common::{autodiff, host, unit};
use timburn_train::{Accumulator, Clip, ParameterGradients};

#[derive(Module, Debug)]
struct Pair {
    a: Param<Tensor<1>>,
    b: Param<Tensor<2>>,
}

/// A module whose gradients are `a` and `b`.
fn gradients(a: Vec<f32>, b: Vec<f32>) -> ParameterGradients {
    let device = autodiff();
    let (rows, columns) = (a.len(), b.len());
    let pair = Pair {
        a: Param::from_tensor(Tensor::<1>::zeros([rows], &device).require_grad()),
        b: Param::from_tensor(Tensor::<2>::zeros([1, columns], &device).require_grad()),
    };
    let (a, b) = (TensorData::new(a, [rows]), TensorData::new(b, [1, columns]));
    let loss = (pair.a.val() * Tensor::from_data(a, &device)).sum() + (pair.b.val() * Tensor::from_data(b, &device)).sum();
    ParameterGradients::of(&pair, loss.backward())
}

fn values(gradients: &ParameterGradients) -> Vec<f32> {
    let mut values = host(gradients.get("a").expect("a"));
    values.extend(host(gradients.get("b").expect("b")));
    values
}

#[test]
fn clipping_by_norm_is_pytorch_s() {
    // torch.nn.utils.clip_grad_norm_ of [3, 0] and [[4]]: norm 5, factor 1 / (5 + 1e-6).
    let (clipped, norm) = gradients(vec![3.0, 0.0], vec![4.0]).clip(Clip::Norm(1.0)).expect("on the CPU");
    assert_eq!(norm, 5.0);
    let factor = 1.0 / (5.0 + 1e-6);
    for (found, expected) in values(&clipped).into_iter().zip([3.0 * factor, 0.0, 4.0 * factor]) {
        assert!((f64::from(found) - expected).abs() < 1e-7);
    }
    let (kept, norm) = gradients(vec![3.0, 0.0], vec![4.0]).clip(Clip::Norm(5.1)).expect("on the CPU");
    assert_eq!((values(&kept), norm), (vec![3.0, 0.0, 4.0], 5.0));
    let (clipped, norm) = gradients(vec![3.0, -0.5], vec![-4.0]).clip(Clip::Value(1.5)).expect("on the CPU");
    assert_eq!(values(&clipped), [1.5, -0.5, -1.5]);
    assert!((norm - 25.25f64.sqrt()).abs() < 1e-6);
    assert!(Clip::Norm(0.0).validate().is_err() && Clip::Value(f64::NAN).validate().is_err() && Clip::Norm(1.0).validate().is_ok());
}

#[test]
fn a_value_that_is_no_number_is_found_wherever_it_is() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for at in [0, 2] {
            let mut a = vec![0.5; 3];
            a[at] = bad;
            let found = gradients(a, vec![1.0]);
            assert!(!found.is_finite().expect("on the CPU"), "{bad} at {at}");
            let (same, norm) = found.clip(Clip::Norm(1.0)).expect("on the CPU");
            assert!(!norm.is_finite());
            assert_eq!(values(&same)[1], 0.5, "left as they are");
        }
    }
    assert!(gradients(vec![0.0], vec![1e18]).is_finite().expect("on the CPU"));
}

#[test]
fn accumulation_is_the_mean_over_samples() {
    let mut accumulator = Accumulator::default();
    assert!(accumulator.take().is_none());
    accumulator.add(gradients(vec![1.0, 2.0], vec![3.0]), 4);
    assert_eq!(values(&accumulator.take().expect("one")), [1.0, 2.0, 3.0], "one micro-batch is itself");

    for _ in 0..3 {
        accumulator.add(gradients(vec![1.0, 2.0], vec![3.0]), 4);
        accumulator.add(gradients(vec![3.0, 0.0], vec![-3.0]), 4);
        assert_eq!(accumulator.samples(), 8);
        assert_eq!(values(&accumulator.take().expect("two")), [2.0, 1.0, 0.0]);
    }

    // A short last micro-batch counts by its samples; an empty one not at all.
    accumulator.add(gradients(vec![1.0, 2.0], vec![3.0]), 6);
    accumulator.add(gradients(vec![f32::NAN, 0.0], vec![0.0]), 0);
    accumulator.add(gradients(vec![5.0, 6.0], vec![-1.0]), 2);
    assert_eq!(values(&accumulator.take().expect("two")), [2.0, 3.0, 2.0]);
}

#[test]
fn the_norm_of_a_large_gradient_is_exact_and_repeatable() {
    // Longer than what Burn sums on several threads in an order of chance.
    let large: Vec<f32> = unit("large", 9_000_001).collect();
    let expected = large.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let found = gradients(large, vec![0.0]);
    let norms: Vec<u64> = (0..5).map(|_| found.norm().expect("on the CPU").to_bits()).collect();
    assert!(norms.iter().all(|norm| *norm == norms[0]));
    let error = (f64::from_bits(norms[0]) - expected).abs() / expected;
    assert!(error < 1e-6, "{error:.1e}");
}
