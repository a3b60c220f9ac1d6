//! Which class is taken for which.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::picture::{Anchor, BLUE, FIXED_INK, FIXED_WHITE, FRAME, INK, MUTED, Picture};
use timburn_data::picture::font;

/// Most classes that are readable in one picture.
const MOST: usize = 30;

/// A confusion matrix: rows are true classes, columns predicted ones. Beyond 30 classes, up to 30 of the most frequent confusions: each of
/// them is seen to be taken for another, or another for it. Where nothing was confused, the first 30.
#[derive(Debug, Clone, Default)]
pub struct ConfusionMatrix {
    /// What is shown.
    pub title: String,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// `counts[truth][prediction]`; what is missing counts as 0.
    pub counts: Vec<Vec<u64>>,
    /// Per cent of the row instead of counts.
    pub normalised: bool,
}

impl ConfusionMatrix {
    /// The chart, laid out.
    pub fn picture(&self) -> Picture {
        let shown = self.shown();
        let cell = if shown.len() <= 12 { 46.0 } else { (640.0 / shown.len() as f64).max(25.0) };
        let size = if cell > 40.0 { 13.0 } else { 9.5 };
        let names: Vec<String> =
            shown.iter().map(|&class| font::fit(self.classes.get(class).map_or("", String::as_str), 12.0, 150.0)).collect();
        let name_width = names.iter().map(|name| font::width(name, 12.0)).fold(0.0, f64::max);
        let side = cell * shown.len() as f64;
        let (left, top) = (46.0 + name_width, if shown.len() < self.classes.len() { 66.0 } else { 50.0 });
        let mut picture = Picture::new((left + side + 90.0).max(420.0), top + side + name_width + 56.0);

        let confused = shown.iter().any(|&truth| shown.iter().any(|&guess| truth != guess && self.count(truth, guess) > 0));
        let subtitle = match (shown.len(), self.classes.len()) {
            (some, all) if some == all => String::new(),
            (some, all) if confused => format!("the {some} classes of the most frequent confusions, of {all}"),
            (some, all) => format!("no confusions; the first {some} of {all} classes"),
        };
        picture.title(&font::fit(&self.title, 17.0, picture.width - 32.0), &subtitle);

        let highest = shown.iter().flat_map(|&truth| shown.iter().map(move |&guess| self.value(truth, guess))).fold(0.0, f64::max);
        let full = if self.normalised { 100.0 } else { highest.max(1.0) };
        // The root makes rare confusions visible beside a full diagonal.
        picture.rect(left, top, side, side, FIXED_WHITE);
        let color = |value: f64| FIXED_WHITE.mix(BLUE, (value / full).max(0.0).sqrt());
        for (row, &truth) in shown.iter().enumerate() {
            for (column, &guess) in shown.iter().enumerate() {
                let (x, y, value) = (left + cell * column as f64, top + cell * row as f64, self.value(truth, guess));
                // Empty cells show the paper: edges between them would show on a dark page.
                if value > 0.0 {
                    picture.rect(x, y, cell, cell, color(value));
                }
                let text = self.text(value);
                if !text.is_empty() && font::width(&text, size) < cell - 1.0 {
                    let ink = if color(value).is_dark() { FIXED_WHITE } else { FIXED_INK };
                    picture.text((x + cell / 2.0, y + cell / 2.0 + 0.36 * size), size, Anchor::Middle, ink, text);
                }
            }
        }
        let (right, bottom) = (left + side, top + side);
        picture.line(vec![(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], 1.0, FRAME);
        for (index, name) in names.iter().enumerate() {
            let middle = cell * (index as f64 + 0.5) + 4.0;
            picture.text((left - 7.0, top + middle), 12.0, Anchor::End, INK, name);
            picture.turned_text((left + middle, bottom + 8.0), 12.0, Anchor::End, INK, name);
        }
        picture.turned_text((20.0, (top + bottom) / 2.0), 13.0, Anchor::Middle, MUTED, "true class");
        picture.text(((left + right) / 2.0, bottom + name_width + 36.0), 13.0, Anchor::Middle, MUTED, "predicted class");

        let (bar, height) = (right + 22.0, side.min(200.0));
        for step in 0..100 {
            let share = f64::from(step) / 100.0;
            picture.rect(bar, top + height * (0.99 - share), 14.0, height / 100.0 + 0.5, color(full * share));
        }
        let unit = if self.normalised { " %" } else { "" };
        picture.text((bar + 20.0, top + 10.0), 11.0, Anchor::Start, MUTED, format!("{full:.0}{unit}"));
        picture.text((bar + 20.0, top + height), 11.0, Anchor::Start, MUTED, format!("0{unit}"));
        picture
    }

    fn count(&self, truth: usize, guess: usize) -> u64 {
        self.counts.get(truth).and_then(|row| row.get(guess)).copied().unwrap_or(0)
    }

    fn value(&self, truth: usize, guess: usize) -> f64 {
        let count = self.count(truth, guess) as f64;
        if !self.normalised {
            return count;
        }
        let total: u64 = self.counts.get(truth).map_or(0, |row| row.iter().sum());
        if total == 0 { 0.0 } else { 100.0 * count / total as f64 }
    }

    /// Nothing where nothing was counted: a matrix of zeros cannot be read.
    fn text(&self, value: f64) -> String {
        match value {
            0.0 => String::new(),
            value if !self.normalised => format!("{value}"),
            value if value < 1.0 => "<1".to_owned(),
            value => format!("{value:.0}"),
        }
    }

    /// The classes to show, in their order.
    fn shown(&self) -> Vec<usize> {
        let classes = self.classes.len();
        let mut shown: Vec<usize> = (0..classes).collect();
        if classes > MOST {
            let mut pairs: Vec<(u64, usize, usize)> = Vec::new();
            for (truth, row) in self.counts.iter().enumerate().take(classes) {
                let confused = row.iter().enumerate().take(classes).filter(|(guess, count)| *guess != truth && **count > 0);
                pairs.extend(confused.map(|(guess, &count)| (count, truth, guess)));
            }
            pairs.sort_by_key(|&(count, truth, guess)| (Reverse(count), truth, guess));
            let mut chosen = BTreeSet::new();
            for pair in pairs.into_iter().map(|(_, truth, guess)| [truth, guess]) {
                let new = BTreeSet::from(pair).difference(&chosen).count();
                if chosen.len() + new <= MOST {
                    chosen.extend(pair);
                }
            }
            if chosen.is_empty() {
                shown.truncate(MOST);
                return shown;
            }
            shown = chosen.into_iter().collect();
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_confused_classes_are_shown() {
        let classes = (0..1000).map(|class| format!("class {class}")).collect();
        let mut counts = vec![vec![0; 1000]; 1000];
        for class in 0..1000 {
            counts[class][class] = 40;
            counts[class][(class + 1) % 1000] = u64::from(class % 50 == 7) * 9;
        }
        let matrix = ConfusionMatrix { classes, counts, ..Default::default() };
        let shown = matrix.shown();
        assert_eq!(shown.len(), 30);
        assert!(shown.starts_with(&[7, 8, 57, 58]), "{shown:?}");
        assert!(matrix.picture().svg().contains("the 30 classes of the most frequent confusions, of 1000"));
        // 30 classes of as many confusions, not 30 of which the others are missing.
        let svg = matrix.picture().svg();
        assert_eq!(svg.matches(">9<").count(), 15, "each of the 15 pairs is seen");
        let right = (0..40usize).map(|class| (0..40).map(|guess| u64::from(class == guess)).collect()).collect();
        let right = ConfusionMatrix { classes: (0..40).map(|class| class.to_string()).collect(), counts: right, ..Default::default() };
        assert!(right.picture().svg().contains("no confusions; the first 30 of 40 classes"));
        // Rows that are missing are no reason to panic.
        ConfusionMatrix { classes: vec!["a".into(), "b".into()], counts: vec![vec![1]], normalised: true, ..Default::default() }.picture();
        ConfusionMatrix::default().picture();
    }
}
