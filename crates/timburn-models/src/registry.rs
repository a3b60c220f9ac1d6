//! The architectures by name: one row each, one constructor for all.

use burn::tensor::Device;
use timburn_core::error::ModelError;
use timburn_core::suggest::nearest;
use timburn_core::{Error, Result};

use crate::efficientnet_lite::{EfficientNetLite, LiteConfig};
use crate::mobilenet_v2::MobileNetV2;
use crate::model::Model;
use crate::options::ModelOptions;
use crate::resnet::BlockKind::{Basic, Bottleneck};
use crate::resnet::{ResNet, ResNetConfig};

/// An architecture that [`create`] builds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Architecture {
    /// Name, timm's and torchvision's where they have one.
    pub name: &'static str,
    /// Other names it goes by.
    pub aliases: &'static [&'static str],
    /// The family's row.
    pub family: Family,
    /// Classes unless told otherwise.
    pub classes: usize,
    /// Trainable parameters with these classes and three input channels.
    pub parameters: usize,
    /// Height and width of the images it was made for.
    pub input: usize,
}

/// A row of one of the families' tables.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Family {
    /// See [`ResNetConfig`].
    ResNet(ResNetConfig),
    /// See [`LiteConfig`].
    EfficientNetLite(LiteConfig),
    /// Width 1.
    MobileNetV2,
}

const fn resnet(name: &'static str, config: ResNetConfig, parameters: usize) -> Architecture {
    Architecture { name, aliases: &[], family: Family::ResNet(config), classes: 1000, parameters, input: 224 }
}

const fn cifar(name: &'static str, depths: &'static [usize], parameters: usize) -> Architecture {
    Architecture { classes: 10, input: 32, ..resnet(name, ResNetConfig::cifar(depths), parameters) }
}

const fn lite(
    name: &'static str,
    aliases: &'static [&'static str],
    scale: (f64, f64, f64),
    input: usize,
    parameters: usize,
) -> Architecture {
    let (width, depth, dropout) = scale;
    let family = Family::EfficientNetLite(LiteConfig { width, depth, dropout });
    Architecture { name, aliases, family, classes: 1000, parameters, input }
}

const R18: ResNetConfig = ResNetConfig::new(Basic, &[2, 2, 2, 2]);
const R34: ResNetConfig = ResNetConfig::new(Basic, &[3, 4, 6, 3]);
const R50: ResNetConfig = ResNetConfig::new(Bottleneck, &[3, 4, 6, 3]);
const R101: ResNetConfig = ResNetConfig::new(Bottleneck, &[3, 4, 23, 3]);
const R152: ResNetConfig = ResNetConfig::new(Bottleneck, &[3, 8, 36, 3]);

/// Every architecture, by family and size.
pub const ARCHITECTURES: &[Architecture] = &[
    resnet("resnet18", R18, 11_689_512),
    resnet("resnet34", R34, 21_797_672),
    resnet("resnet50", R50, 25_557_032),
    resnet("resnet101", R101, 44_549_160),
    resnet("resnet152", R152, 60_192_808),
    resnet("resnext50_32x4d", R50.grouped(32, 4), 25_028_904),
    resnet("resnext101_32x8d", R101.grouped(32, 8), 88_791_336),
    resnet("resnext101_64x4d", R101.grouped(64, 4), 83_455_272),
    resnet("wide_resnet50_2", R50.grouped(1, 128), 68_883_240),
    resnet("wide_resnet101_2", R101.grouped(1, 128), 126_886_696),
    resnet("resnet18d", R18.d(), 11_708_744),
    resnet("resnet34d", R34.d(), 21_816_904),
    resnet("resnet50d", R50.d(), 25_576_264),
    resnet("resnet101d", R101.d(), 44_568_392),
    resnet("seresnet50", R50.squeeze_excite(), 28_088_024),
    resnet("keras_resnet50", R50.keras(), 25_583_592),
    cifar("resnet20", &[3, 3, 3], 269_722),
    cifar("resnet32", &[5, 5, 5], 464_154),
    cifar("resnet44", &[7, 7, 7], 658_586),
    cifar("resnet56", &[9, 9, 9], 853_018),
    cifar("resnet110", &[18, 18, 18], 1_727_962),
    lite("efficientnet_lite0", &["tf_efficientnet_lite0"], (1.0, 1.0, 0.2), 224, 4_652_008),
    lite("efficientnet_lite1", &["tf_efficientnet_lite1"], (1.0, 1.1, 0.2), 240, 5_416_680),
    lite("efficientnet_lite2", &["tf_efficientnet_lite2"], (1.1, 1.2, 0.3), 260, 6_092_072),
    lite("efficientnet_lite3", &["tf_efficientnet_lite3"], (1.2, 1.4, 0.3), 300, 8_197_096),
    lite("efficientnet_lite4", &["tf_efficientnet_lite4"], (1.4, 1.8, 0.3), 380, 13_006_568),
    Architecture {
        name: "mobilenet_v2",
        aliases: &["mobilenetv2", "mobilenetv2_100"],
        family: Family::MobileNetV2,
        classes: 1000,
        parameters: 3_504_872,
        input: 224,
    },
];

