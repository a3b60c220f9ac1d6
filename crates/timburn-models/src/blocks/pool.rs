use burn::tensor::Tensor;
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;

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

/// The stem's maximum over 3×3 windows, stride 2, padding 1: halves height and width, rounding up.
pub fn max_pool_3x3_s2(input: Tensor<4>) -> Tensor<4> {
    max_pool2d(input, MaxPoolOptions::new([3, 3]).with_stride([2, 2]).with_padding([1, 1]))
}
