//! Curves.

use super::axis::Axis;
use super::picture::{Anchor, Color, FRAME, GRID, INK, MUTED, PALETTE, Picture};
use timburn_data::picture::font;

pub(super) const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 440.0;
const LABEL: f64 = 12.0;

/// Curves over a common axis.
#[derive(Debug, Clone, Default)]
pub struct LineChart {
    /// What is shown.
    pub title: String,
    /// Quantity and unit along the horizontal axis.
    pub x_label: String,
    /// Quantity and unit along the vertical axis.
    pub y_label: String,
    /// Logarithmic horizontal axis: values that are not positive have no place on it.
    pub x_log: bool,
    /// Logarithmic vertical axis.
    pub y_log: bool,
    /// Lowest and highest value of the vertical axis; what lies outside is cut off. Otherwise all values are shown.
    pub y_range: Option<(f64, f64)>,
    /// The curves.
    pub series: Vec<Series>,
    /// Points to point at.
    pub marks: Vec<Mark>,
}

/// A curve. A value that is not finite is a gap.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// The points, by ascending `x`.
    pub points: Vec<(f64, f64)>,
    /// Drawn thin and pale in the colour of the curve after it: the raw values behind a smoothed curve.
    pub faint: bool,
}

impl Series {
    /// A curve through these points.
    pub fn new(name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        Self { name: name.into(), points: points.into_iter().collect(), faint: false }
    }
}

/// A point with a text beside.
#[derive(Debug, Clone)]
pub struct Mark {
    /// Where.
    pub x: f64,
    /// Where.
    pub y: f64,
    /// What is said of it.
    pub label: String,
}

/// The area of a chart between its axes.
pub(super) struct Area {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
}

impl Area {
    pub(super) fn x(&self, axis: &Axis, value: f64) -> Option<f64> {
        Some(self.left + axis.place(value)? * (self.right - self.left))
    }

    pub(super) fn y(&self, axis: &Axis, value: f64) -> Option<f64> {
        Some(self.bottom - axis.place(value)? * (self.bottom - self.top))
    }

    /// Grid, frame, labels of the ticks and of the axes.
    pub(super) fn axes(&self, picture: &mut Picture, x: (&Axis, &str), y: (&Axis, &str)) {
        for (value, label) in &y.0.ticks {
            let Some(place) = self.y(y.0, *value) else { continue };
            picture.line(vec![(self.left, place), (self.right, place)], if label.is_empty() { 0.5 } else { 1.0 }, GRID);
            picture.text((self.left - 7.0, place + 4.0), LABEL, Anchor::End, MUTED, label);
        }
        for (value, label) in &x.0.ticks {
            let Some(place) = self.x(x.0, *value) else { continue };
            picture.line(vec![(place, self.top), (place, self.bottom)], if label.is_empty() { 0.5 } else { 1.0 }, GRID);
            picture.text((place, self.bottom + 18.0), LABEL, Anchor::Middle, MUTED, label);
        }
        picture.line(vec![(self.left, self.top), (self.left, self.bottom), (self.right, self.bottom)], 1.0, FRAME);
        picture.text(((self.left + self.right) / 2.0, self.bottom + 40.0), 13.0, Anchor::Middle, INK, x.1);
        picture.turned_text((20.0, (self.top + self.bottom) / 2.0), 13.0, Anchor::Middle, INK, y.1);
    }
}

impl LineChart {
    /// The chart, laid out.
    pub fn picture(&self) -> Picture {
        let mut picture = Picture::new(WIDTH, HEIGHT);
        picture.title(&font::fit(&self.title, 17.0, WIDTH - 32.0), "");
        let xs = self.series.iter().flat_map(|series| series.points.iter()).filter(|point| point.1.is_finite()).map(|point| point.0);
        let ys = self.series.iter().flat_map(|series| series.points.iter()).map(|point| point.1);
        let x_axis = tight(Axis::new(xs.clone(), self.x_log, 8.0), xs, self.x_log);
        let y_axis = match self.y_range {
            Some((low, high)) if low < high && !self.y_log => Axis::fixed(low, high, 6.0),
            _ => Axis::new(ys, self.y_log, 6.0),
        };
        let legend = self.legend();
        let rows = legend.last().map_or(0.0, |(_, _, row, _)| row + 1.0);
        let left = 40.0 + y_axis.label_width(LABEL);
        let area = Area { left, top: 48.0 + 20.0 * rows, right: WIDTH - 24.0, bottom: HEIGHT - 54.0 };
        area.axes(&mut picture, (&x_axis, &self.x_label), (&y_axis, &self.y_label));

        for (column, name, row, color) in legend {
            let (x, y) = (left + column, 52.0 + 20.0 * row);
            picture.line(vec![(x, y), (x + 20.0, y)], 3.0, color);
            picture.text((x + 26.0, y + 4.0), LABEL, Anchor::Start, INK, name);
        }
        for (series, color) in self.series.iter().zip(self.colors()) {
            let (width, color) = if series.faint { (1.0, color.mix(super::picture::WHITE, 0.65)) } else { (2.0, color) };
            for piece in self.pieces(series, &area, &x_axis, &y_axis) {
                match piece.as_slice() {
                    [(x, y)] => picture.dot(*x, *y, 3.0, color),
                    _ => picture.line(piece, width, color),
                }
            }
        }
        for mark in &self.marks {
            let (Some(x), Some(y)) = (area.x(&x_axis, mark.x), area.y(&y_axis, mark.y)) else { continue };
            let (x, y) = (x.clamp(area.left, area.right), y.clamp(area.top, area.bottom));
            picture.dashes(vec![(x, area.top), (x, area.bottom)], 1.0, MUTED);
            picture.dot(x, y, 6.0, super::picture::WHITE);
            picture.dot(x, y, 4.5, super::picture::VERMILION);
            let to_the_left = x + 12.0 + font::width(&mark.label, 13.0) > area.right;
            let (x, anchor) = if to_the_left { (x - 10.0, Anchor::End) } else { (x + 10.0, Anchor::Start) };
            let (width, y) = (font::width(&mark.label, 13.0), (y - 10.0).max(area.top + 14.0));
            // Curves behind the text would make it hard to read.
            picture.rect(if to_the_left { x - width } else { x } - 3.0, y - 13.0, width + 6.0, 18.0, super::picture::WHITE);
            picture.text((x, y), 13.0, anchor, INK, &mark.label);
        }
        picture
    }

