//! One bar a class.

use super::axis::Axis;
use super::picture::{Anchor, BLUE, FRAME, GRID, INK, MUTED, Picture};
use timburn_data::picture::font;

/// Most bars that are readable in one picture.
const MOST: usize = 30;
const WIDTH: f64 = 720.0;
const ROW: f64 = 22.0;

/// A value for each class, as horizontal bars. Beyond 30 classes, the 30 lowest values.
#[derive(Debug, Clone, Default)]
pub struct BarChart {
    /// What is shown.
    pub title: String,
    /// Quantity and unit.
    pub x_label: String,
    /// Classes and their values; one that is not finite has no bar.
    pub bars: Vec<(String, f64)>,
    /// The end of the axis, 100 for per cent; otherwise the highest value decides.
    pub full: Option<f64>,
}

impl BarChart {
    /// The chart, laid out.
    pub fn picture(&self) -> Picture {
        let mut bars: Vec<&(String, f64)> = self.bars.iter().collect();
        let subtitle = if bars.len() > MOST {
            bars.sort_by(|a, b| a.1.total_cmp(&b.1));
            bars.truncate(MOST);
            format!("the {MOST} lowest of {} classes", self.bars.len())
        } else {
            String::new()
        };
        let top = if subtitle.is_empty() { 46.0 } else { 62.0 };
        let bottom = top + ROW * bars.len() as f64 + 4.0;
        let mut picture = Picture::new(WIDTH, bottom + 52.0);
        picture.title(&font::fit(&self.title, 17.0, WIDTH - 32.0), &subtitle);

        let names: Vec<String> = bars.iter().map(|(name, _)| font::fit(name, 12.0, 200.0)).collect();
        let left = 24.0 + names.iter().map(|name| font::width(name, 12.0)).fold(0.0, f64::max);
        let right = WIDTH - 64.0;
        let axis = match self.full {
            Some(full) if full > 0.0 => Axis::fixed(0.0, full, 6.0),
            _ => Axis::new(bars.iter().map(|(_, value)| *value).chain([0.0]), false, 6.0),
        };
        let x = |value: f64| axis.place(value).map_or(left, |place| left + place.clamp(0.0, 1.0) * (right - left));
        for (value, label) in &axis.ticks {
            picture.line(vec![(x(*value), top), (x(*value), bottom)], 1.0, GRID);
            picture.text((x(*value), bottom + 17.0), 12.0, Anchor::Middle, MUTED, label);
        }
        for (row, ((_, value), name)) in bars.iter().zip(&names).enumerate() {
            let y = top + ROW * row as f64 + 4.0;
            picture.text((left - 8.0, y + 12.0), 12.0, Anchor::End, INK, name);
            if value.is_finite() {
                let (from, to) = (x(0.0).min(x(*value)), x(0.0).max(x(*value)));
                picture.rect(from, y, to - from, ROW - 6.0, BLUE);
                picture.text((to + 6.0, y + 12.0), 12.0, Anchor::Start, MUTED, format!("{value:.1}"));
            }
        }
        picture.line(vec![(x(0.0), top), (x(0.0), bottom)], 1.0, FRAME);
        picture.text(((left + right) / 2.0, bottom + 40.0), 13.0, Anchor::Middle, INK, &self.x_label);
        picture
    }
}
