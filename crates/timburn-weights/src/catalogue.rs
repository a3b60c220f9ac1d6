//! Published weights by `arch.tag`, one row each: where they are, how to check them, what they need and how good they are.
//!
//! The rows come from torchvision's and timm's own tables, see `assets/README.md`.

use std::sync::LazyLock;

use serde::de::DeserializeOwned;
use timburn_core::suggest::nearest;
use timburn_core::{Preprocessing, WeightsError};
use timburn_models::registry::{ARCHITECTURES, Architecture};

use crate::bundle::Accuracy;
use crate::layout::Layout;

/// One set of published weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// `arch.tag`, with timm's tags: `resnet50.tv_in1k` is torchvision's `IMAGENET1K_V1`, `tv2_in1k` its `IMAGENET1K_V2`.
    pub name: String,
    /// Name in the registry of models.
    pub architecture: &'static str,
    /// Whether the bare name of the architecture means this row: the best published one of those that torchvision ships, else timm's own
    /// choice.
    pub default: bool,
    /// Direct address of the file.
    pub url: Option<&'static str>,
    /// SHA-256 of that file or the beginning of it, in hexadecimal.
    pub sha256: Option<&'static str>,
    /// Repository on the Hugging Face hub that has the same weights as `model.safetensors`.
    pub hub: Option<&'static str>,
    /// Names of the tensors.
    pub layout: Layout,
    /// Outputs of the classifier; 1000 are ImageNet's.
    pub classes: usize,
    /// What the images need.
    pub preprocessing: Preprocessing,
    /// As published with this preprocessing, in percent; absent where the packages do not say.
    pub published: Accuracy,
    /// SPDX expression, where it is known.
    pub licence: Option<&'static str>,
}

impl Row {
    /// Name of the file at [`url`](Self::url).
    pub fn file(&self) -> Option<&'static str> {
        self.url?.rsplit('/').next()
    }
}

/// All rows, sorted by architecture and tag.
pub fn rows() -> &'static [Row] {
    static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| include_str!("../assets/catalogue.tsv").lines().skip(1).filter_map(parse).collect());
    &ROWS
}

/// The row called `name`: an `arch.tag`, timm's name of it (`tf_efficientnet_lite1.in1k`), or an architecture, for its default row.
///
/// # Errors
/// [`WeightsError::Unknown`] with the nearest names.
pub fn find(name: &str) -> Result<&'static Row, WeightsError> {
    let wanted = name.strip_prefix("timm/").unwrap_or(name);
    let called = |row: &&Row| row.name == wanted || row.hub.is_some_and(|hub| hub.rsplit('/').next() == Some(wanted));
    let default = || ARCHITECTURES.iter().find(|row| row.name == wanted || row.aliases.contains(&wanted)).and_then(default_of);
    rows().iter().find(called).or_else(default).ok_or_else(|| {
        let names = rows().iter().map(|row| row.name.as_str()).chain(rows().iter().filter(|row| row.default).map(|row| row.architecture));
        WeightsError::Unknown { name: name.to_owned(), nearest: nearest(wanted, names) }
    })
}

/// The row that the bare name of `architecture` means; none for one without published weights.
pub fn default_of(architecture: &Architecture) -> Option<&'static Row> {
    rows().iter().find(|row| row.default && row.architecture == architecture.name)
}

fn parse(line: &'static str) -> Option<Row> {
    let cells: Vec<&'static str> = line.split('\t').collect();
    let [architecture, tag, default, url, sha256, hub, layout, classes, input, resize, mode, interpolation, mean, std, channels, top1, top5, licence] =
        cells[..]
    else {
        return None;
    };
    let some = |cell: &'static str| (!cell.is_empty()).then_some(cell);
    Some(Row {
        name: format!("{architecture}.{tag}"),
        architecture,
        default: default == "yes",
        url: some(url),
        sha256: some(sha256),
        hub: some(hub),
        layout: named(layout)?,
        classes: classes.parse().ok()?,
        preprocessing: Preprocessing {
            input: input.parse().ok()?,
            resize: resize.parse().ok()?,
            mode: named(mode)?,
            interpolation: named(interpolation)?,
            mean: triple(mean)?,
            std: triple(std)?,
            channels: named(channels)?,
        },
        published: Accuracy { top1: top1.parse().ok(), top5: top5.parse().ok() },
        licence: some(licence),
    })
}

/// A variant by its serialised name.
fn named<T: DeserializeOwned>(cell: &str) -> Option<T> {
    serde_json::from_value(cell.into()).ok()
}

fn triple(cell: &str) -> Option<[f32; 3]> {
    let values: Option<Vec<f32>> = cell.split(',').map(|value| value.parse().ok()).collect();
    values?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_line_is_a_row_of_a_known_architecture() {
        let lines = include_str!("../assets/catalogue.tsv").lines().count() - 1;
        assert_eq!(rows().len(), lines);
        assert_eq!(rows().iter().map(|row| &row.name).collect::<BTreeSet<_>>().len(), lines, "names are unique");
        for row in rows() {
            assert!(ARCHITECTURES.iter().any(|known| known.name == row.architecture), "{}", row.name);
            assert!(row.url.is_some() || row.hub.is_some(), "{}", row.name);
            assert!(row.sha256.is_none_or(|hash| hash.len() >= 8 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())), "{}", row.name);
            // Nothing is downloaded without a hash: the row's, or the one that the hub states. Keras' HDF5 is never downloaded.
            assert!(row.sha256.is_some() || row.hub.is_some() || row.architecture == "keras_resnet50", "{}", row.name);
            assert_eq!(rows().iter().filter(|other| other.default && other.architecture == row.architecture).count(), 1, "{}", row.name);
        }
    }

    #[test]
    fn torchvision_files_as_torchvision_names_them() {
        let row = find("resnet50.tv_in1k").unwrap();
        assert_eq!((row.file(), row.sha256), (Some("resnet50-0676ba61.pth"), Some("0676ba61")));
        assert_eq!(row.preprocessing, Preprocessing::torchvision(224, 256));
        assert_eq!((row.published.top1, row.published.top5), (Some(76.13), Some(92.862)));
        assert_eq!(find("resnext101_64x4d").unwrap().preprocessing.resize, 232);
        assert_eq!(find("resnet50.a1_in1k").unwrap().preprocessing, Preprocessing::timm(224, 0.95));
        assert_eq!(find("keras_resnet50").unwrap().preprocessing, Preprocessing::keras_caffe(224));
        assert_eq!(find("efficientnet_lite0").unwrap().preprocessing, Preprocessing::efficientnet_lite(224));
    }

    #[test]
    fn bare_names_aliases_and_misspellings() {
        assert_eq!(find("resnet50").unwrap().name, "resnet50.tv2_in1k");
        assert_eq!(find("resnet18").unwrap().name, "resnet18.tv_in1k");
        assert_eq!(find("mobilenetv2").unwrap().name, "mobilenet_v2.tv2_in1k");
        assert_eq!(find("tf_efficientnet_lite0.in1k").unwrap().name, "efficientnet_lite0.tf_in1k");
        assert_eq!(find("timm/mobilenetv2_100.ra_in1k").unwrap().layout, Layout::TimmMobileNetV2);
        let Err(WeightsError::Unknown { nearest, .. }) = find("resnet50.tv3_in1k") else { panic!() };
        assert!(nearest.contains(&"resnet50.tv2_in1k".to_owned()), "{nearest:?}");
        assert!(find("resnet20").is_err(), "no weights are published for it");
    }
}
