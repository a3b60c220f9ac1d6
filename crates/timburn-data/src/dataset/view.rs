//! Data sets made of data sets: some of the samples, other labels, one set after another.

use std::fmt;
use std::sync::Arc;

use timburn_core::seed::Draws;
use timburn_core::{Classes, Error, Result};

use super::class_map::{self, Lookup};
use super::{Content, Dataset, DynDataset, out_of_range};

/// The coordinate that sets the draws of [`Dataset::per_class`] apart from those of other uses of the same seed.
const PER_CLASS: u64 = 0x5045_5243;

/// Some samples of a data set, in some order, possibly under other labels. Nothing is copied but indices: 4 bytes a sample.
#[derive(Clone)]
pub struct View {
    base: DynDataset,
    indices: Vec<u32>,
    classes: Classes,
    /// New label of each label of `base`; empty where they stay.
    relabel: Vec<u32>,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "View({} of {} samples, {} classes)", self.indices.len(), self.base.len(), self.classes.len())
    }
}

impl View {
    /// Indices below `base.len()`, in any order.
    pub(crate) fn of(base: DynDataset, indices: impl IntoIterator<Item = usize>) -> Self {
        let classes = base.classes().clone();
        Self { base, indices: indices.into_iter().map(|index| index as u32).collect(), classes, relabel: Vec::new() }
    }

    pub(crate) fn subset(base: DynDataset, indices: Vec<usize>) -> Result<Self> {
        match indices.iter().find(|&&index| index >= base.len()) {
            Some(&index) => Err(out_of_range(index, base.len())),
            None => Ok(Self::of(base, indices)),
        }
    }

    pub(crate) fn take(base: DynDataset, count: usize) -> Self {
        let count = count.min(base.len());
        Self::of(base, 0..count)
    }

    pub(crate) fn per_class(base: DynDataset, count: usize, seed: u64) -> Self {
        let mut chosen = Vec::new();
        for (class, mut members) in by_class(base.as_ref()).into_iter().enumerate() {
            if members.len() < count {
                log::warn!("class `{}` has {} samples, fewer than {count}", class_map::key(base.classes(), class), members.len());
            }
            Draws::new(seed, &[PER_CLASS, class as u64]).shuffle(&mut members);
            members.truncate(count);
            chosen.extend(members);
        }
        chosen.sort_unstable();
        Self::of(base, chosen)
    }

    pub(crate) fn with_classes(base: DynDataset, classes: &Classes) -> Result<Self> {
        let lookup = Lookup::new(classes);
        let found = base.classes();
        let relabel: Vec<u32> = (0..found.len())
            .map(|index| {
                let (id, name) = (class_map::key(found, index), found.name(index).unwrap_or_default());
                let label = lookup.find(id).map_or_else(|| lookup.require(name, || "the data set".into()), Ok)?;
                Ok(label as u32)
            })
            .collect::<Result<_>>()?;
        let missing: Vec<usize> = (0..classes.len()).filter(|&index| !relabel.contains(&(index as u32))).collect();
        if let [first, ..] = missing[..] {
            let name = class_map::key(classes, first);
            log::warn!("{} of {} classes are not in the data set, `{name}` among them", missing.len(), classes.len());
        }
        let all = 0..base.len();
        Ok(Self { classes: classes.clone(), relabel, ..Self::of(base, all) })
    }

    pub(crate) fn only_classes(base: DynDataset, names: &[&str]) -> Result<Self> {
        let found = base.classes();
        let lookup = Lookup::new(found);
        let mut relabel = vec![u32::MAX; found.len()];
        let mut classes = Classes { names: Vec::new(), ids: Vec::new() };
        for (new, name) in names.iter().enumerate() {
            let old = lookup.require(name, || "the data set".into())?;
            if std::mem::replace(&mut relabel[old], new as u32) != u32::MAX {
                return Err(Error::Argument { name: "classes", value: (*name).into(), expected: "each class once".into() });
            }
            classes.names.extend(found.name(old).map(str::to_owned));
            classes.ids.extend(found.ids.get(old).cloned());
        }
        let kept: Vec<usize> =
            (0..base.len()).filter(|&index| relabel.get(base.label(index)).is_some_and(|&new| new != u32::MAX)).collect();
        Ok(Self { classes, relabel, ..Self::of(base, kept) })
    }

    /// The index in the set that this is a view of.
    pub fn base_index(&self, index: usize) -> Option<usize> {
        self.indices.get(index).map(|&index| index as usize)
    }
}

impl Dataset for View {
    fn classes(&self) -> &Classes {
        &self.classes
    }

    fn len(&self) -> usize {
        self.indices.len()
    }

    fn label(&self, index: usize) -> usize {
        let Some(base) = self.base_index(index) else { return 0 };
        let label = self.base.label(base);
        self.relabel.get(label).map_or(label, |&new| new as usize)
    }

    fn name(&self, index: usize) -> String {
        self.base_index(index).map(|index| self.base.name(index)).unwrap_or_default()
    }

    fn read(&self, index: usize) -> Result<Content> {
        self.base.read(self.base_index(index).ok_or_else(|| out_of_range(index, self.len()))?)
    }

    fn content_len(&self, index: usize) -> Option<u64> {
        self.base.content_len(self.base_index(index)?)
    }
}

/// One data set after the other.
#[derive(Clone)]
pub struct Concat {
    first: DynDataset,
    second: DynDataset,
}

impl fmt::Debug for Concat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Concat({} and {} samples)", self.first.len(), self.second.len())
    }
}

impl Concat {
    pub(crate) fn new(first: DynDataset, second: DynDataset) -> Result<Self> {
        let (expected, found) = (first.classes(), second.classes());
        match class_map::check_same(expected, found) {
            Ok(()) => Ok(Self { first, second }),
            Err(Error::Data(timburn_core::error::DataError::ClassesDiffer { missing, unknown, .. }))
                if missing.is_empty() && unknown.is_empty() && expected.len() == found.len() =>
            {
                let second = View::with_classes(second, &first.classes().clone())?;
                Ok(Self { first, second: Arc::new(second) })
            }
            Err(error) => Err(error),
        }
    }

    fn part(&self, index: usize) -> (&DynDataset, usize) {
        match index.checked_sub(self.first.len()) {
            Some(index) => (&self.second, index),
            None => (&self.first, index),
        }
    }
}

impl Dataset for Concat {
    fn classes(&self) -> &Classes {
        self.first.classes()
    }

    fn len(&self) -> usize {
        self.first.len() + self.second.len()
    }

    fn label(&self, index: usize) -> usize {
        let (part, index) = self.part(index);
        part.label(index)
    }

    fn name(&self, index: usize) -> String {
        let (part, index) = self.part(index);
        part.name(index)
    }

    fn read(&self, index: usize) -> Result<Content> {
        let (part, index) = self.part(index);
        part.read(index)
    }

    fn content_len(&self, index: usize) -> Option<u64> {
        let (part, index) = self.part(index);
        part.content_len(index)
    }
}

/// The indices of each class's samples.
pub(crate) fn by_class(set: &dyn Dataset) -> Vec<Vec<usize>> {
    let mut members = vec![Vec::new(); set.classes().len()];
    for index in 0..set.len() {
        if let Some(class) = members.get_mut(set.label(index)) {
            class.push(index);
        }
    }
    members
}
