use std::sync::Arc;

use timburn_core::WeightsError;
use timburn_models::{StateDict, WeightTensor};

/// Layer and kind of a Keras variable. `conv1_conv/kernel`, `conv1_conv/kernel:0`, `conv1_conv/conv1_conv/kernel:0`,
/// `model_weights.conv1_conv.conv1_conv.kernel:0`: the last two names are what counts.
pub(super) fn split(key: &str) -> Option<(&str, &str)> {
    let key = key.strip_suffix(":0").unwrap_or(key);
    let (path, kind) = key.rsplit_once(['/', '.'])?;
    let layer = path.rsplit(['/', '.']).next()?;
    Some((layer, kind))
}

/// Keras' ResNet50 under torchvision's names, kernels HWIO → OIHW and the matrix `[in, out]` → `[out, in]`.
pub(super) fn resnet50(dict: StateDict) -> Result<StateDict, WeightsError> {
    let mut tensors = dict.tensors;
    for (key, tensor) in &mut tensors {
        if split(key).is_some_and(|(layer, kind)| kind == "kernel" && module(layer).is_some()) {
            *tensor = match tensor.shape.len() {
                4 => permute(tensor, &[3, 2, 0, 1]),
                2 => permute(tensor, &[1, 0]),
                _ => continue,
            };
        }
    }
    StateDict { name: dict.name, tensors }.rename(|key| Some(torch_key(key).unwrap_or_else(|| key.to_owned())))
}

fn torch_key(key: &str) -> Option<String> {
    let (layer, kind) = split(key)?;
    let kind = match kind {
        "kernel" | "gamma" => "weight",
        "bias" | "beta" => "bias",
        "moving_mean" => "running_mean",
        "moving_variance" => "running_var",
        _ => return None,
    };
    Some(format!("{}.{kind}", module(layer)?))
}

/// `conv3_block2_1_bn` → `layer2.1.bn1`: stages from 2 and blocks from 1, branch 0 is the shortcut.
fn module(layer: &str) -> Option<String> {
    match layer {
        "conv1_conv" => return Some("conv1".into()),
        "conv1_bn" => return Some("bn1".into()),
        // The name before TensorFlow 2.
        "predictions" | "probs" => return Some("fc".into()),
        _ => {}
    }
    let parts: Vec<&str> = layer.split('_').collect();
    let [stage, block, branch, part] = parts[..] else { return None };
    let stage = stage.strip_prefix("conv")?.parse::<usize>().ok()?.checked_sub(1)?;
    let block = block.strip_prefix("block")?.parse::<usize>().ok()?.checked_sub(1)?;
    let module = match (branch, part) {
        ("0", "conv") => "downsample.0".into(),
        ("0", "bn") => "downsample.1".into(),
        (branch @ ("1" | "2" | "3"), "conv" | "bn") => format!("{part}{branch}"),
        _ => return None,
    };
    Some(format!("layer{stage}.{block}.{module}"))
}

/// `tensor` with axis `axes[i]` as its axis `i`, permuted when it is read.
fn permute(tensor: &WeightTensor, axes: &'static [usize]) -> WeightTensor {
    let source = tensor.clone();
    let shape: Vec<usize> = axes.iter().map(|&axis| tensor.shape[axis]).collect();
    let new_shape = shape.clone();
    let read = move || {
        let bytes = source.bytes()?;
        let size = source.dtype.size();
        let mut strides = vec![size; source.shape.len()];
        for axis in (1..strides.len()).rev() {
            strides[axis - 1] = strides[axis] * source.shape[axis];
        }
        let mut permuted = Vec::with_capacity(bytes.len());
        let mut index = vec![0; new_shape.len()];
        for _ in 0..bytes.len() / size {
            let offset: usize = index.iter().zip(axes).map(|(&position, &axis)| position * strides[axis]).sum();
            permuted.extend_from_slice(&bytes[offset..offset + size]);
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                if index[axis] < new_shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        Ok(permuted)
    };
    WeightTensor::new(shape, tensor.dtype, Arc::new(read))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let key = |key| torch_key(key).unwrap();
        assert_eq!(key("conv1_conv/kernel:0"), "conv1.weight");
        assert_eq!(key("conv1_bn/conv1_bn/moving_variance:0"), "bn1.running_var");
        assert_eq!(key("model_weights.conv5_block3_2_bn.conv5_block3_2_bn.gamma"), "layer4.2.bn2.weight");
        assert_eq!(key("conv2_block1_0_conv/bias"), "layer1.0.downsample.0.bias");
        assert_eq!(key("predictions/kernel:0"), "fc.weight");
        assert_eq!(torch_key("top_level_model_weights/iteration:0"), None);
    }

    #[test]
    fn kernels_are_transposed() {
        // [h, w, in, out] = [1, 2, 3, 2], each value its own index.
        let values: Vec<f32> = (0..12u8).map(f32::from).collect();
        let tensors = [("conv1_conv/kernel:0".to_owned(), WeightTensor::from_f32(vec![1, 2, 3, 2], values))].into();
        let found = resnet50(StateDict { name: "test".into(), tensors }).unwrap();
        let kernel = &found.tensors["conv1.weight"];
        assert_eq!(kernel.shape, [2, 3, 1, 2]);
        assert_eq!(kernel.values().unwrap(), [0.0, 6.0, 2.0, 8.0, 4.0, 10.0, 1.0, 7.0, 3.0, 9.0, 5.0, 11.0]);
    }
}
