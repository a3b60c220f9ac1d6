//! What a data set is made of: counts, sizes, formats, bad files, duplicates, channel statistics.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::dataset::{Content, Dataset};
use crate::decode::{DecodeOptions, probe};
use crate::image::Rgb8Image;

/// What [`inspect`] found.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// Number of samples.
    pub samples: usize,
    /// Samples of each class, in the order of the labels.
    pub classes: Vec<ClassCount>,
    /// Bytes of all contents together.
    pub bytes: u64,
    /// Samples by format and by how their pixels are stored: `JPEG RGB`, `PNG RGBA`, `pixels`.
    pub formats: BTreeMap<String, usize>,
    /// Widths in pixels.
    pub width: Extent,
    /// Heights in pixels.
    pub height: Extent,
    /// The most frequent sizes, most frequent first, at most five.
    pub sizes: Vec<SizeCount>,
    /// Samples that cannot be decoded.
    pub bad: Vec<BadSample>,
    /// Groups of samples with equal content, largest first.
    pub duplicates: Vec<Duplicates>,
    /// Mean of each channel (RGB) over all pixels, full scale = 1.
    pub mean: [f64; 3],
    /// Standard deviation of each channel over all pixels, full scale = 1.
    pub std: [f64; 3],
    /// The samples by the hash of their content.
    #[serde(skip)]
    contents: BTreeMap<[u8; 32], Vec<usize>>,
}

impl Inspection {
    /// The samples of `other` whose content one of these has too: pairs of an index here (the first one) and one there, ascending by the latter.
    pub fn shared_with(&self, other: &Self) -> Vec<(usize, usize)> {
        let of = |(hash, theirs): (&_, &Vec<usize>)| Some((*self.contents.get(hash)?.iter().min()?, theirs.clone()));
        let pairs = other.contents.iter().filter_map(of);
        let mut pairs: Vec<(usize, usize)> = pairs.flat_map(|(own, theirs)| theirs.into_iter().map(move |index| (own, index))).collect();
        pairs.sort_unstable_by_key(|&(_, index)| index);
        pairs
    }
}

/// A class and its samples.
#[derive(Debug, Clone, Serialize)]
pub struct ClassCount {
    /// Its name.
    pub name: String,
    /// Number of samples.
    pub samples: usize,
}

/// Smallest, median and largest of a side, in pixels; zeros when nothing could be decoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Extent {
    /// Smallest.
    pub min: usize,
    /// Median, the lower of two.
    pub median: usize,
    /// Largest.
    pub max: usize,
}

/// A picture size and how often it occurs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SizeCount {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Number of samples.
    pub samples: usize,
}

/// A sample that cannot be decoded.
#[derive(Debug, Clone, Serialize)]
pub struct BadSample {
    /// Its path or name.
    pub name: String,
    /// The error, which names it too.
    pub reason: String,
}

/// Samples with equal content.
#[derive(Debug, Clone, Serialize)]
pub struct Duplicates {
    /// Their names, in the order of the data set.
    pub names: Vec<String>,
    /// Whether they carry different labels: at least one of these is wrong.
    pub labels_differ: bool,
}

/// What one thread gathers, and all together. Integer sums: the order of the samples does not matter.
#[derive(Default)]
struct Sums {
    bytes: u64,
    formats: BTreeMap<String, usize>,
    sizes: BTreeMap<(usize, usize), usize>,
    bad: BTreeMap<usize, BadSample>,
    contents: BTreeMap<[u8; 32], Vec<usize>>,
    pixels: u64,
    sum: [u128; 3],
    squares: [u128; 3],
}

/// Reads and decodes every sample on `threads` threads. `progress` is called once for each, from any of them.
///
/// Memory: one decoded picture a thread, and under 100 bytes a sample. Bad samples are part of the result, never an error.
pub fn inspect(dataset: &dyn Dataset, options: &DecodeOptions, threads: usize, progress: &(dyn Fn() + Sync)) -> Inspection {
    let total = Mutex::new(Sums::default());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                let mut sums = Sums::default();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= dataset.len() {
                        break;
                    }
                    sums.add(dataset, index, options);
                    progress();
                }
                total.lock().unwrap_or_else(PoisonError::into_inner).merge(sums);
            });
        }
    });
    total.into_inner().unwrap_or_else(PoisonError::into_inner).finish(dataset)
}

impl Sums {
    fn add(&mut self, dataset: &dyn Dataset, index: usize, options: &DecodeOptions) {
        let name = dataset.name(index);
        let outcome = dataset.read(index).and_then(|content| {
            let (format, bytes) = match &content {
                Content::Encoded(bytes) => {
                    let header = probe(bytes).map(|header| format!("{} {}", header.format.name(), header.mode));
                    (header.unwrap_or_else(|| "unreadable".into()), bytes.as_slice())
                }
                Content::Pixels(image) => ("pixels".into(), image.pixels.as_slice()),
            };
            self.bytes += bytes.len() as u64;
            *self.formats.entry(format).or_default() += 1;
            // An empty file is no picture, and no other's copy.
            if !bytes.is_empty() {
                self.contents.entry(Sha256::digest(bytes).into()).or_default().push(index);
            }
            content.decode(&name, options)
        });
        match outcome {
            Ok(image) => self.measure(&image),
            Err(error) => {
                self.bad.insert(index, BadSample { name, reason: error.to_string() });
            }
        }
    }

