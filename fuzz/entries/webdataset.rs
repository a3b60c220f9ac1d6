//! Any bytes as a shard of a WebDataset.

use std::collections::BTreeSet;

use timburn_core::Classes;
use timburn_data::dataset::fuzzing::{parse_tar, parse_webdataset};

/// Indexes `data` with ten known classes and with those that it names itself.
///
/// # Panics
/// When a label is no class, a key comes twice, or a picture lies outside of the archive.
pub(crate) fn run(data: &[u8]) {
    let known = Classes::numbered(10);
    for classes in [Some(known), None] {
        let is_known = classes.is_some();
        match parse_webdataset(data, classes) {
            Ok((samples, classes)) => {
                assert!(!is_known || classes == 10);
                let keys: BTreeSet<&[u8]> = samples.iter().map(|sample| key(&sample.member)).collect();
                assert_eq!(keys.len(), samples.len(), "a key is one sample");
                let archive = parse_tar(data).unwrap_or_default();
                for sample in &samples {
                    assert!(sample.label < classes && !sample.key.is_empty());
                    let is_there =
                        |name: &[u8], offset: u64, size: u64| name == sample.member && (offset, size) == (sample.offset, sample.size);
                    assert!(archive.iter().any(|(member, _)| is_there(&member.name, member.offset, member.size)));
                }
            }
            // A name of 64 KiB is shown whole, each byte as `\xff`.
            Err(error) => assert!(error.to_string().len() < 4 * data.len() + 1000, "a message beyond the input"),
        }
    }
}

/// Up to the first dot of the last part.
fn key(name: &[u8]) -> &[u8] {
    let start = name.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let dot = name[start..].iter().position(|byte| *byte == b'.').map_or(name.len(), |dot| start + dot);
    &name[..dot]
}
