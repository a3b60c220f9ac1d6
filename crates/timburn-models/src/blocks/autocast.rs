//! Mixed precision by scope, as `torch.autocast` does it: parameters stay what they are, convolutions compute in a smaller type.

use std::cell::Cell;

use burn::tensor::{DType, FloatDType, Tensor};

thread_local! {
    static COMPUTE: Cell<Option<FloatDType>> = const { Cell::new(None) };
}

/// Runs `work` with the convolutions of timburn's blocks computing in `dtype`; `None` changes nothing. Scopes nest.
///
/// Inside, convolutions round input and weights to `dtype` and activations stay in it. Batch norm computes in f32 and returns its input's
/// type; pooled features, and with them the head, are f32. Gradients of parameters have the parameters' type. The device must support
/// `dtype` ([`Device::supports_dtype`](burn::tensor::Device::supports_dtype)).
pub fn autocast<R>(dtype: Option<FloatDType>, work: impl FnOnce() -> R) -> R {
    // Put back on a panic too: the thread may go on.
    struct Restore(Option<FloatDType>);
    impl Drop for Restore {
        fn drop(&mut self) {
            COMPUTE.set(self.0);
        }
    }
    let _restore = Restore(COMPUTE.replace(dtype.or(COMPUTE.get())));
    work()
}

/// In a scope, the tensor in its type.
pub(crate) fn lowered<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    match COMPUTE.get() {
        Some(dtype) if tensor.dtype() != DType::from(dtype) => tensor.cast(dtype),
        _ => tensor,
    }
}

/// In a scope, the tensor in f32.
pub(crate) fn widened<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    if COMPUTE.get().is_some() && tensor.dtype() != DType::F32 { tensor.cast(FloatDType::F32) } else { tensor }
}

/// In a scope, `tensor` in the type of `like`.
pub(crate) fn matched<const D: usize>(tensor: Tensor<D>, like: DType) -> Tensor<D> {
    match like {
        DType::BF16 if tensor.dtype() != like => tensor.cast(FloatDType::BF16),
        DType::F16 if tensor.dtype() != like => tensor.cast(FloatDType::F16),
        _ => tensor,
    }
}