    fn measure(&mut self, image: &Rgb8Image) {
        *self.sizes.entry((image.width, image.height)).or_default() += 1;
        self.pixels += (image.width * image.height) as u64;
        // A picture of 64 megapixels sums to less than 2^42.
        let (mut sum, mut squares) = ([0u64; 3], [0u64; 3]);
        for pixel in image.pixels.as_chunks::<3>().0 {
            for channel in 0..3 {
                let value = u64::from(pixel[channel]);
                sum[channel] += value;
                squares[channel] += value * value;
            }
        }
        for channel in 0..3 {
            self.sum[channel] += u128::from(sum[channel]);
            self.squares[channel] += u128::from(squares[channel]);
        }
    }

    fn merge(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.pixels += other.pixels;
        other.formats.into_iter().for_each(|(key, count)| *self.formats.entry(key).or_default() += count);
        other.sizes.into_iter().for_each(|(key, count)| *self.sizes.entry(key).or_default() += count);
        self.bad.extend(other.bad);
        other.contents.into_iter().for_each(|(key, list)| self.contents.entry(key).or_default().extend(list));
        for channel in 0..3 {
            self.sum[channel] += other.sum[channel];
            self.squares[channel] += other.squares[channel];
        }
    }

    fn finish(self, dataset: &dyn Dataset) -> Inspection {
        let mut counts = vec![0; dataset.classes().len()];
        for index in 0..dataset.len() {
            if let Some(count) = counts.get_mut(dataset.label(index)) {
                *count += 1;
            }
        }
        let classes = counts.into_iter().enumerate().map(|(class, samples)| {
            let name = dataset.classes().name(class).unwrap_or_default().to_owned();
            ClassCount { name, samples }
        });
        let mut sizes: Vec<SizeCount> =
            self.sizes.iter().map(|(&(width, height), &samples)| SizeCount { width, height, samples }).collect();
        let (width, height) = (extent(&sizes, |size| size.width), extent(&sizes, |size| size.height));
        sizes.sort_by_key(|size| std::cmp::Reverse(size.samples));
        sizes.truncate(5);
        let mut groups: Vec<Vec<usize>> = self.contents.values().filter(|group| group.len() > 1).cloned().collect();
        groups.iter_mut().for_each(|group| group.sort_unstable());
        groups.sort_by_key(|group| (std::cmp::Reverse(group.len()), group[0]));
        let duplicates = groups.iter().map(|group| Duplicates {
            names: group.iter().map(|&index| dataset.name(index)).collect(),
            labels_differ: group.iter().any(|&index| dataset.label(index) != dataset.label(group[0])),
        });
        let pixels = self.pixels.max(1) as f64;
        let mean = self.sum.map(|sum| sum as f64 / pixels / 255.0);
        let std = std::array::from_fn(|channel| {
            let square = self.squares[channel] as f64 / pixels / (255.0 * 255.0);
            (square - mean[channel] * mean[channel]).max(0.0).sqrt()
        });
        Inspection {
            samples: dataset.len(),
            classes: classes.collect(),
            bytes: self.bytes,
            formats: self.formats,
            width,
            height,
            sizes,
            bad: self.bad.into_values().collect(),
            duplicates: duplicates.collect(),
            mean,
            std,
            contents: self.contents,
        }
    }
}

fn extent(sizes: &[SizeCount], side: impl Fn(&SizeCount) -> usize) -> Extent {
    let mut sides: Vec<(usize, usize)> = sizes.iter().map(|size| (side(size), size.samples)).collect();
    sides.sort_unstable();
    let (Some(&(min, _)), Some(&(max, _))) = (sides.first(), sides.last()) else { return Extent::default() };
    let middle = sides.iter().map(|(_, samples)| samples).sum::<usize>().div_ceil(2);
    let mut passed = 0;
    let median = sides.iter().find(|(_, samples)| {
        passed += samples;
        passed >= middle
    });
    Extent { min, median: median.map_or(min, |(side, _)| *side), max }
}

#[cfg(test)]
mod tests {
    use timburn_core::{Classes, Result};

    use super::*;

    struct Three;

    impl Dataset for Three {
        fn classes(&self) -> &Classes {
            static CLASSES: std::sync::OnceLock<Classes> = std::sync::OnceLock::new();
            CLASSES.get_or_init(|| Classes::new(vec!["dark".into(), "light".into()]))
        }
        fn len(&self) -> usize {
            4
        }
        fn label(&self, index: usize) -> usize {
            index % 2
        }
        fn name(&self, index: usize) -> String {
            format!("number {index}")
        }
        fn read(&self, index: usize) -> Result<Content> {
            let gray = |value: u8| Content::Pixels(Rgb8Image { width: 2, height: 1, pixels: vec![value; 6] });
            Ok(match index {
                0 | 1 => gray(0),
                2 => gray(255),
                _ => Content::Encoded(vec![1, 2, 3]),
            })
        }
    }

    #[test]
    fn everything_is_counted_once_on_any_number_of_threads() {
        for threads in [1, 3] {
            let calls = AtomicUsize::new(0);
            let found = inspect(&Three, &DecodeOptions::default(), threads, &|| {
                calls.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(calls.into_inner(), 4);
            assert_eq!(found.classes.iter().map(|class| class.samples).collect::<Vec<_>>(), [2, 2]);
            assert_eq!(found.bad.len(), 1);
            assert!(found.bad[0].reason.contains("number 3"), "{}", found.bad[0].reason);
            assert_eq!(found.duplicates.len(), 1);
            assert!(found.duplicates[0].labels_differ);
            assert_eq!(found.formats, BTreeMap::from([("pixels".into(), 3), ("unreadable".into(), 1)]));
            assert_eq!(found.width, Extent { min: 2, median: 2, max: 2 });
            assert!((found.mean[0] - 1.0 / 3.0).abs() < 1e-12);
            assert!((found.std[0] - (2.0f64 / 9.0).sqrt()).abs() < 1e-12, "{:?}", found.std);
        }
    }
}
