//! What a bundle says of itself, as Markdown.

use std::fmt::Write;

use timburn_core::preprocessing::ResizeMode;
use timburn_models::{ImageModel, Model, parameters};
use timburn_weights::{Accuracy, Bundle};

/// The model card.
pub(super) fn markdown(name: &str, bundle: &Bundle, model: &Model) -> String {
    let card = &bundle.card;
    let spec = &bundle.preprocessing;
    let count: usize = parameters(model).iter().map(|info| info.shape.iter().product::<usize>()).sum();
    let resize = match spec.mode {
        ResizeMode::ShorterSide => format!("shorter side to {} pixels", spec.resize),
        ResizeMode::Squash => format!("both sides to {} pixels", spec.resize),
    };
    let filter = format!("{:?}", spec.interpolation).to_lowercase();
    let mut rows = vec![
        ("Architecture", bundle.model.architecture.clone()),
        ("Parameters", format!("{:.2} M", count as f64 / 1e6)),
        ("Classes", model.num_classes().max(bundle.classes.len()).to_string()),
        ("Input", format!("{0}×{0} pixels: {resize} ({filter}), centre crop", spec.input)),
    ];
    rows.extend(card.name.clone().map(|name| ("Weights", name)));
    rows.extend(card.licence.clone().map(|licence| ("Licence", licence)));
    rows.extend(card.source.clone().map(|source| ("Source", source)));
    rows.extend(accuracy(card.published).map(|text| ("Accuracy, published", text)));
    rows.extend(accuracy(card.measured).map(|text| ("Accuracy, measured", text)));
    let mut out = format!("# {}\n\n| | |\n|---|---|\n", text(name));
    for (name, value) in rows {
        // Writing to a string does not fail.
        let _ = writeln!(out, "| {name} | {} |", text(&value));
    }
    out.push_str("\n## Classes\n\n");
    for (index, class) in bundle.classes.names.iter().enumerate() {
        let id = bundle.classes.ids.get(index).map(|id| format!(" ({})", text(id))).unwrap_or_default();
        let _ = writeln!(out, "{index}. {}{id}", text(class));
    }
    if !card.recipe.is_null() {
        let recipe = serde_json::to_string_pretty(&card.recipe).unwrap_or_default();
        let longest = recipe.split(|char| char != '`').map(str::len).max().unwrap_or(0);
        let fence = "`".repeat((longest + 1).max(3));
        let _ = write!(out, "\n## Recipe\n\n{fence}json\n{recipe}\n{fence}\n");
    }
    out
}

fn accuracy(accuracy: Accuracy) -> Option<String> {
    let part = |name: &str, value: Option<f64>| value.map(|value| format!("{name} {value:.2} %"));
    let parts: Vec<String> = [part("top-1", accuracy.top1), part("top-5", accuracy.top5)].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Text that Markdown shows as it is, in one line: it comes from a file.
fn text(words: &str) -> String {
    let mut escaped = String::with_capacity(words.len());
    for char in words.chars() {
        match char {
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' => escaped.extend(['\\', char]),
            char if char.is_whitespace() => escaped.push(' '),
            char if char.is_control() => escaped.push('\u{FFFD}'),
            char => escaped.push(char),
        }
    }
    escaped
}
