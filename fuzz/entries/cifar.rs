//! What holds for every file of CIFAR, however it is written.

use timburn_data::dataset::fuzzing::CifarFile;

/// Pictures are whole, labels are classes, and names are as many as classes, all different.
///
/// # Panics
/// Where that is not so.
pub(crate) fn check(file: CifarFile, length: usize) {
    match file {
        CifarFile::Pictures(pictures, classes) => {
            assert!(!pictures.is_empty() && pictures.len() * 3072 <= length);
            for (label, image) in &pictures {
                assert!(usize::from(*label) < classes);
                assert_eq!((image.width, image.height, image.pixels.len()), (32, 32, 3072));
            }
        }
        CifarFile::Names(mut names, classes) => {
            assert!(names.iter().all(|name| !name.is_empty() && name.len() <= 3000));
            names.sort();
            names.dedup();
            assert_eq!(names.len(), classes);
        }
    }
}
