//! Real data: the folder named by `TIMBURN_DATA`, else `../shared/data`.
#![allow(clippy::expect_used, reason = "helpers of tests")]
#![allow(dead_code, reason = "each test binary uses its part")]

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

/// The file `name` of the data folder; `None`, said aloud, when there is none.
pub(crate) fn data_file(name: &str) -> Option<PathBuf> {
    let folder =
        std::env::var_os("TIMBURN_DATA").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
    let path = folder.join(name);
    if path.is_file() {
        return Some(path);
    }
    // Straight to the file descriptor: the test harness must not swallow it.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("skipped: no {} (set TIMBURN_DATA)\n", path.display()).as_bytes());
    None
}

/// The photographs of the ImageNet sample: file name and bytes, in the archive's order.
pub(crate) fn imagenet_sample() -> Option<Vec<(String, Vec<u8>)>> {
    let mut archive = tar::Archive::new(File::open(data_file("imagenet-sample.tar")?).expect("readable"));
    let mut photographs = Vec::new();
    for entry in archive.entries().expect("a tar archive") {
        let mut entry = entry.expect("a whole archive");
        let path = entry.path().expect("a path").into_owned();
        if path.extension().is_some_and(|extension| extension == "JPEG") {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).expect("a whole entry");
            photographs.push((path.file_name().expect("a name").to_string_lossy().into_owned(), bytes));
        }
    }
    Some(photographs)
}
