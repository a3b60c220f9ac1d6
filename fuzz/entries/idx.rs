//! Any bytes as an IDX file.

use timburn_data::dataset::fuzzing::{GZIP_LIMIT, parse_idx, parse_idx_set};

/// Reads `data`; pictures also as a set, labelled by their own first bytes.
///
/// # Panics
/// When sides and data do not fit, a picture is not what the file holds, or a label is no class.
pub(crate) fn run(data: &[u8]) {
    let Ok((sides, length)) = parse_idx(data) else { return };
    assert_eq!(sides.iter().product::<usize>(), length);
    assert!(length > 0 && (sides.len() == 3 || sides.len() == 1) && length as u64 <= GZIP_LIMIT.max(data.len() as u64));
    let [count, height, width] = sides[..] else { return };
    let Some(pixels) = data.get(16..).filter(|pixels| pixels.len() == length && !data.starts_with(&[0x1F])) else { return };
    let labels: Vec<u8> = [&[0, 0, 8, 1][..], &(count as u32).to_be_bytes(), &pixels[..count]].concat();
    match parse_idx_set(data, &labels) {
        Ok((pictures, classes)) => {
            assert_eq!(pictures.len(), count);
            for (at, (label, image)) in pictures.iter().enumerate() {
                assert!(*label < classes && *label == usize::from(pixels[at]));
                assert_eq!((image.width, image.height), (width, height));
                assert!(image.pixels.chunks(3).eq(pixels[at * height * width..][..height * width].iter().map(|level| [*level; 3])));
            }
        }
        Err(_) => assert!(pixels[..count].iter().any(|label| *label >= 10)),
    }
}
