//! Resizing and cropping against PIL and torchvision.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{difference, manifest, noise, number, read};
use timburn_core::preprocessing::{Interpolation, Preprocessing, ResizeMode};
#[cfg(feature = "tensor")]
use timburn_data::to_tensor;
use timburn_data::{Region, Rgb8Image, prepare, resize, resize_region};

const FILTERS: [Interpolation; 4] = [Interpolation::Nearest, Interpolation::Bilinear, Interpolation::Bicubic, Interpolation::Lanczos];

fn image(name: &str, width: usize, height: usize) -> Rgb8Image {
    Rgb8Image::new(width, height, noise(name, width * height * 3)).unwrap()
}

#[test]
fn every_resize_equals_pil() {
    let (manifest, expected) = (manifest(), read("resized.bin"));
    for row in manifest["resizes"].as_array().unwrap() {
        let name = row["name"].as_str().unwrap();
        let side = |key: &str, index: usize| row[key][index].as_u64().unwrap() as usize;
        let filter = serde_json::from_value(row["filter"].clone()).unwrap();
        let resized = resize(&image(name, side("from", 0), side("from", 1)), side("to", 0), side("to", 1), filter);
        let expected = &expected[number(row, "offset")..][..resized.pixels.len()];
        assert_eq!(difference(&resized.pixels, expected), 0, "{name}");
    }
}

#[test]
fn a_region_is_a_crop_of_the_whole() {
    let source = image("region", 61, 47);
    for filter in FILTERS {
        for (width, height) in [(61, 47), (30, 20), (61, 20), (30, 47), (100, 99), (1, 1)] {
            let whole = resize(&source, width, height, filter);
            for region in
                [(0, 0, width, height), (width / 3, height / 4, width / 2, height / 2), (width - 1, height - 1, 9, 9), (width, 0, 1, 1)]
            {
                let region = Region { left: region.0, top: region.1, width: region.2, height: region.3 };
                let part = resize_region(&source, width, height, filter, region);
                assert_eq!(part.pixels, whole.crop(region).pixels, "{filter:?} {width}×{height} {region:?}");
            }
        }
    }
}

#[test]
fn crop_offsets_round_half_to_even_and_small_pictures_are_padded() {
    let spec = |input, resize| Preprocessing { input, resize, ..Preprocessing::cifar10() };
    // 5 - 4 = 1 → 0.5 → 0; 7 - 4 = 3 → 1.5 → 2.
    for (size, offset) in [(4, 0), (5, 0), (6, 1), (7, 2), (9, 2), (11, 4)] {
        let source = image("offsets", size, size);
        let expected = source.crop(Region { left: offset, top: offset, width: 4, height: 4 });
        assert_eq!(prepare(&source, &spec(4, size)), expected, "{size}");
    }
    let source = image("padding", 2, 2);
    let padded = prepare(&source, &spec(5, 2));
    let inner = padded.crop(Region { left: 1, top: 1, width: 2, height: 2 });
    assert_eq!((padded.width, padded.height, inner), (5, 5, source));
    assert_eq!(padded.pixels.iter().filter(|&&value| value != 0).count(), noise("padding", 12).iter().filter(|&&value| value != 0).count());
}

#[test]
fn any_shape_is_prepared_to_the_input_size() {
    for (width, height) in [(1, 1), (1, 700), (900, 2), (31, 32), (640, 480)] {
        for mode in [ResizeMode::ShorterSide, ResizeMode::Squash] {
            for interpolation in FILTERS {
                let spec = Preprocessing { mode, interpolation, ..Preprocessing::torchvision(24, 28) };
                let prepared = prepare(&image("shape", width, height), &spec);
                assert_eq!((prepared.width, prepared.height, prepared.pixels.len()), (24, 24, 24 * 24 * 3));
            }
        }
    }
}

#[test]
#[cfg(feature = "tensor")]
fn tensors_are_normalised_channel_by_channel() {
    let device = timburn_core::open_device("auto").unwrap();
    let images = [image("a", 3, 2), image("b", 3, 2)];
    for spec in [Preprocessing::torchvision(2, 2), Preprocessing::keras_caffe(2)] {
        let tensor = to_tensor(&images, &spec, &device).unwrap();
        assert_eq!(tensor.dims(), [2, 3, 2, 3]);
        let values = tensor.into_data().try_to_vec::<f32>().unwrap();
        for (index, value) in values.into_iter().enumerate() {
            let (n, c, pixel) = (index / 18, index / 6 % 3, index % 6);
            let source = if spec.channels == Default::default() { c } else { 2 - c };
            let byte = images[n].pixels[pixel * 3 + source];
            assert_eq!(value, (f32::from(byte) / 255.0 - spec.mean[c]) / spec.std[c]);
        }
    }
}

#[test]
#[cfg(feature = "tensor")]
fn batches_of_unequal_or_no_images_are_refused() {
    let device = timburn_core::open_device("auto").unwrap();
    let spec = Preprocessing::cifar10();
    let error = to_tensor(&[image("a", 3, 2), image("b", 2, 3)], &spec, &device).unwrap_err();
    assert_eq!(error.to_string(), "images = 2×3 pixels: expected 3×2 pixels like the first of the batch");
    assert!(to_tensor(&[], &spec, &device).is_err());
}
