//! A batch as tensors on a device.

use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};
use timburn_core::Result;
use timburn_core::device::is_cpu;
use timburn_core::preprocessing::ChannelOrder;

use super::batch::{Batch, Normalization};
use super::options::argument;

/// Values that one more thread normalises at least: below, starting it costs more than it saves.
const VALUES_PER_THREAD: usize = 1 << 20;

impl Batch {
    /// The normalised pictures, `[n, 3, height, width]`, of the device's float type.
    ///
    /// For a CPU it is computed on the host by tables, exactly as [`to_tensor`](crate::to_tensor) does; other devices get the bytes, a quarter
    /// of the traffic, and do the arithmetic in f32, within its rounding of the host's.
    ///
    /// # Errors
    /// [`Error::Argument`](timburn_core::Error::Argument) for an empty batch, or pixels that are not `n * height * width * 3` bytes.
    pub fn images(&self, normalization: &Normalization, device: &Device) -> Result<Tensor<4>> {
        if is_cpu(device) || !device.supports_dtype(DType::U8) {
            self.images_by_host(normalization, device)
        } else {
            self.images_by_device(normalization, device)
        }
    }

    /// The class indices, `[n]`, of the device's integer type.
    pub fn targets(&self, device: &Device) -> Tensor<1, Int> {
        let labels: Vec<i64> = self.labels.iter().map(|&label| label as i64).collect();
        Tensor::from_data(TensorData::new(labels, [self.len()]), device)
    }

    /// Checks what [`Batch::images`] relies on, since the fields are open.
    fn check(&self) -> Result<()> {
        if self.is_empty() {
            return Err(argument("batch", "no pictures", "at least one: all samples of this batch were bad".into()));
        }
        let expected = self.len().checked_mul(self.height).and_then(|rows| rows.checked_mul(self.width)).and_then(|n| n.checked_mul(3));
        if expected != Some(self.pixels.len()) || self.pixels.is_empty() {
            let expected = format!("{} pictures of {}×{} RGB pixels, not empty", self.len(), self.width, self.height);
            return Err(argument("batch.pixels", format!("{} bytes", self.pixels.len()), expected));
        }
        Ok(())
    }

    fn images_by_host(&self, normalization: &Normalization, device: &Device) -> Result<Tensor<4>> {
        self.check()?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let values = normalize(&self.pixels, self.height * self.width, normalization, cores);
        Ok(Tensor::from_data(TensorData::new(values, [self.len(), 3, self.height, self.width]), device))
    }

    fn images_by_device(&self, normalization: &Normalization, device: &Device) -> Result<Tensor<4>> {
        self.check()?;
        let data = TensorData::new(self.pixels.clone(), [self.len(), self.height, self.width, 3]);
        let bytes = Tensor::<4, Int>::from_data(data, (device, DType::U8)).permute([0, 3, 1, 2]);
        let bytes = match normalization.channels {
            ChannelOrder::Rgb => bytes,
            ChannelOrder::Bgr => bytes.flip([1]),
        };
        let f32s = |values: [f32; 3]| Tensor::<4>::from_data(TensorData::new(values.to_vec(), [1, 3, 1, 1]), (device, DType::F32));
        let scaled = bytes.cast(FloatDType::F32).div_scalar(255.0);
        Ok(scaled.sub(f32s(normalization.mean)).div(f32s(normalization.std)).cast(device.settings().float_dtype))
    }
}

