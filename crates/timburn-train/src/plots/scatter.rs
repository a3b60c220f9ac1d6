//! Points of several classes.

use super::axis::Axis;
use super::line::Area;
use super::picture::{Anchor, Color, INK, MUTED, PALETTE, Picture, WHITE};
use timburn_data::picture::font;

/// Most classes that have a colour and a shape of their own.
const MOST: usize = 20;
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 520.0;
const LABEL: f64 = 12.0;
/// Half the width of a point.
const RADIUS: f64 = 4.0;
const ENTRY: f64 = 20.0;

/// Points in the plane, each of a class: colour and shape tell the classes apart. Beyond 20 classes, the 20 that have most points; the
/// others are gray dots.
#[derive(Debug, Clone, Default)]
pub struct ScatterPlot {
    /// What is shown.
    pub title: String,
    /// Line under the title.
    pub subtitle: String,
    /// Quantity along the horizontal axis.
    pub x_label: String,
    /// Quantity along the vertical axis.
    pub y_label: String,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Class and place of each point; one that is not finite is left out.
    pub points: Vec<(usize, [f64; 2])>,
}

impl ScatterPlot {
    /// The chart, laid out.
    pub fn picture(&self) -> Picture {
        let points: Vec<&(usize, [f64; 2])> = self.points.iter().filter(|(_, at)| at.iter().all(|value| value.is_finite())).collect();
        let shown = self.shown();
        let names: Vec<String> =
            shown.iter().map(|&class| font::fit(self.classes.get(class).map_or("?", String::as_str), LABEL, 150.0)).collect();
        let others = points.iter().any(|(class, _)| !shown.contains(class));
        let mut picture = Picture::new(WIDTH, HEIGHT);
        picture.title(&font::fit(&self.title, 17.0, WIDTH - 32.0), &font::fit(&self.subtitle, LABEL, WIDTH - 32.0));
        let legend = names.iter().map(|name| font::width(name, LABEL)).fold(if others { 48.0 } else { 0.0 }, f64::max) + 44.0;
        let x_axis = Axis::new(points.iter().map(|(_, at)| at[0]), false, 6.0);
        let y_axis = Axis::new(points.iter().map(|(_, at)| at[1]), false, 6.0);
        let left = 44.0 + y_axis.label_width(LABEL);
        let area = Area { left, top: 62.0, right: WIDTH - legend, bottom: HEIGHT - 54.0 };
        area.axes(&mut picture, (&x_axis, &self.x_label), (&y_axis, &self.y_label));
        // In the order of the samples, so that no class covers the others; those without a name lie below all.
        let rank = |class: usize| shown.iter().position(|&other| other == class);
        let (named, rest): (Vec<_>, Vec<_>) = points.into_iter().partition(|(class, _)| rank(*class).is_some());
        for (class, at) in rest.into_iter().chain(named) {
            let (Some(x), Some(y)) = (area.x(&x_axis, at[0]), area.y(&y_axis, at[1])) else { continue };
            draw(&mut picture, (x, y), rank(class));
        }
        for (number, name) in names.iter().enumerate() {
            let y = area.top + 8.0 + ENTRY * number as f64;
            draw(&mut picture, (area.right + 20.0, y), Some(number));
            picture.text((area.right + 32.0, y + 4.0), LABEL, Anchor::Start, INK, name);
        }
        if others {
            let y = area.top + 8.0 + ENTRY * names.len() as f64;
            draw(&mut picture, (area.right + 20.0, y), None);
            picture.text((area.right + 32.0, y + 4.0), LABEL, Anchor::Start, MUTED, "others");
        }
        picture
    }

    /// The classes that have a look of their own, in their order.
    fn shown(&self) -> Vec<usize> {
        let mut counts = vec![0usize; self.classes.len()];
        for (class, _) in &self.points {
            if let Some(count) = counts.get_mut(*class) {
                *count += 1;
            }
        }
        let mut shown: Vec<usize> = (0..counts.len()).filter(|&class| counts.get(class).is_some_and(|&count| count > 0)).collect();
        if shown.len() > MOST {
            shown.sort_by_key(|&class| (std::cmp::Reverse(counts.get(class).copied()), class));
            shown.truncate(MOST);
            shown.sort_unstable();
        }
        shown
    }
}

/// A point with the look of the class of this rank; 7 colours and 5 shapes make 35 looks.
fn draw(picture: &mut Picture, (x, y): (f64, f64), rank: Option<usize>) {
    let Some(rank) = rank else { return picture.dot(x, y, 2.0, Color(0xAA, 0xAA, 0xAA)) };
    let color = PALETTE.get(rank % PALETTE.len()).copied().unwrap_or(INK);
    let r = RADIUS;
    match rank % 5 {
        0 => {
            picture.dot(x, y, r, WHITE);
            picture.dot(x, y, r - 0.6, color);
        }
        1 => picture.line(vec![(x - r, y + 0.8 * r), (x, y - r), (x + r, y + 0.8 * r), (x - r, y + 0.8 * r)], 1.8, color),
        2 => picture.rect(x - 0.8 * r, y - 0.8 * r, 1.6 * r, 1.6 * r, color),
        3 => {
            picture.line(vec![(x - 0.8 * r, y - 0.8 * r), (x + 0.8 * r, y + 0.8 * r)], 2.0, color);
            picture.line(vec![(x - 0.8 * r, y + 0.8 * r), (x + 0.8 * r, y - 0.8 * r)], 2.0, color);
        }
        _ => picture.line(vec![(x, y - r), (x + r, y), (x, y + r), (x - r, y), (x, y - r)], 1.8, color),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_have_looks_and_the_many_are_gray() {
        let classes: Vec<String> = (0..100).map(|class| format!("class {class}")).collect();
        let points: Vec<(usize, [f64; 2])> =
            (0..1000).map(|at| (if at % 2 == 0 { at % 20 } else { at % 100 }, [at as f64, -(at as f64)])).collect();
        let chart = ScatterPlot { classes, points, ..Default::default() };
        let shown = chart.shown();
        assert_eq!(shown.len(), 20);
        assert!([0, 2, 4, 18].iter().all(|class| shown.contains(class)), "{shown:?}");
        let svg = chart.picture().svg();
        assert!(svg.contains(">class 18<") && svg.contains(">others<") && !svg.contains(">class 60<"));
        let looks: std::collections::BTreeSet<(usize, usize)> = (0..MOST).map(|rank| (rank % PALETTE.len(), rank % 5)).collect();
        assert_eq!(looks.len(), MOST, "no two classes look the same");
        ScatterPlot::default().picture();
        ScatterPlot { points: vec![(3, [f64::NAN, 0.0]), (0, [1.0, 1.0])], classes: vec!["a".into()], ..Default::default() }.picture();
    }
}