impl Architecture {
    /// The row called `name`, or known by it.
    ///
    /// # Errors
    /// [`ModelError::UnknownArchitecture`] with the nearest names.
    pub fn find(name: &str) -> Result<&'static Self> {
        let known = |row: &&Self| row.name == name || row.aliases.contains(&name);
        ARCHITECTURES.iter().find(known).ok_or_else(|| {
            let names = ARCHITECTURES.iter().flat_map(|row| row.aliases.iter().copied().chain([row.name]));
            ModelError::UnknownArchitecture { name: name.into(), nearest: nearest(name, names) }.into()
        })
    }

    /// Builds the row's model with random weights.
    ///
    /// # Errors
    /// [`Error::Argument`] for a value out of range, [`ModelError::UnsupportedOption`] for an option the family does not have.
    pub fn build(&self, options: &ModelOptions, device: &Device) -> Result<Model> {
        self.check(options)?;
        let classes = options.classes.unwrap_or(self.classes);
        Ok(match &self.family {
            Family::ResNet(config) => Model::ResNet(ResNet::new(config, classes, options, device)?),
            Family::EfficientNetLite(config) => Model::EfficientNetLite(EfficientNetLite::new(config, classes, options, device)?),
            Family::MobileNetV2 => Model::MobileNetV2(MobileNetV2::new(classes, options, device)?),
        })
    }

    fn check(&self, options: &ModelOptions) -> Result<()> {
        let argument = |name, value: String, expected: &str| Err(Error::Argument { name, value, expected: expected.into() });
        let unsupported = |option, value: String, reason: &str| {
            Err(ModelError::UnsupportedOption { architecture: self.name.into(), option, value, reason: reason.into() }.into())
        };
        // Beyond these a slip of the pen takes all memory, or more than there is.
        for (name, count, most) in [("classes", options.classes.unwrap_or(1), 1 << 20), ("in_channels", options.in_channels, 1 << 12)] {
            if !(1..=most).contains(&count) {
                return argument(name, count.to_string(), &format!("1 to {most}"));
            }
        }
        for (name, rate) in [("dropout", options.dropout.unwrap_or(0.0)), ("drop_path", options.drop_path)] {
            if !(0.0..1.0).contains(&rate) {
                return argument(name, rate.to_string(), "a probability in [0, 1)");
            }
        }
        if ![8, 16, 32].contains(&options.output_stride) {
            return argument("output_stride", options.output_stride.to_string(), "8, 16 or 32");
        }
        let config = match &self.family {
            Family::ResNet(config) => Some(config),
            _ => None,
        };
        if options.zero_init_residual && config.is_none() {
            return unsupported("zero_init_residual", "true".into(), "only ResNets have it");
        }
        if let Some(stem) = options.stem
            && config.is_none_or(|config| config.depths.len() < 4)
        {
            return unsupported("stem", format!("{stem:?}").to_lowercase(), "only ResNets with four stages have other stems");
        }
        if options.output_stride != 32 && config.is_none_or(|config| config.with(options).total_stride() != 32) {
            let reason = "only ResNets with four stages and a stem of stride 4 can be dilated";
            return unsupported("output_stride", options.output_stride.to_string(), reason);
        }
        Ok(())
    }
}

/// Builds the architecture called `name` with random weights, a function of `options.seed` alone.
///
/// # Errors
/// As [`Architecture::find`] and [`Architecture::build`].
pub fn create(name: &str, options: &ModelOptions, device: &Device) -> Result<Model> {
    Architecture::find(name)?.build(options, device)
}
