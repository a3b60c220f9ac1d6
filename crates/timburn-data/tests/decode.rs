//! Decoding against PIL, pixel for pixel; everything that is wrong with a file is a typed error.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::fmt::Write as _;

use common::{difference, fixture, hash, manifest, number, photographs, read};
use timburn_core::Error;
use timburn_core::error::ImageFault;
use timburn_core::preprocessing::{Interpolation, Preprocessing};
use timburn_data::{DecodeOptions, decode_bytes, decode_file, prepare};

fn fault(bytes: &[u8], options: &DecodeOptions) -> Option<ImageFault> {
    match decode_bytes(bytes, "test", options) {
        Ok(_) => None,
        Err(Error::Image(error)) => Some(error.fault),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn every_fixture_is_what_pil_makes_of_it() {
    let (manifest, expected) = (manifest(), read("expected.bin"));
    let mut wrong = String::new();
    let mut count = 0;
    for row in manifest["files"].as_array().unwrap() {
        let name = row["file"].as_str().unwrap();
        let decoded = decode_bytes(&fixture(name), name, &DecodeOptions::default());
        if row["width"].is_null() {
            assert!(decoded.is_err(), "{name}");
            continue;
        }
        let (width, height, offset) = (number(row, "width"), number(row, "height"), number(row, "offset"));
        let expected = &expected[offset..][..width * height * 3];
        match decoded {
            Ok(image) if (image.width, image.height) != (width, height) => {
                let _ = writeln!(wrong, "{name}: {image:?} instead of {width}×{height}");
            }
            Ok(image) => {
                let worst = difference(&image.pixels, expected);
                if worst > 0 {
                    let _ = writeln!(wrong, "{name}: {worst} LSB");
                }
            }
            Err(error) => {
                let _ = writeln!(wrong, "{error}");
            }
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(count > 60, "{count} fixtures");
}

#[test]
fn photographs_decode_and_prepare_to_the_bit_like_pil() {
    let photographs = photographs(usize::MAX);
    if photographs.is_empty() {
        return;
    }
    let spec = Preprocessing { interpolation: Interpolation::Bicubic, ..Preprocessing::torchvision(224, 256) };
    let options = DecodeOptions { apply_orientation: false, ..DecodeOptions::default() };
    let table = String::from_utf8(read("photographs.tsv")).unwrap();
    assert_eq!(table.lines().count(), photographs.len());
    for ((name, bytes), line) in photographs.iter().zip(table.lines()) {
        let image = decode_bytes(bytes, name, &options).unwrap();
        let prepared = prepare(&image, &spec);
        assert_eq!(format!("{name}\t{:016x}\t{:016x}", hash(&image.pixels), hash(&prepared.pixels)), line);
    }
}

#[test]
fn any_prefix_is_an_error() {
    let whole = |name: &str| decode_bytes(&fixture(name), name, &DecodeOptions::default()).is_ok();
    for row in manifest()["files"].as_array().unwrap() {
        let name = row["file"].as_str().unwrap();
        if row["width"].is_null() || name == "trailing_bytes.jpg" {
            continue;
        }
        assert!(whole(name), "{name}");
        let bytes = fixture(name);
        for length in 0..bytes.len() {
            assert!(fault(&bytes[..length], &DecodeOptions::default()).is_some(), "{name} cut to {length} of {} bytes", bytes.len());
        }
    }
}

#[test]
fn photographs_cut_every_twentieth_are_truncated() {
    for (name, bytes) in photographs(50) {
        for twentieth in 1..20 {
            let fault = fault(&bytes[..bytes.len() * twentieth / 20], &DecodeOptions::default());
            assert!(matches!(fault, Some(ImageFault::Truncated { .. })), "{name} cut to {twentieth}/20: {fault:?}");
        }
    }
}

#[test]
fn damaged_files_never_panic_and_never_change_size() {
    let options = DecodeOptions { max_pixels: 1 << 20, ..DecodeOptions::default() };
    for row in manifest()["files"].as_array().unwrap() {
        let name = row["file"].as_str().unwrap();
        let original = fixture(name);
        for round in 0..60 {
            let mut bytes = original.clone();
            let dice = common::noise(&format!("{name} {round}"), 24);
            for hit in dice.chunks_exact(4).take(1 + round % 6) {
                let at = usize::from(hit[0]) << 16 | usize::from(hit[1]) << 8 | usize::from(hit[2]);
                let Some(at) = at.checked_rem(bytes.len()) else { continue };
                bytes[at] = hit[3];
            }
            match fault(&bytes, &options) {
                Some(ImageFault::Panicked { format, reason }) => println!("{name}, round {round}: the {format} decoder panicked: {reason}"),
                Some(_) => {}
                None => assert_eq!(decode_bytes(&bytes, name, &options).unwrap().pixels.len() % 3, 0),
            }
        }
    }
}

#[test]
fn faults_say_what_is_wrong() {
    let options = DecodeOptions::default();
    assert!(matches!(fault(b"", &options), Some(ImageFault::Empty)));
    let text = fault(&fixture("text.jpg"), &options).unwrap().to_string();
    assert!(text.contains("54 68 69 73"), "{text}");
    for name in ["bomb.png", "bomb.jpg"] {
        let fault = fault(&fixture(name), &options);
        assert!(matches!(fault, Some(ImageFault::TooLarge { width: 65535, height: 65535, .. })), "{name}: {fault:?}");
    }
    let fault = fault(&fixture("bomb_allowed_size.jpg"), &options);
    assert!(matches!(fault, Some(ImageFault::Truncated { .. })), "{fault:?}");
    let error = decode_file("no/such/file.jpg", &options).unwrap_err();
    assert!(error.to_string().starts_with("no/such/file.jpg: cannot read"), "{error}");
    assert_eq!(error.exit_code(), 3);
}

#[test]
fn the_limit_counts_pixels() {
    for name in ["rgb.png", "baseline_420.jpg", "still.gif", "lossless.webp", "rgb.bmp", "rgb.tiff"] {
        let with = |max_pixels| fault(&fixture(name), &DecodeOptions { max_pixels, ..DecodeOptions::default() });
        assert!(with(37 * 29).is_none(), "{name}");
        assert!(matches!(with(37 * 29 - 1), Some(ImageFault::TooLarge { width: 37, height: 29, limit: 1072 })), "{name}: {:?}", with(1072));
    }
}

#[test]
fn orientation_is_optional_and_alpha_has_a_background() {
    let stored = DecodeOptions { apply_orientation: false, ..DecodeOptions::default() };
    let turned = decode_bytes(&fixture("orientation_6.jpg"), "", &DecodeOptions::default()).unwrap();
    let as_is = decode_bytes(&fixture("orientation_6.jpg"), "", &stored).unwrap();
    assert_eq!((turned.width, turned.height), (as_is.height, as_is.width));
    let black = DecodeOptions { background: [0; 3], ..DecodeOptions::default() };
    let [black, white] = [black, DecodeOptions::default()].map(|options| decode_bytes(&fixture("alpha.png"), "", &options).unwrap());
    assert!(black.pixels.iter().zip(&white.pixels).all(|(black, white)| black <= white) && black != white);
}

#[test]
#[cfg(feature = "sample")]
fn the_sample_photograph_decodes() {
    let image = decode_bytes(timburn_data::sample_photograph(), "sample", &DecodeOptions::default()).unwrap();
    assert_eq!((image.width, image.height), (451, 300));
}
