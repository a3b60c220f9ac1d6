//! The models that are served, by name.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use timburn_core::device::Device;
use timburn_core::suggest::{did_you_mean, nearest};
use timburn_core::{Classes, Error, Preprocessing, Result};
use timburn_data::Rgb8Image;
use timburn_infer::{Prediction, Predictor};
use timburn_models::create;
use timburn_weights::{HubOptions, Progress, resolve};

use super::batcher::{self, Batcher};
use super::card;
use super::error::ApiError;
use super::metrics::Metrics;

/// A model as the command line asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// What clients call it.
    name: String,
    /// A bundle's file, or the name of published weights; the embedded ones without it.
    source: Option<String>,
}

/// A model that is ready to answer.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) name: String,
    pub(super) architecture: String,
    pub(super) classes: Classes,
    pub(super) preprocessing: Preprocessing,
    pub(super) card: String,
    pub(super) batcher: Batcher<Prediction>,
    pub(super) predictor: Arc<Predictor>,
}

/// All models, the default one first.
#[derive(Debug)]
pub(super) struct Models(pub(super) Vec<Arc<Served>>);

impl Wanted {
    /// What the arguments of the command line mean; without any, the embedded model.
    ///
    /// # Errors
    /// [`Error::Argument`] for a name that cannot stand in an address, and for two of the same.
    pub(crate) fn parse(arguments: &[String]) -> Result<Vec<Self>> {
        if arguments.is_empty() {
            return Ok(vec![Self { name: "efficientnet_lite0.in1k".into(), source: None }]);
        }
        let mut wanted: Vec<Self> = Vec::new();
        for argument in arguments {
            let model = Self::of(argument);
            let refused = |expected: String| Err(Error::Argument { name: "MODEL", value: argument.clone(), expected });
            let fits = |char: char| char.is_ascii_alphanumeric() || "._-".contains(char);
            if model.name.is_empty() || model.name.len() > 64 || !model.name.chars().all(fits) {
                return refused("a name of up to 64 letters, digits, `.`, `_` and `-`; give one as NAME=PATH".into());
            }
            if model.source.as_ref().is_some_and(String::is_empty) {
                return refused("a file or a model's name behind `=`".into());
            }
            if wanted.iter().any(|other| other.name == model.name) {
                return refused(format!("another name than `{}`, which is taken; give one as NAME=PATH", model.name));
            }
            wanted.push(model);
        }
        Ok(wanted)
    }

    fn of(argument: &str) -> Self {
        match argument.split_once('=') {
            // The path of a file may have a `=` in it.
            Some((name, source)) if !name.contains(['/', '\\']) && !Path::new(argument).exists() => {
                Self { name: name.into(), source: Some(source.into()) }
            }
            _ => {
                let stem = Path::new(argument).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
                let name = if is_file(argument) { stem } else { argument };
                Self { name: name.into(), source: Some(argument.into()) }
            }
        }
    }

    /// Loads the model, starts its thread and runs it once: the first picture of a client is not the one that waits.
    ///
    /// # Errors
    /// Those of [`resolve`] and [`Predictor::new`]; of the first forward pass.
    pub(super) fn load(&self, device: &Device, limits: batcher::Limits, metrics: &Arc<Metrics>, progress: &dyn Progress) -> Result<Served> {
        let (model, weights) = match self.source.as_deref() {
            Some(source) if is_file(source) => (None, Some(Path::new(source))),
            source => (source, None),
        };
        let bundle = resolve(model, weights, &HubOptions::from_env(), progress)?;
        let predictor = Arc::new(Predictor::new(&bundle, device)?);
        let side = bundle.preprocessing.input;
        let gray = Rgb8Image { width: side, height: side, pixels: vec![128; side * side * 3] };
        // A GPU chooses its kernels by size of the batch.
        for pictures in [1, limits.pictures] {
            predictor.classify_prepared(&vec![gray.clone(); pictures])?;
        }
        let (worker, metrics, label) = (Arc::clone(&predictor), Arc::clone(metrics), self.name.clone());
        let classify = move |pictures: &[Rgb8Image]| worker.classify_prepared(pictures);
        let ran = move |pictures, took: Duration| metrics.forward(&label, pictures, took);
        Ok(Served {
            name: self.name.clone(),
            architecture: bundle.model.architecture.clone(),
            card: card::markdown(&self.name, &bundle, &create(&bundle.model.architecture, &bundle.model.options, device)?),
            classes: bundle.classes,
            preprocessing: bundle.preprocessing,
            batcher: Batcher::start(limits, classify, ran)?,
            predictor,
        })
    }
}

/// Whether this is written like a file, also where it is missing: no model is called so.
fn is_file(argument: &str) -> bool {
    let path = Path::new(argument);
    path.is_file() || path.components().count() > 1 || path.extension().is_some_and(|extension| extension == "timburn")
}

impl Models {
    /// The model of this name, or the default one.
    ///
    /// # Errors
    /// 404 with the nearest names.
    pub(super) fn find(&self, name: Option<&str>) -> Result<&Arc<Served>, ApiError> {
        let found = match name {
            Some(name) => self.0.iter().find(|model| model.name == name),
            None => self.0.first(),
        };
        found.ok_or_else(|| {
            let name: String = name.unwrap_or_default().chars().take(64).collect();
            let near = did_you_mean(&nearest(&name, self.0.iter().map(|model| model.name.as_str())));
            ApiError::unknown_model(format!("no model `{name}`{near}; /api/models lists them"))
        })
    }
}

impl Served {
    /// Index of the class that a client names by label, id or index.
    pub(super) fn class(&self, name: &str) -> Result<usize, ApiError> {
        let number = || name.parse().ok().filter(|&index: &usize| index < self.classes.len());
        self.classes.index_of(name).or_else(number).ok_or_else(|| {
            let name: String = name.chars().take(64).collect();
            let near = did_you_mean(&nearest(&name, self.classes.names.iter().map(String::as_str)));
            ApiError::bad_request(format!("no class `{name}`{near}; send a label or an index below {}", self.classes.len()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Vec<(String, Option<String>)>> {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Ok(Wanted::parse(&arguments)?.into_iter().map(|wanted| (wanted.name, wanted.source)).collect())
    }

    #[test]
    fn names_come_from_the_argument_the_file_or_the_model() {
        let named = |name: &str, source: &str| (name.to_owned(), Some(source.to_owned()));
        assert_eq!(parse(&[]).unwrap(), [("efficientnet_lite0.in1k".to_owned(), None)]);
        assert_eq!(parse(&["runs/lr=0.1/pets.timburn"]).unwrap(), [named("pets", "runs/lr=0.1/pets.timburn")]);
        assert_eq!(
            parse(&["resnet50.tv2_in1k", "b=resnet18"]).unwrap(),
            [named("resnet50.tv2_in1k", "resnet50.tv2_in1k"), named("b", "resnet18")]
        );
        assert_eq!(parse(&["a=x/model.timburn", "b=y/model.timburn"]).unwrap()[1], named("b", "y/model.timburn"));
        for (arguments, words) in [
            (&["x/model.timburn", "y/model.timburn"][..], "`model`, which is taken"),
            (&["a b=model.timburn"], "letters, digits"),
            (&["=model.timburn"], "letters, digits"),
            (&["x/été.timburn"], "NAME=PATH"),
            (&["a="], "behind `=`"),
        ] {
            let error = parse(arguments).unwrap_err().to_string();
            assert!(error.contains(words), "{arguments:?}: {error}");
        }
    }
}
