//! Any bytes as a picture: decoding never panics, a region is a crop of the whole, and finds the same faults as the whole.

use timburn_data::{DecodeOptions, Region, decode_bytes, decode_region};

/// Small enough for thousands of runs a second.
const MAX_PIXELS: u64 = 1 << 17;

/// Decodes `data` whole, in part and scaled down, and compares.
///
/// # Panics
/// When one contradicts the other, or a decoder of timburn's own panics.
pub(crate) fn run(data: &[u8]) {
    let options = DecodeOptions { max_pixels: MAX_PIXELS, ..DecodeOptions::default() };
    // The region must come from the bytes, so that a file found by the fuzzer fails again.
    let dice = data.iter().fold(0xCBF2_9CE4_8422_2325u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
    let mut region = Region::default();
    let part = decode_region(data, "fuzz", &options, |width, height| {
        let part = |shift: u32, size: usize| (dice >> shift) as usize % 256 * size / 255;
        region = Region { left: part(0, width), top: part(8, height), width: part(16, width), height: part(24, height) };
        region
    });
    let whole = decode_bytes(data, "fuzz", &options);
    match (whole, part) {
        (Ok(whole), Ok(part)) => {
            assert_eq!((part.width, part.height), (whole.width, whole.height));
            assert_eq!(whole.pixels.len(), whole.width * whole.height * 3);
            assert!(part.image == whole.crop(region), "{region:?} is no crop");
        }
        (whole, part) => assert_eq!(whole.err().map(|error| error.to_string()), part.err().map(|error| error.to_string())),
    }
    let smaller = DecodeOptions { min_size: Some(((dice >> 32) as usize % 64, (dice >> 40) as usize % 64)), ..options };
    if let Ok(image) = decode_bytes(data, "fuzz", &smaller) {
        assert_eq!(image.pixels.len(), image.width * image.height * 3);
    }
}
