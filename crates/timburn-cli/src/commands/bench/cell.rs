use std::ffi::OsString;
use std::fmt;

use serde::Serialize;
use timburn_models::Stem;
use timburn_train::Precision;

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

/// Names of [`Precision`], as recipes and the command line have them.
pub(super) const PRECISIONS: [(&str, Precision); 3] = [("f32", Precision::F32), ("bf16", Precision::BF16), ("f16", Precision::F16)];

pub(super) fn precision(precision: Precision) -> &'static str {
    PRECISIONS.iter().find(|row| row.1 == precision).map_or("", |row| row.0)
}

/// Names of [`Stem`].
pub(super) const STEMS: [(&str, Stem); 3] = [("standard", Stem::Standard), ("deep", Stem::Deep), ("small", Stem::Small)];

fn stem_name(stem: Stem) -> &'static str {
    STEMS.iter().find(|row| row.1 == stem).map_or("", |row| row.0)
}
