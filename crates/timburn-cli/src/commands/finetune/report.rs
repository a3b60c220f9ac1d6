use std::path::{Path, PathBuf};

use timburn_core::Result;
use timburn_core::device::Device;
use timburn_data::{Dataset, Rgb8Image};
use timburn_infer::GradCam;
use timburn_train::report::{Evidence, ModelCard, Table, environment_facts};
use timburn_train::run::Environment;
use timburn_train::transfer::FineTuned;
use timburn_train::{Recipe, RunFolder};

use super::super::contestant::called;
use super::{Finetune, named};

impl Finetune {
    /// The recipe of the body's training as TOML, below what it does not say.
    pub(super) fn text(&self, recipe: &Recipe, base: &str) -> Result<String> {
        let from = self.weights.as_ref().map_or_else(String::new, |file| format!(" of {}", file.display()));
        let frozen = self.freeze.as_ref().map_or_else(String::new, |stage| format!(", everything up to `{stage}` as it was"));
        let views = if self.views > 1 { format!(", {} views", self.views) } else { String::new() };
        let head = named(&self.head);
        let how = format!("{base}{from}, head {head} (trained alone before{views}){frozen}, batch norm with the statistics it had");
        // A name or path with a line break would leave the comment.
        let how = how.replace(char::is_control, " ");
        let again = "`timburn finetune` does it again; `timburn train` would do something else.";
        Ok(format!("# How `timburn finetune` trains the whole network: {how}.\n# {again}\n\n{}", recipe.to_toml()?))
    }

    /// Writes the report and the model card beside the model.
    pub(super) fn report(
        &self,
        tuned: &FineTuned,
        folder: &RunFolder,
        environment: &Environment,
        device: &Device,
        file: &Path,
    ) -> Result<PathBuf> {
        let bundle = &tuned.bundle;
        let cam = GradCam::new(&tuned.model, &bundle.preprocessing, None, device)?;
        let explain = |image: &Rgb8Image, class: usize| cam.overlay(image, Some(class));
        let summary = folder.summary()?;
        let data = self.data.display().to_string();
        let unread = if tuned.bad.is_empty() { String::new() } else { format!("; {} of all could not be read", tuned.bad.len()) };
        let sizes = format!("{} for training, {} for validation{unread}", tuned.data.train().len(), tuned.data.validation().len());
        let base = bundle.card.source.clone().unwrap_or_else(|| bundle.model.architecture.clone());
        let mut evidence = Evidence::new(format!("{base} on {}", called(&self.data)), &bundle.classes, &tuned.examination);
        evidence.lead = format!("Scores are of the {}: {} pictures. {}", tuned.examined, tuned.examination.report.samples, chosen(tuned));
        evidence.summary = &summary;
        evidence.bad = &tuned.bad;
        evidence.grad_cam = Some(&explain);
        evidence.facts = vec![("Data".into(), format!("{data}: {sizes}")), ("Body".into(), base.clone())];
        evidence.facts.extend(environment_facts(environment));
        evidence.recipe = Some(self.text(&tuned.recipe, &base)?);
        evidence.tables = vec![comparison(tuned)];
        evidence.limits.extend(tuned.shared.iter().map(|shared| format!("{shared}.")));
        if tuned.test.is_none() {
            let chose =
                if tuned.phases.len() > 1 { "between head and body, and when to stop" } else { "the head's penalty, or when to stop" };
            evidence.limits.push(format!("The same pictures also chose {chose}: their score is a little too good."));
        }
        let sha256 = timburn_core::digest::sha256_of_file(file)?;
        evidence.card = Some(ModelCard {
            name: file.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned(),
            summary: format!("Tells {} classes apart. {}", bundle.classes.len(), chosen(tuned)),
            architecture: bundle.model.architecture.clone(),
            parameters: Some(timburn_models::trainable_parameters(&tuned.model) as u64),
            base_model: Some(base),
            licence: bundle.card.licence.clone(),
            data: vec![("Source".into(), data.clone()), ("Pictures".into(), sizes)],
            evaluated_on: format!("{data}, {}", tuned.examined),
            preprocessing: Some(bundle.preprocessing.clone()),
            recipe: evidence.recipe.clone(),
            environment: environment_facts(environment),
            hashes: vec![("model.timburn".into(), format!("SHA-256 {sha256}"))],
            usage: Some(format!("timburn predict PICTURE --weights {}", file.display())),
            intended_use: vec![format!("Pictures like those of {data}, of one of its classes each.")],
            limits: vec![
                "It names one of its classes for any picture, also for one of none of them.".into(),
                "What it rests on is shown in the report's Grad-CAM; it was not examined for bias.".into(),
            ],
            not_measured: vec!["Pictures from another camera, place or time than the data's; attacks.".into()],
        });
        evidence.write(folder.path())
    }
}

/// What became of it, in a sentence.
fn chosen(tuned: &FineTuned) -> String {
    if tuned.chosen == "body" {
        "The whole network was trained.".into()
    } else {
        "The head was trained, the body is the pretrained one.".into()
    }
}

/// Baselines and phases beside each other.
fn comparison(tuned: &FineTuned) -> Table {
    let percent = |share: f64| format!("{:.2} %", 100.0 * share);
    let mut rows = vec![
        vec!["20 nearest neighbours of the features".into(), percent(tuned.baselines.knn), String::new(), String::new()],
        vec!["logistic regression on the features".into(), percent(tuned.baselines.probe), String::new(), String::new()],
    ];
    rows.extend(tuned.phases.iter().map(|phase| {
        let score = phase.report.top(1).map_or_else(String::new, percent);
        let name = match (phase.name, phase.epochs) {
            ("head", 0) => "head taken from the logistic regression",
            ("head", _) => "head trained",
            _ => "head and body trained",
        };
        vec![name.to_owned(), score, phase.epochs.to_string(), format!("{:.1} s", phase.time.as_secs_f64())]
    }));
    Table {
        caption: format!("Ways to the answer, on the {}", if tuned.data.scores_on_test { "test set" } else { "validation set" }),
        head: vec!["".into(), "top-1".into(), "epochs".into(), "time".into()],
        rows,
    }
}
