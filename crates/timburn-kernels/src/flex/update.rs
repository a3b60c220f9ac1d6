//! Updates of parameters on flex's own tensors. They have no gradients.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;

use super::kernels::{Values, owned};
use crate::cpu::elementwise;
use crate::profile::{Work, tell};
use crate::{AdamStep, SgdStep};

/// As [`Kernels`](super::Kernels), for tensors without autodiff.
#[backend_extension(Flex)]
pub(crate) trait Updates: Backend {
    fn update_sgd(param: FloatTensor<Self>, gradient: FloatTensor<Self>, step: SgdStep) -> FloatTensor<Self>;
    fn update_sgd_momentum(
        param: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        buffer: FloatTensor<Self>,
        step: SgdStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
    fn update_adam(
        param: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        square: FloatTensor<Self>,
        step: AdamStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
    fn update_lerp(start: FloatTensor<Self>, end: FloatTensor<Self>, weight: f64) -> FloatTensor<Self>;
}

/// For who listens: each of `len` values is read and written `times` times in all.
fn work(len: usize, times: usize) -> impl FnOnce() -> (Work, usize, usize) {
    move || (Work::Update, 0, times * size_of::<f32>() * len)
}

// `storage_mut` copies what somebody else holds too: in place is what happens to all others.
impl Updates for Flex {
    fn update_sgd(param: FlexTensor, gradient: FlexTensor, step: SgdStep) -> FlexTensor {
        let mut param = owned(param);
        let (values, gradient): (&mut [f32], _) = (param.storage_mut(), Values::new(&gradient));
        tell(work(values.len(), 3), || elementwise::sgd(values, gradient.slice(), step));
        param
    }

    fn update_sgd_momentum(param: FlexTensor, gradient: FlexTensor, buffer: FlexTensor, step: SgdStep) -> (FlexTensor, FlexTensor) {
        let [mut param, mut buffer] = [param, buffer].map(owned);
        let (values, gradient): (&mut [f32], _) = (param.storage_mut(), Values::new(&gradient));
        tell(work(values.len(), 5), || elementwise::sgd_momentum(values, gradient.slice(), buffer.storage_mut(), step));
        (param, buffer)
    }

    fn update_adam(
        param: FlexTensor,
        gradient: FlexTensor,
        mean: FlexTensor,
        square: FlexTensor,
        step: AdamStep,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let [mut param, mut mean, mut square] = [param, mean, square].map(owned);
        let moments = [mean.storage_mut(), square.storage_mut()];
        let (values, gradient): (&mut [f32], _) = (param.storage_mut(), Values::new(&gradient));
        tell(work(values.len(), 7), || elementwise::adam(values, gradient.slice(), moments, step));
        (param, mean, square)
    }

    fn update_lerp(start: FlexTensor, end: FlexTensor, weight: f64) -> FlexTensor {
        let mut start = owned(start);
        let (values, end): (&mut [f32], _) = (start.storage_mut(), Values::new(&end));
        tell(work(values.len(), 3), || elementwise::lerp(values, end.slice(), weight));
        start
    }
}

pub(crate) fn sgd_step(param: Tensor<1>, gradient: Tensor<1>, buffer: Option<Tensor<1>>, step: SgdStep) -> (Tensor<1>, Option<Tensor<1>>) {
    let (param, gradient) = (param.into_dispatch(), gradient.into_dispatch());
    match buffer {
        Some(buffer) => {
            let (param, buffer) = Dispatch::update_sgd_momentum(param, gradient, buffer.into_dispatch(), step);
            (Tensor::from_dispatch(param), Some(Tensor::from_dispatch(buffer)))
        }
        None => (Tensor::from_dispatch(Dispatch::update_sgd(param, gradient, step)), None),
    }
}

pub(crate) fn adam_step(
    param: Tensor<1>,
    gradient: Tensor<1>,
    [mean, square]: [Tensor<1>; 2],
    step: AdamStep,
) -> (Tensor<1>, [Tensor<1>; 2]) {
    let (mean, square) = (mean.into_dispatch(), square.into_dispatch());
    let (param, mean, square) = Dispatch::update_adam(param.into_dispatch(), gradient.into_dispatch(), mean, square, step);
    (Tensor::from_dispatch(param), [mean, square].map(Tensor::from_dispatch))
}

pub(crate) fn lerp(start: Tensor<1>, end: Tensor<1>, weight: f64) -> Tensor<1> {
    Tensor::from_dispatch(Dispatch::update_lerp(start.into_dispatch(), end.into_dispatch(), weight))
}
