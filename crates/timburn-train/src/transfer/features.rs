//! What a frozen body says about the pictures of a data set, computed once.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use timburn_core::error::DataError;
use timburn_core::{Error, Result};
use timburn_data::loader::{BadFile, BadFiles, Loader, LoaderOptions, Normalization, Sampling};
use timburn_data::{Dataset, DynDataset, Pipeline};

use super::store::{Index, Rows, RowsWriter};
use crate::tensors::host;

/// How features are extracted.
#[derive(Clone)]
pub struct Extraction {
    /// The pictures.
    pub dataset: DynDataset,
    /// The first view of every picture; deterministic.
    pub plain: Pipeline,
    /// The other views; view v is drawn as epoch v of a training run.
    pub augmented: Pipeline,
    /// Views of each picture, at least 1.
    pub views: usize,
    /// What the model's input needs.
    pub normalization: Normalization,
    /// Pictures that go through the body together.
    pub batch_size: usize,
    /// Decides the augmented views.
    pub seed: u64,
    /// Threads that decode, one for each CPU when 0.
    pub workers: usize,
    /// Share of bad files that are left out, `0.0..=1.0`.
    pub skip_bad: f64,
}

/// Features of every picture and view: one row of `width` numbers each.
#[derive(Debug)]
pub struct Features {
    index: Index,
    rows: Rows,
}

impl Extraction {
    /// Runs every view of every picture through `body`: `[n, 3, h, w]` → `[n, width]`, on `device`, without autodiff.
    ///
    /// With `cache`, a folder and a key, the features of an earlier call with the same key are read instead, if every byte of them is as it
    /// was written; otherwise they are written there, whole or not at all. The key must name all that decides them: see
    /// [`key`](Self::key). Rows are then read from the file when asked for, so that memory does not grow with the data set; without
    /// `cache` they are kept in memory. `progress` is called with the number of pictures done in each batch.
    ///
    /// # Errors
    /// The loader's; [`Error::Io`] for the cache; `body`'s own; [`DataError::TooManyBadFiles`] when no picture is left.
    pub fn run(
        &self,
        body: &dyn Fn(Tensor<4>) -> Result<Tensor<2>>,
        device: &Device,
        cache: Option<(&Path, &str)>,
        progress: &mut dyn FnMut(usize),
    ) -> Result<(Features, Vec<BadFile>)> {
        if let Some((folder, key)) = cache
            && let Some((index, rows)) = Rows::open(folder, key)?
        {
            progress(self.dataset.len() * self.views.max(1));
            return Ok(Features { index, rows }.with_bad());
        }
        let (index, rows) = match cache {
            None => {
                let mut writer = RowsWriter::memory();
                let index = self.extract(body, device, &mut writer, progress)?;
                (index, writer.into_memory())
            }
            Some((folder, key)) => {
                RowsWriter::file(folder, key, |writer| self.extract(body, device, writer, progress))?;
                let missing = || Error::io("read back", folder)(std::io::ErrorKind::NotFound.into());
                Rows::open(folder, key)?.ok_or_else(missing)?
            }
        };
        Ok(Features { index, rows }.with_bad())
    }

    fn extract(
        &self,
        body: &dyn Fn(Tensor<4>) -> Result<Tensor<2>>,
        device: &Device,
        writer: &mut RowsWriter<'_>,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Index> {
        let mut index = Index { width: 0, views: self.views.max(1), labels: Vec::new(), samples: Vec::new(), bad: Vec::new() };
        for view in 0..index.views {
            let loader = self.loader(if view == 0 { &self.plain } else { &self.augmented })?;
            let mut seen = 0;
            for batch in loader.epoch(view as u64) {
                let mut batch = batch?;
                let done = batch.len() + batch.bad.len();
                if !batch.is_empty() {
                    let pooled = body(batch.images(&self.normalization, device)?)?;
                    index.width = pooled.dims()[1];
                    writer.write(&host(pooled)?)?;
                }
                if view == 0 {
                    index.labels.append(&mut batch.labels);
                    index.samples.append(&mut batch.indices);
                    index.bad.extend(batch.bad.drain(..).map(|bad| (bad.index, bad.name, bad.reason)));
                } else {
                    seen += batch.len();
                }
                progress(done);
            }
            if index.labels.is_empty() || (view > 0 && seen != index.labels.len()) {
                // A file that could be read for one view and not for another: nothing to guess.
                let first = index.bad.first().map_or_else(|| "no picture could be used".into(), |bad| bad.2.clone());
                return Err(DataError::TooManyBadFiles { bad: index.bad.len(), seen: self.dataset.len(), allowed: 0, first }.into());
            }
        }
        Ok(index)
    }

