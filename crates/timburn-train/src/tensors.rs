//! Tensors as flat vectors, reductions whose order is fixed, and the way to the host.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use timburn_core::error::DeviceError;
use timburn_core::{Error, Result};

/// Longest piece that is summed at once. Burn's flex backend sums longer tensors on several threads in an order that depends on timing;
/// training promises equal bits on every run.
const PIECE: usize = 1 << 20;

/// `[d0, d1, …]` → `[d0 · d1 · …]`.
pub(crate) fn flatten<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let count = tensor.shape().num_elements();
    tensor.reshape([count])
}

/// Sums of squares of consecutive pieces of a flat tensor, each `[1]`.
pub(crate) fn squared_pieces(tensor: &Tensor<1>) -> Vec<Tensor<1>> {
    let [count] = tensor.dims();
    let pieces = (0..count.div_ceil(PIECE)).map(|piece| {
        let start = piece * PIECE;
        let length = PIECE.min(count - start);
        let part = if length == count { tensor.clone() } else { tensor.clone().narrow(0, start, length) };
        part.square().sum()
    });
    pieces.collect()
}

/// Euclidean norm of a flat tensor, `[1]`, on its device.
pub(crate) fn norm(tensor: &Tensor<1>) -> Tensor<1> {
    let pieces = squared_pieces(tensor).into_iter();
    pieces.reduce(|sum, piece| sum + piece).unwrap_or_else(|| Tensor::zeros([1], &tensor.device())).sqrt()
}

/// Whether all parameters and statistics of a module are numbers whose squares can be summed.
pub(crate) fn is_finite<M: Module>(module: &M) -> Result<bool> {
    struct Collect(Vec<Tensor<1>>);
    impl ModuleVisitor for Collect {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            // A parameter that was never initialised has its initial values.
            if param.is_initialized() {
                self.0.extend(squared_pieces(&flatten(param.val().without_autodiff())));
            }
        }
    }
    let mut collect = Collect(Vec::new());
    module.visit(&mut collect);
    if collect.0.is_empty() {
        return Ok(true);
    }
    Ok(host(Tensor::cat(collect.0, 0))?.into_iter().all(f32::is_finite))
}

/// The values on the host as `f32`.
pub(crate) fn host<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    let device = tensor.device();
    let failed = |reason: String| Error::from(DeviceError::Failed { name: format!("{device:?}"), reason });
    let data: TensorData = tensor.try_into_data().map_err(|error| failed(format!("{error:?}")))?;
    data.convert::<f32>().try_to_vec().map_err(|error| failed(format!("{error:?}")))
}
