//! Any bytes as a tar archive: what is read lies in the archive, and no name leads out of it.

use timburn_data::dataset::archive::Member;
use timburn_data::dataset::fuzzing::parse_tar;

/// Walks `data` and holds every member against it.
///
/// # Panics
/// When a member is not what the archive holds, or lies where it must not.
pub(crate) fn run(data: &[u8]) {
    let Ok(members) = parse_tar(data) else { return };
    let mut end = 0;
    for (Member { name, offset, size }, content) in &members {
        assert!(*offset >= end + 512 && offset.is_multiple_of(512), "members of their own blocks");
        end = offset + size;
        assert_eq!(content.as_slice(), &data[*offset as usize..end as usize]);
        assert!(!name.is_empty() && !name.starts_with(b"/") && !name.contains(&0));
        assert!(name.split(|byte| *byte == b'/').all(|part| part != b".."));
    }
}
