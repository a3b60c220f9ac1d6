//! Samples as pictures with what was said of them.

use timburn_core::Classes;
use timburn_data::picture::{ContactSheet, Tile as SheetTile, contact_sheet, fit_square, stamp_cross};
use timburn_data::{DecodeOptions, Rgb8Image};

use super::page::{Tile, TileImage};
use crate::predictions::{Predictions, SamplePrediction};

/// Height and width of the square that a thumbnail is fitted into, in pixels.
const SIDE: usize = 160;
/// Vermilion dark enough to be seen beside photographs, the page's colour of wrong predictions.
const WRONG: [u8; 3] = [0xB6, 0x44, 0x00];

/// A sample to be shown.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    image: Rgb8Image,
    truth: String,
    predicted: String,
    confidence: f32,
    probability: f32,
    right: bool,
    name: String,
}

/// Reads a sample's picture; one that cannot be read is left out with a word in the log, for it must not cost the rest of the report.
pub(super) fn picture(predictions: &Predictions, index: usize, decode: &DecodeOptions) -> Option<Rgb8Image> {
    let dataset = predictions.dataset();
    let name = dataset.name(index);
    dataset.read(index).and_then(|content| content.decode(&name, decode)).inspect_err(|error| log::warn!("not in the report: {error}")).ok()
}

impl Shown {
    pub(super) fn new(predictions: &Predictions, sample: &SamplePrediction<'_>, classes: &Classes, image: &Rgb8Image) -> Self {
        let class = |index: usize| classes.name(index).map_or_else(|| format!("class {index}"), str::to_owned);
        Self {
            image: fit_square(image, SIDE),
            truth: class(sample.class),
            predicted: class(sample.predicted()),
            confidence: sample.confidence(),
            probability: sample.probability,
            right: sample.is_right(),
            name: predictions.dataset().name(sample.index),
        }
    }

    /// For a page. Of a wrong prediction also how probable the truth seemed.
    pub(super) fn tile(&self) -> Option<Tile> {
        let image = TileImage::new(&self.image).inspect_err(|error| log::warn!("not in the report: {error}")).ok()?;
        let said = format!("{} {}", self.predicted, percent(self.confidence));
        let (label, lines) = if self.right {
            (format!("Rightly predicted {said}"), vec![said])
        } else {
            let truth = format!("is {} {}", self.truth, percent(self.probability));
            (format!("Wrongly predicted {said}, {truth}"), vec![said, truth])
        };
        // A number stays with its unit.
        let lines = lines.into_iter().map(|line| line.replace(" %", "\u{A0}%")).collect();
        Some(Tile { image, label: format!("{label}: {}", file_name(&self.name)), lines, right: Some(self.right) })
    }

    fn sheet_tile(&self) -> SheetTile {
        let mut image = self.image.clone();
        if !self.right {
            stamp_cross(&mut image, WRONG);
        }
        let truth = if self.right { file_name(&self.name).to_owned() } else { format!("is {} {}", self.truth, percent(self.probability)) };
        let caption = vec![format!("{} {}", self.predicted, percent(self.confidence)), truth];
        SheetTile { image, caption, frame: (!self.right).then_some(WRONG) }
    }
}

/// The samples on one picture: what was predicted with which confidence, and what it is. Wrong ones are framed and bear a cross.
pub(super) fn sheet(title: &str, shown: &[Shown]) -> Rgb8Image {
    let tiles: Vec<SheetTile> = shown.iter().map(Shown::sheet_tile).collect();
    contact_sheet(&tiles, &ContactSheet { title: title.to_owned(), columns: 6, tile: SIDE })
}

/// Without a digit too many, and never 100 % or 0 % of what is not.
fn percent(share: f32) -> String {
    let percent = 100.0 * share;
    match percent {
        percent if percent > 99.9 && percent < 100.0 => ">99.9 %".into(),
        percent if percent > 0.0 && percent < 0.1 => "<0.1 %".into(),
        percent => format!("{percent:.1} %"),
    }
}

fn file_name(name: &str) -> &str {
    name.rsplit(['/', '\\']).next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certainty_is_not_rounded_into_being() {
        let texts = [0.0, 0.0004, 0.001, 0.5, 0.99949, 0.9999, 1.0].map(percent);
        assert_eq!(texts, ["0.0 %", "<0.1 %", "0.1 %", "50.0 %", ">99.9 %", ">99.9 %", "100.0 %"]);
        assert_eq!((file_name("a/b\\c.png"), file_name("c.png"), file_name("")), ("c.png", "c.png", ""));
    }
}
