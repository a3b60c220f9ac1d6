//! Packing a data set.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use timburn_core::error::TrainError;
use timburn_core::preprocessing::Interpolation;
use timburn_core::seed::Draws;
use timburn_core::{Error, Result};

use super::Packed;
use super::format::{self, HEADER, Row};
use crate::dataset::DynDataset;
use crate::decode::DecodeOptions;
use crate::image::Rgb8Image;
use crate::loader::{BadFile, BadFiles, Loader, LoaderOptions, Sampling};
use crate::resize::resize;

/// The size that pictures are packed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackSize {
    /// As they are.
    Original,
    /// The shorter side becomes this many pixels, the other follows; smaller pictures stay as they are.
    ShorterSide(usize),
    /// Both sides are set, whatever the aspect ratio.
    Exact {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
    },
}

/// How a data set is packed.
#[derive(Debug, Clone, Copy)]
pub struct PackOptions {
    /// Size of the pictures. Default [`PackSize::Original`].
    pub size: PackSize,
    /// Filter of the resize. Default bicubic.
    pub interpolation: Interpolation,
    /// How pictures are decoded. Default as in [`LoaderOptions`]: EXIF orientation is not applied.
    pub decode: DecodeOptions,
    /// What happens to unreadable pictures; skipped ones are not in the file. Default: skipped up to 0.1 %.
    pub bad_files: BadFiles,
    /// Threads that decode. Default: one for each CPU.
    pub workers: usize,
}

impl Default for PackOptions {
    fn default() -> Self {
        let LoaderOptions { decode, bad_files, workers, .. } = LoaderOptions::default();
        Self { size: PackSize::Original, interpolation: Interpolation::Bicubic, decode, bad_files, workers }
    }
}

/// What was packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackReport {
    /// Pictures in the file.
    pub written: usize,
    /// Those left out.
    pub bad: Vec<BadFile>,
    /// Size of the file.
    pub bytes: u64,
}

