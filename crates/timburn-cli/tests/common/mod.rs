//! The built binary and real data.
#![allow(dead_code, clippy::expect_used, reason = "helpers of tests; each test binary uses its part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The binary, without network and with empty caches.
pub(crate) fn command(arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_timburn"));
    command
        .args(arguments)
        .current_dir(folder)
        .env("HF_HUB_CACHE", folder.join("cache"))
        .env("TIMBURN_CACHE", folder.join("cache"))
        .env("TORCH_HOME", folder.join("torch"))
        .env("HF_HUB_OFFLINE", "1");
    command
}

pub(crate) fn timburn(arguments: &[&str], folder: &Path) -> Output {
    command(arguments, folder).output().expect("the binary runs")
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// The first pictures of each class of CIFAR-10 (JPEG), as class folders below `folder`; none where the data is missing.
pub(crate) fn cifar(folder: &Path, train: usize, test: usize) -> Option<PathBuf> {
    some_of("cifar10-jpeg", folder, train, test)
}

/// The first pictures of cats and of dogs, as class folders below `folder`: 16 each for training, 8 each for validation; none where the data
/// is missing.
pub(crate) fn pets(folder: &Path) -> Option<PathBuf> {
    some_of("cats-and-dogs", folder, 16, 8)
}

/// The first files of each class of the archive `name`, so many for training, so many of any other part.
fn some_of(name: &str, folder: &Path, train: usize, others: usize) -> Option<PathBuf> {
    let data =
        std::env::var_os("TIMBURN_DATA").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let archive = data.join(format!("{name}.tar.gz"));
    let Ok(file) = std::fs::File::open(&archive) else {
        // Past the harness, which swallows what a passing test prints.
        let why = format!("skipped: {} is not there (set TIMBURN_DATA to the folder that has it)\n", archive.display());
        let _ = std::io::Write::write_all(&mut std::io::stderr(), why.as_bytes());
        return None;
    };
    let mut counts = std::collections::HashMap::new();
    let mut reader = tar::Archive::new(flate2::read::GzDecoder::new(file));
    for entry in reader.entries().expect("an archive") {
        let mut entry = entry.expect("a member");
        let path = entry.path().expect("a path").into_owned();
        let class = path.parent().expect("a folder").to_owned();
        let wanted = if class.components().any(|part| part.as_os_str() == "train") { train } else { others };
        let count = counts.entry(class).or_insert(0);
        if path.extension().is_some_and(|extension| extension == "jpg") && *count < wanted {
            *count += 1;
            let target = folder.join(&path);
            std::fs::create_dir_all(target.parent().expect("a folder")).expect("a folder");
            entry.unpack(target).expect("unpacks");
        }
    }
    Some(folder.join(name))
}