    fn loader(&self, pipeline: &Pipeline) -> Result<Loader> {
        let defaults = LoaderOptions::default();
        let options = LoaderOptions {
            batch_size: self.batch_size.max(1),
            sampling: Sampling::Sequential,
            seed: self.seed,
            workers: if self.workers == 0 { defaults.workers } else { self.workers },
            bad_files: if self.skip_bad == 0.0 { BadFiles::Error } else { BadFiles::Skip { share: self.skip_bad } },
            ..defaults
        };
        Loader::new(self.dataset.clone(), Arc::new(pipeline.clone()), options)
    }

    /// A name for these features: a hash of the body (`body`, as [`body_digest`](super::body_digest) gives it), both pipelines, the
    /// normalisation, views, seed, and name, label and length of every picture. A picture that was changed in place and kept its length
    /// is not noticed.
    pub fn key(&self, body: &str) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut add = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        add(body);
        let views = self.views.max(1);
        let augmented = (views > 1).then_some((&self.augmented, self.seed));
        add(&format!("{:?} {augmented:?} {views} {:?}", self.plain, self.normalization));
        for index in 0..self.dataset.len() {
            add(&format!("{} {} {:?}", self.dataset.name(index), self.dataset.label(index), self.dataset.content_len(index)));
        }
        hasher.finalize().to_hex().chars().take(32).collect()
    }
}

impl Features {
    fn with_bad(mut self) -> (Self, Vec<BadFile>) {
        let bad = self.index.bad.drain(..).map(|(index, name, reason)| BadFile { index, name, reason }).collect();
        (self, bad)
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.index.labels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.index.labels.is_empty()
    }

    /// Numbers in a row.
    pub fn width(&self) -> usize {
        self.index.width
    }

    /// Views of each picture.
    pub fn views(&self) -> usize {
        self.index.views
    }

    /// The pictures' classes.
    pub fn labels(&self) -> &[usize] {
        &self.index.labels
    }

    /// The pictures' indices in the data set.
    pub fn samples(&self) -> &[usize] {
        &self.index.samples
    }

    /// Rows of the pictures at `positions` (`0..len()`), all of view `view`: `[positions, width]`, row by row.
    ///
    /// # Errors
    /// [`Error::Io`] naming the cache; [`Error::Argument`] for a position or view that is not there.
    pub fn rows(&self, view: usize, positions: impl IntoIterator<Item = usize>) -> Result<Vec<f32>> {
        let count = self.len();
        let mut values = Vec::new();
        for position in positions {
            if position >= count || view >= self.views() {
                let expected = format!("a picture below {count} and a view below {}", self.views());
                return Err(Error::Argument { name: "row", value: format!("picture {position}, view {view}"), expected });
            }
            self.rows.read(view * count + position, self.width(), &mut values)?;
        }
        Ok(values)
    }

    /// The first view of every picture as a tensor `[len, width]`.
    ///
    /// # Errors
    /// As [`rows`](Self::rows).
    pub fn tensor(&self, device: &Device) -> Result<Tensor<2>> {
        let values = self.rows(0, 0..self.len())?;
        Ok(Tensor::from_data(burn::tensor::TensorData::new(values, [self.len(), self.width()]), device))
    }
}
