//! Pictures for people: contact sheets, captions, PNG files.

mod contact_sheet;
pub mod font;
mod png;
mod text;

pub use contact_sheet::{ContactSheet, Tile, contact_sheet};
pub use png::{encode_png, write_png};
pub use text::draw_text;
