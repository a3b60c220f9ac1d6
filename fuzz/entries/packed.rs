//! Any bytes as a packed file: as they are, and with a header that fits, as the hash keeps a fuzzer out of everything behind it.

use timburn_data::packed::fuzzing::{parse_packed, seal};

/// Reads `data` as it is and sealed.
///
/// # Panics
/// When pictures, labels or names lie outside of what the file has.
pub(crate) fn run(data: &[u8]) {
    check(data);
    let mut sealed = data.to_vec();
    seal(&mut sealed);
    check(&sealed);
}

fn check(data: &[u8]) {
    let Ok((classes, pictures, names)) = parse_packed(data) else { return };
    let mut end = 88;
    let mut name = 0;
    for picture in &pictures {
        assert_eq!(picture.offset, end, "pictures one after the other");
        end += u64::from(picture.size.0) * u64::from(picture.size.1) * 3;
        assert!(end > picture.offset && end <= data.len() as u64);
        assert!(picture.label < classes.len());
        assert!(picture.name >= name && names.is_char_boundary(picture.name));
        name = picture.name;
    }
    // The index lies behind the pictures.
    assert!(end as usize + 20 * pictures.len() + names.len() <= data.len());
    assert!(classes.ids.is_empty() || classes.ids.len() == classes.names.len());
}
