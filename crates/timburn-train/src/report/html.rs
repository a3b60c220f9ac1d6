//! A page's parts as HTML. All text passes through [`escape`], whoever wrote it.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::page::{Block, ReportPage, Section, Table, Tile};

const STYLE: &str = include_str!("style.css");

/// Text for HTML, in elements and in quoted attributes. Control characters, which no name needs, become U+FFFD.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(char),
            '\u{FFFE}' | '\u{FFFF}' => escaped.push('\u{FFFD}'),
            char if char.is_control() => escaped.push('\u{FFFD}'),
            char => escaped.push(char),
        }
    }
    escaped
}

/// The page. Writing to a string cannot fail, so the results of `write!` are not looked at.
pub(super) fn render(page: &ReportPage) -> String {
    let title = escape(&page.title);
    let mut html = String::with_capacity(1 << 20);
    // Should anything ever slip through `escape`, the browser still runs no script and loads nothing.
    let _ = write!(
        html,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; \
         form-action 'none'\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"generator\" content=\"timburn {}\">\n<title>{title}</title>\n\
         <link rel=\"icon\" href=\"data:,\">\n<style>\n{STYLE}</style>\n</head>\n<body>\n<a class=\"skip\" href=\"#content\">Skip to the content</a>\n\
         <header>\n<h1>{title}</h1>\n",
        env!("CARGO_PKG_VERSION")
    );
    if !page.lead.is_empty() {
        let _ = writeln!(html, "<p class=\"lead\">{}</p>", escape(&page.lead));
    }
    if !page.key_numbers.is_empty() {
        html.push_str("<dl class=\"numbers\">\n");
        for number in &page.key_numbers {
            let _ = writeln!(
                html,
                "<div><dt>{}</dt><dd>{}<span class=\"note\">{}</span></dd></div>",
                escape(&number.name),
                escape(&number.value),
                escape(&number.note)
            );
        }
        html.push_str("</dl>\n");
    }
    html.push_str("</header>\n<nav aria-label=\"Sections\">\n<ul>\n");
    for (number, section) in page.sections.iter().enumerate() {
        let _ = writeln!(html, "<li><a href=\"#section-{}\">{}</a></li>", number + 1, escape(&section.heading));
    }
    html.push_str("</ul>\n</nav>\n<main id=\"content\" tabindex=\"-1\">\n");
    for (number, section) in page.sections.iter().enumerate() {
        render_section(&mut html, number + 1, section);
    }
    let _ = write!(html, "</main>\n<footer><p>Written by timburn {}. ", env!("CARGO_PKG_VERSION"));
    html.push_str("This file needs nothing beside it: no network, no script.</p></footer>\n</body>\n</html>\n");
    html
}

fn render_section(html: &mut String, number: usize, section: &Section) {
    let heading = escape(&section.heading);
    let _ = writeln!(html, "<section aria-labelledby=\"section-{number}\">\n<h2 id=\"section-{number}\" tabindex=\"-1\">{heading}</h2>");
    section.blocks.iter().for_each(|block| render_block(html, block));
    html.push_str("</section>\n");
}

fn render_block(html: &mut String, block: &Block) {
    let _ = match block {
        Block::Text(text) => writeln!(html, "<p>{}</p>", escape(text)),
        Block::List(items) => {
            let items: String = items.iter().map(|item| format!("<li>{}</li>\n", escape(item))).collect();
            writeln!(html, "<ul class=\"list\">\n{items}</ul>")
        }
        Block::Facts(facts) => {
            let rows = facts.iter().map(|(name, value)| format!("<div><dt>{}</dt><dd>{}</dd></div>\n", escape(name), escape(value)));
            writeln!(html, "<dl class=\"facts\">\n{}</dl>", rows.collect::<String>())
        }
        Block::Code { label, text } => {
            let label = escape(label);
            writeln!(html, "<pre tabindex=\"0\" role=\"region\" aria-label=\"{label}\"><code>{}</code></pre>", escape(text))
        }
        Block::Chart { picture, label, caption } => {
            // Too wide for a telephone: the chart scrolls in its frame, the page does not.
            let _ = write!(
                html,
                "<figure>\n<div class=\"scroll\" tabindex=\"0\" role=\"group\" aria-label=\"{}\">\n{}</div>\n",
                escape(caption),
                picture.inline_svg(label)
            );
            writeln!(html, "<figcaption>{}</figcaption>\n</figure>", escape(caption))
        }
        Block::Row(blocks) => {
            html.push_str("<div class=\"row\">\n");
            blocks.iter().for_each(|block| render_block(html, block));
            writeln!(html, "</div>")
        }
        Block::Tiles(tiles) => {
            html.push_str("<ul class=\"tiles\">\n");
            tiles.iter().for_each(|tile| render_tile(html, tile));
            writeln!(html, "</ul>")
        }
        Block::Table(table) => {
            render_table(html, table);
            Ok(())
        }
        Block::Folded { summary, blocks } => {
            let _ = writeln!(html, "<details>\n<summary>{}</summary>", escape(summary));
            blocks.iter().for_each(|block| render_block(html, block));
            writeln!(html, "</details>")
        }
    };
}

