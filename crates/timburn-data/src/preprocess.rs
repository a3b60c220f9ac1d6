//! [`Preprocessing`] applied: resize and centre crop as torchvision does them on PIL images, then the normalised tensor.

#[cfg(feature = "tensor")]
use burn::tensor::{Device, Tensor, TensorData};
#[cfg(feature = "tensor")]
use timburn_core::preprocessing::ChannelOrder;
use timburn_core::preprocessing::{Preprocessing, ResizeMode};
#[cfg(feature = "tensor")]
use timburn_core::{Error, Result};

use crate::image::{Region, Rgb8Image};
use crate::resize::resize_region;

/// Resizes and centre-crops to `spec.input`×`spec.input` pixels, exactly as torchvision does with PIL.
///
/// The shorter side becomes `spec.resize`, the other `int(resize * long / short)`; crop offsets are rounded half to even. Where the
/// resized picture is smaller than the crop it is padded with black. Only the pixels inside the crop are computed.
pub fn prepare(image: &Rgb8Image, spec: &Preprocessing) -> Rgb8Image {
    let (width, height) = resized_size(image, spec);
    let (columns, rows) = (Span::center(width, spec.input), Span::center(height, spec.input));
    let region = Region { left: columns.from, top: rows.from, width: columns.count, height: rows.count };
    let inner = resize_region(image, width, height, spec.interpolation, region);
    if (inner.width, inner.height) == (spec.input, spec.input) {
        return inner;
    }
    let mut padded = Rgb8Image { width: spec.input, height: spec.input, pixels: vec![0; spec.input * spec.input * 3] };
    for (y, row) in inner.pixels.chunks_exact(inner.width.max(1) * 3).enumerate() {
        padded.pixels[((rows.to + y) * spec.input + columns.to) * 3..][..row.len()].copy_from_slice(row);
    }
    padded
}

/// Width and height after the resize.
fn resized_size(image: &Rgb8Image, spec: &Preprocessing) -> (usize, usize) {
    match spec.mode {
        ResizeMode::Squash => (spec.resize, spec.resize),
        ResizeMode::ShorterSide => {
            let other = |long: usize, short: usize| spec.resize * long / short.max(1);
            if image.width <= image.height {
                (spec.resize, other(image.height, image.width))
            } else {
                (other(image.width, image.height), spec.resize)
            }
        }
    }
}

/// One axis of a centre crop.
pub(crate) struct Span {
    /// First pixel of the resized picture.
    pub(crate) from: usize,
    /// Where it lands in the crop: the padding before it.
    pub(crate) to: usize,
    pub(crate) count: usize,
}

impl Span {
    pub(crate) fn center(size: usize, crop: usize) -> Self {
        if size < crop {
            // torchvision pads `(crop - size) // 2` before and the rest after.
            return Self { from: 0, to: (crop - size) / 2, count: size };
        }
        // Python's round: halves go to the even neighbour.
        let (half, odd) = ((size - crop) / 2, (size - crop) % 2);
        Self { from: half + odd * (half % 2), to: 0, count: crop }
    }
}

/// The normalised batch `[n, 3, height, width]`: `(x / 255 - mean) / std` in f32, as torchvision computes it, channels in the spec's order.
///
/// # Errors
/// [`Error::Argument`] when there is no image or the images are not all of one size.
#[cfg(feature = "tensor")]
pub fn to_tensor(images: &[Rgb8Image], spec: &Preprocessing, device: &Device) -> Result<Tensor<4>> {
    let size = |image: &Rgb8Image| format!("{}×{} pixels", image.width, image.height);
    let Some(first) = images.first() else {
        return Err(Error::Argument { name: "images", value: "none".into(), expected: "at least one image".into() });
    };
    if let Some(odd) = images.iter().find(|image| (image.width, image.height) != (first.width, first.height)) {
        return Err(Error::Argument { name: "images", value: size(odd), expected: format!("{} like the first of the batch", size(first)) });
    }
    // A byte has 256 values: the arithmetic is done once for each, in torchvision's order of operations.
    let value = |byte: usize, channel: usize| (byte as f32 / 255.0 - spec.mean[channel]) / spec.std[channel];
    let tables: [[f32; 256]; 3] = std::array::from_fn(|channel| std::array::from_fn(|byte| value(byte, channel)));
    let sources = match spec.channels {
        ChannelOrder::Rgb => [0, 1, 2],
        ChannelOrder::Bgr => [2, 1, 0],
    };
    let mut values = Vec::with_capacity(images.len() * first.pixels.len());
    for image in images {
        for (table, source) in tables.iter().zip(sources) {
            values.extend(image.pixels.as_chunks::<3>().0.iter().map(|pixel| table[usize::from(pixel[source])]));
        }
    }
    let shape = [images.len(), 3, first.height, first.width];
    Ok(Tensor::from_data(TensorData::new(values, shape), device))
}
