//! Published weights, a row each: where the file is, how to know it, and the preprocessing it was trained with.

use std::sync::OnceLock;

use timburn_core::preprocessing::{ChannelOrder, Interpolation, ResizeMode};
use timburn_core::suggest::nearest;
use timburn_core::{Preprocessing, WeightsError};
use timburn_models::Architecture;

use crate::bundle::Accuracy;
use crate::layout::Layout;

/// One published file.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// Architecture in the registry of models.
    pub architecture: &'static str,
    /// What it was trained on and how, timm's tag: `tv2_in1k`.
    pub tag: &'static str,
    /// Whether the architecture's bare name means this row.
    pub is_default: bool,
    /// Where its makers keep the file; empty for weights that are part of the program only.
    pub url: &'static str,
    /// SHA-256 of that file, or the first digits that its makers put into its name; empty when they give none.
    pub sha256: &'static str,
    /// Hugging Face repository with the same weights as `model.safetensors`, verified against the digest that the hub itself states.
    pub hub: Option<&'static str>,
    /// Names of the tensors in the makers' file; what a file really holds is detected when it is read.
    pub layout: Layout,
    /// Outputs.
    pub classes: usize,
    /// What its images need.
    pub preprocessing: Preprocessing,
    /// Accuracy on ImageNet-1k's validation set as published, in percent.
    pub published: Accuracy,
    /// SPDX expression, where stated.
    pub licence: Option<&'static str>,
}

impl Published {
    /// `arch.tag`.
    pub fn name(&self) -> String {
        format!("{}.{}", self.architecture, self.tag)
    }

    /// Last part of the URL.
    pub fn file(&self) -> &'static str {
        self.url.rsplit('/').next().unwrap_or(self.url)
    }
}

/// Every published file timburn knows, by architecture and tag.
pub fn catalogue() -> &'static [Published] {
    static ROWS: OnceLock<Vec<Published>> = OnceLock::new();
    // The table is part of the program and a test parses all of it: a row that does not parse cannot be shipped.
    ROWS.get_or_init(|| include_str!("../assets/catalogue.tsv").lines().skip(1).filter_map(row).collect())
}

/// The row called `arch.tag`, or the default row of a bare architecture, which may go by an alias.
///
/// # Errors
/// [`WeightsError::Unknown`] with the nearest names.
pub fn find(name: &str) -> Result<&'static Published, WeightsError> {
    let (alias, tag) = name.split_once('.').map_or((name, None), |(alias, tag)| (alias, Some(tag)));
    let architecture = Architecture::find(alias).map_or(alias, |row| row.name);
    let is_named = |row: &&Published| row.architecture == architecture && tag.map_or(row.is_default, |tag| row.tag == tag);
    catalogue().iter().find(is_named).ok_or_else(|| {
        let names: Vec<String> = catalogue().iter().flat_map(|row| [row.architecture.to_owned(), row.name()]).collect();
        let mut near = nearest(name, names.iter().map(String::as_str));
        near.dedup();
        WeightsError::Unknown { name: name.into(), nearest: near }
    })
}

fn row(line: &'static str) -> Option<Published> {
    let cells: Vec<&'static str> = line.split('\t').collect();
    let &[
        architecture,
        tag,
        default,
        url,
        sha256,
        hub,
        layout,
        classes,
        input,
        resize,
        mode,
        interpolation,
        mean,
        std,
        channels,
        top1,
        top5,
        licence,
    ] = cells.as_slice()
    else {
        return None;
    };
    let some = |cell: &'static str| (!cell.is_empty()).then_some(cell);
    Some(Published {
        architecture,
        tag,
        is_default: default == "yes",
        url,
        sha256,
        hub: some(hub),
        layout: match layout {
            "canonical" => Layout::Canonical,
            "efficientnet_lite" => Layout::EfficientNetLite,
            "keras_resnet50" => Layout::KerasResNet50,
            "timm_mobilenet_v2" => Layout::TimmMobileNetV2,
            _ => return None,
        },
        classes: classes.parse().ok()?,
        preprocessing: Preprocessing {
            input: input.parse().ok()?,
            resize: resize.parse().ok()?,
            mode: match mode {
                "shorter_side" => ResizeMode::ShorterSide,
                "squash" => ResizeMode::Squash,
                _ => return None,
            },
            interpolation: match interpolation {
                "nearest" => Interpolation::Nearest,
                "bilinear" => Interpolation::Bilinear,
                "bicubic" => Interpolation::Bicubic,
                "lanczos" => Interpolation::Lanczos,
                _ => return None,
            },
            mean: triple(mean)?,
            std: triple(std)?,
            channels: match channels {
                "rgb" => ChannelOrder::Rgb,
                "bgr" => ChannelOrder::Bgr,
                _ => return None,
            },
        },
        published: Accuracy { top1: top1.parse().ok(), top5: top5.parse().ok() },
        licence: some(licence),
    })
}

fn triple(cell: &str) -> Option<[f32; 3]> {
    let values: Vec<f32> = cell.split(',').map(str::parse).collect::<Result<_, _>>().ok()?;
    values.try_into().ok()
}

#[cfg(test)]
mod tests {
    use timburn_models::ARCHITECTURES;

    use super::*;

    #[test]
    fn every_line_is_a_row_of_a_known_architecture() {
        assert_eq!(catalogue().len(), include_str!("../assets/catalogue.tsv").lines().count() - 1);
        for row in catalogue() {
            let name = row.name();
            assert_eq!(find(&name).expect(&name), row);
            Architecture::find(row.architecture).expect(&name);
            if row.url.is_empty() {
                assert_eq!(name, "resnet20.cifar10", "only what is part of the program needs no address");
                continue;
            }
            assert!(row.url.starts_with("https://"), "{name}");
            assert!(row.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) && [0, 8, 64].contains(&row.sha256.len()), "{name}");
            assert!(!row.sha256.is_empty() || row.hub.is_some() || row.url.ends_with(".h5"), "{name} cannot be verified");
            let Preprocessing { input, resize, std, .. } = &row.preprocessing;
            assert!(input <= resize && std.iter().all(|&std| std > 0.0), "{name}");
        }
    }

    #[test]
    fn bare_names_have_one_default() {
        for architecture in ARCHITECTURES {
            let rows: Vec<_> = catalogue().iter().filter(|row| row.architecture == architecture.name).collect();
            assert_eq!(rows.iter().filter(|row| row.is_default).count(), rows.len().min(1), "{}", architecture.name);
        }
        assert_eq!(find("resnet50").expect("a default").file(), "resnet50-11ad3fa6.pth");
        assert_eq!(find("mobilenetv2_100").expect("an alias").architecture, "mobilenet_v2");
        assert_eq!(find("tf_efficientnet_lite1.in1k").expect("an alias").architecture, "efficientnet_lite1");
        assert_eq!(find("resnet50.tv_in1k").expect("V1").preprocessing, Preprocessing::torchvision(224, 256));
        let WeightsError::Unknown { nearest, .. } = find("resnet50.tv3_in1k").expect_err("no such tag") else { panic!() };
        assert!(nearest.iter().any(|name| name.starts_with("resnet50.tv")), "{nearest:?}");
    }
}
