use burn::module::Module;
use timburn_core::WeightsError;

use super::{StateDict, WeightTensor, parameters};

/// Key of the convolution that sees the images: every family names it first.
pub fn input_key<M: Module>(model: &M) -> Option<String> {
    parameters(model).into_iter().find(|info| info.shape.len() == 4).map(|info| info.key)
}

/// Fits the first convolution `key` of weights for RGB to images of `channels` channels, as timm and fastai do: the sum over the colours
/// for one channel; otherwise the colours repeated in turn and scaled by `3 / channels`, which keeps the size of the response.
///
/// # Errors
/// [`WeightsError::Corrupt`] when the tensor is missing, is no convolution over three channels, has an extent of 0, or cannot be read.
pub fn adapt_input_channels(dict: &mut StateDict, key: &str, channels: usize) -> Result<(), WeightsError> {
    let corrupt = |reason: String| WeightsError::Corrupt { name: dict.name.clone(), reason };
    let tensor = dict.tensors.get(key).ok_or_else(|| corrupt(format!("no tensor `{key}` to adapt to {channels} channels")))?;
    let [outputs, colours @ 3, height, width] = tensor.shape[..] else {
        return Err(corrupt(format!("`{key}` has shape {:?}; only weights for 3 channels can be adapted to {channels}", tensor.shape)));
    };
    if channels == colours {
        return Ok(());
    }
    let values = tensor.values().map_err(|reason| corrupt(format!("tensor `{key}`: {reason}")))?;
    let plane = height * width;
    let len = [outputs, channels, plane].into_iter().try_fold(1usize, usize::checked_mul);
    let Some(len @ 1..) = len else {
        return Err(corrupt(format!("`{key}` has shape {:?}, which cannot be adapted to {channels} channels", tensor.shape)));
    };
    let scale = if channels == 1 { 1.0 } else { colours as f32 / channels as f32 };
    let mut adapted = Vec::with_capacity(len);
    for filter in values.chunks_exact(colours * plane) {
        for channel in 0..channels {
            for tap in 0..plane {
                adapted.push(match channels {
                    1 => (0..colours).map(|colour| filter[colour * plane + tap]).sum::<f32>(),
                    _ => filter[channel % colours * plane + tap] * scale,
                });
            }
        }
    }
    dict.tensors.insert(key.to_owned(), WeightTensor::from_f32(vec![outputs, channels, height, width], adapted));
    Ok(())
}
