//! The list of classes a model tells apart: the meaning of its output indices.

use serde::{Deserialize, Serialize};

/// Class names in the order of the model's outputs; with WordNet ids where the data set has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Classes {
    /// Human-readable name of each output.
    pub names: Vec<String>,
    /// Folder name or synset of each output (ImageNet: `n01440764`), empty when it is the name itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
}

impl Classes {
    /// Classes called by their names alone.
    pub fn new(names: Vec<String>) -> Self {
        Self { names, ids: Vec::new() }
    }

    /// `class 0`, `class 1`, … for weights that come without names.
    pub fn numbered(count: usize) -> Self {
        Self::new((0..count).map(|index| format!("class {index}")).collect())
    }

    /// The 1000 classes of ImageNet-1k (ILSVRC 2012) in the order of every published set of weights.
    pub fn imagenet() -> Self {
        // "n01440764\ttench": generated from timm's synset tables, see assets/README.md.
        let table = include_str!("../assets/imagenet1k.tsv");
        let (ids, names) =
            table.lines().filter_map(|line| line.split_once('\t')).map(|(id, name)| (id.to_owned(), name.to_owned())).unzip();
        Self { names, ids }
    }

    /// The ten classes of CIFAR-10.
    pub fn cifar10() -> Self {
        let names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
        Self::new(names.map(String::from).into())
    }

    /// Number of classes.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is no class.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Name of the class with this index, if there is one.
    pub fn name(&self, index: usize) -> Option<&str> {
        self.names.get(index).map(String::as_str)
    }

    /// Index of the class with this id or, failing that, this name.
    pub fn index_of(&self, id_or_name: &str) -> Option<usize> {
        let position = |list: &[String]| list.iter().position(|entry| entry == id_or_name);
        position(&self.ids).or_else(|| position(&self.names))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imagenet_is_whole_and_in_order() {
        let classes = Classes::imagenet();
        assert_eq!((classes.names.len(), classes.ids.len()), (1000, 1000));
        assert!(classes.ids.windows(2).all(|pair| pair[0] < pair[1]), "ILSVRC sorts its classes by synset");
        assert_eq!(classes.index_of("n02123045"), Some(281));
        assert_eq!(classes.name(0), Some("tench"));
    }
}
