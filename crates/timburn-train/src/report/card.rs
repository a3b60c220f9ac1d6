//! A model card in the layout of the Hugging Face hub: YAML between two lines of dashes, then Markdown.

use std::fmt::Write;
use std::path::Path;

use timburn_core::disk::{self, System};
use timburn_core::{Classes, Error, Preprocessing, Result};

use super::interval::wilson;
use crate::metrics::Report;

/// Most class names that stand open.
const FEW: usize = 50;
/// Most class names listed.
const NAMES: usize = 1000;

/// What a user of a model has to know beyond its weights. What is left empty says so in the card, or is left out where nobody expects it.
#[derive(Debug, Clone, Default)]
pub struct ModelCard {
    /// Name of the model.
    pub name: String,
    /// A sentence or two: what it tells apart, made of what.
    pub summary: String,
    /// Its architecture, as timburn names it.
    pub architecture: String,
    /// Number of parameters.
    pub parameters: Option<u64>,
    /// Weights it was fine-tuned from, as the hub or timburn names them.
    pub base_model: Option<String>,
    /// SPDX licence of the weights.
    pub licence: Option<String>,
    /// Names and values about the data: where from, how many, how split.
    pub data: Vec<(String, String)>,
    /// Name of the data set that the metrics are of.
    pub evaluated_on: String,
    /// What a picture goes through before the model sees it.
    pub preprocessing: Option<Preprocessing>,
    /// The recipe it was trained by, TOML.
    pub recipe: Option<String>,
    /// Names and values about the run: command, device, time, versions.
    pub environment: Vec<(String, String)>,
    /// Files and their hashes: `("model.timburn", "BLAKE3 …")`.
    pub hashes: Vec<(String, String)>,
    /// How to use it, a command or a few lines of code.
    pub usage: Option<String>,
    /// What it is for.
    pub intended_use: Vec<String>,
    /// What it is not for, and where it errs.
    pub limits: Vec<String>,
    /// What nobody has measured.
    pub not_measured: Vec<String>,
}

impl ModelCard {
    /// The card; metrics are those of `report`.
    pub fn markdown(&self, classes: &Classes, report: &Report) -> String {
        // Writing to a string cannot fail.
        let mut out = String::new();
        self.front_matter(&mut out, report);
        let _ = writeln!(out, "\n# {}\n\n{}", text(&self.name), paragraph(&self.summary));
        out.push_str("\n## Model details\n\n");
        let mut details = vec![("Architecture".to_owned(), self.architecture.clone())];
        details.extend(self.parameters.map(|count| ("Parameters".to_owned(), count.to_string())));
        details.extend(self.base_model.iter().map(|base| ("Fine-tuned from".to_owned(), base.clone())));
        details.push(("Licence".to_owned(), self.licence.clone().unwrap_or_else(|| "not stated".into())));
        details.push(("Library".to_owned(), format!("timburn {}", env!("CARGO_PKG_VERSION"))));
        table(&mut out, ["", ""], &details);
        let summary = format!("{} classes, in the order of the outputs", classes.len());
        let _ = match classes.len() {
            0..=FEW => writeln!(out, "\n{summary}:\n\n{}", names(classes)),
            _ => writeln!(out, "\n<details><summary>{summary}</summary>\n\n{}\n\n</details>", names(classes)),
        };

        out.push_str("\n## Uses\n\n");
        list(&mut out, &self.intended_use, "Intended use was not stated.");
        out.push_str("\n## Bias, risks, and limitations\n\n");
        list(&mut out, &self.limits, "None were stated, which does not mean that there are none.");
        out.push_str("\nNot measured:\n\n");
        list(&mut out, &self.not_measured, "Whatever is not in the tables below.");
        if let Some(usage) = &self.usage {
            let _ = write!(out, "\n## How to get started\n\n{}", fenced("console", usage));
        }

        out.push_str("\n## Training details\n\n");
        if self.data.is_empty() {
            out.push_str("The training data was not described.\n");
        }
        table(&mut out, ["Data", ""], &self.data);
        if let Some(preprocessing) = &self.preprocessing {
            out.push_str("\nPreprocessing, which the bundle carries:\n\n");
            table(&mut out, ["Preprocessing", ""], &preprocessing_facts(preprocessing));
        }
        if !self.environment.is_empty() {
            out.push('\n');
            table(&mut out, ["Run", ""], &self.environment);
        }
        if let Some(recipe) = &self.recipe {
            let _ = write!(out, "\n{}", fenced("toml", recipe));
        }

        out.push_str("\n## Evaluation\n\n");
        let on = if self.evaluated_on.is_empty() { "a data set that was not named".to_owned() } else { text(&self.evaluated_on) };
        let _ = writeln!(out, "On {on}, {} samples.\n", report.samples);
        let rows: Vec<(String, String)> = metrics(report)
            .into_iter()
            .map(|(_, name, value, note)| (name.trim_end_matches(", %").to_owned(), format!("{value}{note}")))
            .collect();
        table(&mut out, ["Metric", "Value"], &rows);
        if !self.hashes.is_empty() {
            out.push_str("\n## Files\n\n");
            table(&mut out, ["File", "Hash"], &self.hashes);
        }
        out
    }

