//! The page's sections, in the order in which questions come up: how good, how made, where wrong, how sure, what it looked at, what is unknown.

use super::interval::wilson;
use super::page::{Block, KeyNumber, ReportPage, Section, Table, Tile};
use super::tiles::Shown;
use super::{Content, Evidence};
use crate::metrics::Report;
use crate::plots::Picture;

/// Rows of the table of confusions.
const CONFUSIONS: usize = 12;
/// Most classes in the table of classes.
const CLASSES: usize = 1000;
/// Most unusable pictures that are named.
const BAD: usize = 50;
/// Widest chart of which two fit beside each other, in CSS pixels.
const SIDE_BY_SIDE: f64 = 520.0;
/// Below so many samples, what is said of a class is an anecdote.
const FEW: u64 = 10;

pub(super) fn page(evidence: &Evidence<'_>, content: &Content) -> ReportPage {
    let sections = [
        made(evidence),
        curves(evidence, content),
        tables(evidence),
        confusion(evidence, content),
        classes(evidence, content),
        calibration(evidence, content),
        pictures(
            "Predictions",
            "Samples evenly spread over the set; nobody chose them. Wrong ones are framed and marked ✗.",
            &content.spread,
        ),
        pictures("Worst mistakes", "The wrong predictions of highest loss. Some may be errors of the labels.", &content.mistakes),
        pictures(
            "What the model looked at",
            "Grad-CAM for the predicted class: the brighter a part, the more it spoke for that class. Mistakes first. The map lies over the \
             part of the picture that the model sees.",
            &content.explained,
        ),
        map(evidence, content),
        unusable(evidence),
        Some(limits(evidence)),
    ];
    ReportPage {
        title: evidence.title.clone(),
        lead: evidence.lead.clone(),
        key_numbers: key_numbers(evidence),
        sections: sections.into_iter().flatten().collect(),
    }
}

fn percent(share: f64) -> String {
    format!("{:.2}\u{a0}%", 100.0 * share)
}

/// With a thin space between thousands.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) && digits.len() > 4 {
            text.push('\u{202F}');
        }
        text.push(digit);
    }
    text
}

fn right(report: &Report) -> u64 {
    report.confusion.iter().enumerate().filter_map(|(class, row)| row.get(class)).sum()
}

fn key_numbers(evidence: &Evidence<'_>) -> Vec<KeyNumber> {
    let report = evidence.report;
    let number = |name: &str, value: String, note: String| KeyNumber { name: name.into(), value, note };
    let mut numbers = Vec::new();
    for top in report.informative() {
        let Some(accuracy) = top.accuracy else { continue };
        let note = if top.k == 1 {
            let (low, high) = wilson(right(report), report.samples);
            format!(
                "{} of {} right; 95\u{a0}% interval {:.2} to {}",
                grouped(right(report)),
                grouped(report.samples),
                100.0 * low,
                percent(high)
            )
        } else {
            format!("the true class among the {} most probable", top.k)
        };
        numbers.push(number(&format!("Top-{} accuracy", top.k), percent(accuracy), note));
    }
    let seen = report.per_class.iter().filter(|class| class.support > 0).count();
    numbers.push(number("Samples", grouped(report.samples), format!("of {} classes", grouped(seen as u64))));
    numbers.extend(report.loss.map(|loss| number("Loss", format!("{loss:.4}"), "mean over the samples".into())));
    let shares = [
        ("Balanced accuracy", report.balanced_accuracy, "mean recall over the classes".to_owned()),
        ("Macro F1", report.macro_f1, "mean F1 over the classes".to_owned()),
        ("AUROC", report.auroc, format!("area under the ROC curve of {}", name(evidence, 1))),
        ("Calibration error", report.ece, "expected, over 15 bins; 0 is best".to_owned()),
    ];
    numbers.extend(shares.into_iter().filter_map(|(name, value, note)| Some(number(name, percent(value?), note))));
    numbers
}

