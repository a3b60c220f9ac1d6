use std::path::Path;

use serde_json::{Value, json};
use timburn_core::Result;
use timburn_core::device::Device;
use timburn_data::{Dataset, Splits};
use timburn_infer::Compiled;
use timburn_models::ModelOptions;
use timburn_train::{StopFlag, TrainData};
use timburn_weights::Bundle;

use super::{Finetune, named};
use crate::commands::estimate::{about, forward_time};
use crate::output;

impl Finetune {
    /// What would be done: the dry run. The value is what `--json` prints.
    pub(super) fn describe(&self, bundle: &Bundle, splits: Splits, outputs: usize, path: &Path, device: &Device) -> Result<Option<Value>> {
        let options = ModelOptions { classes: Some(outputs), head: self.head.clone(), seed: self.seed, ..bundle.model.options.clone() };
        let device = device.clone().without_autodiff();
        let model = bundle.load_with(&options, &device)?;
        if let Some(stage) = &self.freeze {
            timburn_train::freeze_until(model.clone(), stage)?;
        }
        let name = bundle.card.name.as_deref().unwrap_or(&bundle.model.architecture);
        let (train, classes) = (splits.train.len(), splits.classes().len());
        let (validation, test) = (splits.validation.as_ref().map(Dataset::len), splits.test.as_ref().map(Dataset::len));
        // Divided as it will be: what is held out counts, and is seen once.
        let data = TrainData::new(&self.job(StopFlag::default())?.recipe(&bundle.preprocessing, outputs)?, splits)?;
        let (seen, scored) = (data.train().len(), data.validation().len());
        let passes = seen * usize::from(self.views) + scored;
        let time = forward_time(&Compiled::new(model, &device)?, &bundle.preprocessing, passes, usize::from(self.batch), &device)?;
        let body = match (self.head_only, self.epochs) {
            (true, _) | (_, Some(0)) => "the head alone is trained".to_owned(),
            (_, Some(epochs)) => format!("the whole network is trained for {epochs} epochs"),
            _ if self.minutes == 0.0 => "the head alone is trained".to_owned(),
            _ => format!("the whole network is trained for as many epochs as fit in {} min, 5 at most", self.minutes),
        };
        if self.json || self.events {
            return Ok(Some(json!({
                "dry_run": true, "training": train, "classes": classes, "validation": validation,
                "held_out": validation.is_none().then_some(self.validation), "test": test, "seen": seen, "scored": scored,
                "model": name, "head": named(&self.head), "passes": passes, "estimated_feature_seconds": time.as_secs_f64(), "body": body, "run": path,
            })));
        }
        output::results(|out| {
            writeln!(out, "{train} training pictures of {classes} classes")?;
            if let Some(count) = self.per_class {
                writeln!(out, "{count} of each class are used at most: {seen}")?;
            }
            match validation {
                Some(validation) => writeln!(out, "{validation} validation pictures")?,
                None if data.scores_on_test => writeln!(out, "no validation set: the test set makes the choices")?,
                None => writeln!(out, "no validation set: {:.0} % of the pictures, {scored}, are held out", 100.0 * self.validation)?,
            }
            if let Some(test) = test.filter(|_| !data.scores_on_test) {
                writeln!(out, "{test} test pictures, for the final score alone")?;
            }
            writeln!(out, "body {name}, head {}", named(&self.head))?;
            writeln!(out, "{passes} passes for the features: {} (forward passes alone)", about(time))?;
            writeln!(out, "then {body}")?;
            writeln!(out, "results to {}", path.display())
        })?;
        Ok(None)
    }
}
