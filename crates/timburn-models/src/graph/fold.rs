use burn::tensor::Tensor;
use timburn_core::Result;
use timburn_core::error::DeviceError;

use crate::blocks::{BatchNorm2d, Conv2d, Linear, Padding};

/// A convolution with its batch norm folded in, as plain values.
///
/// `γ(W x + b - μ)/√(σ² + ε) + β = (γ/√(σ² + ε) W) x + (γ(b - μ)/√(σ² + ε) + β)`, computed in f64.
#[derive(Debug, Clone, PartialEq)]
pub struct FoldedConv {
    /// Shape of the weight: outputs, inputs of a group, kernel height, kernel width.
    pub shape: [usize; 4],
    /// Step in both directions.
    pub stride: usize,
    /// Distance of kernel taps.
    pub dilation: usize,
    /// Number of channel groups.
    pub groups: usize,
    /// Zeros around the input.
    pub padding: Padding,
    /// In the order of `shape`.
    pub weight: Vec<f32>,
    /// One per output.
    pub bias: Vec<f32>,
}

/// A fully connected layer as plain values.
#[derive(Debug, Clone, PartialEq)]
pub struct FoldedLinear {
    /// Inputs.
    pub inputs: usize,
    /// Outputs.
    pub outputs: usize,
    /// `[outputs, inputs]`.
    pub weight: Vec<f32>,
    /// `[outputs]`.
    pub bias: Vec<f32>,
}

impl FoldedConv {
    /// One convolution that does what `conv` and then `norm`, evaluated, do.
    ///
    /// # Errors
    /// [`DeviceError::Failed`] when the parameters cannot be read back.
    pub fn new(conv: &Conv2d, norm: Option<&BatchNorm2d>) -> Result<Self> {
        let shape = conv.weight.lazy_shape();
        let shape = [shape[0], shape[1], shape[2], shape[3]];
        let mut weight = values(conv.weight.val())?;
        let mut bias = match &conv.bias {
            Some(bias) => values(bias.val())?,
            None => vec![0.0; shape[0]],
        };
        if let Some(norm) = norm {
            let (gamma, beta) = (values(norm.weight.val())?, values(norm.bias.val())?);
            let (mean, variance) = (values(norm.running_mean.value())?, values(norm.running_var.value())?);
            let statistics = gamma.iter().zip(&beta).zip(mean.iter().zip(&variance));
            let kernels = weight.chunks_exact_mut((shape[1] * shape[2] * shape[3]).max(1));
            for ((kernel, bias), ((&gamma, &beta), (&mean, &variance))) in kernels.zip(&mut bias).zip(statistics) {
                let scale = f64::from(gamma) / (f64::from(variance) + norm.epsilon).sqrt();
                kernel.iter_mut().for_each(|weight| *weight = (f64::from(*weight) * scale) as f32);
                *bias = ((f64::from(*bias) - f64::from(mean)) * scale + f64::from(beta)) as f32;
            }
        }
        let Conv2d { stride, dilation, groups, padding, .. } = *conv;
        Ok(Self { shape, stride, dilation, groups, padding, weight, bias })
    }
}

impl FoldedLinear {
    /// The layer's values.
    ///
    /// # Errors
    /// As [`FoldedConv::new`].
    pub fn new(linear: &Linear) -> Result<Self> {
        let weight = values(linear.weight.val())?;
        let bias = linear.bias.as_ref().map_or_else(|| Ok(vec![0.0; linear.outputs()]), |bias| values(bias.val()))?;
        Ok(Self { inputs: linear.inputs(), outputs: linear.outputs(), weight, bias })
    }
}

/// A tensor's values in f32, whatever its precision.
fn values<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    let device = tensor.device();
    let values = tensor.into_data().convert::<f32>().try_to_vec::<f32>();
    values.map_err(|error| DeviceError::Failed { name: format!("{device:?}"), reason: format!("{error:?}") }.into())
}
