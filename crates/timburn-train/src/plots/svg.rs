use std::fmt::Write;

use super::picture::{Anchor, Color, FRAME, GRID, INK, MUTED, Picture, Shape, WHITE};

/// A file, or, with a label, an element of an HTML page.
pub(super) fn render(picture: &Picture, label: Option<&str>) -> String {
    let (width, height) = (picture.width, picture.height);
    let mut svg = match label {
        Some(label) => format!(
            "<svg class=\"chart\" role=\"img\" aria-label=\"{}\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n",
            escape(label).replace('"', "&quot;")
        ),
        None => format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
             font-family=\"'DejaVu Sans', Verdana, sans-serif\">\n"
        ),
    };
    let paint = |property: &str, color: Color| {
        let class =
            role(color).filter(|_| label.is_some()).map_or_else(String::new, |role| format!(" class=\"{}-{role}\"", &property[..1]));
        format!("{property}=\"{}\"{class}", hex(color))
    };
    for shape in &picture.shapes {
        // Writing to a string cannot fail.
        let _ = match shape {
            Shape::Rect { x, y, width, height, color } => {
                let (x, y, width, height) = (short(*x), short(*y), short(*width), short(*height));
                writeln!(svg, "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" {}/>", paint("fill", *color))
            }
            Shape::Line { points, width, color, dashed } => {
                let points: Vec<String> = points.iter().map(|(x, y)| format!("{},{}", short(*x), short(*y))).collect();
                let dash = if *dashed { " stroke-dasharray=\"5 4\"" } else { "" };
                writeln!(
                    svg,
                    "<polyline points=\"{}\" fill=\"none\" {} stroke-width=\"{width}\" stroke-linejoin=\"round\"{dash}/>",
                    points.join(" "),
                    paint("stroke", *color)
                )
            }
            Shape::Dot { x, y, radius, color } => {
                writeln!(svg, "<circle cx=\"{}\" cy=\"{}\" r=\"{}\" {}/>", short(*x), short(*y), short(*radius), paint("fill", *color))
            }
            Shape::Text { x, y, size, anchor, turned, color, text } => {
                let anchor = match anchor {
                    Anchor::Start => "start",
                    Anchor::Middle => "middle",
                    Anchor::End => "end",
                };
                let (x, y) = (short(*x), short(*y));
                let turn = if *turned { format!(" transform=\"rotate(-90 {x} {y})\"") } else { String::new() };
                let (paint, text) = (paint("fill", *color), escape(text));
                writeln!(svg, "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\" text-anchor=\"{anchor}\" {paint}{turn}>{text}</text>")
            }
        };
    }
    svg.push_str("</svg>\n");
    svg
}

/// A coordinate to the hundredth, without zeros at its end.
fn short(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What a neutral colour is for; colours with a meaning have no role.
fn role(color: Color) -> Option<&'static str> {
    [(INK, "ink"), (MUTED, "muted"), (FRAME, "frame"), (GRID, "grid"), (WHITE, "paper")]
        .into_iter()
        .find(|(neutral, _)| *neutral == color)
        .map(|(_, role)| role)
}

fn hex(Color(red, green, blue): Color) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// Text for XML, which has no place for control characters at all.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\u{FFFE}' | '\u{FFFF}' => escaped.push('\u{FFFD}'),
            char if char.is_control() => escaped.push('\u{FFFD}'),
            char => escaped.push(char),
        }
    }
    escaped
}