fn render_tile(html: &mut String, tile: &Tile) {
    // The sign says in black and white what the frame says in colour.
    let (class, sign) = match tile.right {
        Some(true) => (" class=\"right\"", "<span class=\"sign\" aria-hidden=\"true\">✓</span> "),
        Some(false) => (" class=\"wrong\"", "<span class=\"sign\" aria-hidden=\"true\">✗</span> "),
        None => ("", ""),
    };
    let _ = writeln!(
        html,
        "<li{class}><figure><img src=\"data:{};base64,{}\" width=\"{}\" height=\"{}\" alt=\"{}\">",
        tile.image.mime,
        STANDARD.encode(&tile.image.bytes),
        tile.image.width,
        tile.image.height,
        escape(&tile.label)
    );
    html.push_str("<figcaption>");
    for (number, line) in tile.lines.iter().enumerate() {
        let _ = match number {
            0 => write!(html, "{sign}<b>{}</b>", escape(line)),
            _ => write!(html, "<br>{}", escape(line)),
        };
    }
    html.push_str("</figcaption></figure></li>\n");
}

fn render_table(html: &mut String, table: &Table) {
    let numeric = |column: usize| column > 0 && table.rows.iter().all(|row| row.get(column).is_none_or(|cell| is_number(cell)));
    let numeric: Vec<bool> = (0..table.head.len()).map(numeric).collect();
    let class = |column: usize| if numeric.get(column).copied().unwrap_or(false) { " class=\"number\"" } else { "" };
    let caption = escape(&table.caption);
    let _ = write!(
        html,
        "<div class=\"scroll\" tabindex=\"0\" role=\"group\" aria-label=\"{caption}\">\n<table>\n<caption>{caption}</caption>\n<thead><tr>"
    );
    for (column, name) in table.head.iter().enumerate() {
        let _ = write!(html, "<th scope=\"col\"{}>{}</th>", class(column), escape(name));
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for row in &table.rows {
        html.push_str("<tr>");
        for (column, cell) in row.iter().enumerate().take(table.head.len()) {
            let _ = match column {
                0 => write!(html, "<th scope=\"row\">{}</th>", escape(cell)),
                _ => write!(html, "<td{}>{}</td>", class(column), escape(cell)),
            };
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody>\n</table>\n</div>\n");
}

/// Whether a cell reads as a number, with or without a unit: those stand in columns that are aligned to the right.
fn is_number(cell: &str) -> bool {
    let cell = cell.trim();
    cell.is_empty() || cell == "–" || cell.trim_start_matches(['−', '-', '+']).starts_with(|char: char| char.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_survives_escaping() {
        assert_eq!(escape("<script>alert('&\"')</script>"), "&lt;script&gt;alert(&#39;&amp;&quot;&#39;)&lt;/script&gt;");
        assert_eq!(escape("a\u{0}b\u{1b}[31m\u{7f}\u{85}c\n"), "a\u{FFFD}b\u{FFFD}[31m\u{FFFD}\u{FFFD}c\n");
        assert_eq!(escape("naïve 猫 кот"), "naïve 猫 кот");
        assert!(is_number("−3.1 %") && is_number("12 of 90") && !is_number("cat") && !is_number("-"));
    }
}
