//! Memory of a long epoch: `cargo run --release -p timburn-data --example epoch_memory -- FOLDER [SAMPLES] [WORKERS]`
//!
//! Decodes the pictures under FOLDER again and again, shuffled, resizes and crops them to 224×224, and prints resident and peak memory (of
//! `/proc/self/status`; Linux) ten times on the way. Both have to stay where they are after the first lines.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use timburn_core::{Classes, Error, Preprocessing, Result};
use timburn_data::{Content, Dataset, Loader, LoaderOptions};

/// The files of a folder, repeated.
struct Repeated {
    classes: Classes,
    files: Vec<PathBuf>,
    len: usize,
}

impl Dataset for Repeated {
    fn classes(&self) -> &Classes {
        &self.classes
    }
    fn len(&self) -> usize {
        self.len
    }
    fn label(&self, index: usize) -> usize {
        index % 2
    }
    fn name(&self, index: usize) -> String {
        self.files.get(index % self.files.len()).map(|path| path.display().to_string()).unwrap_or_default()
    }
    fn read(&self, index: usize) -> Result<Content> {
        let name = self.name(index);
        std::fs::read(&name).map(Content::Encoded).map_err(Error::io("read", name))
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let io = || Error::io("list", folder);
    for entry in std::fs::read_dir(folder).map_err(io())? {
        let entry = entry.map_err(io())?;
        if entry.file_type().map_err(io())?.is_dir() {
            collect(&entry.path(), files)?;
        } else if entry.path().extension().is_some_and(|extension| extension.to_ascii_lowercase().to_string_lossy().starts_with("jp")) {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let lines = status.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM"));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join("  ")
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap_or_else(|| ".".into());
    let mut number = |default| arguments.next().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (len, workers) = (number(100_000), number(2));
    let mut files = Vec::new();
    collect(Path::new(&folder), &mut files)?;
    files.sort();
    println!("{} files, an epoch of {len}, {workers} workers, batches of 64, 2 ahead; before: {}", files.len(), memory());
    let dataset = Repeated { classes: Classes::numbered(2), len: if files.is_empty() { 0 } else { len }, files };
    let options = LoaderOptions { batch_size: 64, workers, prefetch: 2, ..LoaderOptions::default() };
    let loader = Loader::new(Arc::new(dataset), Arc::new(Preprocessing::torchvision(224, 256)), options)?;
    let start = Instant::now();
    let (mut seen, every) = (0, loader.batches().div_ceil(10));
    for (number, batch) in loader.epoch(0).enumerate() {
        seen += batch?.len();
        if (number + 1) % every == 0 || number + 1 == loader.batches() {
            println!("{seen:7} pictures  {:6.0} a second  {}", seen as f64 / start.elapsed().as_secs_f64(), memory());
        }
    }
    println!("{} bad files", loader.bad_files());
    Ok(())
}
