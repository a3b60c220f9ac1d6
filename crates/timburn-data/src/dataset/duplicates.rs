//! Byte-identical samples.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest, Sha256};

use super::{Content, Dataset};

/// Finds the samples whose content is the same byte for byte: groups of two or more indices, each ascending, ordered by their first.
///
/// Only samples whose length another one shares are read, on as many threads as there are cores, and compared by SHA-256; 32 bytes of memory
/// each. `progress` is called with (samples done, samples to read), from this thread. A sample that cannot be read has no duplicate; it is
/// logged as a warning.
pub fn find_duplicates(set: &dyn Dataset, mut progress: impl FnMut(usize, usize)) -> Vec<Vec<usize>> {
    let mut by_length: HashMap<Option<u64>, Vec<usize>> = HashMap::new();
    for index in 0..set.len() {
        by_length.entry(set.content_len(index)).or_default().push(index);
    }
    let mut suspects: Vec<usize> = by_length.into_values().filter(|indices| indices.len() > 1).flatten().collect();
    suspects.sort_unstable();
    let groups = by_hash(set, &suspects, |done| progress(done, suspects.len())).into_values().filter(|group| group.len() > 1);
    let groups = groups.filter_map(|group| Some((*group.first()?, group)));
    groups.collect::<BTreeMap<_, _>>().into_values().collect()
}

/// Finds the samples of `other` whose content is, byte for byte, that of a sample of `set`: pairs of an index of `set` (the first one) and one of
/// `other`, ascending by the latter. A picture that a model learnt from says nothing about how well it does.
///
/// Reads as [`find_duplicates`] does, and as little.
pub fn find_shared(set: &dyn Dataset, other: &dyn Dataset) -> Vec<(usize, usize)> {
    let lengths = |set: &dyn Dataset| -> HashSet<Option<u64>> { (0..set.len()).map(|index| set.content_len(index)).collect() };
    let suspects = |set: &dyn Dataset, lengths: &HashSet<Option<u64>>| -> Vec<usize> {
        (0..set.len()).filter(|&index| lengths.contains(&set.content_len(index))).collect()
    };
    let theirs = by_hash(other, &suspects(other, &lengths(set)), |_| {});
    let own = by_hash(set, &suspects(set, &lengths(other)), |_| {});
    let pairs = own.iter().filter_map(|(hash, own)| Some((*own.first()?, theirs.get(hash)?)));
    let mut pairs: Vec<(usize, usize)> = pairs.flat_map(|(own, theirs)| theirs.iter().map(move |&index| (own, index))).collect();
    pairs.sort_unstable_by_key(|&(_, index)| index);
    pairs
}

/// The samples `suspects` by the hash of their content, each group ascending. `progress` is called with the number of those done.
fn by_hash(set: &dyn Dataset, suspects: &[usize], mut progress: impl FnMut(usize)) -> HashMap<[u8; 32], Vec<usize>> {
    let mut by_hash: HashMap<[u8; 32], Vec<usize>> = HashMap::new();
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, Into::into).min(suspects.len());
    let (sender, receiver) = crossbeam_channel::bounded(64);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while let Some(&index) = suspects.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if sender.send((index, content_hash(set, index))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        // Owned here, so that the threads see it go if `progress` panics.
        let receiver = receiver;
        for (done, (index, hash)) in receiver.iter().enumerate() {
            match hash {
                Ok(Some(hash)) => by_hash.entry(hash).or_default().push(index),
                Ok(None) => {}
                Err(error) => log::warn!("not compared with the other pictures: {error}"),
            }
            progress(done + 1);
        }
    });
    by_hash.values_mut().for_each(|group| group.sort_unstable());
    by_hash
}

/// `None` for nothing: an empty file is no picture, and no other's copy.
fn content_hash(set: &dyn Dataset, index: usize) -> timburn_core::Result<Option<[u8; 32]>> {
    let mut hash = Sha256::new();
    match set.read(index)? {
        Content::Encoded(bytes) if bytes.is_empty() => return Ok(None),
        Content::Encoded(bytes) => hash.update(bytes),
        Content::Pixels(image) => {
            // The shape is part of the content; a file of these very bytes is not the same sample.
            hash.update(format!("RGB {} {}\n", image.width, image.height));
            hash.update(image.pixels);
        }
    }
    Ok(Some(hash.finalize().into()))
}
