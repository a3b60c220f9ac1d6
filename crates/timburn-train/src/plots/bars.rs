//! A few bars a class.

use super::axis::Axis;
use super::picture::{Anchor, BLUE, FRAME, GRID, INK, MUTED, PALETTE, Picture, WHITE};
use timburn_data::picture::font;

/// Most classes that are readable in one picture.
const MOST: usize = 30;
const WIDTH: f64 = 720.0;

/// Values for each class, as horizontal bars; the lowest first, by the last value, unless told otherwise. Beyond 30 classes, the first 30.
#[derive(Debug, Clone, Default)]
pub struct BarChart {
    /// What is shown.
    pub title: String,
    /// Quantity and unit.
    pub x_label: String,
    /// Names of the values; with one alone there is no legend.
    pub series: Vec<String>,
    /// Classes and their values, as many as `series`; one that is not finite has no bar.
    pub bars: Vec<(String, Vec<f64>)>,
    /// The end of the axis, 100 for per cent; otherwise the highest value decides.
    pub full: Option<f64>,
    /// Whether the classes stay in the order given.
    pub ordered: bool,
}

impl BarChart {
    /// The chart, laid out.
    pub fn picture(&self) -> Picture {
        let mut bars: Vec<&(String, Vec<f64>)> = self.bars.iter().collect();
        let last = |bar: &(String, Vec<f64>)| bar.1.last().copied().unwrap_or(f64::NAN);
        if !self.ordered {
            bars.sort_by(|a, b| last(a).total_cmp(&last(b)));
        }
        let subtitle = match bars.len() {
            0..=MOST => String::new(),
            count if self.ordered => format!("the first {MOST} of {count}"),
            count => format!("the {MOST} lowest of {count} classes"),
        };
        bars.truncate(MOST);
        let count = self.series.len().max(1);
        let (bar, row) = if count == 1 { (16.0, 22.0) } else { (8.0, 8.0 * count as f64 + 8.0) };
        let legend = if count > 1 { 22.0 } else { 0.0 };
        let top = if subtitle.is_empty() { 46.0 } else { 62.0 } + legend;
        let bottom = top + row * bars.len() as f64 + 4.0;
        let mut picture = Picture::new(WIDTH, bottom + 52.0);
        picture.title(&font::fit(&self.title, 17.0, WIDTH - 32.0), &subtitle);

        let names: Vec<String> = bars.iter().map(|(name, _)| font::fit(name, 12.0, 240.0)).collect();
        let left = 24.0 + names.iter().map(|name| font::width(name, 12.0)).fold(0.0, f64::max);
        let right = WIDTH - 64.0;
        let values = bars.iter().flat_map(|(_, values)| values.iter().copied());
        let axis = match self.full {
            Some(full) if full > 0.0 => Axis::fixed(0.0, full, 6.0),
            _ => Axis::new(values.chain([0.0]), false, 6.0),
        };
        let x = |value: f64| axis.place(value).map_or(left, |place| left + place.clamp(0.0, 1.0) * (right - left));
        for (value, label) in &axis.ticks {
            picture.line(vec![(x(*value), top), (x(*value), bottom)], 1.0, GRID);
            picture.text((x(*value), bottom + 17.0), 12.0, Anchor::Middle, MUTED, label);
        }
        // The value that orders the classes is the dark one, the others lead up to it.
        let color = |which: usize| match count - 1 - which.min(count - 1) {
            0 => BLUE,
            other => PALETTE.get(other).copied().unwrap_or(MUTED).mix(WHITE, 0.35),
        };
        if count > 1 {
            let mut column = left;
            for (which, name) in self.series.iter().enumerate() {
                picture.rect(column, top - 20.0, 12.0, 12.0, color(which));
                picture.text((column + 18.0, top - 10.0), 12.0, Anchor::Start, INK, name);
                column += 40.0 + font::width(name, 12.0);
            }
            let last = self.series.last().map_or("", String::as_str);
            picture.text((right + 8.0, top - 10.0), 12.0, Anchor::Start, MUTED, font::fit(last, 12.0, 48.0));
        }
        for (number, ((_, values), name)) in bars.iter().zip(&names).enumerate() {
            let y = top + row * number as f64 + 4.0;
            let height = bar * count as f64;
            picture.text((left - 8.0, y + height / 2.0 + 4.0), 12.0, Anchor::End, INK, name);
            for (which, value) in values.iter().enumerate().take(count).filter(|(_, value)| value.is_finite()) {
                let (from, to) = (x(0.0).min(x(*value)), x(0.0).max(x(*value)));
                let y = y + bar * which as f64;
                picture.rect(from, y, to - from, if count == 1 { bar } else { bar - 1.0 }, color(which));
                if which + 1 == count {
                    // Beside a bar alone; of several, in a column of its own, where no other bar reaches.
                    let (x, y) = if count == 1 { (to + 6.0, y + bar / 2.0) } else { (right + 8.0, y - bar * (count as f64 / 2.0 - 1.0)) };
                    picture.text((x, y + 4.0), 12.0, Anchor::Start, MUTED, format!("{value:.1}"));
                }
            }
        }
        picture.line(vec![(x(0.0), top), (x(0.0), bottom)], 1.0, FRAME);
        picture.text(((left + right) / 2.0, bottom + 40.0), 13.0, Anchor::Middle, INK, &self.x_label);
        picture
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_come_first_and_no_more_than_can_be_read() {
        let bars = (0..1000).map(|class| (format!("class {class}"), vec![50.0, f64::from((class * 37) % 1000) / 10.0])).collect();
        let series = vec!["recall".into(), "F1".into()];
        let chart = BarChart { title: "F1".into(), x_label: "%".into(), series, bars, full: Some(100.0), ..Default::default() };
        let svg = chart.picture().svg();
        assert!(svg.contains("the 30 lowest of 1000 classes"));
        assert!(svg.find(">class 0<").unwrap() < svg.find(">class 973<").unwrap(), "class 973 has 0.1");
        assert!(!svg.contains(">class 27<"), "class 27 has 99.9");
        let ordered = BarChart { ordered: true, ..chart };
        let svg = ordered.picture().svg();
        assert!(svg.contains("the first 30 of 1000") && svg.contains(">class 27<") && !svg.contains(">class 973<"));
        // Nothing to show, and values missing, are no reason to panic.
        BarChart::default().picture();
        BarChart { bars: vec![("a".into(), vec![]), ("b".into(), vec![f64::NAN])], ..Default::default() }.picture();
    }
}
