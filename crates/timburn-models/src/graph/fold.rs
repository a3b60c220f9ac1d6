use burn::tensor::Tensor;
use timburn_core::Result;
use timburn_core::error::DeviceError;

use crate::blocks::{BatchNorm2d, Conv2d, CosineLinear, Linear, Padding};

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

/// A batch norm with running statistics as plain values: `scale x + shift`.
#[derive(Debug, Clone, PartialEq)]
pub struct FoldedNorm {
    /// `γ/√(σ² + ε)`, one per channel.
    pub scale: Vec<f32>,
    /// `β - μ γ/√(σ² + ε)`, one per channel.
    pub shift: Vec<f32>,
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
            let kernels = weight.chunks_exact_mut((shape[1] * shape[2] * shape[3]).max(1));
            for ((kernel, bias), Statistics { scale, mean, beta }) in kernels.zip(&mut bias).zip(statistics(norm)?) {
                kernel.iter_mut().for_each(|weight| *weight = (f64::from(*weight) * scale) as f32);
                *bias = ((f64::from(*bias) - mean) * scale + beta) as f32;
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

    /// A layer that gives what `layer` gives, for inputs that were divided by their lengths: the weights are, times the scale.
    ///
    /// # Errors
    /// As [`FoldedConv::new`].
    pub fn cosine(layer: &CosineLinear) -> Result<Self> {
        let scale = match &layer.scale {
            Some(scale) => values(scale.val())?.first().map_or(layer.fixed, |&scale| f64::from(scale)),
            None => layer.fixed,
        };
        let shape = layer.weight.lazy_shape();
        let mut weight = values(layer.weight.val())?;
        for row in weight.chunks_exact_mut(shape[1].max(1)) {
            let length = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt().max(CosineLinear::SHORTEST);
            row.iter_mut().for_each(|x| *x = (f64::from(*x) / length * scale) as f32);
        }
        Ok(Self { inputs: shape[1], outputs: shape[0], weight, bias: vec![0.0; shape[0]] })
    }
}

impl FoldedNorm {
    /// The norm's values.
    ///
    /// # Errors
    /// As [`FoldedConv::new`].
    pub fn new(norm: &BatchNorm2d) -> Result<Self> {
        let folded = statistics(norm)?;
        let shift = folded.iter().map(|Statistics { scale, mean, beta }| (beta - mean * scale) as f32).collect();
        Ok(Self { scale: folded.iter().map(|statistics| statistics.scale as f32).collect(), shift })
    }
}

/// What a batch norm does to a channel: `scale (x - mean) + beta`.
struct Statistics {
    scale: f64,
    mean: f64,
    beta: f64,
}

fn statistics(norm: &BatchNorm2d) -> Result<Vec<Statistics>> {
    let (gamma, beta) = (values(norm.weight.val())?, values(norm.bias.val())?);
    let (mean, variance) = (values(norm.running_mean.value())?, values(norm.running_var.value())?);
    let channels = gamma.iter().zip(&beta).zip(mean.iter().zip(&variance));
    let folded = channels.map(|((&gamma, &beta), (&mean, &variance))| {
        let scale = f64::from(gamma) / (f64::from(variance) + norm.epsilon).sqrt();
        Statistics { scale, mean: mean.into(), beta: beta.into() }
    });
    Ok(folded.collect())
}

/// A tensor's values in f32, whatever its precision.
fn values<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    let device = tensor.device();
    let values = tensor.into_data().convert::<f32>().try_to_vec::<f32>();
    values.map_err(|error| DeviceError::Failed { name: format!("{device:?}"), reason: format!("{error:?}") }.into())
}