fn section(heading: &str, blocks: Vec<Block>) -> Option<Section> {
    (!blocks.is_empty()).then(|| Section { heading: heading.into(), blocks })
}

fn made(evidence: &Evidence<'_>) -> Option<Section> {
    let mut blocks = Vec::new();
    if !evidence.facts.is_empty() {
        blocks.push(Block::Facts(evidence.facts.clone()));
    }
    if let Some(recipe) = &evidence.recipe {
        let code = Block::Code { label: "Recipe".into(), text: recipe.clone() };
        blocks.push(Block::Folded { summary: "Recipe, with every default filled in".into(), blocks: vec![code] });
    }
    section("How it was made", blocks)
}

fn curves(evidence: &Evidence<'_>, content: &Content) -> Option<Section> {
    let epochs = evidence.summary.len();
    let chart = |(stem, picture): &(&'static str, Picture)| {
        let name = stem.replace('_', " ");
        // First and last value of each curve: the chart in words.
        let belongs = |column: &str| match *stem {
            "loss" => column.ends_with("loss"),
            "accuracy" => ["top1", "top5", "accuracy"].iter().any(|part| column.contains(part)),
            _ => column == "lr" || column.contains("learning_rate"),
        };
        let value = |row: Option<&crate::run::SummaryRow>, column: &str| {
            row.and_then(|row| row.values.iter().find(|(name, _)| name == column))
                .map_or_else(|| "–".into(), |(_, value)| format!("{value:.4}"))
        };
        let columns = evidence.summary.last().into_iter().flat_map(|row| &row.values).filter(|(column, _)| belongs(column));
        let words = columns.map(|(column, _)| {
            format!(
                "{} from {} to {}",
                column.replace('_', " "),
                value(evidence.summary.first(), column),
                value(evidence.summary.last(), column)
            )
        });
        let label = format!("Curves over {epochs} epochs: {}.", words.collect::<Vec<_>>().join("; "));
        Block::Chart { picture: picture.clone(), label, caption: format!("{} over the epochs", capital(&name)) }
    };
    section("Curves", content.curves.iter().map(chart).collect())
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn tables(evidence: &Evidence<'_>) -> Option<Section> {
    section("Comparison", evidence.tables.iter().cloned().map(Block::Table).collect())
}

/// Name of a class.
fn name(evidence: &Evidence<'_>, class: usize) -> String {
    evidence.classes.name(class).map_or_else(|| format!("class {class}"), str::to_owned)
}

/// The confusions, most frequent first: class, predicted class, how often.
fn confusions(report: &Report) -> Vec<(usize, usize, u64)> {
    let cells = report
        .confusion
        .iter()
        .enumerate()
        .flat_map(|(class, row)| row.iter().enumerate().map(move |(guess, &count)| (class, guess, count)));
    let mut found: Vec<(usize, usize, u64)> = cells.filter(|&(class, guess, count)| class != guess && count > 0).collect();
    found.sort_by_key(|&(class, guess, count)| (std::cmp::Reverse(count), class, guess));
    found
}

fn chart(content: &Content, stem: &str, label: String, caption: &str) -> Option<Block> {
    let (_, picture) = content.charts.iter().find(|(name, _)| *name == stem)?;
    Some(Block::Chart { picture: picture.clone(), label, caption: caption.into() })
}

fn confusion(evidence: &Evidence<'_>, content: &Content) -> Option<Section> {
    let report = evidence.report;
    let found = confusions(report);
    let few: Vec<String> = found
        .iter()
        .take(3)
        .map(|&(class, guess, count)| format!("{} taken for {}, {count} times", name(evidence, class), name(evidence, guess)))
        .collect();
    let most = if few.is_empty() { "no confusion".to_owned() } else { few.join("; ") };
    let counts = chart(
        content,
        "confusion",
        format!("Confusion matrix of {} classes, counts. Most frequent: {most}.", evidence.classes.len()),
        "How often samples of the class on the left were predicted as the class below. The darker, the more.",
    );
    let shares = chart(
        content,
        "confusion_normalised",
        format!("Confusion matrix of {} classes, per cent of the true class.", evidence.classes.len()),
        "The same in per cent of the true class.",
    );
    let both: Vec<Block> = counts.into_iter().chain(shares).collect();
    let small = |block: &Block| matches!(block, Block::Chart { picture, .. } if picture.size().0 <= SIDE_BY_SIDE);
    let mut blocks = if both.iter().all(small) { vec![Block::Row(both)] } else { both };
    if !found.is_empty() {
        let rows = found.iter().take(CONFUSIONS).map(|&(class, guess, count)| {
            let support = report.per_class.get(class).map_or(0, |class| class.support);
            let share = if support > 0 { percent(count as f64 / support as f64) } else { "–".into() };
            vec![name(evidence, class), name(evidence, guess), count.to_string(), share]
        });
        blocks.push(Block::Table(Table {
            caption: "Most frequent confusions".into(),
            head: ["True class", "Predicted as", "Times", "Of the class"].map(str::to_owned).into(),
            rows: rows.collect(),
        }));
    }
    section("Confusion", blocks)
}

fn classes(evidence: &Evidence<'_>, content: &Content) -> Option<Section> {
    let mut order: Vec<(usize, &crate::metrics::ClassReport)> =
        evidence.report.per_class.iter().enumerate().filter(|(_, class)| class.support > 0).collect();
    order.sort_by(|a, b| a.1.f1.total_cmp(&b.1.f1).then(a.0.cmp(&b.0)));
    let lowest: Vec<String> =
        order.iter().take(5).map(|(class, found)| format!("{} {}", name(evidence, *class), percent(found.f1))).collect();
    let mut blocks = Vec::new();
    blocks.extend(chart(
        content,
        "classes",
        format!("Precision, recall and F1 of the classes. Lowest F1: {}.", lowest.join("; ")),
        "Precision: share of right ones among those predicted as the class. Recall: share of right ones among those of the class. F1: their \
         harmonic mean. Lowest F1 first.",
    ));
    let rows: Vec<Vec<String>> = order
        .iter()
        .take(CLASSES)
        .map(|(class, found)| {
            let hits = evidence.report.confusion.get(*class).and_then(|row| row.get(*class)).copied().unwrap_or(0);
            let (low, high) = wilson(hits, found.support);
            let interval = format!("{:.1} to {:.1} %", 100.0 * low, 100.0 * high);
            vec![
                name(evidence, *class),
                found.support.to_string(),
                percent(found.precision),
                percent(found.recall),
                interval,
                percent(found.f1),
            ]
        })
        .collect();
    if !rows.is_empty() {
        let shown =
            if order.len() > rows.len() { format!("The {} lowest of {} classes", rows.len(), order.len()) } else { "All classes".into() };
        let table = Table {
            caption: format!("{shown} that have samples, lowest F1 first; the interval is Wilson's of the recall, 95 %"),
            head: ["Class", "Samples", "Precision", "Recall", "Interval", "F1"].map(str::to_owned).into(),
            rows,
        };
        blocks.push(Block::Folded { summary: format!("{shown} as a table"), blocks: vec![Block::Table(table)] });
    }
    section("Classes", blocks)
}

fn calibration(evidence: &Evidence<'_>, content: &Content) -> Option<Section> {
    let bins = &evidence.report.reliability;
    let samples: u64 = bins.iter().map(|bin| bin.samples).sum();
    if samples == 0 {
        return None;
    }
    let mean = |value: fn(&crate::metrics::ReliabilityBin) -> f64| {
        bins.iter().map(|bin| value(bin) * bin.samples as f64).sum::<f64>() / samples as f64
    };
    let (confidence, accuracy) = (mean(|bin| bin.confidence), mean(|bin| bin.accuracy));
    let verdict = match confidence - accuracy {
        gap if gap > 0.01 => "the model is surer than it is right",
        gap if gap < -0.01 => "the model is right more often than it is sure",
        _ => "on the whole the model is as sure as it is right",
    };
    let words = format!("Mean confidence {}, accuracy {}: {verdict}.", percent(confidence), percent(accuracy));
    let mut blocks = vec![Block::Text(words.clone())];
    blocks.extend(chart(
        content,
        "reliability",
        format!("Reliability diagram. {words}"),
        "Accuracy of the predictions of each confidence; below, how many there are. On the dashed line confidence can be taken at its word.",
    ));
    section("Calibration", blocks)
}

fn pictures(heading: &str, text: &str, shown: &[Shown]) -> Option<Section> {
    let tiles: Vec<Tile> = shown.iter().filter_map(Shown::tile).collect();
    if tiles.is_empty() {
        return None;
    }
    section(heading, vec![Block::Text(text.into()), Block::Tiles(tiles)])
}

fn map(evidence: &Evidence<'_>, content: &Content) -> Option<Section> {
    let ((_, picture), subtitle) = content.map.as_ref()?;
    let caption = "Each point is a sample; points near each other look alike to the body of the network. Two of many dimensions: what overlaps \
                   here may be apart in others.";
    let label = format!("Scatter plot: {subtitle}. {} classes.", evidence.classes.len());
    section("Map of the features", vec![Block::Chart { picture: picture.clone(), label, caption: caption.into() }])
}

fn unusable(evidence: &Evidence<'_>) -> Option<Section> {
    let count = evidence.bad.len();
    if count == 0 {
        return None;
    }
    let rows = evidence.bad.iter().take(BAD).map(|bad| vec![bad.name.clone(), bad.reason.clone()]).collect();
    let caption = if count > BAD { format!("The first {BAD} of {count}") } else { format!("{count} in all") };
    let table = Table { caption, head: vec!["Picture".into(), "Why".into()], rows };
    section("Pictures that could not be used", vec![Block::Text("They are not part of any number here.".into()), Block::Table(table)])
}

fn limits(evidence: &Evidence<'_>) -> Section {
    let report = evidence.report;
    let (low, high) = wilson(right(report), report.samples);
    let mut items = evidence.limits.clone();
    items.push(format!(
        "The accuracy of {} comes from {} samples. Of pictures drawn in the same way, Wilson's 95 % interval for the accuracy is {:.2} to {} \
         (samples taken as independent; the interval holds the true value in 95 of 100 such evaluations).",
        report.top(1).map_or_else(|| "–".into(), percent),
        grouped(report.samples),
        100.0 * low,
        percent(high)
    ));
    let without = report.per_class.iter().filter(|class| class.support == 0).count();
    if without > 0 {
        items.push(format!("{} of {} classes have no sample here: nothing is known of their recall.", without, report.per_class.len()));
    }
    let few = report.per_class.iter().filter(|class| (1..FEW).contains(&class.support)).count();
    if few > 0 {
        items.push(format!("{few} classes have fewer than {FEW} samples: what is said of each of them alone is an anecdote."));
    }
    if !evidence.bad.is_empty() {
        let pictures = if evidence.bad.len() == 1 { "picture" } else { "pictures" };
        items.push(format!("{} {pictures} could not be used: left out of every number.", evidence.bad.len()));
    }
    items.push("Pictures of other origin than these were not measured: another camera, another time, another labeller.".into());
    Section { heading: "Limits".into(), blocks: vec![Block::List(items)] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        assert_eq!([0, 999, 1000, 12345, 1281167].map(grouped), ["0", "999", "1000", "12\u{202F}345", "1\u{202F}281\u{202F}167"]);
        assert_eq!((capital("learning rate"), capital("")), ("Learning rate".into(), String::new()));
    }
}
