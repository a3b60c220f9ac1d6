//! Any bytes as a gzipped tar archive; and, as bytes that a fuzzer makes are hardly ever a valid gzip stream, as the archive in one.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use timburn_data::dataset::fuzzing::{GZIP_LIMIT, parse_tar, parse_tar_gz};

/// Reads `data` as it is if it begins as gzip does, else packed, where it must read as it does unpacked.
///
/// # Panics
/// When more is read than the limit allows or deflate can hold, or the packed archive differs from the plain one.
pub(crate) fn run(data: &[u8]) {
    if data.starts_with(&[0x1F, 0x8B]) {
        let Ok(members) = parse_tar_gz(data) else { return };
        let total: u64 = members.iter().map(|(member, content)| content.len().max(member.size as usize) as u64).sum();
        assert!(total <= GZIP_LIMIT && total <= 1032 * data.len() as u64);
        return;
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(1));
    // Memory does not refuse to be written to.
    let Ok(packed) = encoder.write_all(data).and_then(|()| encoder.finish()) else { return };
    assert!(parse_tar_gz(&packed[..packed.len() - 1]).is_err(), "a stream that is cut short");
    match (parse_tar(data), parse_tar_gz(&packed)) {
        (Ok(plain), Ok(unpacked)) => assert!(plain == unpacked),
        (Err(_), Err(_)) => {}
        (plain, unpacked) => assert!(data.len() as u64 > GZIP_LIMIT, "plain: {:?}, packed: {:?}", plain.err(), unpacked.err()),
    }
}
