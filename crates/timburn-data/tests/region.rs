//! Decoding a region, or at a fraction of the size: the same pixels as a crop of the whole, and as PIL's `draft`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{difference, fixture, manifest, noise, number, photographs, read};
use timburn_data::{DecodeOptions, DecodedRegion, Region, decode_bytes, decode_region};

/// A region of a picture, from noise: anywhere, any size from nothing to all of it, sometimes reaching beyond.
fn draw(dice: &[u8], width: usize, height: usize) -> Region {
    let span = |from: u8, count: u8, size: usize| {
        let first = usize::from(from) * size / 255;
        (first, usize::from(count) * (size - first + size / 8) / 255)
    };
    let ((left, columns), (top, rows)) = (span(dice[0], dice[1], width), span(dice[2], dice[3], height));
    Region { left, top, width: columns, height: rows }
}

fn compare(name: &str, bytes: &[u8], options: &DecodeOptions, rounds: usize) {
    let whole = decode_bytes(bytes, name, options).unwrap();
    let dice = noise(&format!("regions of {name}"), rounds * 4);
    for dice in dice.chunks_exact(4) {
        let mut region = Region::default();
        let part = decode_region(bytes, name, options, |width, height| {
            region = draw(dice, width, height);
            region
        });
        let DecodedRegion { image, width, height } = part.unwrap();
        assert_eq!((width, height), (whole.width, whole.height), "{name}");
        let expected = whole.crop(region);
        assert_eq!((image.width, image.height), (expected.width, expected.height), "{name} {region:?}");
        assert!(image.pixels == expected.pixels, "{name} {region:?}: {} LSB", difference(&image.pixels, &expected.pixels));
    }
}

#[test]
fn a_region_is_a_crop_of_the_whole() {
    for row in manifest()["files"].as_array().unwrap() {
        let name = row["file"].as_str().unwrap();
        if row["width"].is_null() {
            continue;
        }
        let bytes = fixture(name);
        compare(name, &bytes, &DecodeOptions::default(), 60);
        compare(name, &bytes, &DecodeOptions { apply_orientation: false, ..DecodeOptions::default() }, 10);
        if name.starts_with("tiny") {
            // Every region there is.
            let whole = decode_bytes(&bytes, name, &DecodeOptions::default()).unwrap();
            for left in 0..whole.width {
                for top in 0..whole.height {
                    for width in 1..=whole.width - left {
                        for height in 1..=whole.height - top {
                            let region = Region { left, top, width, height };
                            let part = decode_region(&bytes, name, &DecodeOptions::default(), |_, _| region).unwrap();
                            assert_eq!(part.image.pixels, whole.crop(region).pixels, "{name} {region:?}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn regions_of_photographs_are_crops() {
    for (name, bytes) in photographs(usize::MAX) {
        compare(&name, &bytes, &DecodeOptions::default(), 3);
    }
}

/// The fault of a file does not depend on what is looked at: blocks outside are read as strictly as those inside.
#[test]
fn a_region_finds_the_faults_of_the_whole() {
    let options = DecodeOptions { max_pixels: 1 << 20, ..DecodeOptions::default() };
    let agree = |bytes: &[u8], what: &str| {
        let whole = decode_bytes(bytes, "", &options).map(drop).map_err(|error| error.to_string());
        for region in
            [Region::default(), Region { left: 9, top: 10, width: 3, height: 2 }, Region { left: 0, top: 20, width: 5, height: 9 }]
        {
            let part = decode_region(bytes, "", &options, |_, _| region).map(drop).map_err(|error| error.to_string());
            assert_eq!(part, whole, "{what} {region:?}");
        }
    };
    for row in manifest()["files"].as_array().unwrap() {
        let name = row["file"].as_str().unwrap();
        if !name.ends_with(".jpg") {
            continue;
        }
        let original = fixture(name);
        for length in (0..original.len()).step_by(7) {
            agree(&original[..length], &format!("{name} cut to {length} bytes"));
        }
        for round in 0..40 {
            let mut bytes = original.clone();
            for hit in noise(&format!("faults {name} {round}"), 12).chunks_exact(3) {
                let Some(at) = (usize::from(hit[0]) << 8 | usize::from(hit[1])).checked_rem(bytes.len()) else { continue };
                bytes[at] = hit[2];
            }
            agree(&bytes, &format!("{name}, damaged, round {round}"));
        }
    }
}

#[test]
fn scaled_pictures_are_those_of_pil() {
    let (manifest, expected) = (manifest(), read("scaled.bin"));
    let mut wrong = String::new();
    for row in manifest["scaled"].as_array().unwrap() {
        let name = row["file"].as_str().unwrap();
        let asked = (row["asked"][0].as_u64().unwrap() as usize, row["asked"][1].as_u64().unwrap() as usize);
        let options = DecodeOptions { min_size: Some(asked), ..DecodeOptions::default() };
        let image = decode_bytes(&fixture(name), name, &options).unwrap();
        assert_eq!((image.width, image.height), (number(row, "width"), number(row, "height")), "{name} {asked:?}");
        let worst = difference(&image.pixels, &expected[number(row, "offset")..][..image.pixels.len()]);
        if worst > 0 {
            wrong += &format!("{name} {asked:?}: {worst} LSB\n");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// A region is scaled by its own size, and its pixels are those of the scaled whole.
#[test]
fn a_scaled_region_is_a_crop_of_the_scaled_whole() {
    for name in [
        "baseline_420.jpg",
        "baseline_422.jpg",
        "baseline_444.jpg",
        "baseline_440.jpg",
        "baseline_411.jpg",
        "progressive_420.jpg",
        "cmyk.jpg",
    ] {
        let bytes = fixture(name);
        for scale in [2, 4, 8] {
            let whole = decode_bytes(&bytes, name, &DecodeOptions::default()).unwrap();
            let size = (whole.width, whole.height);
            let scaled = |min_size, region| {
                let options = DecodeOptions { min_size: Some(min_size), ..DecodeOptions::default() };
                decode_region(&bytes, name, &options, |_, _| region).unwrap().image
            };
            let whole = scaled((size.0 / scale, size.1 / scale), Region::whole(size.0, size.1));
            for dice in noise(&format!("scaled {name} {scale}"), 200).chunks_exact(4) {
                let Region { left, top, width, height } = draw(dice, size.0, size.1).clipped(size.0, size.1);
                if width < scale || height < scale {
                    continue;
                }
                let part = scaled((width / scale, height / scale), Region { left, top, width, height });
                let ratio = (width / (width / scale).max(1)).min(height / (height / scale).max(1));
                if [8, 4, 2].into_iter().find(|&s| ratio >= s) != Some(scale) {
                    continue;
                }
                let (right, bottom) = ((left + width).div_ceil(scale), (top + height).div_ceil(scale));
                let (left, top) = (left / scale, top / scale);
                let region = Region { left, top, width: right - left, height: bottom - top };
                assert_eq!(part, whole.crop(region), "{name} 1/{scale} {region:?}");
            }
        }
    }
}

#[test]
fn an_error_of_the_file_comes_before_the_choice_of_a_region() {
    let mut calls = 0;
    assert!(
        decode_region(b"", "", &DecodeOptions::default(), |_, _| {
            calls += 1;
            Region::default()
        })
        .is_err()
    );
    assert_eq!(calls, 0);
}
