use burn::tensor::Tensor;
pub use timburn_kernels::max_pool_3x3_s2;

use super::autocast::widened;

/// Mean over height and width: `[n, c, h, w]` → `[n, c]`, in f32 also where convolutions are not (see [`autocast`](super::autocast())).
pub fn global_average_pool(input: Tensor<4>) -> Tensor<2> {
    let [n, c, h, w] = input.dims();
    widened(input).reshape([n, c, h * w]).mean_dim(2).reshape([n, c])
}

/// Maximum over height and width: `[n, c, h, w]` → `[n, c]`, in f32.
pub fn global_max_pool(input: Tensor<4>) -> Tensor<2> {
    let [n, c, h, w] = input.dims();
    widened(input).reshape([n, c, h * w]).max_dim(2).reshape([n, c])
}
