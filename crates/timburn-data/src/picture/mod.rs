//! Pictures for people: contact sheets, captions, PNG files.

mod contact_sheet;
mod png;
mod text;

pub use contact_sheet::{ContactSheet, Tile, contact_sheet};
pub use png::{encode_png, write_png};
pub use text::{GLYPH_HEIGHT, GLYPH_WIDTH, draw_text};