    /// A colour for each series; a faint one has that of the next.
    fn colors(&self) -> Vec<Color> {
        let mut next = 0;
        let mut colors = Vec::with_capacity(self.series.len());
        for series in &self.series {
            colors.push(PALETTE.get(next % PALETTE.len()).copied().unwrap_or(INK));
            next += usize::from(!series.faint);
        }
        colors
    }

    /// Column, name, row and colour of each entry.
    fn legend(&self) -> Vec<(f64, String, f64, Color)> {
        let named = self.series.iter().zip(self.colors()).filter(|(series, _)| !series.faint && !series.name.is_empty());
        let (mut x, mut row) = (0.0, 0.0);
        let entries = named.map(|(series, color)| {
            let name = font::fit(&series.name, LABEL, 220.0);
            let width = 26.0 + font::width(&name, LABEL);
            if x > 0.0 && x + width > WIDTH - 120.0 {
                (x, row) = (0.0, row + 1.0);
            }
            let column = x;
            x += width + 22.0;
            (column, name, row, color)
        });
        entries.collect()
    }

    /// The series in pixels, cut at gaps and at the edges, with no more points than can be seen.
    fn pieces(&self, series: &Series, area: &Area, x_axis: &Axis, y_axis: &Axis) -> Vec<Vec<(f64, f64)>> {
        let mut pieces: Vec<Vec<(f64, f64)>> = vec![Vec::new()];
        let mut outside = false;
        for (x, y) in &series.points {
            let place = area.x(x_axis, *x).zip(area.y(y_axis, *y)).filter(|(x, _)| (area.left - 0.5..=area.right + 0.5).contains(x));
            match (place, pieces.last_mut()) {
                (Some((x, y)), Some(piece)) => {
                    let was_outside = std::mem::replace(&mut outside, y < area.top - 0.5 || y > area.bottom + 0.5);
                    // The first point beyond an edge ends the curve there, the others would draw along the edge.
                    if !(outside && was_outside) {
                        piece.push((x, y.clamp(area.top, area.bottom)));
                    } else if !piece.is_empty() {
                        pieces.push(Vec::new());
                    }
                }
                _ => pieces.push(Vec::new()),
            }
        }
        pieces.retain(|piece| !piece.is_empty());
        pieces.into_iter().map(thin).collect()
    }
}

/// An axis from the first to the last value, as time wants it; between whole values, epochs or steps, there are no ticks. The logarithmic one
/// is narrow as it is.
fn tight(axis: Axis, values: impl Iterator<Item = f64> + Clone, log: bool) -> Axis {
    let low = values.clone().fold(f64::INFINITY, f64::min);
    let high = values.clone().fold(f64::NEG_INFINITY, f64::max);
    let whole = values.into_iter().all(|value| value.fract() == 0.0);
    if log || low >= high || !(high - low).is_finite() {
        return axis;
    }
    Axis::fixed(low, high, if whole { 8f64.min(high - low) } else { 8.0 })
}

/// Of all points in one column of pixels, first, lowest, highest and last: the drawn curve is the same.
fn thin(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    if points.len() < 4 * WIDTH as usize {
        return points;
    }
    let mut thinned: Vec<(f64, f64)> = Vec::new();
    for column in points.chunk_by(|a, b| (2.0 * a.0).floor() == (2.0 * b.0).floor()) {
        let extremes = |index: usize| column.get(index).copied();
        let order = |a: &usize, b: &usize| {
            extremes(*a).map(|point| point.1).partial_cmp(&extremes(*b).map(|point| point.1)).unwrap_or(std::cmp::Ordering::Equal)
        };
        let mut kept = [Some(0), (0..column.len()).min_by(order), (0..column.len()).max_by(order), column.len().checked_sub(1)];
        kept.sort_unstable();
        let mut before = None;
        for index in kept.into_iter().flatten() {
            if before != Some(index) {
                thinned.extend(extremes(index));
            }
            before = Some(index);
        }
    }
    thinned
}
