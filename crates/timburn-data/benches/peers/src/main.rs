//! zune-jpeg and libjpeg-turbo with fast_image_resize, measured as `benches/decode.rs` measures timburn: same files, same steps, same output.
//!
//! Their pixels are not timburn's: zune-jpeg differs from libjpeg-turbo by up to 9 LSB, fast_image_resize from Pillow by 1 LSB.

mod harness;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use harness::{Step, normalize};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;

type Decoded = (usize, usize, Vec<u8>);

fn zune(bytes: &[u8]) -> Decoded {
    let options = DecoderOptions::default().jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let pixels = decoder.decode().expect("zune-jpeg decodes");
    let (width, height) = decoder.dimensions().expect("it has dimensions");
    (width, height, pixels)
}

#[cfg(feature = "turbojpeg")]
fn turbo(bytes: &[u8]) -> Decoded {
    let image = turbojpeg::decompress(bytes, turbojpeg::PixelFormat::RGB).expect("libjpeg-turbo decodes");
    assert_eq!(image.pitch, image.width * 3);
    (image.width, image.height, image.pixels)
}

/// A generator that is good enough to draw crops.
fn draws(index: usize) -> impl FnMut() -> f64 {
    let mut state = (index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn resize(image: &Decoded, [left, top, width, height]: [f64; 4], filter: FilterType) -> Vec<u8> {
    thread_local! {
        static RESIZER: std::cell::RefCell<Resizer> = std::cell::RefCell::new(Resizer::new());
    }
    let source = ImageRef::new(image.0 as u32, image.1 as u32, &image.2, PixelType::U8x3).expect("the size fits");
    let mut target = Image::new(224, 224, PixelType::U8x3);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).crop(left, top, width, height);
    RESIZER.with_borrow_mut(|resizer| resizer.resize(&source, &mut target, &options)).expect("it resizes");
    target.into_vec()
}

fn evaluation(image: Decoded, out: &mut [f32]) {
    // The crop of 224 out of a shorter side of 256, taken from the source: no pixel outside is computed.
    let scale = image.0.min(image.1) as f64 / 256.0;
    let side = 224.0 * scale;
    let crop = [(image.0 as f64 - side) / 2.0, (image.1 as f64 - side) / 2.0, side, side];
    normalize(&resize(&image, crop, FilterType::CatmullRom), 224, false, out);
}

fn training(index: usize, image: Decoded, out: &mut [f32]) {
    let mut unit = draws(index);
    let crop = random_resized_crop(&mut unit, image.0, image.1).map(|side| side as f64);
    normalize(&resize(&image, crop, FilterType::Bilinear), 224, unit() < 0.5, out);
}

fn main() {
    let archive = std::path::PathBuf::from(std::env::var_os("TIMBURN_DATA").expect("TIMBURN_DATA names a folder")).join("imagenet-sample.tar");
    let files = photographs(&std::fs::read(archive).expect("the archive is there"));
    let mut steps: Vec<(&str, &str, Step)> = vec![
        ("decode", "zune-jpeg", |_, bytes, _| drop(std::hint::black_box(zune(bytes)))),
        ("evaluation", "zune-jpeg + fir", |_, bytes, out| evaluation(zune(bytes), out)),
        ("training", "zune-jpeg + fir", |index, bytes, out| training(index, zune(bytes), out)),
    ];
    #[cfg(feature = "turbojpeg")]
    steps.extend::<[(&str, &str, Step); 3]>([
        ("decode", "turbojpeg", |_, bytes, _| drop(std::hint::black_box(turbo(bytes)))),
        ("evaluation", "turbojpeg + fir", |_, bytes, out| evaluation(turbo(bytes), out)),
        ("training", "turbojpeg + fir", |index, bytes, out| training(index, turbo(bytes), out)),
    ]);
    harness::run(&files, &steps);
}

/// The `.JPEG` entries of an ustar archive: a header of 512 bytes, the content, zeros up to the next multiple of 512.
fn photographs(mut rest: &[u8]) -> Vec<Vec<u8>> {
    let mut files = Vec::new();
    while let Some((header, tail)) = rest.split_at_checked(512) {
        let text = |range: std::ops::Range<usize>| String::from_utf8_lossy(&header[range]).trim_end_matches(['\0', ' ']).to_owned();
        let Ok(size) = usize::from_str_radix(text(124..136).trim(), 8) else { break };
        if text(0..100).ends_with(".JPEG") {
            files.push((text(0..100), tail[..size].to_vec()));
        }
        rest = tail.get(size.next_multiple_of(512)..).unwrap_or_default();
    }
    files.sort();
    files.into_iter().map(|(_, bytes)| bytes).collect()
}

/// torchvision's `RandomResizedCrop.get_params` with its defaults; `[left, top, width, height]`.
fn random_resized_crop(mut unit: impl FnMut() -> f64, width: usize, height: usize) -> [usize; 4] {
    let (w, h) = (width as f64, height as f64);
    for _ in 0..10 {
        let area = w * h * (0.08 + 0.92 * unit());
        let (low, high) = ((3.0f64 / 4.0).ln(), (4.0f64 / 3.0).ln());
        let ratio = (low + (high - low) * unit()).exp();
        let (crop_w, crop_h) = ((area * ratio).sqrt().round() as usize, (area / ratio).sqrt().round() as usize);
        if (1..=width).contains(&crop_w) && (1..=height).contains(&crop_h) {
            let left = (unit() * (width - crop_w + 1) as f64) as usize;
            let top = (unit() * (height - crop_h + 1) as f64) as usize;
            return [left, top, crop_w, crop_h];
        }
    }
    let (crop_w, crop_h) = match w / h {
        ratio if ratio < 0.75 => (width, (w / 0.75).round() as usize),
        ratio if ratio > 4.0 / 3.0 => ((h * 4.0 / 3.0).round() as usize, height),
        _ => (width, height),
    };
    [(width - crop_w) / 2, (height - crop_h) / 2, crop_w, crop_h]
}