    /// Writes the card, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, classes: &Classes, report: &Report, path: impl AsRef<Path>) -> Result<()> {
        let (path, text) = (path.as_ref(), self.markdown(classes, report));
        disk::replace_file(&System, path, |out| out.write_all(text.as_bytes()).map_err(Error::io("write", path)))
    }

    fn front_matter(&self, out: &mut String, report: &Report) {
        out.push_str("---\n");
        if let Some(licence) = &self.licence {
            let _ = writeln!(out, "license: {}", quoted(&licence.to_lowercase()));
        }
        out.push_str("library_name: timburn\npipeline_tag: image-classification\ntags:\n- image-classification\n- timburn\n");
        if let Some(base) = &self.base_model {
            let _ = writeln!(out, "base_model: {}", quoted(base));
        }
        out.push_str("metrics:\n- accuracy\n");
        let data = if self.evaluated_on.is_empty() { "unnamed" } else { &self.evaluated_on };
        let _ = write!(
            out,
            "model-index:\n- name: {}\n  results:\n  - task:\n      type: image-classification\n    dataset:\n      name: {}\n      type: {}\n    metrics:\n",
            quoted(&self.name),
            quoted(data),
            quoted(data)
        );
        for (key, name, value, _) in metrics(report) {
            let number = value.trim_end_matches(" %");
            let _ = writeln!(out, "    - type: {key}\n      name: {}\n      value: {number}", quoted(&name));
        }
        out.push_str("---\n");
    }
}

/// Key, name, value and an interval in words, of what was measured.
fn metrics(report: &Report) -> Vec<(&'static str, String, String, String)> {
    let percent = |share: f64| format!("{:.2} %", 100.0 * share);
    let hits: u64 = report.confusion.iter().enumerate().filter_map(|(class, row)| row.get(class)).sum();
    let (low, high) = wilson(hits, report.samples);
    let mut found = Vec::new();
    for top in report.informative() {
        let Some(accuracy) = top.accuracy else { continue };
        let note = if top.k == 1 { format!(" (95 % interval {} to {})", percent(low), percent(high)) } else { String::new() };
        let key = if top.k == 1 { "accuracy" } else { "top_k_accuracy" };
        found.push((key, format!("Top-{} accuracy, %", top.k), percent(accuracy), note));
    }
    let rest = [
        ("balanced_accuracy", "Balanced accuracy, %", report.balanced_accuracy),
        ("f1", "Macro F1, %", report.macro_f1),
        ("expected_calibration_error", "Expected calibration error, %", report.ece),
        ("roc_auc", "AUROC, %", report.auroc),
    ];
    found.extend(rest.into_iter().filter_map(|(key, name, value)| Some((key, name.to_owned(), percent(value?), String::new()))));
    found.extend(report.loss.map(|loss| ("loss", "Loss".to_owned(), format!("{loss:.4}"), String::new())));
    found
}

/// Names and values of what a picture goes through.
pub(super) fn preprocessing_facts(spec: &Preprocessing) -> Vec<(String, String)> {
    let fact = |name: &str, value: String| (name.to_owned(), value);
    let three = |values: [f32; 3]| values.map(|value| format!("{value:.4}")).join(", ");
    vec![
        fact("Input", format!("{0} × {0} pixels", spec.input)),
        fact("Resize", format!("{} pixels, {:?}, {:?}", spec.resize, spec.mode, spec.interpolation)),
        fact("Mean", three(spec.mean)),
        fact("Standard deviation", three(spec.std)),
        fact("Channels", format!("{:?}", spec.channels)),
    ]
}

