//! Whether a classifier knows what it knows.

use super::axis::Axis;
use super::line::Area;
use super::picture::{Anchor, BLUE, INK, MUTED, Picture, VERMILION, WHITE};
use timburn_data::picture::font;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 600.0;

/// Accuracy against confidence (Guo et al. 2017, <https://arxiv.org/abs/1706.04599>).
#[derive(Debug, Clone, Default)]
pub struct ReliabilityDiagram {
    /// What is shown.
    pub title: String,
    /// The bins, by ascending confidence; they share `[0, 1]` evenly.
    pub bins: Vec<Bin>,
    /// Expected calibration error, a share.
    pub ece: f64,
}

/// Predictions of about the same confidence.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bin {
    /// Mean confidence, a share.
    pub confidence: f64,
    /// Share of right predictions.
    pub accuracy: f64,
    /// Number of predictions.
    pub count: u64,
}

impl ReliabilityDiagram {
    /// The chart, laid out.
    pub fn picture(&self) -> Picture {
        let mut picture = Picture::new(WIDTH, HEIGHT);
        let total: u64 = self.bins.iter().map(|bin| bin.count).sum();
        let subtitle = format!("expected calibration error {:.1} % over {total} predictions", 100.0 * self.ece);
        picture.title(&font::fit(&self.title, 17.0, WIDTH - 32.0), &subtitle);
        let axis = Axis::fixed(0.0, 100.0, 5.0);
        let area = Area { left: 66.0, top: 92.0, right: WIDTH - 24.0, bottom: 470.0 };
        area.axes(&mut picture, (&axis, ""), (&axis, "accuracy, %"));
        let width = (area.right - area.left) / self.bins.len().max(1) as f64;
        let y = |share: f64| area.bottom - share.clamp(0.0, 1.0) * (area.bottom - area.top);
        for (index, bin) in self.bins.iter().enumerate().filter(|(_, bin)| bin.count > 0) {
            let x = area.left + width * index as f64;
            picture.rect(x + 1.0, y(bin.accuracy), width - 2.0, area.bottom - y(bin.accuracy), BLUE);
            // Narrower: the accuracy stays visible where it is the higher one.
            let (low, high) = (bin.accuracy.min(bin.confidence), bin.accuracy.max(bin.confidence));
            picture.rect(x + 0.3 * width, y(high), 0.4 * width, y(low) - y(high), VERMILION.mix(WHITE, 0.45));
        }
        picture.dashes(vec![(area.left, area.bottom), (area.right, area.top)], 1.5, INK);
        let mut x = area.left;
        for (color, name) in [(BLUE, "accuracy"), (VERMILION.mix(WHITE, 0.45), "gap to the confidence")] {
            picture.rect(x, 66.0, 12.0, 12.0, color);
            picture.text((x + 18.0, 76.0), 12.0, Anchor::Start, INK, name);
            x += 40.0 + font::width(name, 12.0);
        }
        picture.dashes(vec![(x, 72.0), (x + 22.0, 72.0)], 1.5, INK);
        picture.text((x + 28.0, 76.0), 12.0, Anchor::Start, INK, "perfect");

        // How many predictions stand behind each bin.
        let (top, bottom) = (500.0, 550.0);
        let most = self.bins.iter().map(|bin| bin.count).max().unwrap_or(0).max(1) as f64;
        for (index, bin) in self.bins.iter().enumerate() {
            let height = (bottom - top) * bin.count as f64 / most;
            picture.rect(area.left + width * index as f64 + 1.0, bottom - height, width - 2.0, height, MUTED.mix(WHITE, 0.4));
        }
        picture.line(vec![(area.left, bottom), (area.right, bottom)], 1.0, MUTED);
        picture.text((area.left - 7.0, (top + bottom) / 2.0 + 4.0), 12.0, Anchor::End, MUTED, "count");
        picture.text(((area.left + area.right) / 2.0, bottom + 30.0), 13.0, Anchor::Middle, INK, "confidence, %");
        picture
    }
}