impl Packed {
    /// Writes a data set as one file of decoded pictures, in the data set's order, and calls `progress(done, of)` after each picture.
    ///
    /// The file is written aside, synced and renamed: at `path` there is the old file, or the whole new one. The bytes depend on the data set
    /// and the options alone.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be written, [`Error::Argument`] for a size of 0 or an empty data set, and those of the pictures as
    /// the policy has it. Nothing is left behind; what a killed process left is removed by the next one that writes the same file.
    pub fn write(
        dataset: &DynDataset,
        options: &PackOptions,
        path: impl AsRef<Path>,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<PackReport> {
        Self::write_until(dataset, options, path, |done, of| {
            progress(done, of);
            ControlFlow::Continue(())
        })
    }

    /// [`write`](Self::write), given up after the picture at which `progress` breaks.
    ///
    /// # Errors
    /// As [`write`](Self::write); [`TrainError::Interrupted`].
    pub fn write_until(
        dataset: &DynDataset,
        options: &PackOptions,
        path: impl AsRef<Path>,
        mut progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<PackReport> {
        let path = path.as_ref();
        options.size.validate(options.decode.max_pixels)?;
        let (size, interpolation) = (options.size, options.interpolation);
        let prepare = move |image: Rgb8Image, _: &mut Draws| Ok(size.apply(image, interpolation));
        // Batches of one, since the pictures differ in size.
        let loader = Loader::new(
            dataset.clone(),
            Arc::new(prepare),
            LoaderOptions {
                batch_size: 1,
                workers: options.workers,
                prefetch: options.workers,
                sampling: Sampling::Sequential,
                bad_files: options.bad_files,
                decode: options.decode,
                ..LoaderOptions::default()
            },
        )?;
        let aside = Aside::create(path)?;
        let io = || Error::io("write", &aside.path);
        let mut out = BufWriter::with_capacity(1 << 20, &aside.file);
        out.write_all(&[0; HEADER as usize]).map_err(io())?;
        let mut rows = Vec::new();
        let mut bad = Vec::new();
        for (done, batch) in loader.epoch(0).enumerate() {
            let batch = batch?;
            for (&index, &label) in batch.indices.iter().zip(&batch.labels) {
                let number = |value: usize| u32::try_from(value).map_err(|_| too_large(value));
                rows.push(Row {
                    width: number(batch.width)?,
                    height: number(batch.height)?,
                    label: number(label)?,
                    crc: crc32fast::hash(&batch.pixels),
                    name: dataset.name(index),
                });
                out.write_all(&batch.pixels).map_err(io())?;
            }
            bad.extend(batch.bad);
            if progress(done + 1, loader.batches()).is_break() {
                return Err(TrainError::Interrupted.into());
            }
        }
        let (header, tail) = format::build(dataset.classes(), &rows)?;
        out.write_all(&tail).map_err(io())?;
        out.seek(SeekFrom::Start(0)).map_err(io())?;
        out.write_all(&header).map_err(io())?;
        out.flush().map_err(io())?;
        drop(out);
        let bytes = aside.file.metadata().map_err(io())?.len();
        aside.rename(path)?;
        Ok(PackReport { written: rows.len(), bad, bytes })
    }
}

fn too_large(value: usize) -> Error {
    Error::Argument { name: "side of a picture", value: value.to_string(), expected: "below 2^32".into() }
}

impl PackSize {
    fn validate(self, max_pixels: u64) -> Result<()> {
        let (name, width, height) = match self {
            Self::Original => return Ok(()),
            // Never enlarges.
            Self::ShorterSide(side) => ("shorter side", side, 1),
            Self::Exact { width, height } => ("exact size", width, height),
        };
        let area = (width as u64).checked_mul(height as u64);
        if area.is_some_and(|area| (1..=max_pixels).contains(&area)) {
            return Ok(());
        }
        Err(Error::Argument { name, value: format!("{self:?}"), expected: format!("1 to {max_pixels} pixels") })
    }

    fn apply(self, image: Rgb8Image, filter: Interpolation) -> Rgb8Image {
        let short = image.width.min(image.height);
        match self {
            Self::Exact { width, height } if (width, height) != (image.width, image.height) => resize(&image, width, height, filter),
            Self::ShorterSide(side) if side < short => {
                // torchvision's and PIL's `int(side * long / short)`.
                resize(&image, side * image.width / short, side * image.height / short, filter)
            }
            _ => image,
        }
    }
}

const PARTIAL: &str = ".partial";

/// A file under another name until it is whole; removed if it never is. Locked as long as its writer lives.
struct Aside {
    path: PathBuf,
    file: File,
    renamed: bool,
}

impl Aside {
    fn create(target: &Path) -> Result<Self> {
        remove_abandoned(target);
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}{PARTIAL}", std::process::id()));
        let path = target.with_file_name(name);
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path).map_err(Error::io("create", &path))?;
        // A file system without locks costs nothing but the tidying up after a kill.
        let _ = file.try_lock();
        Ok(Self { path, file, renamed: false })
    }

    fn rename(mut self, target: &Path) -> Result<()> {
        self.file.sync_all().map_err(Error::io("sync", &self.path))?;
        std::fs::rename(&self.path, target).map_err(Error::io("rename", &self.path))?;
        self.renamed = true;
        // The new name is on the disk once its folder is.
        #[cfg(unix)]
        {
            let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::io("sync", folder))?;
        }
        Ok(())
    }
}

/// Removes what processes that were killed have left of `target`: parts of files whose lock nobody holds.
fn remove_abandoned(target: &Path) {
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let found = entry.file_name();
        let found = found.to_string_lossy();
        let middle = found.strip_prefix(&*name).and_then(|rest| rest.strip_prefix('.')?.strip_suffix(PARTIAL));
        if middle.is_none_or(|process| process.parse::<u32>().is_err()) {
            continue;
        }
        let path = entry.path();
        let abandoned = OpenOptions::new().write(true).open(&path).is_ok_and(|file| file.try_lock().is_ok());
        if abandoned && std::fs::remove_file(&path).is_ok() {
            log::warn!("{}: an interrupted packing left this part of a file; it is removed, and packing starts again", path.display());
        }
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if !self.renamed {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
