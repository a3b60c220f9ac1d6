//! Any bytes as a binary batch of CIFAR, or its list of names.

use timburn_data::dataset::fuzzing::{CifarFile, parse_cifar_binary};

#[path = "cifar.rs"]
mod cifar;

/// Reads `data`, and holds the pictures against its planes.
///
/// # Panics
/// When what is read breaks a promise, see [`cifar::check`].
pub(crate) fn run(data: &[u8]) {
    let Ok(file) = parse_cifar_binary(data) else { return };
    if let CifarFile::Pictures(pictures, classes) = &file {
        let stride = if *classes == 10 { 3073 } else { 3074 };
        assert_eq!(pictures.len() * stride, data.len());
        for ((_, image), record) in pictures.iter().zip(data.chunks(stride)) {
            let planes = &record[stride - 3072..];
            assert!((0..3072).all(|at| image.pixels[at] == planes[at % 3 * 1024 + at / 3]));
        }
    }
    cifar::check(file, data.len());
}
