//! Pictures for people: contact sheets, captions, heat maps, PNG and JPEG files.

mod contact_sheet;
pub mod font;
mod heat;
mod jpeg;
mod png;
mod text;

pub use contact_sheet::{ContactSheet, Tile, contact_sheet, fit_square, stamp_cross};
pub use heat::{heat_color, overlay_heat};
pub use jpeg::encode_jpeg;
pub use png::{encode_png, write_png};
pub use text::draw_text;