/// `[n, area, 3]` bytes to `[n, 3, area]` floats, on up to `threads` threads.
fn normalize(pixels: &[u8], area: usize, normalization: &Normalization, threads: usize) -> Vec<f32> {
    // A byte has 256 values: the arithmetic is done once for each, in torchvision's order of operations.
    let tables: [[f32; 256]; 3] = std::array::from_fn(|channel| {
        let (mean, std) = (normalization.mean[channel], normalization.std[channel]);
        std::array::from_fn(|byte| (byte as f32 / 255.0 - mean) / std)
    });
    let sources = match normalization.channels {
        ChannelOrder::Rgb => [0, 1, 2],
        ChannelOrder::Bgr => [2, 1, 0],
    };
    let image = area * 3;
    let work = |pixels: &[u8], values: &mut [f32]| {
        for (pixels, values) in pixels.chunks_exact(image).zip(values.chunks_exact_mut(image)) {
            for ((plane, table), source) in values.chunks_exact_mut(area).zip(&tables).zip(sources) {
                for (value, pixel) in plane.iter_mut().zip(pixels.as_chunks::<3>().0) {
                    *value = table[usize::from(pixel[source])];
                }
            }
        }
    };
    let mut values = vec![0.0; pixels.len()];
    let threads = threads.min(pixels.len() / VALUES_PER_THREAD).max(1);
    let part = (pixels.len() / image).div_ceil(threads).max(1) * image;
    std::thread::scope(|scope| {
        let mut parts = pixels.chunks(part).zip(values.chunks_mut(part));
        let first = parts.next();
        for (pixels, values) in parts {
            scope.spawn(move || work(pixels, values));
        }
        if let Some((pixels, values)) = first {
            work(pixels, values);
        }
    });
    values
}

#[cfg(test)]
mod tests {
    use timburn_core::{Error, Preprocessing};

    use super::*;
    use crate::image::Rgb8Image;

    fn batch(n: usize, height: usize, width: usize) -> Batch {
        let pixels = (0..n * height * width * 3).map(|i| (i * 31 % 256) as u8).collect();
        Batch { pixels, height, width, labels: (0..n).collect(), indices: (0..n).collect(), bad: Vec::new() }
    }

    fn floats(tensor: Tensor<4>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn both_paths_agree_with_to_tensor() {
        let device = Device::flex();
        let batch = batch(3, 5, 7);
        let images: Vec<_> =
            batch.pixels.chunks(5 * 7 * 3).map(|pixels| Rgb8Image { width: 7, height: 5, pixels: pixels.to_vec() }).collect();
        for spec in [Preprocessing::torchvision(7, 7), Preprocessing::keras_caffe(7), Preprocessing::efficientnet_lite(7)] {
            let reference = floats(crate::to_tensor(&images, &spec, &device).unwrap());
            let normalization = Normalization::from(&spec);
            let host = batch.images_by_host(&normalization, &device).unwrap();
            assert_eq!(host.dims(), [3, 3, 5, 7]);
            assert_eq!(floats(host), reference);
            assert_eq!(floats(batch.images(&normalization, &device.clone().autodiff()).unwrap()), reference);
            let device_side = batch.images_by_device(&normalization, &device).unwrap();
            assert_eq!(device_side.dims(), [3, 3, 5, 7]);
            for (found, expected) in floats(device_side).iter().zip(&reference) {
                assert!((found - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{found} {expected}");
            }
        }
    }

    #[test]
    fn threads_do_not_change_the_values() {
        let batch = batch(5, 300, 300);
        let normalization = Normalization::from(&Preprocessing::torchvision(300, 300));
        let one = normalize(&batch.pixels, 300 * 300, &normalization, 1);
        assert!(batch.pixels.len() > VALUES_PER_THREAD);
        for threads in [2, 3, 16] {
            let area = 300 * 300;
            assert_eq!(normalize(&batch.pixels, area, &normalization, threads), one);
        }
    }

    #[test]
    fn what_is_no_batch_is_refused() {
        let normalization = Normalization::from(&Preprocessing::cifar10());
        for bad in [
            Batch { labels: vec![], ..batch(1, 2, 2) },
            Batch { pixels: vec![], ..batch(1, 2, 2) },
            Batch { width: usize::MAX, ..batch(2, 2, 2) },
            Batch { pixels: vec![], width: 0, ..batch(2, 2, 2) },
        ] {
            assert!(matches!(bad.images(&normalization, &Device::flex()), Err(Error::Argument { .. })), "{bad:?}");
        }
        assert_eq!(batch(4, 1, 1).targets(&Device::flex()).into_data().convert::<i64>().try_to_vec::<i64>().unwrap(), [0, 1, 2, 3]);
    }
}