fn names(classes: &Classes) -> String {
    let shown: Vec<String> = classes.names.iter().take(NAMES).map(|name| text(name)).collect();
    let rest = classes.len().saturating_sub(NAMES);
    let rest = if rest > 0 { format!("; and {rest} more") } else { String::new() };
    format!("{}{rest}", shown.join("; "))
}

fn list(out: &mut String, items: &[String], none: &str) {
    if items.is_empty() {
        let _ = writeln!(out, "{none}");
    }
    for item in items {
        let _ = writeln!(out, "- {}", text(item));
    }
}

fn table(out: &mut String, head: [&str; 2], rows: &[(String, String)]) {
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(out, "| {} | {} |\n|---|---|", head[0], head[1]);
    for (name, value) in rows {
        let _ = writeln!(out, "| {} | {} |", text(name), text(value));
    }
}

/// A fence longer than any run of backticks in the text.
fn fenced(language: &str, code: &str) -> String {
    let longest = code.split(|char| char != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat((longest + 1).max(3));
    let code: String = code.chars().filter(|char| !char.is_control() || matches!(char, '\n' | '\t')).collect();
    format!("{fence}{language}\n{}\n{fence}\n", code.trim_end())
}

fn paragraph(words: &str) -> String {
    if words.trim().is_empty() { "What this model is for was not stated.".to_owned() } else { text(words) }
}

/// Text that Markdown shows as it is, in one line.
fn text(words: &str) -> String {
    let mut escaped = String::with_capacity(words.len());
    for char in words.trim().chars() {
        match char {
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '$' => escaped.extend(['\\', char]),
            char if char.is_whitespace() => escaped.push(' '),
            char if char.is_control() => escaped.push('\u{FFFD}'),
            char => escaped.push(char),
        }
    }
    escaped
}

/// A JSON string, which is one of YAML too.
fn quoted(words: &str) -> String {
    let plain: String = words.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    serde_json::Value::from(plain).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Metrics;

    fn report() -> Report {
        let mut metrics = Metrics::new(3, &[1, 2]);
        metrics.add(&[2.0, 0.0, 1.0, 0.0, 3.0, 1.0, 0.0, 1.0, 0.5], &[0, 1, 2]).unwrap();
        metrics.report()
    }

    #[test]
    fn a_card_has_its_parts_and_hides_no_gap() {
        let classes = Classes::new(vec!["cat".into(), "dog".into(), "eel".into()]);
        let card = ModelCard { name: "pets".into(), architecture: "resnet18".into(), licence: Some("MIT".into()), ..ModelCard::default() };
        let text = card.markdown(&classes, &report());
        for part in
            ["license: \"mit\"", "pipeline_tag: image-classification", "## Model details", "## Uses", "## Evaluation", "cat; dog; eel"]
        {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(text.contains("| Top-1 accuracy | 66.67 % (95 % interval 20.77 % to 93.85 %) |"), "{text}");
        assert!(text.contains("      value: 66.67\n"), "{text}");
        assert!(text.contains("Intended use was not stated.") && text.contains("The training data was not described."), "{text}");
    }

    #[test]
    fn hostile_names_stay_text() {
        let hostile = "a\n---\n| x | <script> ``` [l](javascript:1) \u{1b}[0m\u{7f}";
        let classes = Classes::new(vec![hostile.into(), "b".into(), "c".into()]);
        let card = ModelCard {
            name: hostile.into(),
            base_model: Some(hostile.into()),
            evaluated_on: hostile.into(),
            recipe: Some("```\n# heading".into()),
            hashes: vec![(hostile.into(), "00".into())],
            ..ModelCard::default()
        };
        let text = card.markdown(&classes, &report());
        assert_eq!(text.lines().filter(|line| *line == "---").count(), 2, "only the front matter's\n{text}");
        assert!(!text.contains("<script>\n") && !text.split("---\n").nth(2).unwrap().contains("<script"), "{text}");
        assert!(!text.contains('\u{1b}') && !text.contains('\u{7f}'));
        assert!(text.contains("\n````toml\n```\n# heading\n````\n"), "{text}");
        let front = text.split("---\n").nth(1).unwrap();
        assert!(front.lines().all(|line| line.contains(':') || line.starts_with("- ")), "{front}");
    }
}
