use std::ffi::OsString;
use std::fmt;

use serde::Serialize;
use timburn_core::{Error, Result};
use timburn_models::Stem;

/// One thing to measure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Cell {
    pub(super) model: &'static str,
    pub(super) work: Kind,
    /// As `--device` names it.
    pub(super) device: String,
    pub(super) batch: usize,
    /// Height and width of the images.
    pub(super) size: usize,
    pub(super) precision: Precision,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stem: Option<Stem>,
    /// Whether Burn's modules are to run where the inference graph would.
    #[serde(skip)]
    pub(super) modules: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// Images to logits.
    Inference,
    /// Forward, loss, backward, optimizer.
    Training,
}

impl Cell {
    /// The arguments that make a child measure this cell.
    pub(super) fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<String> = vec!["bench".into(), self.model.into(), "--turns".into()];
        let values = [("--device", self.device.clone()), ("--batch", self.batch.to_string()), ("--size", self.size.to_string())];
        let values = values.into_iter().chain([("--precision", precision(self.precision).to_owned())]);
        arguments.extend(values.flat_map(|(name, value)| [name.to_owned(), value]));
        arguments.extend((self.work == Kind::Training).then(|| "--train".to_owned()));
        arguments.extend(self.modules.then(|| "--modules".to_owned()));
        arguments.extend(self.stem.map(|stem| format!("--stem={}", stem_name(stem))));
        arguments.into_iter().map(OsString::from).collect()
    }

    /// Whether another device has the same to do.
    pub(super) fn same_work(&self, other: &Self) -> bool {
        (self.model, self.work, self.batch, self.size) == (other.model, other.work, other.batch, other.size)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Inference => "inference",
            Self::Training => "training",
        })
    }
}

/// What convolutions compute in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Precision {
    F32,
    Bf16,
    F16,
    /// Predictions by the inference graph only.
    Int8,
}

impl Precision {
    /// The same, as the training loop and Burn's modules have it.
    ///
    /// # Errors
    /// [`Error::Argument`] for int8.
    pub(super) fn of_modules(self) -> Result<timburn_train::Precision> {
        match self {
            Self::F32 => Ok(timburn_train::Precision::F32),
            Self::Bf16 => Ok(timburn_train::Precision::BF16),
            Self::F16 => Ok(timburn_train::Precision::F16),
            Self::Int8 => {
                let expected = "f32, bf16 or f16; int8 is for predictions of the inference graph, on the CPU (`--device flex`)";
                Err(Error::Argument { name: "--precision", value: "int8".into(), expected: expected.into() })
            }
        }
    }
}

/// Names of [`Precision`], as the command line has them.
pub(super) const PRECISIONS: [(&str, Precision); 4] =
    [("f32", Precision::F32), ("bf16", Precision::Bf16), ("f16", Precision::F16), ("int8", Precision::Int8)];

pub(super) fn precision(precision: Precision) -> &'static str {
    PRECISIONS.iter().find(|row| row.1 == precision).map_or("", |row| row.0)
}

/// Names of [`Stem`].
pub(super) const STEMS: [(&str, Stem); 3] = [("standard", Stem::Standard), ("deep", Stem::Deep), ("small", Stem::Small)];

fn stem_name(stem: Stem) -> &'static str {
    STEMS.iter().find(|row| row.1 == stem).map_or("", |row| row.0)
}
